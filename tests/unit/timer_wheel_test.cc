#include "user/flow/timer_wheel.h"

#include <memory>
#include <random>
#include <vector>

#include "tests/support/catch.h"

namespace packet_headers {
namespace {

constexpr int64_t kTick = int64_t{1} << TimerWheel::kTickBits;
constexpr int64_t kSpan = TimerWheel::kSlots * kTick;
constexpr int64_t kStart = 123456 * kTick + 789;

struct Timer : TimerNode {
  int64_t deadline_ns = 0;
  int fired = 0;
};

void Set(TimerWheel& wheel, Timer& timer, int64_t deadline_ns) {
  timer.deadline_ns = deadline_ns;
  wheel.Schedule(timer, deadline_ns);
}

// Whether the deadline has come. Sets the timer again where it has not, which only one that was
// beyond the span when the wheel began may need.
bool IsDue(TimerWheel& wheel, Timer& timer, int64_t now_ns) {
  if (timer.deadline_ns <= now_ns) return true;
  if (timer.deadline_ns < kStart + kSpan - 2 * kTick) FAIL("fired before its deadline");
  wheel.Schedule(timer, timer.deadline_ns);
  return false;
}

int Advance(TimerWheel& wheel, int64_t now_ns) {
  int fired = 0;
  wheel.Advance(now_ns, [&](TimerNode& node) {
    auto& timer = static_cast<Timer&>(node);
    if (!IsDue(wheel, timer, now_ns)) return;
    ++timer.fired;
    ++fired;
  });
  return fired;
}

TEST_CASE("A timer fires once, not before its deadline and at most a tick after it", "[timer]") {
  const int64_t delay = GENERATE(int64_t{0}, int64_t{1}, kTick - 1, kTick, 10 * kTick + 5,
                                 kSpan - kTick, kSpan, kSpan + 1, 5 * kSpan + 17);
  const int64_t step = GENERATE(kTick / 3, kTick, 7 * kTick);
  TimerWheel wheel(kStart);
  Timer timer;
  Set(wheel, timer, kStart + delay);
  int64_t now_ns = kStart;
  while (Advance(wheel, now_ns) == 0) {
    REQUIRE(now_ns < kStart + delay + kTick + step);
    now_ns += step;
  }
  CHECK(now_ns >= kStart + delay);
  CHECK(Advance(wheel, now_ns + 10 * kSpan) == 0);
}

TEST_CASE("A timer can be moved, both ways", "[timer]") {
  TimerWheel wheel(kStart);
  Timer timer;
  Set(wheel, timer, kStart + 10 * kTick);
  Set(wheel, timer, kStart + 20 * kTick);
  CHECK(Advance(wheel, kStart + 19 * kTick) == 0);
  Set(wheel, timer, kStart + 100 * kTick);
  Set(wheel, timer, kStart + 21 * kTick);
  CHECK(Advance(wheel, kStart + 23 * kTick) == 1);
  CHECK(Advance(wheel, kStart + 200 * kTick) == 0);
}

TEST_CASE("A timer whose deadline has passed fires at the next tick", "[timer]") {
  TimerWheel wheel(kStart);
  Timer timer;
  Set(wheel, timer, kStart - 100 * kTick);
  CHECK(Advance(wheel, kStart) == 0);
  CHECK(Advance(wheel, kStart + kTick) == 1);
}

TEST_CASE("A long sleep fires everything that was due, once", "[timer]") {
  TimerWheel wheel(kStart);
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 5000; ++i) {
    timers.push_back(std::make_unique<Timer>());
    Set(wheel, *timers.back(), kStart + i * kTick);
  }
  CHECK(Advance(wheel, kStart + 3000 * kTick) >= 2999);
  CHECK(Advance(wheel, kStart + 9000 * kTick) >= 1999);
  for (const auto& timer : timers) CHECK(timer->fired == 1);
}

TEST_CASE("A timer that is destroyed does not fire", "[timer]") {
  TimerWheel wheel(kStart);
  auto doomed = std::make_unique<Timer>();
  Timer other;
  Set(wheel, *doomed, kStart + kTick);
  wheel.Schedule(other, kStart + kTick);
  doomed = nullptr;
  CHECK(Advance(wheel, kStart + 3 * kTick) == 1);
}

TEST_CASE("An expired timer may set itself, and destroy others that are due", "[timer]") {
  TimerWheel wheel(kStart);
  auto first = std::make_unique<Timer>();
  auto second = std::make_unique<Timer>();
  Set(wheel, *first, kStart + kTick);
  Set(wheel, *second, kStart + kTick);
  int fired = 0;
  const auto expire = [&](TimerNode& node) {
    ++fired;
    second = nullptr;
    if (fired < 3) wheel.Schedule(node, kStart + (1 + fired) * 10 * kTick);
  };
  wheel.Advance(kStart + 2 * kTick, expire);
  CHECK(fired == 1);
  wheel.Advance(kStart + 50 * kTick, expire);
  CHECK(fired == 3);
}

TEST_CASE("Time that stands still or goes back does nothing", "[timer]") {
  TimerWheel wheel(kStart);
  Timer timer;
  Set(wheel, timer, kStart + 2 * kTick);
  CHECK(Advance(wheel, kStart) == 0);
  CHECK(Advance(wheel, kStart - kSpan) == 0);
  CHECK(Advance(wheel, kStart + 4 * kTick) == 1);
}

TEST_CASE("Any number of timers at any times fire in time", "[timer]") {
  std::mt19937_64 random(3);
  TimerWheel wheel(kStart);
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 2000; ++i) {
    timers.push_back(std::make_unique<Timer>());
    Set(wheel, *timers.back(), kStart + static_cast<int64_t>(random() % (3 * kSpan)));
  }
  size_t fired = 0;
  for (int64_t now_ns = kStart; fired < timers.size(); now_ns += random() % (2 * kTick)) {
    wheel.Advance(now_ns, [&](TimerNode& node) {
      auto& timer = static_cast<Timer&>(node);
      if (!IsDue(wheel, timer, now_ns)) return;
      ++fired;
      if (now_ns - timer.deadline_ns > 3 * kTick) FAIL("fired too late");
    });
    REQUIRE(now_ns < kStart + 4 * kSpan);
  }
}

}  // namespace
}  // namespace packet_headers
