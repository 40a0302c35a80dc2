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

// Nearly all packets: IP without anything behind it, and TCP with timestamps, of which all stays.
// Looks at the record, for of its copy the processor knows nothing yet.
bool HasUsualOptions(const ph_header_record& record) {
  constexpr uint8_t kTimestamps[] = {1, 1, 8, 10};
  const uint8_t* const ip = record.headers + record.l3_offset;
  const size_t ip_bytes = (*ip & 0xf0) == 0x60 ? sizeof(ipv6hdr) : sizeof(iphdr);
  const size_t options = record.l4_offset + sizeof(ph_tcp);
  return record.l3_offset + ip_bytes == record.l4_offset && record.header_len == options + 12 &&
         std::memcmp(record.headers + options, kTimestamps, sizeof(kTimestamps)) == 0;
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
  if (disguise != nullptr) {
    Anonymize(headers, *disguise);
  } else if (!HasUsualOptions(record)) {
    ScrubOptions(headers, Scrub::kPadding);
  }
  const uint32_t header_bytes = std::min<uint32_t>(headers.size, max_header_bytes_);
  PutPcapRecordHeader(time_ns, header_bytes, record.wire_len + tag_bytes, buffer_);
  return absl::string_view(buffer_, kPcapRecordHeaderBytes + header_bytes);
}

}  // namespace packet_headers
