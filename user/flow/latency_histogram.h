// How long something took.

#ifndef PACKET_HEADERS_USER_FLOW_LATENCY_HISTOGRAM_H_
#define PACKET_HEADERS_USER_FLOW_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace packet_headers {

// One thread adds, any reads.
class LatencyHistogram {
 public:
  // Upper bounds of 1 us, doubled each time up to 0.5 s, then one bucket for all that is longer.
  static constexpr size_t kBounds = 20;
  static constexpr int64_t BoundNs(size_t bucket) { return int64_t{1000} << bucket; }

  void Add(int64_t ns) {
    const auto bound = static_cast<uint64_t>(std::max<int64_t>(ns, 1) - 1) / BoundNs(0);
    Bump(buckets_[std::min<size_t>(std::bit_width(bound), kBounds)], 1);
    Bump(sum_ns_, static_cast<uint64_t>(ns));
  }

  uint64_t bucket(size_t index) const { return buckets_[index].load(std::memory_order_relaxed); }
  uint64_t sum_ns() const { return sum_ns_.load(std::memory_order_relaxed); }

 private:
  static void Bump(std::atomic<uint64_t>& value, uint64_t by) {
    value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, kBounds + 1> buckets_ = {};  // each without those below
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_LATENCY_HISTOGRAM_H_
