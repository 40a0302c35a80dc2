#include "user/flow/shard.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "user/base/clock.h"
#include "user/base/named_thread.h"

namespace packet_headers {
namespace {

// A reader that polls doubles the kernel's cost of a record, and each turn has a cost of its own,
// so a drain waits for a batch: longer, the fewer records there are, but not for so many that they
// leave the processor's cache before they are read, nor for more than a small part of a ring. The
// kernel ends the wait when a ring is half full.
constexpr absl::Duration kShortestWait = absl::Milliseconds(3);
constexpr absl::Duration kLongestWait = absl::Milliseconds(48);
constexpr size_t kFewRecords = 8192;
constexpr size_t kManyRecords = 2 * kFewRecords;
constexpr int64_t kLowFillPpm = 125'000;
constexpr int64_t kHighFillPpm = 2 * kLowFillPpm;

// Records between two looks at the timers.
constexpr size_t kMostInDrain = 65'536;

constexpr size_t kMostJobsAtOnce = 4096;

// Announcements between two drains.
constexpr size_t kMostInInbox = 65'536;

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

absl::Duration NextWait(absl::Duration wait, size_t records, int64_t fill_ppm) {
  const bool is_many = records > kManyRecords || fill_ppm > kHighFillPpm;
  const bool is_few = records < kFewRecords && fill_ppm < kLowFillPpm;
  return std::clamp(is_many ? wait / 2 : is_few ? wait * 2 : wait, kShortestWait, kLongestWait);
}

Shard::Shard(uint32_t index, const FlowOptions& options, RecordSource& source, MemoryBudget& budget,
             FlowLimit& limit, KernelFlows& kernel, Publisher& publisher,
             std::shared_ptr<const LocalAddresses> local_addresses)
    : stream_(options.stream),
      source_(source),
      inbox_(kMostInInbox),
      heartbeat_(absl::StrCat("shard ", index)),
      local_addresses_(std::move(local_addresses)),
      table_(options, index, MonotonicNow(), budget, limit, books_, stats_, kernel,
             [this, &publisher](FileJob job) {
               job.done = &done_;
               publisher.Submit(std::move(job));
             }),
      thread_(StartThread(
          heartbeat_.thread(), [this] { Run(); }, Urgency::kUrgent)) {}

void Shard::Finish() {
  BeginToFinish();
  if (thread_.joinable()) thread_.join();
}

void Shard::Use(absl::Span<const RecordBytes> records) {
  // One reading of the clock for all of them, and their first one tells the longest delay.
  const RecordBytes& first = records.front();
  if (first.size >= sizeof(ph_header_record)) {
    const auto* record = static_cast<const ph_header_record*>(first.data);
    capture_delay_.Add(MonotonicNow() - static_cast<int64_t>(record->time_ns), records.size());
  }
  table_.OnRecords(records);
}

void Shard::Run() {
  const auto take_announcements = [this] {
    for (KeyedAnnouncement& announcement : inbox_.Take()) {
      table_.OnAnnouncement(std::move(announcement));
    }
  };
  int64_t fill_ppm = 0;
  const auto drain = [this, &fill_ppm] {
    fill_ppm = source_.FillPpm();
    ring_fill_.Add(fill_ppm);
    const size_t records =
        source_.Drain(kMostInDrain, [this](absl::Span<const RecordBytes> some) { Use(some); });
    for (const FlowOwner& owner : source_.TakeOwners()) table_.OnOwner(owner);
    return records;
  };
  absl::Duration wait = kShortestWait;
  int64_t next_second_ns = 0;
  while (!finishing_.load(std::memory_order_acquire)) {
    source_.Wait(wait);
    heartbeat_.Beat();
    // Before the drain: what came until now is then in the table.
    const int64_t now_ns = MonotonicNow();
    if (now_ns >= next_second_ns) {
      next_second_ns = now_ns + kSecondNs;
      if (stream_) table_.FlushStreams();
    }
    table_.set_wall_offset_ns(WallOffset());
    table_.set_suspended_ns(SuspendedTime());
    table_.set_local_addresses(local_addresses());
    take_announcements();
    const size_t records = drain();
    const int64_t drained_ns = MonotonicNow();
    // What a record says of the time is not believed beyond the clock.
    table_.Advance(records < kMostInDrain ? now_ns : std::min(table_.latest_ns(), drained_ns));
    timer_latency_.Add(MonotonicNow() - drained_ns);
    for (FileJob& job : done_.Take(kMostJobsAtOnce)) table_.OnJobDone(std::move(job));
    const bool is_asked = survey_.Step(table_);
    // A drain that had to stop leaves no time to wait for a batch.
    wait = records == kMostInDrain ? absl::ZeroDuration()
           : is_asked              ? kShortestWait
                                   : NextWait(wait, records, fill_ppm);
  }
  while (drain() > 0) heartbeat_.Beat();
  take_announcements();
  table_.FinishAll();
  while (table_.jobs_outstanding() > 0) {
    heartbeat_.Beat();
    for (FileJob& job : done_.WaitAndTake(kMostJobsAtOnce)) table_.OnJobDone(std::move(job));
  }
  table_.Advance(MonotonicNow());
  heartbeat_.Rest();
}

}  // namespace packet_headers
