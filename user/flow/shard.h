// One shard: a thread, its source of records, and the table of its flows. Shards share nothing but
// the budgets.

#ifndef PACKET_HEADERS_USER_FLOW_SHARD_H_
#define PACKET_HEADERS_USER_FLOW_SHARD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "user/base/heartbeat.h"
#include "user/base/histogram.h"
#include "user/flow/books.h"
#include "user/flow/flow_survey.h"
#include "user/flow/flow_table.h"
#include "user/flow/inbox.h"
#include "user/flow/local_addresses.h"
#include "user/flow/record_source.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"

namespace packet_headers {

inline constexpr auto kTimerLatencyBounds = DoubledBounds<20>(1000);     // from 1 us to 0.5 s
inline constexpr auto kCaptureDelayBounds = DoubledBounds<17>(100'000);  // from 0.1 ms to 6.6 s
inline constexpr int64_t kRingFillBounds[] = {0,       10'000,  50'000,  100'000,  250'000,
                                              500'000, 750'000, 900'000, 1'000'000};

// How long to wait for records after a wait that brought so many, before which the source's buffer
// was that full.
absl::Duration NextWait(absl::Duration wait, size_t records, int64_t fill_ppm);

class Shard {
 public:
  // Starts the thread. All that is referred to outlives the shard.
  Shard(uint32_t index, const FlowOptions& options, RecordSource& source, MemoryBudget& budget,
        FlowLimit& limit, KernelFlows& kernel, Publisher& publisher,
        std::shared_ptr<const LocalAddresses> local_addresses);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  ~Shard() { Finish(); }

  // To be called when the source gets no more records: drains it, hands over every flow, waits for
  // their files and ends the thread. The books are final afterwards.
  void Finish();

  // Lets Finish() begin without waiting for its end: of several shards, for all first.
  void BeginToFinish() { finishing_.store(true, std::memory_order_release); }

  // Any thread. Whether there was room for it.
  bool Announce(KeyedAnnouncement announcement) { return inbox_.TryPut(std::move(announcement)); }

  // Any thread.
  void set_local_addresses(std::shared_ptr<const LocalAddresses> addresses) {
    const std::scoped_lock lock(local_addresses_mutex_);
    local_addresses_ = std::move(addresses);
  }

  // Any thread. What answers is in survey() soon.
  FlowSurvey& survey() { return survey_; }

  // Any thread. As Books has it.
  void KeepBooksOf(std::shared_ptr<const Ifindexes> kept) { books_.KeepOnly(std::move(kept)); }

  // Any thread.
  const Books& books() const { return books_; }
  const FlowStats& stats() const { return stats_; }
  const Histogram& flow_duration() const { return stats_.duration_ns; }
  const Histogram& flow_packets() const { return stats_.packets; }
  const Histogram& flow_bytes() const { return stats_.bytes; }
  // Of looking through the timers.
  const Histogram& timer_latency() const { return timer_latency_; }
  // Of packets, from their hook until their headers were buffered, in ns.
  const Histogram& capture_delay() const { return capture_delay_; }
  // Of the buffer that the source drains, in millionths, at each drain.
  const Histogram& ring_fill() const { return ring_fill_; }
  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  void Run();
  void Use(absl::Span<const RecordBytes> records);
  std::shared_ptr<const LocalAddresses> local_addresses() {
    const std::scoped_lock lock(local_addresses_mutex_);
    return local_addresses_;
  }

  const bool stream_;
  RecordSource& source_;
  Books books_;
  FlowStats stats_;
  Histogram timer_latency_{kTimerLatencyBounds};
  Histogram capture_delay_{kCaptureDelayBounds};
  Histogram ring_fill_{kRingFillBounds};
  FlowSurvey survey_;
  FileJobQueue done_;
  Inbox inbox_;
  Heartbeat heartbeat_;
  std::atomic<bool> finishing_{false};
  std::mutex local_addresses_mutex_;  // guards what follows
  std::shared_ptr<const LocalAddresses> local_addresses_;
  FlowTable table_;  // the thread's
  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_SHARD_H_
