// A header record that was checked, as the flow table sees it.

#ifndef PACKET_HEADERS_USER_FLOW_PACKET_H_
#define PACKET_HEADERS_USER_FLOW_PACKET_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "packet_headers/header_record.h"
#include "packet_headers/parse.h"

namespace packet_headers {

struct Packet {
  const ph_header_record* record = nullptr;
  ph_flow_key key = {};
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint8_t flags = 0;  // PH_TCP_*

  int direction() const { return record->direction; }
  bool egress() const { return record->direction == PH_EGRESS; }
  int64_t time_ns() const { return static_cast<int64_t>(record->time_ns); }
  uint64_t cookie() const { return record->socket_cookie; }
  bool Is(uint8_t flag) const { return (flags & flag) != 0; }
  bool IsSyn() const { return (flags & (PH_TCP_SYN | PH_TCP_ACK)) == PH_TCP_SYN; }
  bool IsSynAck() const { return (flags & (PH_TCP_SYN | PH_TCP_ACK)) == (PH_TCP_SYN | PH_TCP_ACK); }
};

// Parses the headers of the record in the `size` bytes at `data`, which may hold anything, and
// compares what the record says of them. Nothing if it contradicts itself. Refers to `data`.
std::optional<Packet> DecodeRecord(const void* data, size_t size);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_PACKET_H_
