// The headers of a packet in memory that may be changed.

#ifndef PACKET_HEADERS_USER_OUTPUT_HEADER_VIEW_H_
#define PACKET_HEADERS_USER_OUTPUT_HEADER_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "packet_headers/contract.h"

namespace packet_headers {

// From the start of the frame to the end of the TCP header, as ph_locate() found them.
struct HeaderView {
  uint8_t* bytes;
  size_t size;
  size_t l3_offset;
  size_t l4_offset;
  ph_link_layer link_layer;
  ph_direction direction;

  uint8_t* ip() const { return bytes + l3_offset; }
  uint8_t* tcp() const { return bytes + l4_offset; }
  uint8_t* end() const { return bytes + size; }
  bool is_ipv6() const { return (*ip() & 0xf0) == 0x60; }
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_HEADER_VIEW_H_
