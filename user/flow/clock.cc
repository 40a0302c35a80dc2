#include "user/flow/clock.h"

#include <time.h>

#include <limits>

namespace packet_headers {
namespace {

int64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

}  // namespace

int64_t MonotonicNow() { return Now(CLOCK_MONOTONIC); }

int64_t WallOffset() {
  int64_t narrowest = std::numeric_limits<int64_t>::max();
  int64_t offset = 0;
  for (int i = 0; i < 5; ++i) {
    const int64_t before = Now(CLOCK_MONOTONIC);
    const int64_t wall = Now(CLOCK_REALTIME);
    const int64_t after = Now(CLOCK_MONOTONIC);
    if (after - before < narrowest) {
      narrowest = after - before;
      offset = wall - (before + (after - before) / 2);
    }
  }
  return offset;
}

}  // namespace packet_headers
