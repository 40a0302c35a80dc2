// Anonymisation of the remote end of a packet.

#ifndef PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
#define PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_

#include <cstddef>

#include "packet_headers/contract.h"

namespace packet_headers {

// Where the headers of a packet are.
struct FrameView {
  char* bytes;
  size_t l3_offset;
  size_t l4_offset;
  ph_link_layer link_layer;
  ph_direction direction;
};

// Zeroes what tells the remote address beyond its netblock: the last byte of an IPv4 address, the
// last ten of an IPv6 address, the remote MAC address. The IPv4 header checksum is computed anew
// over what is left; the TCP checksum becomes 0, since it covers the true address and can't be
// computed anew without the payload.
void HideRemoteNetblock(const FrameView& frame);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
