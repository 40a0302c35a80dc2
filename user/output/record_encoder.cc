#include "user/output/record_encoder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "packet_headers/parse.h"
#include "user/output/scrub_options.h"

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
                                        const Disguise* disguise) {
  char* frame = buffer_ + kPcapRecordHeaderBytes;
  const size_t tag_bytes = CopyHeaders(record, frame);
  const HeaderView headers = {.bytes = reinterpret_cast<uint8_t*>(frame),
                              .size = record.header_len + tag_bytes,
                              .l3_offset = record.l3_offset + tag_bytes,
                              .l4_offset = record.l4_offset + tag_bytes,
                              .link_layer = static_cast<ph_link_layer>(record.link_layer),
                              .direction = static_cast<ph_direction>(record.direction)};
  if (disguise == nullptr) {
    ScrubOptions(headers, Scrub::kPadding);
  } else {
    Anonymize(headers, *disguise);
  }
  const uint32_t header_bytes = std::min<uint32_t>(headers.size, max_header_bytes_);
  PutPcapRecordHeader(time_ns, header_bytes, record.wire_len + tag_bytes, buffer_);
  return absl::string_view(buffer_, kPcapRecordHeaderBytes + header_bytes);
}

}  // namespace packet_headers
