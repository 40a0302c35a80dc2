// The kernel's counters of every interface.

#ifndef PACKET_HEADERS_USER_CAPTURE_KERNEL_COUNTERS_H_
#define PACKET_HEADERS_USER_CAPTURE_KERNEL_COUNTERS_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "packet_headers/counters.h"
#include "user/flow/books.h"

namespace packet_headers {

// Changed by one thread, read by any.
class KernelCounters {
 public:
  // The descriptors of the maps ph_counters and ph_counters_2nd, which outlive it.
  KernelCounters(int rows_map, int more_map) : rows_map_(rows_map), more_map_(more_map) {}

  // Makes room for the interface's counters, all zero. To be called before a program that counts
  // is attached to it; again without a Forget() it changes nothing.
  absl::Status Begin(uint32_t ifindex);

  // Zeros if it never began.
  CountersByDirection Read(uint32_t ifindex) const;

  // Gives the room back. No program is attached any more.
  void Forget(uint32_t ifindex);

 private:
  absl::Status WriteRow(uint32_t row, uint32_t owner);

  const int rows_map_;
  const int more_map_;
  std::array<uint32_t, PH_COUNTER_ROWS> owners_ = {};  // ifindex of each row; 0: free
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_KERNEL_COUNTERS_H_
