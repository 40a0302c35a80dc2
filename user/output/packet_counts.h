// How many packets of one flow came by which interface and direction.

#ifndef PACKET_HEADERS_USER_OUTPUT_PACKET_COUNTS_H_
#define PACKET_HEADERS_USER_OUTPUT_PACKET_COUNTS_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "packet_headers/contract.h"

namespace packet_headers {

class PacketCounts {
 public:
  struct OfInterface {
    uint32_t ifindex;
    uint32_t packets[PH_DIRECTIONS];  // by enum ph_direction
  };

  void Add(uint32_t ifindex, int direction, uint32_t packets = 1) {
    for (OfInterface& interface : interfaces_) {
      if (interface.ifindex == ifindex) {
        interface.packets[direction] += packets;
        return;
      }
    }
    interfaces_.push_back({ifindex, {0, 0}});
    interfaces_.back().packets[direction] = packets;
  }

  void Add(const PacketCounts& other) {
    for (const OfInterface& interface : other.interfaces_) {
      for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
        Add(interface.ifindex, direction, interface.packets[direction]);
      }
    }
  }

  bool empty() const { return interfaces_.empty(); }

  uint64_t total() const {
    uint64_t packets = 0;
    for (const OfInterface& interface : interfaces_) {
      for (const uint32_t of_direction : interface.packets) packets += of_direction;
    }
    return packets;
  }

  const auto& interfaces() const { return interfaces_; }

 private:
  absl::InlinedVector<OfInterface, 1> interfaces_;  // nearly every flow has one
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_PACKET_COUNTS_H_
