#include "user/flow/packet.h"

#include <arpa/inet.h>

#include <cstring>

namespace packet_headers {
namespace {

// Later than any clock tells, and sums of times don't overflow.
constexpr uint64_t kLatestNs = uint64_t{1} << 62;

}  // namespace

std::optional<Packet> DecodeRecord(const void* data, size_t size) {
  const auto* record = static_cast<const ph_header_record*>(data);
  if (size < sizeof(*record) || record->header_len > size - sizeof(*record) ||
      record->header_len > PH_MAX_HEADER_BYTES || record->wire_len < record->header_len ||
      record->direction > PH_EGRESS || record->link_layer > PH_LINK_IP ||
      record->time_ns > kLatestNs) {
    return std::nullopt;
  }
  const ph_frame frame = {record->headers, record->header_len, 0};
  const auto link_layer = static_cast<ph_link_layer>(record->link_layer);
  const auto direction = static_cast<ph_direction>(record->direction);
  Packet packet = {.record = record};
  ph_headers headers = {};
  if (ph_locate(frame, link_layer, &headers) != PH_CAPTURED ||
      headers.length != record->header_len || headers.l3_offset != record->l3_offset ||
      headers.l4_offset != record->l4_offset ||
      !ph_read_key(frame, &headers, direction, &packet.key)) {
    return std::nullopt;
  }
  ph_tcp tcp;
  std::memcpy(&tcp, record->headers + headers.l4_offset, sizeof(tcp));
  packet.seq = ntohl(tcp.sequence_be);
  packet.ack = ntohl(tcp.acknowledgment_be);
  packet.flags = tcp.flags;
  return packet;
}

}  // namespace packet_headers
