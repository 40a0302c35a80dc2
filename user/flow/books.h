// What became of the packets.

#ifndef PACKET_HEADERS_USER_FLOW_BOOKS_H_
#define PACKET_HEADERS_USER_FLOW_BOOKS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "packet_headers/counters.h"
#include "user/output/packet_counts.h"

namespace packet_headers {

// Packets of one interface and direction, by enum ph_counter.
using CounterArray = std::array<uint64_t, PH_COUNTERS>;
using CountersByDirection = std::array<CounterArray, PH_DIRECTIONS>;

// What one shard, or an engine in its thread, counts. That thread counts, any thread reads.
class Books {
 public:
  void Count(uint32_t ifindex, int direction, ph_counter counter, uint64_t packets = 1) {
    std::atomic<uint64_t>& cell = RowOf(ifindex)[direction][counter];
    // The only writer: no locked instruction.
    cell.store(cell.load(std::memory_order_relaxed) + packets, std::memory_order_relaxed);
  }

  void Count(const PacketCounts& counts, ph_counter counter) {
    for (const PacketCounts::OfInterface& interface : counts.interfaces()) {
      for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
        Count(interface.ifindex, direction, counter, interface.packets[direction]);
      }
    }
  }

  // Adds the counters to `totals`, by ifindex. Any thread.
  void AddTo(absl::flat_hash_map<uint32_t, CountersByDirection>& totals) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    for (const auto& [ifindex, row] : rows_) {
      CountersByDirection& total = totals[ifindex];
      for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
        for (int counter = 0; counter < PH_COUNTERS; ++counter) {
          total[direction][counter] += (*row)[direction][counter].load(std::memory_order_relaxed);
        }
      }
    }
  }

 private:
  using Row = std::array<std::array<std::atomic<uint64_t>, PH_COUNTERS>, PH_DIRECTIONS>;

  // Only the owner adds rows, so only it may look without the lock.
  Row& RowOf(uint32_t ifindex) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (auto found = rows_.find(ifindex); found != rows_.end()) return *found->second;
    absl::MutexLock lock(&mutex_);
    return *rows_.emplace(ifindex, std::make_unique<Row>()).first->second;
  }

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<Row>> rows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_BOOKS_H_
