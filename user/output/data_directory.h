// The tree of finished files: <root>/YYYY/MM/DD/<uuid><extension>.

#ifndef PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_
#define PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

// How folders and files are made. From the modes the process's umask is still taken.
struct FileOptions {
  mode_t folder_mode = 0750;
  mode_t file_mode = 0640;
  bool sync = true;  // whether what is saved survives a power cut
};

// One open date folder.
struct DateFolder {
  std::string name;  // YYYY/MM/DD
  UniqueFd fd;
  mode_t file_mode;
};

// A file that nobody sees until it is whole: hidden in its date folder until Publish(), removed if
// that never comes. One thread.
class HiddenFile {
 public:
  // `uuid` is valid (IsValidUuid), `extension` begins with a dot. The hidden name is
  // ".<uuid><extension>.part", with a number before the extension if that is taken.
  static absl::StatusOr<std::unique_ptr<HiddenFile>> Create(
      std::shared_ptr<const DateFolder> folder, absl::string_view uuid,
      absl::string_view extension);
  // One that an earlier run left as ".<name><extension>.part". NotFound if it is no regular file.
  // Only Remove() removes it.
  static absl::StatusOr<std::unique_ptr<HiddenFile>> Adopt(std::shared_ptr<const DateFolder> folder,
                                                           absl::string_view name,
                                                           absl::string_view extension);
  HiddenFile(const HiddenFile&) = delete;
  HiddenFile& operator=(const HiddenFile&) = delete;
  ~HiddenFile();

  absl::Status Append(absl::string_view bytes);

  // Takes away what is behind the first `bytes`.
  absl::Status CutTo(int64_t bytes);

  // Makes the bytes so far survive a power cut.
  absl::Status Sync();

  // Gives back the descriptor; whatever needs one takes a new one. NotFound then says that somebody
  // removed the file.
  void CloseDescriptor() { fd_.Reset(); }

  // Renames to "<uuid><extension>", or "<uuid>.<n><extension>" when that is taken: nothing is ever
  // overwritten. Sets `*name_was_taken` in the latter case.
  absl::Status Publish(bool* name_was_taken);

  // Beneath the data directory, once it is published.
  std::string published_path() const;

  // Takes the place of `other` in one step. From then on `other` stands for it.
  absl::Status ReplaceHidden(const HiddenFile& other);

  // Also if somebody else did it before. What can't be removed is tried again at the end.
  absl::Status Remove();

  // A descriptor for reading from the start.
  absl::StatusOr<UniqueFd> OpenToRead() const;

  bool is_published() const { return hidden_name_.empty(); }
  const std::shared_ptr<const DateFolder>& folder() const { return folder_; }

 private:
  HiddenFile(std::shared_ptr<const DateFolder> folder, absl::string_view uuid,
             absl::string_view extension)
      : folder_(std::move(folder)), uuid_(uuid), extension_(extension) {}

  // Without one for number 0.
  std::string NumberedName(int number) const;
  absl::Status Open(int flags);
  absl::Status OpenIfClosed() { return fd_.valid() ? absl::OkStatus() : Open(0); }
  absl::Status Error(absl::string_view tried, int error) const;

  const std::shared_ptr<const DateFolder> folder_;
  const std::string uuid_;
  const std::string extension_;
  std::string hidden_name_;  // empty: there is none any more
  int number_ = 0;           // in the published name
  bool is_kept_ = false;     // whatever becomes of this object
  UniqueFd fd_;
};

// One thread.
class DataDirectory {
 public:
  // Makes `path` with its parents where they are missing. An error unless files can be made there.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path,
                                                             FileOptions options = {});

  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;
  // Removes what MakeSpare() made.
  ~DataDirectory();

  // Makes an empty folder beside the data directory, which takes its place, once, when somebody
  // removes that: for a process that may write beneath these two only, and can't make a third.
  // Returns its path, empty where there can be none; for root only where nothing else is beside it.
  std::string MakeSpare();

  // The folder of `date`, made if it is missing, as is the data directory if somebody removed it.
  absl::StatusOr<std::shared_ptr<const DateFolder>> FolderOf(absl::CivilDay date);

  // A descriptor of the directory, for others.
  absl::StatusOr<UniqueFd> Duplicate() const;

  // As it was opened.
  const std::string& path() const { return path_; }

  const FileOptions& options() const { return options_; }

 private:
  DataDirectory(std::string path, FileOptions options, UniqueFd root)
      : path_(std::move(path)), options_(options), root_(std::move(root)) {}

  // Again, after it was removed.
  absl::Status Restore();
  absl::StatusOr<std::shared_ptr<const DateFolder>> OpenFolder(const std::string& name);

  const std::string path_;
  const FileOptions options_;
  std::string spare_;  // empty: there is none
  UniqueFd root_;
  std::shared_ptr<const DateFolder> latest_;  // of the last FolderOf()
  // Those that files hold open, or once did: a flow of yesterday must not take one more.
  absl::flat_hash_map<std::string, std::weak_ptr<const DateFolder>> open_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_
