// How much memory the flows of all shards may take together.

#ifndef PACKET_HEADERS_USER_OUTPUT_MEMORY_BUDGET_H_
#define PACKET_HEADERS_USER_OUTPUT_MEMORY_BUDGET_H_

#include <atomic>
#include <cstdint>

namespace packet_headers {

// Shared by all shards and touched once for a slab or a flow, never for a packet. Thread-safe.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Takes `bytes` unless that would exceed the limit.
  bool TryReserve(int64_t bytes) {
    if (used_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_bytes_) {
      return true;
    }
    Release(bytes);
    return false;
  }

  // Takes them all the same: for what takes the place of something that is released.
  void Reserve(int64_t bytes) { used_bytes_.fetch_add(bytes, std::memory_order_relaxed); }

  void Release(int64_t bytes) { used_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }

  // Notes that `bytes` of what is reserved became free for reuse, or with a minus sign were reused.
  void AddIdle(int64_t bytes) { idle_bytes_.fetch_add(bytes, std::memory_order_relaxed); }

  // From here on no new flow is taken, so that the open ones can go on.
  bool nearly_exhausted() const {
    return used_bytes() - idle_bytes_.load(std::memory_order_relaxed) > limit_bytes_ / 8 * 7;
  }

  int64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }
  int64_t limit_bytes() const { return limit_bytes_; }

 private:
  const int64_t limit_bytes_;
  std::atomic<int64_t> used_bytes_{0};
  std::atomic<int64_t> idle_bytes_{0};
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_MEMORY_BUDGET_H_
