// The clocks, read above the flow table only.

#ifndef PACKET_HEADERS_USER_BASE_CLOCK_H_
#define PACKET_HEADERS_USER_BASE_CLOCK_H_

#include <cstdint>

namespace packet_headers {

// CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns(), in ns.
int64_t MonotonicNow();

// CLOCK_REALTIME - CLOCK_MONOTONIC in ns, from the closest of a few readings.
int64_t WallOffset();

// CLOCK_BOOTTIME - CLOCK_MONOTONIC likewise: how long the host was suspended since it booted.
int64_t SuspendedTime();

// The processor time that the calling thread has taken, in ns.
int64_t ThreadCpuTime();

// That of all threads.
int64_t ProcessCpuTime();

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_CLOCK_H_
