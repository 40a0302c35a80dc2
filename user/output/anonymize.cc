#include "user/output/anonymize.h"

#include <cstdint>
#include <cstring>

#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr size_t kIpv4HostBytes = 1;   // a /24 stays
constexpr size_t kIpv6HostBytes = 10;  // a /48 stays

// RFC 1071, over a whole number of 16-bit words.
uint16_t InternetChecksum(const char* bytes, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i < size; i += 2) {
    uint16_t word;
    std::memcpy(&word, bytes + i, sizeof(word));
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

void HideIpv4(char* ip, bool source) {
  const size_t address = source ? offsetof(iphdr, saddr) : offsetof(iphdr, daddr);
  std::memset(ip + address + 4 - kIpv4HostBytes, 0, kIpv4HostBytes);
  std::memset(ip + offsetof(iphdr, check), 0, 2);
  const size_t header_bytes = (ip[0] & 0xf) * 4;
  const uint16_t checksum = InternetChecksum(ip, header_bytes);
  std::memcpy(ip + offsetof(iphdr, check), &checksum, 2);
}

void HideIpv6(char* ip, bool source) {
  const size_t address = source ? offsetof(ipv6hdr, saddr) : offsetof(ipv6hdr, daddr);
  std::memset(ip + address + 16 - kIpv6HostBytes, 0, kIpv6HostBytes);
}

// The source's end of the packet, or the destination's.
void HideEnd(const FrameView& frame, bool source) {
  if (frame.link_layer == PH_LINK_ETHERNET) {
    std::memset(frame.bytes + (source ? offsetof(ethhdr, h_source) : 0), 0, ETH_ALEN);
  }
  char* ip = frame.bytes + frame.l3_offset;
  if ((ip[0] & 0xf0) == 0x60) {
    HideIpv6(ip, source);
  } else {
    HideIpv4(ip, source);
  }
}

}  // namespace

void HideNetblocks(const FrameView& frame, HiddenEnds ends) {
  if (ends == HiddenEnds::kNone) return;
  const bool remote_is_source = frame.direction == PH_INGRESS;
  HideEnd(frame, remote_is_source);
  if (ends == HiddenEnds::kBoth) HideEnd(frame, !remote_is_source);
  std::memset(frame.bytes + frame.l4_offset + offsetof(ph_tcp, checksum_be), 0, 2);
}

void HideNetblock(uint8_t* address) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool is_ipv4 = std::memcmp(address, kMapped, sizeof(kMapped)) == 0;
  const size_t hidden = is_ipv4 ? kIpv4HostBytes : kIpv6HostBytes;
  std::memset(address + 16 - hidden, 0, hidden);
}

}  // namespace packet_headers
