#include "user/capture/frame_record.h"

#include <pcap/dlt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

Packet Ipv4() { return Packet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80); }
Packet Ipv6() { return Packet().Ipv6("2001:db8::1", "2001:db8::2").Tcp(1234, 80); }

// The first `captured` bytes of a frame, in an allocation of just that size.
struct Captured {
  Captured(const Bytes& whole, int link_type, size_t captured, size_t wire)
      : bytes(new uint8_t[captured]),
        frame{bytes.get(), static_cast<uint32_t>(captured), static_cast<uint32_t>(wire),
              FrameFormatOf(link_type).value()} {
    std::copy_n(whole.begin(), captured, bytes.get());
  }

  const std::unique_ptr<uint8_t[]> bytes;
  const Frame frame;
};

Bytes HeadersOf(FrameRecord& made) {
  return Bytes(made.record().headers, made.record().headers + made.record().header_len);
}

bool HasKey(const FrameRecord& made, const ph_flow_key& key) {
  return std::memcmp(&made.key(), &key, sizeof(key)) == 0;
}

struct LinkCase {
  int link_type;
  Packet packet;
  Bytes cooked;  // what is before it in a frame
  ph_link_layer link_layer;
};

std::vector<LinkCase> LinkCases() {
  const Packet ethernet =
      Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Timestamps();
  const Packet tagged =
      Packet().Ethernet().Vlan(7).Ipv6("2001:db8::1", "2001:db8::2").Tcp(1234, 80);
  return {
      {DLT_EN10MB, ethernet, {}, PH_LINK_ETHERNET},
      {DLT_EN10MB, tagged, {}, PH_LINK_ETHERNET},
      {DLT_RAW, Ipv4(), {}, PH_LINK_IP},
      {DLT_RAW, Ipv6(), {}, PH_LINK_IP},
      {DLT_IPV4, Ipv4(), {}, PH_LINK_IP},
      {DLT_IPV6, Ipv6(), {}, PH_LINK_IP},
      {DLT_NULL, Ipv4(), {2, 0, 0, 0}, PH_LINK_IP},
      {DLT_LOOP, Ipv6(), {0, 0, 0, 24}, PH_LINK_IP},
      {DLT_LINUX_SLL, Ipv4(), Bytes(16, 1), PH_LINK_IP},
      {DLT_LINUX_SLL2, Ipv6(), Bytes(20, 1), PH_LINK_IP},
  };
}

TEST_CASE("A frame of every link type becomes its record", "[frame]") {
  for (const LinkCase& link : LinkCases()) {
    for (const ph_direction direction : {PH_INGRESS, PH_EGRESS}) {
      INFO("link type " << link.link_type << ", direction " << direction);
      const Bytes headers = link.packet.bytes();
      Bytes bytes = link.cooked;
      bytes.insert(bytes.end(), headers.begin(), headers.end());
      const Captured captured(bytes, link.link_type, bytes.size(), bytes.size() + 1000);

      FrameRecord made(kSeed);
      REQUIRE(made.Read(captured.frame, direction) == PH_CAPTURED);
      const ph_flow_key key = link.packet.key(direction);
      CHECK(HasKey(made, key));
      CHECK(made.record().flow_hash == ph_flow_hash(&key, &kSeed));
      CHECK(made.record().direction == direction);
      CHECK(made.record().link_layer == link.link_layer);
      CHECK(made.record().wire_len == headers.size() + 1000);
      CHECK(made.record().tcp_flags == PH_TCP_ACK);
      CHECK(made.record().time_ns == 0);
      CHECK(made.record().socket_cookie == 0);
      CHECK(HeadersOf(made) == headers);
      CHECK(made.size() == sizeof(ph_header_record) + headers.size());
      const Parsed parsed = Parse(headers.data(), headers.size(), link.link_layer, direction);
      CHECK(made.record().l3_offset == parsed.headers.l3_offset);
      CHECK(made.record().l4_offset == parsed.headers.l4_offset);
    }
  }
}

TEST_CASE("There is no record of a frame that ends within its headers", "[frame]") {
  for (const LinkCase& link : LinkCases()) {
    const Bytes headers = link.packet.bytes();
    Bytes bytes = link.cooked;
    bytes.insert(bytes.end(), headers.begin(), headers.end());
    FrameRecord made(kSeed);
    for (size_t captured = 0; captured < bytes.size(); ++captured) {
      INFO("link type " << link.link_type << ", " << captured << " of " << bytes.size());
      const Captured cut(bytes, link.link_type, captured, bytes.size());
      CHECK(made.Read(cut.frame, PH_EGRESS) == PH_TRUNCATED);
      CHECK(made.ReadEitherWay(cut.frame) == PH_TRUNCATED);
    }
  }
}

