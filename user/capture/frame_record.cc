#include "user/capture/frame_record.h"

#include <pcap/dlt.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace packet_headers {
namespace {

constexpr uint32_t kBsdLoopbackBytes = 4;
constexpr uint32_t kCookedBytes = 16;   // LINKTYPE_LINUX_SLL
constexpr uint32_t kCooked2Bytes = 20;  // LINKTYPE_LINUX_SLL2

bool RemoteComesFirst(const ph_flow_key& key) {
  const int order = std::memcmp(key.remote_addr, key.local_addr, sizeof(key.local_addr));
  return order != 0 ? order < 0 : ph_ntohs(key.remote_port_be) < ph_ntohs(key.local_port_be);
}

}  // namespace

ph_flow_key FirstEndLocal(ph_flow_key key) {
  if (RemoteComesFirst(key)) {
    std::swap(key.local_addr, key.remote_addr);
    std::swap(key.local_port_be, key.remote_port_be);
  }
  return key;
}

std::optional<FrameFormat> FrameFormatOf(int link_type) {
  switch (link_type) {
    case DLT_EN10MB:
      return FrameFormat{PH_LINK_ETHERNET, 0};
    case DLT_RAW:
    case DLT_IPV4:
    case DLT_IPV6:
      return FrameFormat{PH_LINK_IP, 0};
    case DLT_NULL:
    case DLT_LOOP:
      return FrameFormat{PH_LINK_IP, kBsdLoopbackBytes};
    case DLT_LINUX_SLL:
      return FrameFormat{PH_LINK_IP, kCookedBytes};
    case DLT_LINUX_SLL2:
      return FrameFormat{PH_LINK_IP, kCooked2Bytes};
    default:
      return std::nullopt;
  }
}

ph_counter FrameRecord::Locate(const Frame& frame, Located& located) {
  const uint32_t skipped = frame.format.skipped_bytes;
  if (frame.captured_bytes < skipped || frame.wire_bytes < frame.captured_bytes) {
    return PH_TRUNCATED;
  }
  located.frame = {frame.bytes + skipped, frame.captured_bytes - skipped, 0};
  located.wire_bytes = frame.wire_bytes - skipped;
  return ph_locate(located.frame, frame.format.link_layer, &located.headers);
}

void FrameRecord::Fill(const Located& located, ph_link_layer link_layer, ph_direction direction) {
  const ph_headers& headers = located.headers;
  record() = {.flow_hash = ph_flow_hash(&key_, &seed_),
              .wire_len = located.wire_bytes,
              .header_len = headers.length,
              .l3_offset = headers.l3_offset,
              .l4_offset = headers.l4_offset,
              .direction = static_cast<__u8>(direction),
              .link_layer = static_cast<__u8>(link_layer),
              .tcp_flags = headers.tcp_flags};
  std::memcpy(record().headers, located.frame.data, headers.length);
  size_ = sizeof(ph_header_record) + headers.length;
}

ph_counter FrameRecord::Read(const Frame& frame, ph_direction direction) {
  Located located;
  const ph_counter counter = Locate(frame, located);
  if (counter != PH_CAPTURED) return counter;
  if (!ph_read_key(located.frame, &located.headers, direction, &key_)) return PH_TRUNCATED;
  Fill(located, frame.format.link_layer, direction);
  return PH_CAPTURED;
}

ph_counter FrameRecord::ReadEitherWay(const Frame& frame) {
  Located located;
  const ph_counter counter = Locate(frame, located);
  if (counter != PH_CAPTURED) return counter;
  if (!ph_read_key(located.frame, &located.headers, PH_EGRESS, &key_)) return PH_TRUNCATED;
  const ph_direction direction = RemoteComesFirst(key_) ? PH_INGRESS : PH_EGRESS;
  key_ = FirstEndLocal(key_);
  Fill(located, frame.format.link_layer, direction);
  return PH_CAPTURED;
}

}  // namespace packet_headers
