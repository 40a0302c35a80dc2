// Timers of many flows, cheap to set: a wheel of lists.

#ifndef PACKET_HEADERS_USER_FLOW_TIMER_WHEEL_H_
#define PACKET_HEADERS_USER_FLOW_TIMER_WHEEL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "user/flow/intrusive_list.h"

namespace packet_headers {

class TimerNode : public ListNode {};

// Timers fire at most one tick after their deadline, and not before it, with one exception: what
// lies more than the wheel's span behind the time of the last Advance() may fire early. The wheel
// keeps no deadlines: who does looks, and sets it again. One thread; time is monotonic.
class TimerWheel {
 public:
  static constexpr int kTickBits = 26;    // 67 ms
  static constexpr size_t kSlots = 1024;  // 69 s

  // Between two times of one tick no timer fires.
  static constexpr int64_t TickOf(int64_t time_ns) { return time_ns >> kTickBits; }

  explicit TimerWheel(int64_t now_ns) : tick_(TickOf(now_ns)) {}

  // Sets or moves the timer.
  void Schedule(TimerNode& node, int64_t deadline_ns) {
    const int64_t due = TickOf(deadline_ns) + 1;
    const int64_t slot = std::clamp<int64_t>(due, tick_ + 1, tick_ + kSlots - 1);
    slots_[slot % kSlots].PushBack(node);
  }

  // Calls `expire` for each timer that fires; it may set, unset and destroy timers.
  template <typename Expire>
  void Advance(int64_t now_ns, Expire expire) {
    const int64_t now_tick = TickOf(now_ns);
    // A jump beyond the span visits each slot once.
    tick_ = std::max<int64_t>(tick_, now_tick - static_cast<int64_t>(kSlots));
    while (tick_ < now_tick) {
      ++tick_;
      IntrusiveList<TimerNode> due;
      due.Splice(slots_[tick_ % kSlots]);
      while (TimerNode* node = due.front()) {
        node->Unlink();
        expire(*node);
      }
    }
  }

 private:
  int64_t tick_;  // all slots up to this one have been visited
  std::array<IntrusiveList<TimerNode>, kSlots> slots_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_TIMER_WHEEL_H_
