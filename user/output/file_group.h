// Files that get their names together.

#ifndef PACKET_HEADERS_USER_OUTPUT_FILE_GROUP_H_
#define PACKET_HEADERS_USER_OUTPUT_FILE_GROUP_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "user/base/heartbeat.h"
#include "user/output/data_directory.h"

namespace packet_headers {

struct FileOfGroup {
  HiddenFile* file;
  absl::Status status;          // set by PublishGroup
  bool name_was_taken = false;  // likewise
  bool sync_failed = false;     // likewise: nobody knows which of its bytes reached the disk
};

// Gives all files their names; with `sync` their bytes are on the disk before, and the names
// afterwards, for the price of a few calls for all of them. A file that has its name already gets
// only what was missing. Beats for each file, if there is a `heartbeat`. Returns how many calls
// failed. Once they have their names and before those are synced, `on_named` is called.
uint64_t PublishGroup(
    std::vector<FileOfGroup>& files, bool sync, Heartbeat* heartbeat,
    absl::FunctionRef<void()> on_named = [] {});

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_FILE_GROUP_H_
