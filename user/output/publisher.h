// Turns the records of finished flows into files.

#ifndef PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_
#define PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "user/base/heartbeat.h"
#include "user/base/histogram.h"
#include "user/base/paced_log.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/file_job.h"
#include "user/output/flow_summary.h"
#include "user/output/index_file.h"
#include "user/output/recent_files.h"
#include "user/output/salvage.h"

namespace packet_headers {

// What a file takes in the publisher while it waits for its next job, about.
inline constexpr int64_t kOpenFileBytes = 2048;

// And what it takes more once one of its jobs was large. The end of such a one is held back: what
// comes late in the next belongs between its records.
inline constexpr int64_t kHeldBytes = 64 * 1024;

// What the making of a file can fail at.
enum class FileStage {
  kMkdir,         // the folder of its date
  kFileOpen,      // the hidden file
  kWritePartial,  // writing the records of a file that is handed over as a whole
  kStreaming,     // writing those of a file that is handed over in parts
  kWriteFinal,    // the sync, or giving the file its name
  kIndex,         // its line in the index, without which it is saved all the same
};

inline constexpr size_t kFileStages = 6;

// By stage. What a file can fail for is called as in m-lab/packet-headers: the `reason` labels of
// pcap_saver_errors_total.
inline constexpr std::array<absl::string_view, kFileStages> kFileStageNames = {
    "mkdir", "fileopen", "writepartial", "streaming", "writefinal", "index"};

inline constexpr auto kPublishLatencyBounds = DoubledBounds<19>(1'000'000);  // from 1 ms to 262 s

// Written by the publisher's thread, read by any.
struct PublisherStats {
  std::atomic<uint64_t> files_published{0};
  std::atomic<uint64_t> names_taken{0};  // files that got a number, for their name was there
  std::atomic<uint64_t> files_failed{0};
  std::array<std::atomic<uint64_t>, kFileStages - 1> failed_by_stage{};  // their sum: files_failed
  std::array<std::atomic<uint64_t>, kFileStages> errors_by_stage{};  // also those made good later
  std::atomic<uint64_t> times_raised{0};        // records whose time would have gone back
  std::atomic<uint64_t> bytes_written{0};       // of records, before compression
  std::atomic<uint64_t> bytes_stored{0};        // of files, as they went to the disk
  Histogram latency_ns{kPublishLatencyBounds};  // from a flow's end to its file's name
  std::atomic<uint64_t> index_lines{0};
  std::atomic<uint64_t> index_lines_lost{0};
};

// How a publisher deals with what fails.
struct RetryOptions {
  int64_t pause_ns = 1'000'000'000;  // between two tries
  int most_tries = 5;                // of a file that fails where others don't
};

// Owns one thread, which takes jobs in groups: all files of a group are written, then synced, then
// renamed, then their folders synced, and only then are they called saved. Each job makes one
// member of its compressed file, so that what a crash leaves of a file can be read up to its last
// whole job, but for what of a large one was held back. Such leftovers of earlier runs are salvaged
// meanwhile.
//
// A job that fails keeps its records and is tried again, for as long as the disk takes nothing;
// what was written of it is removed or cut off at once. Given up is what fails often while other
// files can be saved, and a file of several jobs whose earlier records may be lost: it is gone, or
// its sync failed, after which the kernel forgets what it could not write.
class Publisher {
 public:
  // Without an `index` none is written.
  Publisher(std::unique_ptr<DataDirectory> directory, uint32_t snaplen, Compression compression,
            RetryOptions retry = {}, std::unique_ptr<IndexFile> index = nullptr);
  ~Publisher() { Finish(); }

  // Returns all jobs, done or given up, to their queues. Nothing is submitted from now on.
  void Finish();

  // From any thread.
  void Submit(FileJob job) { jobs_.Put(std::move(job)); }

  // Whatever fails from now on, or in some seconds, is given up at once, so that there is an end.
  // From any thread.
  void StopRetrying() { stop_retrying_ns_.store(0); }
  void StopRetryingSoon();

  // Jobs that are not done.
  size_t waiting() const { return jobs_.size() + held_jobs_; }
  const Heartbeat& heartbeat() const { return heartbeat_; }
  const PublisherStats& stats() const { return stats_; }
  const RecentFiles& recent_files() const { return recent_files_; }
  const SalvageStats& salvage_stats() const { return salvage_.stats(); }

 private:
  // What a job has brought.
  struct Written {
    int64_t stored_bytes = 0;
    int64_t record_bytes = 0;
    int64_t times_raised = 0;
    int64_t last_time_ns = 0;
    FlowSummary summary;  // with that of the jobs before
  };

  // The file of a flow from its first job until it has its name or is given up.
  struct FlowFile {
    explicit FlowFile(uint64_t id) : flow_id(id) {}

    const uint64_t flow_id;
    std::deque<FileJob> jobs;            // whose records are not safely in the file
    std::unique_ptr<HiddenFile> hidden;  // null until it was made
    int64_t bytes = 0;                   // of the hidden file, by jobs that are done
    int64_t last_time_ns = 0;            // of the records in them
    FlowSummary summary;                 // likewise
    std::string held;                    // records of those jobs that are not in the file yet
    Written last_job;                    // once that is written, too
    bool is_queued = false;              // in a round or among those that fail
    bool is_given_up = false;
    bool has_written = false;             // some bytes, in this round
    bool is_lost = false;                 // what is in the file, and no more in memory
    bool is_indexed = false;              // its line is in the index, or waits for it
    int tries = 0;                        // that failed where others didn't
    FileStage stage = FileStage::kMkdir;  // what is being done, or failed
    absl::Status status;                  // of the last try
  };
  using Round = std::vector<FlowFile*>;

  void Run();
  Round NextRound();
  void Work(const Round& round);
  absl::Status Write(FlowFile& file);
  absl::Status Begin(FlowFile& file);
  absl::StatusOr<Written> WriteRecords(const FileJob& job, FlowFile& file);
  void Complete(const Round& whole);
  void WriteIndex(bool is_last = false);
  void Settle(const Round& round);
  void Fail(FlowFile& file, bool is_alone, int64_t now_ns);
  void NoteDisk(const absl::Status& status, bool is_well, int64_t now_ns);
  void Return(FlowFile& file, bool saved);
  void CountError(FileStage stage, uint64_t errors = 1) {
    stats_.errors_by_stage[static_cast<size_t>(stage)] += errors;
  }

  const std::unique_ptr<DataDirectory> directory_;
  const uint32_t snaplen_;
  const absl::string_view extension_;
  const RetryOptions retry_;
  const std::unique_ptr<Compressor> compressor_;
  const std::unique_ptr<IndexFile> index_;  // null: none is written
  Salvage salvage_;
  FileJobQueue jobs_;
  std::atomic<size_t> held_jobs_{0};  // in files_
  std::atomic<int64_t> stop_retrying_ns_{FileJobQueue::kNever};
  PublisherStats stats_;
  RecentFiles recent_files_;
  Heartbeat heartbeat_{"publisher"};
  // The thread's.
  std::string piece_;  // of the file that is being written
  absl::flat_hash_map<uint64_t, std::unique_ptr<FlowFile>> files_;
  std::deque<FlowFile*> failing_;  // the longest first
  int64_t retry_ns_ = 0;           // when they are tried again
  int64_t down_since_ns_ = 0;      // since when nothing could be saved; 0: it can
  PacedLog log_;
  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_
