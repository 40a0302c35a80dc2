// The index: a line of JSON for each published file, beside the files of its date.

#ifndef PACKET_HEADERS_USER_OUTPUT_INDEX_FILE_H_
#define PACKET_HEADERS_USER_OUTPUT_INDEX_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "user/output/data_directory.h"
#include "user/output/file_job.h"
#include "user/output/flow_summary.h"

namespace packet_headers {

// Where packets were taken from.
struct InterfaceHooks {
  std::string interface;
  absl::string_view ingress;
  absl::string_view egress;
};

// Writes to "index-<host>-<start>.jsonl" in the folder of each file. docs/index.schema.json says
// what a line holds. One thread.
class IndexFile {
 public:
  // None of interfaces that are gone, or in a capture file.
  using HooksOf = std::function<std::optional<InterfaceHooks>(uint32_t ifindex)>;

  // `host` is a valid UUID (IsValidUuid). `start_ns`, since the Unix epoch, is that of the process.
  IndexFile(absl::string_view host, int64_t start_ns, HooksOf hooks_of);

  // Tells of a file that has its name, by its last job and all of its records.
  void Add(const HiddenFile& file, const FileJob& last_job, const FlowSummary& summary);

  // Appends the lines that were added to their files: all of a folder, or none. With `sync` they
  // survive a power cut once the folder is synced. Lines that can't be written are kept for the
  // next call, as long as these are no more than 512 KiB: then the newest are lost. The last call
  // keeps none.
  absl::Status Write(bool sync, bool is_last = false);

  uint64_t lines_written() const { return lines_written_; }
  uint64_t lines_lost() const { return lines_lost_; }

 private:
  struct Lines {
    std::shared_ptr<const DateFolder> folder;
    std::string text;
    // Of the file; behind them is at most what could not be cut off.
    off_t whole_bytes = std::numeric_limits<off_t>::max();
  };

  absl::Status Append(Lines& lines, bool sync) const;
  const std::string& HooksAsJson(uint32_t ifindex);

  const std::string host_;
  const std::string name_;
  const HooksOf hooks_of_;
  std::vector<Lines> waiting_;                        // by folder
  absl::flat_hash_map<uint32_t, std::string> hooks_;  // by ifindex, until the next Write()
  uint64_t lines_written_ = 0;
  uint64_t lines_lost_ = 0;
};

bool IsIndexName(absl::string_view name);

// Takes away what a crash left behind the last whole line of the index `name` in a folder.
absl::Status MendIndex(int folder_fd, const char* name);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_INDEX_FILE_H_
