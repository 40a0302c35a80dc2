#include "user/base/clock.h"

#include <time.h>

#include <limits>

namespace packet_headers {
namespace {

int64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

// What `clock` is ahead of CLOCK_MONOTONIC, from the closest of a few readings.
int64_t AheadOfMonotonic(clockid_t clock) {
  int64_t narrowest = std::numeric_limits<int64_t>::max();
  int64_t offset = 0;
  for (int i = 0; i < 5; ++i) {
    const int64_t before = Now(CLOCK_MONOTONIC);
    const int64_t other = Now(clock);
    const int64_t after = Now(CLOCK_MONOTONIC);
    if (after - before < narrowest) {
      narrowest = after - before;
      offset = other - (before + (after - before) / 2);
    }
  }
  return offset;
}

}  // namespace

int64_t MonotonicNow() { return Now(CLOCK_MONOTONIC); }

int64_t WallOffset() { return AheadOfMonotonic(CLOCK_REALTIME); }

int64_t SuspendedTime() { return AheadOfMonotonic(CLOCK_BOOTTIME); }

int64_t ThreadCpuTime() { return Now(CLOCK_THREAD_CPUTIME_ID); }

int64_t ProcessCpuTime() { return Now(CLOCK_PROCESS_CPUTIME_ID); }

}  // namespace packet_headers
