// The tree of finished files: <root>/YYYY/MM/DD/<uuid><extension>.

#ifndef PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_
#define PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "user/output/unique_fd.h"

namespace packet_headers {

// One open date folder.
struct DateFolder {
  std::string name;  // YYYY/MM/DD
  UniqueFd fd;
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
  HiddenFile(const HiddenFile&) = delete;
  HiddenFile& operator=(const HiddenFile&) = delete;
  ~HiddenFile();

  absl::Status Append(absl::string_view bytes);

  // Makes the bytes so far survive a power cut.
  absl::Status Sync();

  // Gives back the descriptor; Append() and Sync() take a new one.
  void CloseDescriptor() { fd_.Reset(); }

  // Renames to "<uuid><extension>", or "<uuid>.<n><extension>" when that is taken: nothing is ever
  // overwritten. Sets `*name_was_taken` in the latter case.
  absl::Status Publish(bool* name_was_taken);

  const DateFolder& folder() const { return *folder_; }

 private:
  HiddenFile(std::shared_ptr<const DateFolder> folder, absl::string_view uuid,
             absl::string_view extension)
      : folder_(std::move(folder)), uuid_(uuid), extension_(extension) {}

  // Without one for number 0.
  std::string NumberedName(int number) const;
  absl::Status Open(int flags);
  absl::Status Error(absl::string_view tried, int error) const;

  const std::shared_ptr<const DateFolder> folder_;
  const std::string uuid_;
  const std::string extension_;
  std::string hidden_name_;
  UniqueFd fd_;
};

// One thread.
class DataDirectory {
 public:
  // Makes `path` with its parents where they are missing. An error unless files can be made there.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path);

  // The folder of `date`, made if it is missing, as is the data directory if somebody removed it.
  absl::StatusOr<std::shared_ptr<const DateFolder>> FolderOf(absl::CivilDay date);

 private:
  DataDirectory(std::string path, UniqueFd root) : path_(std::move(path)), root_(std::move(root)) {}

  const std::string path_;
  UniqueFd root_;
  std::shared_ptr<const DateFolder> latest_;  // of the last FolderOf()
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_DATA_DIRECTORY_H_
