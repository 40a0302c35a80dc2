#include "user/splitter.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "spdlog/spdlog.h"
#include "user/base/clock.h"
#include "user/base/scaled.h"
#include "user/capture/capture_file.h"
#include "user/capture/frame_record.h"
#include "user/flow/flow_table.h"
#include "user/flow/timer_wheel.h"
#include "user/flow/trace_clock.h"
#include "user/flow_options.h"
#include "user/identity/announcer.h"
#include "user/identity/event_file.h"
#include "user/identity/uuid.h"
#include "user/output/data_directory.h"
#include "user/output/publisher.h"
#include "user/service/books_report.h"
#include "user/service/memory_limit.h"
#include "user/service/progress.h"
#include "user/service/sandbox.h"

namespace packet_headers {
namespace {

constexpr int kExitNotSaved = 1;
constexpr int kExitDamaged = 2;
constexpr int kExitSignal = 128;

// Packets between two looks at what is not a packet.
constexpr uint64_t kPacketsPerRound = 1024;

// Packets that go to the flow table at once, which then fetches their flows from memory together.
constexpr size_t kMostInBatch = 32;

// Files on their way to the disk; beyond them the reading waits.
constexpr int64_t kMostJobs = 4096;
constexpr size_t kMostJobsAtOnce = 256;

constexpr int64_t kSecondNs = 1'000'000'000;

// The one row of the books: a capture tells neither interface nor side.
constexpr uint32_t kIfindex = 0;

// The signal that ended the reading, or 0.
volatile std::sig_atomic_t stop_signal = 0;

// The first of them ends the reading, also where it waits for standard input; what was read until
// then is saved. The second ends the process.
void StopReadingOnSignal() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { stop_signal = signal; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

// There is no kernel to spare the work: what comes after a flow's end is counted here.
class NoKernelFlows : public KernelFlows {
 public:
  void Settle(const ph_flow_key&, bool) override {}
  void Unsettle(const ph_flow_key&) override {}
};

FlowOptions MakeOptions(const Config& config, std::shared_ptr<const Anonymizer> anonymizer,
                        bool has_announcements) {
  FlowOptions options = MakeFlowOptions(config, /*shards=*/1);
  options.ownership = config.write_all ? Ownership::kNone : Ownership::kHandshake;
  options.naming = config.uuid_source == UuidSource::kTcpinfo ? Naming::kAnnounced
                   : has_announcements                        ? Naming::kAnnouncedOrOwn
                                                              : Naming::kOwn;
  options.anonymizer = std::move(anonymizer);
  options.name_flow = [](const Flow& flow) {
    if (flow.disguise() == nullptr) return UuidFromTuple(flow.key, flow.first_wall_ns);
    // Which of the true addresses comes first would tell something of them.
    return UuidFromTuple(FirstEndLocal(flow.shown_key()), flow.first_wall_ns);
  };
  return options;
}

// Whether there is any of them. What is wrong with one that is there is told when it is read.
bool AnyExists(const std::vector<std::string>& paths) {
  return std::any_of(paths.begin(), paths.end(), [](const std::string& path) {
    return path == "-" || access(path.c_str(), F_OK) == 0 || errno != ENOENT;
  });
}

// The bytes of all files; 0 where one can't tell.
int64_t TotalBytes(const std::vector<std::string>& paths) {
  int64_t total = 0;
  for (const std::string& path : paths) {
    struct stat status;
    if (path == "-" || stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    total += status.st_size;
  }
  return total;
}

class Splitter {
 public:
  Splitter(const Config& config, const ph_hash_seed& hash_seed,
           std::unique_ptr<DataDirectory> directory, std::shared_ptr<const Anonymizer> anonymizer,
           std::vector<Announcement> announcements)
      : config_(config),
        hash_seed_(hash_seed),
        announcements_(std::move(announcements)),
        options_(MakeOptions(config, std::move(anonymizer), !announcements_.empty())),
        budget_(config.max_heap_bytes),
        limit_(config.max_flows),
        publisher_(std::move(directory), options_.max_header_bytes, CompressionOf(config),
                   RetryOptions(), MakeIndex(config, [](uint32_t) { return std::nullopt; })),
        table_(options_, /*shard=*/0, /*now_ns=*/0, budget_, limit_, books_, stats_, kernel_,
               [this](FileJob job) {
                 job.done = &done_;
                 publisher_.Submit(std::move(job));
               }),
        announcer_(hash_seed_, /*shards=*/1, unused_prefix_,
                   [this](uint32_t, KeyedAnnouncement keyed) {
                     table_.OnAnnouncement(std::move(keyed));
                     return true;
                   }),
        progress_(STDERR_FILENO, TotalBytes(config.read_files), MonotonicNow()),
        records_(kMostInBatch, FrameRecord(hash_seed_)) {
    publisher_.StopRetrying();  // one can do it again
  }

  int Run();

 private:
  // Whether the file could be read to its end.
  bool Read(const std::string& path);
  void OnFrame(const CapturedFrame& captured);
  // Brings the table to the time of a packet, where more than the packet comes of it.
  void AdvanceTo(int64_t wall_ns);
  // Gives the table the packets that wait for it. Nothing but packets has come to it meanwhile.
  void FeedBatch();
  // What is not done for each packet.
  void Round(int64_t file_bytes_read);
  bool IsAnnouncementDue(int64_t at_ns) const {
    return announced_ < announcements_.size() && announcements_[announced_].time_ns <= at_ns;
  }
  void Announce(int64_t until_ns);
  void TakeJobs();
  void AwaitJobs(int64_t at_most);
  void Report();

  const Config& config_;
  const ph_hash_seed hash_seed_;
  const std::vector<Announcement> announcements_;  // by time
  const FlowOptions options_;
  MemoryBudget budget_;
  FlowLimit limit_;
  Books books_;
  FlowStats stats_;
  NoKernelFlows kernel_;
  FileJobQueue done_;
  Publisher publisher_;
  FlowTable table_;
  UuidPrefix unused_prefix_{""};
  Announcer announcer_;
  Progress progress_;
  std::vector<FrameRecord> records_;  // of the batch, reused
  std::array<RecordBytes, kMostInBatch> batch_;
  size_t in_batch_ = 0;
  TraceClock clock_;
  size_t announced_ = 0;
  uint64_t packets_ = 0;
  uint64_t times_clamped_ = 0;
  bool ran_out_of_memory_ = false;
  int64_t bytes_of_files_before_ = 0;
  int64_t next_flush_ns_ = 0;
};

int Splitter::Run() {
  StopReadingOnSignal();
  bool all_read = true;
  for (const std::string& path : config_.read_files) {
    all_read &= Read(path);
    if (stop_signal != 0) break;
  }
  progress_.Clear();
  FeedBatch();
  if (announced_ < announcements_.size()) Announce(announcements_.back().time_ns);
  table_.FinishAll();
  AwaitJobs(0);
  publisher_.Finish();
  Report();
  if (stop_signal != 0) return kExitSignal + stop_signal;
  if (publisher_.stats().files_failed > 0 || ran_out_of_memory_) return kExitNotSaved;
  return all_read ? 0 : kExitDamaged;
}

bool Splitter::Read(const std::string& path) {
  absl::StatusOr<std::unique_ptr<CaptureFile>> file = CaptureFile::Open(path);
  absl::Status status = file.status();
  while (status.ok()) {
    const absl::StatusOr<const CapturedFrame*> captured = (*file)->Next();
    if (stop_signal != 0) break;
    status = captured.status();
    if (!status.ok() || *captured == nullptr) break;
    OnFrame(**captured);
    if (++packets_ % kPacketsPerRound == 0) {
      Round((*file)->bytes_read());
      if (stop_signal != 0) break;
    }
  }
  if (file.ok()) {
    bytes_of_files_before_ += (*file)->bytes_read();
    times_clamped_ += (*file)->times_clamped();
  }
  if (stop_signal != 0) {
    progress_.Clear();
    spdlog::warn(
        "SIG{0}: stopped in {1} after {2} packets; what was read is saved; a second SIG{0} "
        "exits without saving",
        sigabbrev_np(stop_signal), path, packets_);
    return false;
  }
  if (!status.ok()) {
    progress_.Clear();
    const bool is_for_capability =
        absl::IsPermissionDenied(status) && geteuid() == 0 && config_.sandbox != SandboxMode::kOff;
    spdlog::error(
        "{}{}", std::string(status.message()),
        is_for_capability ? " (root has given up its capabilities; -sandbox=off keeps them)" : "");
  }
  return status.ok();
}

void Splitter::OnFrame(const CapturedFrame& captured) {
  const int64_t time_ns = clock_.TimeOf(captured.time_ns);
  AdvanceTo(captured.time_ns);
  books_.Count(kIfindex, PH_INGRESS, PH_SEEN);
  FrameRecord& record = records_[in_batch_];
  const ph_counter counter = record.ReadEitherWay(captured.frame);
  books_.Count(kIfindex, PH_INGRESS, counter);
  if (counter != PH_CAPTURED) return;
  record.record().time_ns = static_cast<uint64_t>(time_ns);
  record.record().ifindex = kIfindex;
  batch_[in_batch_++] = {record.data(), record.size()};
  if (in_batch_ == kMostInBatch) FeedBatch();
}

void Splitter::AdvanceTo(int64_t wall_ns) {
  // Where the table is, its timers are: it is never left behind a tick.
  const bool is_timer_due =
      TimerWheel::TickOf(clock_.latest_ns()) != TimerWheel::TickOf(table_.latest_ns());
  const bool is_clock_set = clock_.wall_offset_ns() != table_.wall_offset_ns();
  if (!IsAnnouncementDue(wall_ns) && !is_timer_due && !is_clock_set) return;
  FeedBatch();
  Announce(wall_ns);
  table_.set_wall_offset_ns(clock_.wall_offset_ns());
  table_.Advance(clock_.latest_ns());
}

void Splitter::FeedBatch() {
  if (in_batch_ == 0) return;
  table_.OnRecords(absl::MakeConstSpan(batch_.data(), std::exchange(in_batch_, 0)));
  table_.Advance(table_.latest_ns());  // to the time that it is at, for its statistics
}

void Splitter::Announce(int64_t until_ns) {
  for (; IsAnnouncementDue(until_ns); ++announced_) {
    // What has waited for too long by then is named.
    table_.Advance(announcements_[announced_].time_ns - clock_.wall_offset_ns());
    announcer_.Announce(announcements_[announced_]);
  }
}

void Splitter::Round(int64_t file_bytes_read) {
  FeedBatch();
  TakeJobs();
  AwaitJobs(kMostJobs);
  const int64_t buffered = stats_.mapped_bytes - stats_.idle_bytes;
  const bool is_flush_due = config_.stream && clock_.latest_ns() >= next_flush_ns_;
  if (is_flush_due || buffered > budget_.limit_bytes() / 2) {
    // Memory is for flows that are open: what they have so far can wait in their files.
    next_flush_ns_ = clock_.latest_ns() + kSecondNs;
    table_.FlushStreams();
    AwaitJobs(0);
  }
  progress_.Update(bytes_of_files_before_ + file_bytes_read, packets_, MonotonicNow());
}

void Splitter::TakeJobs() {
  for (FileJob& job : done_.Take(kMostJobsAtOnce)) table_.OnJobDone(std::move(job));
}

void Splitter::AwaitJobs(int64_t at_most) {
  while (table_.jobs_outstanding() > at_most) {
    for (FileJob& job : done_.WaitAndTake(kMostJobsAtOnce)) table_.OnJobDone(std::move(job));
  }
}

void Splitter::Report() {
  absl::flat_hash_map<uint32_t, CountersByDirection> books;
  books_.AddTo(books);
  CounterArray total = {};
  for (const CounterArray& counters : books[kIfindex]) {
    for (size_t counter = 0; counter < counters.size(); ++counter) {
      total[counter] += counters[counter];
    }
  }
  ran_out_of_memory_ = total[PH_MEMORY_LIMIT] > 0;
  LogBooks(absl::StrCat("files=", config_.read_files.size()), total);
  LogBalance(total);
  if (clock_.steps_back() > 0) {
    spdlog::warn(
        "the time of the packets went back {} times by more than a second: a clock was "
        "set, or the files are not in the order of their time",
        clock_.steps_back());
  }
  if (times_clamped_ > 0) {
    spdlog::warn("{} packets had times outside of 1970 to 2106, which a pcap can't say",
                 times_clamped_);
  }
  if (total[PH_MEMORY_LIMIT] > 0) {
    spdlog::error(
        "{} packets found no memory: -maxheap is too small for the flows that are open at "
        "one time",
        total[PH_MEMORY_LIMIT]);
  }
  if (total[PH_TRUNCATED] > 0) {
    spdlog::warn("{} packets were captured too short for their headers (tcpdump -s 128 is enough)",
                 total[PH_TRUNCATED]);
  }
  if (!announcements_.empty()) {
    spdlog::info("{} of {} sockets that opened named a flow", stats_.announced.load(),
                 announcements_.size());
  }
  if (total[PH_NO_HANDSHAKE] > 0) {
    spdlog::info("{} packets are of flows whose handshake was not seen; -write.all keeps them",
                 total[PH_NO_HANDSHAKE]);
  }
  if (announcer_.disagreeing() > 0) {
    spdlog::warn("{} UUIDs do not end in their socket's cookie", announcer_.disagreeing());
  }
  LogFiles(publisher_.stats());
}

}  // namespace

absl::StatusOr<int> SplitFiles(const Config& asked) {
  Config config = asked;
  const MemoryLimit limit = ReadMemoryLimit();
  config.max_heap_bytes =
      FitMemory({asked.max_heap_bytes, /*ring_bytes=*/1, /*shards=*/1}, limit.bytes).heap_bytes;
  if (config.max_heap_bytes < asked.max_heap_bytes) {
    spdlog::warn("{} has {}B: -maxheap={}B instead of {}B", limit.whose, Scaled(limit.bytes),
                 Scaled(config.max_heap_bytes), Scaled(asked.max_heap_bytes));
  }
  // With the rights of the start: only root may be able to read the key.
  absl::StatusOr<std::shared_ptr<const Anonymizer>> anonymizer = MakeAnonymizer(config);
  if (!anonymizer.ok()) return anonymizer.status();
  // What is read was written by strangers.
  absl::Status status = BecomeUser(config.user);
  if (status.ok() && config.sandbox != SandboxMode::kOff) status = KeepNoCapabilities();
  if (!status.ok()) return status;
  if (!AnyExists(config.read_files)) {
    spdlog::error("read {}: No such file or directory; nothing was done",
                  absl::StrJoin(config.read_files, ", "));
    return kExitDamaged;
  }
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory =
      DataDirectory::Open(config.data_dir, FileOptionsOf(config));
  if (!directory.ok()) return DataDirectoryError(directory.status());
  absl::StatusOr<std::unique_ptr<SandboxSelfTest>> selftest = nullptr;
  if (config.sandbox_selftest) selftest = SandboxSelfTest::Open(config.data_dir);
  if (!selftest.ok()) return selftest.status();
  SandboxPolicy policy = {.files = {.write_beneath = {config.data_dir}, .read = config.read_files},
                          .system_calls = kForFiles};
  policy.files.read.push_back(config.uuids_file);
  Sandbox sandbox(config.sandbox);
  status = sandbox.Enter(policy);
  if (!status.ok()) return status;
  std::vector<Announcement> announcements;
  if (!config.uuids_file.empty()) {
    absl::StatusOr<std::vector<Announcement>> read = ReadEventFile(config.uuids_file);
    if (!read.ok()) return read.status();
    announcements = *std::move(read);
  }
  const absl::StatusOr<ph_hash_seed> hash_seed = MakeHashSeed();
  if (!hash_seed.ok()) return hash_seed.status();
  Splitter splitter(config, *hash_seed, *std::move(directory), *std::move(anonymizer),
                    std::move(announcements));
  if (*selftest != nullptr) status = sandbox.Test(**selftest);
  if (!status.ok()) return status;
  spdlog::info("files go to {}/YYYY/MM/DD/", config.data_dir);
  return splitter.Run();
}

}  // namespace packet_headers
