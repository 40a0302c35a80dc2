#include "user/output/data_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace packet_headers {
namespace {

// As m-lab/packet-headers makes them, before the umask.
constexpr mode_t kRootMode = 0775;
constexpr mode_t kFolderMode = 0777;
constexpr mode_t kFileMode = 0664;

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
  return unlinkat(folder_fd, from.c_str(), 0);
}

absl::StatusOr<UniqueFd> OpenOrMake(const std::string& path) {
  // Parents first; where one can't be made, the last mkdir or open says why.
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    mkdir(path.substr(0, slash).c_str(), kRootMode);
  }
  if (mkdir(path.c_str(), kRootMode) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, absl::StrCat("make the data directory ", path));
  }
  UniqueFd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open the data directory ", path));
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
  fd_.Reset(openat(folder_->fd.get(), hidden_name_.c_str(),
                   O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | flags, kFileMode));
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

HiddenFile::~HiddenFile() {
  if (!hidden_name_.empty()) unlinkat(folder_->fd.get(), hidden_name_.c_str(), 0);
}

absl::Status HiddenFile::Append(absl::string_view bytes) {
  if (!fd_.valid()) {
    const absl::Status status = Open(0);
    if (!status.ok()) return status;
  }
  while (!bytes.empty()) {
    const ssize_t written = write(fd_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error("write", errno);
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status HiddenFile::Sync() {
  if (!fd_.valid()) {
    const absl::Status status = Open(0);
    if (!status.ok()) return status;
  }
  return fdatasync(fd_.get()) == 0 ? absl::OkStatus() : Error("sync", errno);
}

absl::Status HiddenFile::Publish(bool* name_was_taken) {
  *name_was_taken = false;
  for (int number = 0;; ++number) {
    const std::string name = NumberedName(number);
    if (RenameNoReplace(folder_->fd.get(), hidden_name_, name) == 0) break;
    if (errno != EEXIST || number == kMaxNumberedNames) {
      return Error(absl::StrCat("rename to ", name, " from"), errno);
    }
    *name_was_taken = true;
  }
  hidden_name_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path) {
  absl::StatusOr<UniqueFd> root = OpenOrMake(path);
  if (!root.ok()) return root.status();
  // Permissions don't tell of a read-only file system, nor of one that takes no files.
  unlinkat(root->get(), kProbeName, 0);
  const UniqueFd probe(openat(root->get(), kProbeName,
                              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (!probe.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("make a file in the data directory ", path));
  }
  unlinkat(root->get(), kProbeName, 0);
  return std::unique_ptr<DataDirectory>(new DataDirectory(path, *std::move(root)));
}

absl::StatusOr<std::shared_ptr<const DateFolder>> DataDirectory::FolderOf(absl::CivilDay date) {
  const std::string name = absl::StrFormat("%04d/%02d/%02d", date.year(), date.month(), date.day());
  if (latest_ != nullptr && latest_->name == name && IsThere(latest_->fd)) return latest_;

  if (!IsThere(root_)) {
    absl::StatusOr<UniqueFd> root = OpenOrMake(path_);
    if (!root.ok()) return root.status();
    root_ = *std::move(root);
  }
  auto folder = std::make_shared<DateFolder>();
  folder->name = name;
  for (absl::string_view part : absl::StrSplit(name, '/')) {
    const int parent = folder->fd.valid() ? folder->fd.get() : root_.get();
    const std::string child(part);
    if (mkdirat(parent, child.c_str(), kFolderMode) == 0) {
      fsync(parent);
    } else if (errno != EEXIST) {
      return absl::ErrnoToStatus(errno, absl::StrCat("make ", name, " in the data directory"));
    }
    UniqueFd fd(openat(parent, child.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) {
      return absl::ErrnoToStatus(errno, absl::StrCat("open ", name, " in the data directory"));
    }
    folder->fd = std::move(fd);
  }
  latest_ = std::move(folder);
  return latest_;
}

}  // namespace packet_headers
