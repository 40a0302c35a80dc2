#include "user/output/data_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "user/base/folders.h"

namespace packet_headers {
namespace {

constexpr int kMaxNumberedNames = 10'000;

// Made and removed at start.
constexpr char kProbeName[] = ".packet-headers.probe";

// Whether the folder has not been removed since it was opened.
bool IsThere(const UniqueFd& folder) {
  struct stat status;
  return fstat(folder.get(), &status) == 0 && status.st_nlink > 0;
}

// Fails with EEXIST when `to` exists.
int RenameNoReplace(int folder_fd, const std::string& from, const std::string& to) {
  if (renameat2(folder_fd, from.c_str(), folder_fd, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL) return -1;
  // A file system without the flag.
  if (linkat(folder_fd, from.c_str(), folder_fd, to.c_str(), 0) != 0) return -1;
  if (unlinkat(folder_fd, from.c_str(), 0) == 0) return 0;
  const int error = errno;
  unlinkat(folder_fd, to.c_str(), 0);
  errno = error;
  return -1;
}

absl::StatusOr<UniqueFd> OpenOrMake(const std::string& path, const FileOptions& options) {
  bool is_new = false;
  // Parents first; where one can't be made, the last mkdir or open says why.
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    is_new |= mkdir(path.substr(0, slash).c_str(), options.folder_mode) == 0;
  }
  if (mkdir(path.c_str(), options.folder_mode) == 0) {
    is_new = true;
  } else if (errno != EEXIST) {
    return absl::ErrnoToStatus(errno, absl::StrCat("make the data directory ", path));
  }
  UniqueFd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open the data directory ", path));
  }
  if (is_new && options.sync && syncfs(root.get()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("sync the data directory ", path));
  }
  return root;
}

}  // namespace

absl::Status HiddenFile::Error(absl::string_view tried, int error) const {
  return absl::ErrnoToStatus(
      error, absl::StrCat(tried, " ", folder_->name, "/", hidden_name_, " in the data directory"));
}

std::string HiddenFile::NumberedName(int number) const {
  return number == 0 ? absl::StrCat(uuid_, extension_)
                     : absl::StrCat(uuid_, ".", number, extension_);
}

absl::Status HiddenFile::Open(int flags) {
  // Who put a pipe in the file's place must not stop this thread.
  constexpr int kFlags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  fd_.Reset(openat(folder_->fd.get(), hidden_name_.c_str(), kFlags | flags, folder_->file_mode));
  return fd_.valid() ? absl::OkStatus() : Error("open", errno);
}

absl::StatusOr<std::unique_ptr<HiddenFile>> HiddenFile::Create(
    std::shared_ptr<const DateFolder> folder, absl::string_view uuid, absl::string_view extension) {
  std::unique_ptr<HiddenFile> file(new HiddenFile(std::move(folder), uuid, extension));
  for (int number = 0;; ++number) {
    file->hidden_name_ = absl::StrCat(".", file->NumberedName(number), ".part");
    const absl::Status status = file->Open(O_CREAT | O_EXCL);
    if (status.ok()) return file;
    if (!absl::IsAlreadyExists(status) || number == kMaxNumberedNames) {
      file->hidden_name_.clear();
      return status;
    }
  }
}

absl::StatusOr<std::unique_ptr<HiddenFile>> HiddenFile::Adopt(
    std::shared_ptr<const DateFolder> folder, absl::string_view name, absl::string_view extension) {
  std::unique_ptr<HiddenFile> file(new HiddenFile(std::move(folder), name, extension));
  file->is_kept_ = true;
  file->hidden_name_ = absl::StrCat(".", file->NumberedName(0), ".part");
  const absl::Status opened = file->Open(0);
  if (!opened.ok()) return opened;
  struct stat status;
  if (fstat(file->fd_.get(), &status) != 0) return file->Error("look at", errno);
  if (!S_ISREG(status.st_mode)) return file->Error("adopt", ENOENT);
  return file;
}

HiddenFile::~HiddenFile() {
  if (!is_kept_) Remove().IgnoreError();
}

absl::Status HiddenFile::Remove() {
  if (hidden_name_.empty()) return absl::OkStatus();
  fd_.Reset();
  if (unlinkat(folder_->fd.get(), hidden_name_.c_str(), 0) != 0 && errno != ENOENT) {
    return Error("remove", errno);
  }
  hidden_name_.clear();
  return absl::OkStatus();
}

