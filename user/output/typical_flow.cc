#include "user/output/typical_flow.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <algorithm>
#include <cstdint>

#include "packet_headers/parse.h"
#include "user/output/pcap.h"

namespace packet_headers {
namespace {

constexpr int kPackets = 30;
constexpr uint32_t kSegmentBytes = 1448;
constexpr uint8_t kAck = PH_TCP_ACK;
constexpr uint8_t kAckAndPush = PH_TCP_ACK | 0x08;

struct Headers {
  ethhdr ethernet;
  iphdr ip;
  ph_tcp tcp;
  uint8_t nop[2];
  uint8_t kind;
  uint8_t length;
  uint32_t timestamp_be;
  uint32_t echo_be;
} __attribute__((packed));

}  // namespace

std::string TypicalFlow(std::minstd_rand& random) {
  const auto below = [&random](uint32_t bound) { return static_cast<uint32_t>(random() % bound); };
  const auto any = [&below] {
    const uint32_t high = below(1 << 16) << 16;
    return high | below(1 << 16);
  };

  // Of each end, as its last packet had it.
  Headers ends[2] = {};
  for (Headers& headers : ends) {
    std::generate_n(headers.ethernet.h_source, ETH_ALEN, any);
    headers.ethernet.h_proto = htons(ETH_P_IP);
    headers.ip.version = 4;
    headers.ip.ihl = 5;
    headers.ip.id = static_cast<uint16_t>(any());
    headers.ip.frag_off = htons(0x4000);
    headers.ip.ttl = 64;
    headers.ip.protocol = PH_IPPROTO_TCP;
    headers.ip.saddr = any();
    headers.tcp.source_port_be = static_cast<uint16_t>(any());
    headers.tcp.sequence_be = any();
    headers.tcp.data_offset = 8 << 4;
    headers.tcp.window_be = htons(below(2000));
    headers.nop[0] = headers.nop[1] = 1;
    headers.kind = 8;
    headers.length = 10;
    headers.timestamp_be = any();
  }
  int64_t time_ns = int64_t{below(1U << 31)} * 1'000'000'000;

  std::string file = PcapFileHeader(LinkType::kEthernet, sizeof(Headers));
  for (int i = 0; i < kPackets; ++i) {
    const uint32_t from = below(2);
    Headers& headers = ends[from];
    const Headers& other = ends[1 - from];
    // One end answers the other's few bytes with many.
    uint32_t payload_bytes = 0;
    if (from == 1 && below(4) > 0) payload_bytes = below(2) > 0 ? kSegmentBytes : below(9000);
    time_ns += below(below(2) > 0 ? 30'000 : 1'000'000);
    std::copy_n(other.ethernet.h_source, ETH_ALEN, headers.ethernet.h_dest);
    headers.ip.tot_len = htons(sizeof(Headers) - sizeof(ethhdr) + payload_bytes);
    headers.ip.id = htons(ntohs(headers.ip.id) + 1);
    headers.ip.check = static_cast<uint16_t>(any());
    headers.ip.daddr = other.ip.saddr;
    headers.tcp.destination_port_be = other.tcp.source_port_be;
    headers.tcp.acknowledgment_be = other.tcp.sequence_be;
    headers.tcp.flags = payload_bytes > 0 ? kAckAndPush : kAck;
    if (below(4) == 0) headers.tcp.window_be = htons(ntohs(headers.tcp.window_be) + below(32));
    headers.tcp.checksum_be = static_cast<uint16_t>(any());
    if (below(2) == 0) headers.timestamp_be = htonl(ntohl(headers.timestamp_be) + below(5));
    headers.echo_be = other.timestamp_be;

    char record[kPcapRecordHeaderBytes];
    PutPcapRecordHeader(time_ns, sizeof(Headers), sizeof(Headers) + payload_bytes, record);
    file.append(record, sizeof(record));
    file.append(reinterpret_cast<const char*>(&headers), sizeof(headers));
    headers.tcp.sequence_be = htonl(ntohl(headers.tcp.sequence_be) + payload_bytes);
  }
  return file;
}

}  // namespace packet_headers
