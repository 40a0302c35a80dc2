// Anonymisation of the ends of a packet.

#ifndef PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
#define PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_

#include <cstddef>
#include <cstdint>

#include "packet_headers/contract.h"

namespace packet_headers {

// Whose addresses are anonymised.
enum class HiddenEnds : uint8_t { kNone, kRemote, kBoth };

// Where the headers of a packet are.
struct FrameView {
  char* bytes;
  size_t l3_offset;
  size_t l4_offset;
  ph_link_layer link_layer;
  ph_direction direction;
};

// Zeroes what tells the address of an end beyond its netblock: the last byte of an IPv4 address,
// the last ten of an IPv6 address, the MAC address. The IPv4 header checksum is computed anew over
// what is left; the TCP checksum becomes 0, since it covers the true address and can't be computed
// anew without the payload.
void HideNetblocks(const FrameView& frame, HiddenEnds ends);

// The same for the 16 bytes of an address as in ph_flow_key.
void HideNetblock(uint8_t* address);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