TEST_CASE("A frame that was longer when it was captured is not believed", "[frame]") {
  const Bytes bytes = Ipv4().bytes();
  FrameRecord made(kSeed);
  CHECK(made.Read(Captured(bytes, DLT_RAW, bytes.size(), bytes.size() - 1).frame, PH_EGRESS) ==
        PH_TRUNCATED);
}

TEST_CASE("Payload is not part of a record", "[frame]") {
  const Bytes bytes = Ipv4().Payload(100).bytes();
  FrameRecord made(kSeed);
  REQUIRE(made.Read(Captured(bytes, DLT_RAW, bytes.size(), bytes.size()).frame, PH_EGRESS) ==
          PH_CAPTURED);
  CHECK(HeadersOf(made) == Bytes(bytes.begin(), bytes.begin() + 40));
  CHECK(made.record().wire_len == 140);
}

TEST_CASE("The longest headers fit behind the longest cooked header", "[frame]") {
  const Bytes headers =
      Packet().Ipv6("2001:db8::1", "2001:db8::2").HopByHop(424).Tcp(1, 2).TcpOptions(36).bytes();
  REQUIRE(headers.size() == PH_MAX_HEADER_BYTES);
  Bytes bytes(20);
  bytes.insert(bytes.end(), headers.begin(), headers.end());
  REQUIRE(bytes.size() <= kFrameSnaplen);
  FrameRecord made(kSeed);
  REQUIRE(made.Read(Captured(bytes, DLT_LINUX_SLL2, bytes.size(), bytes.size()).frame, PH_EGRESS) ==
          PH_CAPTURED);
  CHECK(HeadersOf(made) == headers);
}

TEST_CASE("What is not TCP is told by the parser's name for it", "[frame]") {
  const Bytes udp = Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Udp(1, 2).bytes();
  const Bytes arp = Packet().Ethernet().EtherType(0x0806).Payload(28).bytes();
  FrameRecord made(kSeed);
  CHECK(made.Read(Captured(udp, DLT_EN10MB, udp.size(), udp.size()).frame, PH_EGRESS) ==
        PH_NOT_TCP);
  CHECK(made.ReadEitherWay(Captured(arp, DLT_EN10MB, arp.size(), arp.size()).frame) == PH_NOT_IP);
}

TEST_CASE("Unless its side is known the local end is the one that comes first", "[frame]") {
  struct End {
    const char* address;
    uint16_t port;
  };
  // The first end comes first.
  const std::pair<End, End> connections[] = {
      {{"192.0.2.1", 9000}, {"192.0.2.2", 80}},       {{"192.0.2.1", 80}, {"192.0.2.1", 81}},
      {{"192.0.2.1", 0x00ff}, {"192.0.2.1", 0x0100}}, {{"2.0.0.1", 1}, {"10.0.0.1", 1}},
      {{"2001:db8::1", 80}, {"2001:db8:1::", 79}},
  };
  const auto from = [](const End& one, const End& other) {
    return std::strchr(one.address, ':') == nullptr
               ? Packet().Ipv4(one.address, other.address).Tcp(one.port, other.port)
               : Packet().Ipv6(one.address, other.address).Tcp(one.port, other.port);
  };
  for (const auto& [first, second] : connections) {
    INFO(first.address << " " << first.port << ", " << second.address << " " << second.port);
    const ph_flow_key key = FlowKey(first.address, first.port, second.address, second.port);
    for (const bool by_first : {true, false}) {
      const Bytes bytes = (by_first ? from(first, second) : from(second, first)).bytes();
      FrameRecord made(kSeed);
      REQUIRE(made.ReadEitherWay(Captured(bytes, DLT_RAW, bytes.size(), bytes.size()).frame) ==
              PH_CAPTURED);
      CHECK(HasKey(made, key));
      CHECK(made.record().direction == (by_first ? PH_EGRESS : PH_INGRESS));
      CHECK(made.record().flow_hash == ph_flow_hash(&key, &kSeed));
      CHECK(HeadersOf(made) == bytes);
    }
  }
}

TEST_CASE("A link type that can't be read has no format", "[frame]") {
  CHECK_FALSE(FrameFormatOf(DLT_IEEE802_11_RADIO).has_value());
  CHECK_FALSE(FrameFormatOf(-1).has_value());
}

}  // namespace
}  // namespace packet_headers::testing
