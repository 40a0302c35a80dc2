// Signs of life of threads.

#ifndef PACKET_HEADERS_USER_BASE_HEARTBEAT_H_
#define PACKET_HEADERS_USER_BASE_HEARTBEAT_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "user/base/clock.h"

namespace packet_headers {

// No thread waits for longer between two beats, whatever it waits for.
inline constexpr int kLongestTurnMs = 250;

// One thread's. That thread beats, any reads.
class Heartbeat {
 public:
  explicit Heartbeat(std::string thread) : thread_(std::move(thread)) {}

  // To be called at each turn of the thread's loop, also when there is nothing to do.
  void Beat(int64_t now_ns = MonotonicNow()) {
    if (now_ns - last_ns_.load(std::memory_order_relaxed) > kAwayNs) {
      awake_since_ns_.store(now_ns, std::memory_order_relaxed);
    }
    last_ns_.store(now_ns, std::memory_order_relaxed);
  }

  // The last beat: the thread ends, or from now on waits only for threads that beat.
  void Rest() { last_ns_.store(std::numeric_limits<int64_t>::max(), std::memory_order_relaxed); }

  const std::string& thread() const { return thread_; }

  // How long ago the last beat was, in ns; 0 for a thread at rest.
  int64_t Age(int64_t now_ns) const {
    return std::max<int64_t>(now_ns - last_ns_.load(std::memory_order_relaxed), 0);
  }

  // Since when the thread has not been away for long: it can tell nothing of the time before.
  int64_t awake_since_ns() const { return awake_since_ns_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kAwayNs = 4 * kLongestTurnMs * int64_t{1'000'000};

  const std::string thread_;
  std::atomic<int64_t> last_ns_{MonotonicNow()};
  std::atomic<int64_t> awake_since_ns_{last_ns_.load()};
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_HEARTBEAT_H_
