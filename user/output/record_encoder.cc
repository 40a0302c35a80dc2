#include "user/output/record_encoder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr size_t kVlanTagBytes = 4;
constexpr size_t kVlanTagOffset = 2 * ETH_ALEN;

// Copies the headers of `record` to `to`, the stripped tag put back, and returns its size.
size_t CopyHeaders(const ph_header_record& record, char* to) {
  const char* from = reinterpret_cast<const char*>(record.headers);
  if (record.vlan_proto_be == 0 || record.link_layer != PH_LINK_ETHERNET) {
    std::memcpy(to, from, record.header_len);
    return 0;
  }
  const uint16_t tci_be = htons(record.vlan_tci);
  std::memcpy(to, from, kVlanTagOffset);
  std::memcpy(to + kVlanTagOffset, &record.vlan_proto_be, 2);
  std::memcpy(to + kVlanTagOffset + 2, &tci_be, 2);
  std::memcpy(to + kVlanTagOffset + kVlanTagBytes, from + kVlanTagOffset,
              record.header_len - kVlanTagOffset);
  return kVlanTagBytes;
}

}  // namespace

absl::string_view RecordEncoder::Encode(const ph_header_record& record, int64_t time_ns,
                                        HiddenEnds hidden) {
  char* frame = buffer_ + kPcapRecordHeaderBytes;
  const size_t tag_bytes = CopyHeaders(record, frame);
  HideNetblocks(
      {frame, record.l3_offset + tag_bytes, record.l4_offset + tag_bytes,
       static_cast<ph_link_layer>(record.link_layer), static_cast<ph_direction>(record.direction)},
      hidden);
  const uint32_t header_bytes =
      std::min<uint32_t>(record.header_len + tag_bytes, max_header_bytes_);
  PutPcapRecordHeader(time_ns, header_bytes, record.wire_len + tag_bytes, buffer_);
  return absl::string_view(buffer_, kPcapRecordHeaderBytes + header_bytes);
}

}  // namespace packet_headers