absl::Status HiddenFile::Append(absl::string_view bytes) {
  const absl::Status opened = OpenIfClosed();
  if (!opened.ok()) return opened;
  while (!bytes.empty()) {
    const ssize_t written = write(fd_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error("write", errno);
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status HiddenFile::CutTo(int64_t bytes) {
  const absl::Status opened = OpenIfClosed();
  if (!opened.ok()) return opened;
  return ftruncate(fd_.get(), bytes) == 0 ? absl::OkStatus() : Error("cut", errno);
}

absl::Status HiddenFile::Sync() {
  UniqueFd other;
  if (!fd_.valid()) {
    // Its mode may forbid writing.
    absl::StatusOr<UniqueFd> opened = OpenToRead();
    if (!opened.ok()) return opened.status();
    other = *std::move(opened);
  }
  return fdatasync(fd_.valid() ? fd_.get() : other.get()) == 0 ? absl::OkStatus()
                                                               : Error("sync", errno);
}

absl::StatusOr<UniqueFd> HiddenFile::OpenToRead() const {
  UniqueFd fd(openat(folder_->fd.get(), hidden_name_.c_str(),
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return Error("open", errno);
  return fd;
}

absl::Status HiddenFile::ReplaceHidden(const HiddenFile& other) {
  if (renameat(folder_->fd.get(), hidden_name_.c_str(), other.folder_->fd.get(),
               other.hidden_name_.c_str()) != 0) {
    return Error(absl::StrCat("rename to ", other.hidden_name_, " from"), errno);
  }
  hidden_name_.clear();
  return absl::OkStatus();
}

absl::Status HiddenFile::Publish(bool* name_was_taken) {
  *name_was_taken = false;
  for (int number = 0;; ++number) {
    const std::string name = NumberedName(number);
    number_ = number;
    if (RenameNoReplace(folder_->fd.get(), hidden_name_, name) == 0) break;
    if (errno != EEXIST || number == kMaxNumberedNames) {
      return Error(absl::StrCat("rename to ", name, " from"), errno);
    }
    *name_was_taken = true;
  }
  hidden_name_.clear();
  return absl::OkStatus();
}

std::string HiddenFile::published_path() const {
  return absl::StrCat(folder_->name, "/", NumberedName(number_));
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path,
                                                                   FileOptions options) {
  absl::StatusOr<UniqueFd> root = OpenOrMake(path, options);
  if (!root.ok()) return root.status();
  // Permissions don't tell of a read-only file system, nor of one that takes no files.
  unlinkat(root->get(), kProbeName, 0);
  const UniqueFd probe(openat(root->get(), kProbeName,
                              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                              options.file_mode));
  if (!probe.valid()) {
    const std::string tried = absl::StrCat("make a file in the data directory ", path);
    // No rights would help there.
    return errno == EROFS
               ? absl::FailedPreconditionError(absl::StrCat(tried, ": ", std::strerror(errno)))
               : absl::ErrnoToStatus(errno, tried);
  }
  unlinkat(root->get(), kProbeName, 0);
  return std::unique_ptr<DataDirectory>(new DataDirectory(path, options, *std::move(root)));
}

DataDirectory::~DataDirectory() {
  if (!spare_.empty()) rmdir(spare_.c_str());
}

std::string DataDirectory::MakeSpare() {
  std::string spare = path_.substr(0, path_.find_last_not_of('/') + 1);
  const size_t name = spare.rfind('/') + 1;
  const std::string base = spare.substr(name);
  if (base.empty() || base == "." || base == "..") return "";
  spare = absl::StrCat(spare.substr(0, name), ".", base, ".spare");
  // Who may move folders there could put the data directory in the place of another, which matters
  // for who owns the others.
  if (geteuid() == 0 && !HoldsOnly(ParentOf(spare), {base, spare.substr(name)})) return "";
  // One may be left of a run that was killed.
  if (mkdir(spare.c_str(), options_.folder_mode) != 0 && errno != EEXIST) return "";
  struct stat status;
  if (lstat(spare.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
      status.st_uid != geteuid()) {
    return "";
  }
  spare_ = spare;
  return spare;
}

absl::Status DataDirectory::Restore() {
  if (!spare_.empty() && rename(spare_.c_str(), path_.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("make the data directory ", path_, " again"));
  }
  spare_.clear();
  absl::StatusOr<UniqueFd> root = OpenOrMake(path_, options_);
  if (absl::IsPermissionDenied(root.status())) {
    return absl::PermissionDeniedError(
        absl::StrCat(root.status().message(),
                     " (it was removed, and the sandbox does not allow to make it again: a restart "
                     "does, but loses the flows that wait in memory)"));
  }
  if (!root.ok()) return root.status();
  root_ = *std::move(root);
  flock(root_.get(), LOCK_SH | LOCK_NB);  // as Salvage holds it
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> DataDirectory::Duplicate() const {
  UniqueFd fd(fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path_, " once more"));
  return fd;
}

absl::StatusOr<std::shared_ptr<const DateFolder>> DataDirectory::FolderOf(absl::CivilDay date) {
  const std::string name = absl::StrFormat("%04d/%02d/%02d", date.year(), date.month(), date.day());
  if (latest_ == nullptr || latest_->name != name) {
    const auto known = open_.find(name);
    latest_ = known == open_.end() ? nullptr : known->second.lock();
  }
  if (latest_ != nullptr && IsThere(latest_->fd)) return latest_;

  if (!IsThere(root_)) {
    // Whatever it is, it is not the date's.
    const absl::Status restored = Restore();
    if (!restored.ok()) return absl::UnavailableError(restored.message());
  }
  absl::StatusOr<std::shared_ptr<const DateFolder>> folder = OpenFolder(name);
  if (!folder.ok()) return folder;
  absl::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
  latest_ = *std::move(folder);
  open_[name] = latest_;
  return latest_;
}

absl::StatusOr<std::shared_ptr<const DateFolder>> DataDirectory::OpenFolder(
    const std::string& name) {
  auto folder = std::make_shared<DateFolder>();
  folder->name = name;
  folder->file_mode = options_.file_mode;
  for (absl::string_view part : absl::StrSplit(name, '/')) {
    const int parent = folder->fd.valid() ? folder->fd.get() : root_.get();
    const std::string child(part);
    if (mkdirat(parent, child.c_str(), options_.folder_mode) == 0) {
      if (options_.sync && fsync(parent) != 0) {
        const int error = errno;
        unlinkat(parent, child.c_str(), AT_REMOVEDIR);  // so that the next try syncs it
        return absl::ErrnoToStatus(error, absl::StrCat("sync what holds ", name));
      }
    } else if (errno != EEXIST) {
      return absl::ErrnoToStatus(errno, absl::StrCat("make ", name, " in the data directory"));
    }
    UniqueFd fd(openat(parent, child.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) {
      return absl::ErrnoToStatus(errno, absl::StrCat("open ", name, " in the data directory"));
    }
    folder->fd = std::move(fd);
  }
  return folder;
}

}  // namespace packet_headers
