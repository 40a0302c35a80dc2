// How values are spread.

#ifndef PACKET_HEADERS_USER_BASE_HISTOGRAM_H_
#define PACKET_HEADERS_USER_BASE_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace packet_headers {

// One thread adds, any reads.
class Histogram {
 public:
  static constexpr size_t kMostBounds = 20;

  // The upper bounds of the buckets, in ascending order, which outlive it; behind them comes one
  // bucket for all that is larger.
  explicit Histogram(absl::Span<const int64_t> bounds) : bounds_(bounds) {}

  // What is below 0 is 0: two readings of a clock may differ by a little.
  void Add(int64_t value, uint64_t times = 1) {
    value = std::max<int64_t>(value, 0);
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    Bump(counts_[static_cast<size_t>(bucket)], times);
    Bump(sum_, static_cast<uint64_t>(value) * times);
  }

  absl::Span<const int64_t> bounds() const { return bounds_; }
  // Of one bucket, without those below.
  uint64_t count(size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  uint64_t sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  static void Bump(std::atomic<uint64_t>& value, uint64_t by) {
    value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  const absl::Span<const int64_t> bounds_;
  std::array<std::atomic<uint64_t>, kMostBounds + 1> counts_ = {};
  std::atomic<uint64_t> sum_{0};
};

// `kBounds` bounds from `first` on, each twice the one before.
template <size_t kBounds>
constexpr std::array<int64_t, kBounds> DoubledBounds(int64_t first) {
  static_assert(kBounds <= Histogram::kMostBounds);
  std::array<int64_t, kBounds> bounds = {};
  for (size_t i = 0; i < kBounds; ++i) bounds[i] = first << i;
  return bounds;
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_HISTOGRAM_H_
