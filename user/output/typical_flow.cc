#include "user/output/typical_flow.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

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

// Behind Ethernet and IP.
struct Tcp {
  ph_tcp fixed;
  uint8_t nop[2];
  uint8_t kind;
  uint8_t length;
  uint32_t timestamp_be;
  uint32_t echo_be;
};

template <typename Ip>
struct Headers {
  static constexpr size_t kBytes = sizeof(ethhdr) + sizeof(Ip) + sizeof(Tcp);

  void AppendTo(std::string& file) const {
    file.append(reinterpret_cast<const char*>(&ethernet), sizeof(ethernet));
    file.append(reinterpret_cast<const char*>(&ip), sizeof(ip));
    file.append(reinterpret_cast<const char*>(&tcp), sizeof(tcp));
  }

  ethhdr ethernet;
  Ip ip;
  Tcp tcp;
};

class Random {
 public:
  explicit Random(std::minstd_rand& random) : random_(random) {}
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  uint32_t Any() {
    const uint32_t high = Below(1 << 16) << 16;
    return high | Below(1 << 16);
  }

 private:
  std::minstd_rand& random_;
};

// What all packets of an end have; returns the type of Ethernet's payload.

uint16_t Begin(iphdr& ip, Random& random) {
  ip.version = 4;
  ip.ihl = 5;
  ip.id = static_cast<uint16_t>(random.Any());
  ip.frag_off = htons(0x4000);
  ip.ttl = 64;
  ip.protocol = PH_IPPROTO_TCP;
  ip.saddr = random.Any();
  return ETH_P_IP;
}

uint16_t Begin(ipv6hdr& ip, Random& random) {
  ip.version = 6;
  ip.flow_lbl[0] = static_cast<uint8_t>(random.Below(16));
  ip.flow_lbl[1] = static_cast<uint8_t>(random.Any());
  ip.flow_lbl[2] = static_cast<uint8_t>(random.Any());
  ip.nexthdr = PH_IPPROTO_TCP;
  ip.hop_limit = 64;
  for (uint8_t& byte : ip.saddr.s6_addr) byte = static_cast<uint8_t>(random.Any());
  return ETH_P_IPV6;
}

// What the next one has, to the other end with so many bytes behind IP.

void Send(iphdr& ip, const iphdr& other, size_t bytes, Random& random) {
  ip.tot_len = htons(static_cast<uint16_t>(sizeof(ip) + bytes));
  ip.id = htons(ntohs(ip.id) + 1);
  ip.check = static_cast<uint16_t>(random.Any());
  ip.daddr = other.saddr;
}

void Send(ipv6hdr& ip, const ipv6hdr& other, size_t bytes, Random&) {
  ip.payload_len = htons(static_cast<uint16_t>(bytes));
  ip.daddr = other.saddr;
}

template <typename Ip>
std::string Flow(Random random) {
  // Of each end, as its last packet had it.
  Headers<Ip> ends[2] = {};
  for (auto& [ethernet, ip, tcp] : ends) {
    std::generate_n(ethernet.h_source, ETH_ALEN, [&random] { return random.Any(); });
    ethernet.h_proto = htons(Begin(ip, random));
    tcp.fixed.source_port_be = static_cast<uint16_t>(random.Any());
    tcp.fixed.sequence_be = random.Any();
    tcp.fixed.data_offset = sizeof(tcp) / 4 << 4;
    tcp.fixed.window_be = htons(random.Below(2000));
    tcp.nop[0] = tcp.nop[1] = 1;
    tcp.kind = 8;
    tcp.length = 10;
    tcp.timestamp_be = random.Any();
  }
  int64_t time_ns = int64_t{random.Below(1U << 31)} * 1'000'000'000;

  std::string file = PcapFileHeader(LinkType::kEthernet, Headers<Ip>::kBytes);
  for (int i = 0; i < kPackets; ++i) {
    const uint32_t from = random.Below(2);
    auto& [ethernet, ip, tcp] = ends[from];
    const Headers<Ip>& other = ends[1 - from];
    // One end answers the other's few bytes with many.
    uint32_t payload_bytes = 0;
    if (from == 1 && random.Below(4) > 0) {
      payload_bytes = random.Below(2) > 0 ? kSegmentBytes : random.Below(9000);
    }
    time_ns += random.Below(random.Below(2) > 0 ? 30'000 : 1'000'000);
    std::copy_n(other.ethernet.h_source, ETH_ALEN, ethernet.h_dest);
    Send(ip, other.ip, sizeof(tcp) + payload_bytes, random);
    tcp.fixed.destination_port_be = other.tcp.fixed.source_port_be;
    tcp.fixed.acknowledgment_be = other.tcp.fixed.sequence_be;
    tcp.fixed.flags = payload_bytes > 0 ? kAckAndPush : kAck;
    if (random.Below(4) == 0) {
      tcp.fixed.window_be = htons(ntohs(tcp.fixed.window_be) + random.Below(32));
    }
    tcp.fixed.checksum_be = static_cast<uint16_t>(random.Any());
    if (random.Below(2) == 0) {
      tcp.timestamp_be = htonl(ntohl(tcp.timestamp_be) + random.Below(5));
    }
    tcp.echo_be = other.tcp.timestamp_be;

    char record[kPcapRecordHeaderBytes];
    PutPcapRecordHeader(time_ns, Headers<Ip>::kBytes, Headers<Ip>::kBytes + payload_bytes, record);
    file.append(record, sizeof(record));
    ends[from].AppendTo(file);
    tcp.fixed.sequence_be = htonl(ntohl(tcp.fixed.sequence_be) + payload_bytes);
  }
  return file;
}

}  // namespace

std::string TypicalFlow(std::minstd_rand& random) {
  return random() % 2 == 0 ? Flow<iphdr>(Random(random)) : Flow<ipv6hdr>(Random(random));
}

}  // namespace packet_headers
