// The records of flows on their way to their files.

#ifndef PACKET_HEADERS_USER_OUTPUT_FILE_JOB_H_
#define PACKET_HEADERS_USER_OUTPUT_FILE_JOB_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/civil_time.h"
#include "packet_headers/flow_key.h"
#include "user/output/chunk_pool.h"
#include "user/output/packet_counts.h"
#include "user/output/pcap.h"

namespace packet_headers {

class FileJobQueue;

// What ended the capture of a flow.
enum class FlowEnd : uint8_t {
  kFin,       // FINs both ways
  kRst,       // a RST before that
  kIdle,      // -flowtimeout
  kDuration,  // -captureduration
  kShutdown,  // the end of the daemon, or of the capture files
  kReused,    // another connection on its 4-tuple
  kMemory,    // no memory for more
};

// The records of a flow, or the next of them, on their way to the flow's file.
struct FileJob {
  uint64_t flow_id = 0;  // unique among the flows whose files are not finished
  std::string uuid;      // valid (IsValidUuid)
  absl::CivilDay date;   // names the folder
  LinkType link_type = LinkType::kEthernet;
  ph_flow_key key = {};          // as the records show it: with what stands for hidden addresses
  ChunkList records;             // in pcap format
  bool first = true;             // nothing of the file went before
  bool last = true;              // the file is complete with these
  bool large = false;            // more comes soon, or of a job before it did
  FlowEnd end = FlowEnd::kIdle;  // counts only in the last job
  PacketCounts packets;          // in the whole file; likewise
  int64_t ended_ns = 0;          // likewise: monotonic time of the flow's end
  FileJobQueue* done = nullptr;  // where the job goes afterwards; outlives it
  bool saved = false;            // set by the publisher: the file is safe under its name
};

// Unbounded; what bounds it is the memory budget that the records count against. Thread-safe.
class FileJobQueue {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  void Put(FileJob job);
  // At most `most` of the oldest jobs; none if there are none.
  std::vector<FileJob> Take(size_t most);
  // The same, but waits for a job or for Close(), after which what is left can still be taken;
  // until MonotonicNow() is `until_ns`, and not for longer than kLongestTurnMs.
  std::vector<FileJob> WaitAndTake(size_t most, int64_t until_ns = kNever);
  void Close();
  size_t size() const;
  // Closed, and nothing is left.
  bool is_over() const;

 private:
  std::vector<FileJob> TakeLocked(size_t most);

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<FileJob> jobs_;
  bool closed_ = false;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_FILE_JOB_H_
