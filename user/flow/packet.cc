#include "user/flow/packet.h"

#include <arpa/inet.h>

#include <cstring>

namespace packet_headers {

std::optional<Packet> DecodeRecord(const void* data, size_t size) {
  const auto* record = static_cast<const ph_header_record*>(data);
  if (size < sizeof(*record) || record->header_len > size - sizeof(*record) ||
      record->header_len > PH_MAX_HEADER_BYTES || record->direction > PH_EGRESS ||
      record->link_layer > PH_LINK_IP) {
    return std::nullopt;
  }
  ph_headers headers;
  if (ph_parse({record->headers, record->header_len},
               static_cast<ph_link_layer>(record->link_layer),
               static_cast<ph_direction>(record->direction), &headers) != PH_CAPTURED ||
      headers.length != record->header_len || headers.l3_offset != record->l3_offset ||
      headers.l4_offset != record->l4_offset) {
    return std::nullopt;
  }
  ph_tcp tcp;
  std::memcpy(&tcp, record->headers + headers.l4_offset, sizeof(tcp));
  return Packet{record, headers.key, ntohl(tcp.sequence_be), ntohl(tcp.acknowledgment_be),
                tcp.flags};
}

}  // namespace packet_headers
