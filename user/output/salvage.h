// What runs that died have left in the data directory.

#ifndef PACKET_HEADERS_USER_OUTPUT_SALVAGE_H_
#define PACKET_HEADERS_USER_OUTPUT_SALVAGE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "user/base/unique_fd.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/file_group.h"
#include "user/output/unpacked_file.h"

namespace packet_headers {

// How far a pcap file of ours is whole.
struct WholeRecords {
  int64_t bytes = 0;  // unpacked, with the file's header; 0 without a record
  int64_t packets = 0;
  bool is_all = false;  // nothing is behind them
};

// Reads `file` up to what a crash has torn: half a record, damaged compression, times that go back.
// The errors are those of reading it. The content may be anybody's.
absl::StatusOr<WholeRecords> FindWholeRecords(UnpackedFile& file);

// Written by the salvage's thread, read by any.
struct SalvageStats {
  std::atomic<uint64_t> files{0};  // that got their names
  std::atomic<uint64_t> packets{0};
  std::atomic<uint64_t> removed{0};  // hidden files without a whole record
  std::atomic<uint64_t> failed{0};   // left for the next start
};

// Gives the hidden files of runs that died their names, each up to its last whole record, from a
// thread of its own. The lock on the directory (flock(2)) tells whether they are of runs that died:
// every publisher shares it, and only who has it alone takes hidden files for left behind.
class Salvage {
 public:
  // Starts the thread.
  explicit Salvage(const DataDirectory& directory);
  // Waits for the thread, but no longer than a few seconds and the file that it is at.
  ~Salvage();

  // Waits for some time until it is known which files are meant, and returns whether it is: from
  // then on new hidden files may be made. One thread.
  bool WaitForList(std::chrono::milliseconds time) {
    return listed_.wait_for(time) == std::future_status::ready;
  }

  const SalvageStats& stats() const { return stats_; }

 private:
  struct Leftover {
    std::shared_ptr<const std::string> folder;  // YYYY/MM/DD
    std::string name;
    absl::string_view extension;
  };
  using Leftovers = std::vector<Leftover>;
  using Mended = std::vector<std::pair<std::unique_ptr<HiddenFile>, int64_t>>;  // and its packets

  void Run();
  Leftovers TakeList();
  void LockWithOthers();
  void ListFolder(UniqueFd fd, const std::string& path, Leftovers& leftovers);
  absl::StatusOr<std::shared_ptr<const DateFolder>> OpenFolder(const std::string& name);
  absl::StatusOr<std::unique_ptr<HiddenFile>> Mend(const Leftover& leftover, int64_t* packets);
  absl::Status Rewrite(HiddenFile& torn, const Leftover& leftover, int64_t bytes);
  void Publish(Mended mended);
  void Fail(const absl::Status& status);

  const FileOptions options_;
  const absl::StatusOr<UniqueFd> root_;
  std::promise<void> list_is_done_;
  const std::future<void> listed_ = list_is_done_.get_future();
  std::atomic<int64_t> stop_ns_;
  SalvageStats stats_;
  // The thread's.
  absl::Status status_;  // of the first thing that failed
  std::shared_ptr<const DateFolder> latest_;
  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_SALVAGE_H_
