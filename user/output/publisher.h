// Turns the records of finished flows into files.

#ifndef PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_
#define PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/civil_time.h"
#include "user/output/chunk_pool.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/packet_counts.h"
#include "user/output/pcap.h"

namespace packet_headers {

class FileJobQueue;

// The records of a flow, or the next of them, on their way to the flow's file.
struct FileJob {
  uint64_t flow_id = 0;  // unique among the flows whose files are not finished
  std::string uuid;      // valid (IsValidUuid)
  absl::CivilDay date;   // names the folder
  LinkType link_type = LinkType::kEthernet;
  ChunkList records;             // in pcap format
  bool last = true;              // the file is complete with these
  PacketCounts packets;          // in the whole file; counts only in the last job
  FileJobQueue* done = nullptr;  // where the job goes afterwards; outlives it
  bool saved = false;            // set by the publisher: the file is safe under its name
};

// Unbounded; what bounds it is the memory budget that the records count against. Thread-safe.
class FileJobQueue {
 public:
  void Put(FileJob job) ABSL_LOCKS_EXCLUDED(mutex_);
  // At most `most` of the oldest jobs; none if there are none.
  std::vector<FileJob> Take(size_t most) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same, but waits for a job or for Close(), after which what is left can still be taken.
  std::vector<FileJob> WaitAndTake(size_t most) ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  std::vector<FileJob> TakeLocked(size_t most) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::deque<FileJob> jobs_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// What the making of a file can fail at.
enum class FileStage {
  kMkdir,         // the folder of its date
  kFileOpen,      // the hidden file
  kWritePartial,  // writing the records of a file that is handed over as a whole
  kStreaming,     // writing those of a file that is handed over in parts
  kWriteFinal,    // the sync, or giving the file its name
};

inline constexpr size_t kFileStages = 5;

// By stage: `reason` labels of pcap_saver_errors_total, which m-lab/packet-headers named.
inline constexpr std::array<absl::string_view, kFileStages> kFileStageNames = {
    "mkdir", "fileopen", "writepartial", "streaming", "writefinal"};

// Written by the publisher's thread, read by any.
struct PublisherStats {
  std::atomic<uint64_t> files_published{0};
  std::atomic<uint64_t> names_taken{0};  // files that got a number, for their name was there
  std::atomic<uint64_t> files_failed{0};
  std::array<std::atomic<uint64_t>, kFileStages> failed_by_stage{};  // their sum is files_failed
  std::atomic<uint64_t> times_raised{0};   // records whose time would have gone back
  std::atomic<uint64_t> bytes_written{0};  // of records, before compression
  std::atomic<uint64_t> bytes_stored{0};   // of files, as they went to the disk
};

// Owns one thread, which takes jobs in groups: all files of a group are written, then synced, then
// renamed, then their folders synced, and only then are they called saved. Each job makes one
// member of its compressed file, so that what a crash leaves of a file can be read up to its last
// whole job.
class Publisher {
 public:
  Publisher(std::unique_ptr<DataDirectory> directory, uint32_t snaplen, Compression compression);
  // Finishes all jobs, then returns them to their queues.
  ~Publisher();

  // From any thread.
  void Submit(FileJob job) { jobs_.Put(std::move(job)); }

  size_t waiting() const { return jobs_.size(); }
  const PublisherStats& stats() const { return stats_; }

 private:
  // A file that has begun.
  struct OpenFile {
    std::unique_ptr<HiddenFile> file;
    int64_t last_time_ns = 0;             // of the records written so far
    FileStage stage = FileStage::kMkdir;  // what is being done, or failed
    absl::Status status;                  // of the first thing that failed
  };

  void Run();
  void PublishGroup(std::vector<FileJob> group);
  OpenFile Begin(const FileJob& job);
  OpenFile Write(const FileJob& job);
  absl::Status WriteRecords(const FileJob& job, bool is_new, OpenFile& open);
  void ReportFailure(size_t files, const absl::Status& why);

  const std::unique_ptr<DataDirectory> directory_;
  const uint32_t snaplen_;
  const absl::string_view extension_;
  const std::unique_ptr<Compressor> compressor_;
  FileJobQueue jobs_;
  PublisherStats stats_;
  absl::flat_hash_map<uint64_t, OpenFile> streams_;  // by flow id: begun in an earlier group
  size_t unreported_failures_ = 0;
  std::chrono::steady_clock::time_point last_report_;
  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_PUBLISHER_H_
