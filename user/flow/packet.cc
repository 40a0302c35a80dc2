#include "user/flow/packet.h"

#include <arpa/inet.h>

#include <cstring>

namespace packet_headers {
namespace {

// Later than any clock tells, and sums of times don't overflow.
constexpr uint64_t kLatestNs = uint64_t{1} << 62;

// As the hooks do: most frames are decided at offsets that the compiler knows. Whether `headers`
// and `key` are those of the frame.
__ph_inline bool Parse(ph_frame frame, ph_link_layer link_layer, ph_direction direction,
                       ph_headers* headers, ph_flow_key* key) {
  frame.is_direct = 1;
  ph_counter result = ph_locate(frame, link_layer, headers);
  if (result == PH_CAPTURED) return ph_read_key(frame, headers, direction, key) != 0;
  if (result != PH_UNDECIDED) return false;
  frame.is_direct = 0;
  result = ph_locate(frame, link_layer, headers);
  return result == PH_CAPTURED && ph_read_key(frame, headers, direction, key) != 0;
}

}  // namespace

std::optional<Packet> DecodeRecord(const void* data, size_t size) {
  std::optional<Packet> decoded;  // the one that all returns name, so that it is not copied
  const auto* record = static_cast<const ph_header_record*>(data);
  if (size < sizeof(*record) || record->header_len > size - sizeof(*record) ||
      record->header_len > PH_MAX_HEADER_BYTES || record->wire_len < record->header_len ||
      record->direction > PH_EGRESS || record->link_layer > PH_LINK_IP ||
      record->time_ns > kLatestNs) {
    return decoded;
  }
  const ph_frame frame = {record->headers, record->header_len, 0};
  const auto direction = static_cast<ph_direction>(record->direction);
  Packet& packet = decoded.emplace();
  packet.record = record;
  ph_headers headers = {};
  const bool is_parsed = record->link_layer == PH_LINK_ETHERNET
                             ? Parse(frame, PH_LINK_ETHERNET, direction, &headers, &packet.key)
                             : Parse(frame, PH_LINK_IP, direction, &headers, &packet.key);
  if (!is_parsed || headers.length != record->header_len ||
      headers.l3_offset != record->l3_offset || headers.l4_offset != record->l4_offset) {
    decoded.reset();
    return decoded;
  }
  ph_tcp tcp;
  std::memcpy(&tcp, record->headers + headers.l4_offset, sizeof(tcp));
  packet.seq = ntohl(tcp.sequence_be);
  packet.ack = ntohl(tcp.acknowledgment_be);
  packet.flags = tcp.flags;
  return decoded;
}

}  // namespace packet_headers
