// What became of the packets.

#ifndef PACKET_HEADERS_USER_FLOW_BOOKS_H_
#define PACKET_HEADERS_USER_FLOW_BOOKS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "packet_headers/counters.h"
#include "user/output/packet_counts.h"

namespace packet_headers {

// Packets of one interface and direction, by enum ph_counter.
using CounterArray = std::array<uint64_t, PH_COUNTERS>;
using CountersByDirection = std::array<CounterArray, PH_DIRECTIONS>;

using Ifindexes = absl::flat_hash_set<uint32_t>;

// What one shard, or an engine in its thread, counts. That thread counts, any thread reads.
class Books {
 public:
  // Packets of all interfaces that have no row of their own any more.
  static constexpr uint32_t kOthers = 0;

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

  // When room for another interface is needed, the rows of all but these become one. Until it is
  // called none does. Any thread.
  void KeepOnly(std::shared_ptr<const Ifindexes> kept) {
    const std::scoped_lock lock(mutex_);
    kept_ = std::move(kept);
  }

  // Adds the counters to `totals`, by ifindex. Any thread.
  void AddTo(absl::flat_hash_map<uint32_t, CountersByDirection>& totals) const {
    const std::scoped_lock lock(mutex_);
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
  Row& RowOf(uint32_t ifindex) {
    if (auto found = rows_.find(ifindex); found != rows_.end()) return *found->second;
    const std::scoped_lock lock(mutex_);
    if (kept_ != nullptr) {
      if (!kept_->contains(ifindex)) ifindex = kOthers;
      FoldOthers();
    }
    return RowFor(ifindex);
  }

  Row& RowFor(uint32_t ifindex) {
    std::unique_ptr<Row>& row = rows_[ifindex];
    if (row == nullptr) row = std::make_unique<Row>();
    return *row;
  }

  void FoldOthers() {
    Row& others = RowFor(kOthers);
    absl::erase_if(rows_, [&](const auto& entry) {
      const auto& [ifindex, row] = entry;
      if (ifindex == kOthers || kept_->contains(ifindex)) return false;
      for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
        for (int counter = 0; counter < PH_COUNTERS; ++counter) {
          others[direction][counter] += (*row)[direction][counter];
        }
      }
      return true;
    });
  }

  mutable std::mutex mutex_;  // guards what follows
  absl::flat_hash_map<uint32_t, std::unique_ptr<Row>> rows_;
  std::shared_ptr<const Ifindexes> kept_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_BOOKS_H_
