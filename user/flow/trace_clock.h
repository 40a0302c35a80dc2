// Time that comes from packets.

#ifndef PACKET_HEADERS_USER_FLOW_TRACE_CLOCK_H_
#define PACKET_HEADERS_USER_FLOW_TRACE_CLOCK_H_

#include <algorithm>
#include <cstdint>

namespace packet_headers {

// Makes the times of a trace, which may go back where the clock was set, into one that does not.
class TraceClock {
 public:
  // Packets of several processors are written out of order by less than this.
  static constexpr int64_t kDisorderNs = 1'000'000'000;

  // Time stands still from here on, so that none overflows however often a clock was set.
  static constexpr int64_t kLatestNs = int64_t{1} << 62;

  // The time of a packet that is stamped `wall_ns`. Goes back by at most kDisorderNs.
  int64_t TimeOf(int64_t wall_ns) {
    if (wall_ns - wall_offset_ns_ < latest_ns_ - kDisorderNs) {
      wall_offset_ns_ = wall_ns - latest_ns_;
      ++steps_back_;
    }
    const int64_t time_ns = std::min(wall_ns - wall_offset_ns_, kLatestNs);
    latest_ns_ = std::max(latest_ns_, time_ns);
    return time_ns;
  }

  // Of all packets so far.
  int64_t latest_ns() const { return latest_ns_; }
  // What makes the last packet's time wall time.
  int64_t wall_offset_ns() const { return wall_offset_ns_; }
  // How often the trace's clock went back.
  uint64_t steps_back() const { return steps_back_; }

 private:
  int64_t latest_ns_ = 0;
  int64_t wall_offset_ns_ = 0;
  uint64_t steps_back_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_TRACE_CLOCK_H_
