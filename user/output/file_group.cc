#include "user/output/file_group.h"

#include <unistd.h>

#include <cerrno>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

// From here on one syncfs() is cheaper than an fdatasync() for each file.
constexpr size_t kSyncWholeFileSystem = 8;

// Syncs each folder, or the file system that it is on, at most once.
class FolderSyncs {
 public:
  explicit FolderSyncs(int (*sync)(int)) : sync_(sync) {}

  absl::Status Sync(const DateFolder& folder) {
    auto [result, is_new] = results_.try_emplace(&folder);
    if (is_new && sync_(folder.fd.get()) != 0) {
      result->second = absl::ErrnoToStatus(errno, absl::StrCat("sync ", folder.name));
      ++failed_;
    }
    return result->second;
  }

  uint64_t failed() const { return failed_; }

 private:
  int (*const sync_)(int);
  absl::flat_hash_map<const DateFolder*, absl::Status> results_;
  uint64_t failed_ = 0;
};

}  // namespace

uint64_t PublishGroup(std::vector<FileOfGroup>& files, bool sync, Heartbeat* heartbeat,
                      absl::FunctionRef<void()> on_named) {
  uint64_t failed = 0;
  FolderSyncs file_systems(syncfs);
  FolderSyncs names(fsync);
  const auto beat = [heartbeat] {
    if (heartbeat != nullptr) heartbeat->Beat();
  };
  for (FileOfGroup& entry : files) {
    beat();
    if (!sync || entry.file->is_published()) continue;
    // It also reports what went wrong with files of others.
    if (files.size() >= kSyncWholeFileSystem && file_systems.Sync(*entry.file->folder()).ok()) {
      continue;
    }
    entry.status = entry.file->Sync();
    entry.sync_failed = !entry.status.ok();
    failed += entry.sync_failed;
    entry.file->CloseDescriptor();
  }
  for (FileOfGroup& entry : files) {
    beat();
    if (!entry.status.ok() || entry.file->is_published()) continue;
    entry.status = entry.file->Publish(&entry.name_was_taken);
    failed += !entry.status.ok();
  }
  on_named();
  for (FileOfGroup& entry : files) {
    beat();
    if (sync && entry.status.ok()) entry.status = names.Sync(*entry.file->folder());
  }
  return failed + file_systems.failed() + names.failed();
}

}  // namespace packet_headers
