#include "packet_headers/parse.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"

static bool operator==(const ph_flow_key& a, const ph_flow_key& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

namespace packet_headers::testing {
namespace {

// Parses the first `length` bytes of a frame, in an allocation of just that size.
Parsed Parse(const Bytes& bytes, size_t length, ph_link_layer link_layer, ph_direction direction) {
  const std::unique_ptr<uint8_t[]> frame(new uint8_t[length]);
  std::copy_n(bytes.begin(), length, frame.get());
  return testing::Parse(frame.get(), length, link_layer, direction);
}

Parsed Parse(const Packet& packet, ph_link_layer link_layer, ph_direction direction) {
  const Bytes bytes = packet.bytes();
  return Parse(bytes, bytes.size(), link_layer, direction);
}

std::string Name(ph_counter counter) {
  switch (counter) {
#define NAME(enumerator, name, meaning) \
  case enumerator:                      \
    return #name;
    PH_KERNEL_REASONS(NAME)
#undef NAME
    case PH_CAPTURED:
      return "captured";
    default:
      return "?";
  }
}

struct Case {
  std::string name;
  Packet packet;
};

Packet Ipv4() { return Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2"); }
Packet Ipv6() { return Packet().Ethernet().Ipv6("2001:db8::1", "2001:db8:ffff::2"); }

std::vector<Case> TcpPackets() {
  std::vector<Case> cases = {
      {"IPv4", Ipv4().Tcp(1234, 80)},
      {"IPv4 SYN", Ipv4().Tcp(1234, 80).Syn().TcpOptions(20)},
      {"IPv4 with payload", Ipv4().Tcp(1234, 80).Timestamps().Payload(1448)},
      {"IPv4 padded to 60 bytes", Ipv4().Tcp(1234, 80).Payload(1).Pad(60)},
      {"IPv4 options", Ipv4().Ipv4Options(8).Tcp(1234, 80).Timestamps().Payload(9)},
      {"IPv4 options, all", Ipv4().Ipv4Options(40).Tcp(1234, 80).TcpOptions(40).Payload(9)},
      {"IPv4 first fragment", Ipv4().Fragment(0, true).Tcp(1234, 80).Payload(100)},
      {"IPv4 without a total length", Ipv4().Tcp(1234, 80).Payload(100).LieIpLength(0)},
      {"IPv4 longer than the frame", Ipv4().Tcp(1234, 80).Payload(100).LieIpLength(1500)},
      {"IPv4 that ends with its header", Ipv4().Tcp(1234, 80).Payload(9).LieIpLength(40)},
      {"IPv6", Ipv6().Tcp(1234, 443)},
      {"IPv6 with payload", Ipv6().Tcp(1234, 443).Timestamps().Payload(1428)},
      {"IPv6 without a payload length", Ipv6().Tcp(1234, 443).Payload(100).LieIpLength(0)},
      {"IPv6 hop-by-hop", Ipv6().HopByHop().Tcp(1234, 443).Timestamps()},
      {"IPv6 routing", Ipv6().Routing(24).Tcp(1234, 443).Payload(9)},
      {"IPv6 destination options", Ipv6().DestinationOptions(16).Tcp(1234, 443)},
      {"IPv6 mobility", Ipv6().Mobility(16).Tcp(1234, 443)},
      {"IPv6 authentication", Ipv6().AuthenticationHeader(24).Tcp(1234, 443).Payload(9)},
      {"IPv6 authentication, odd words", Ipv6().AuthenticationHeader(28).Tcp(1234, 443)},
      {"IPv6 first fragment", Ipv6().Fragment(0, true).Tcp(1234, 443).Payload(100)},
      {"IPv6 atomic fragment", Ipv6().Fragment(0, false).Tcp(1234, 443)},
      {"IPv6 all extension headers", Ipv6()
                                         .HopByHop()
                                         .DestinationOptions(24)
                                         .Routing()
                                         .Fragment(0, false)
                                         .AuthenticationHeader()
                                         .DestinationOptions()
                                         .Mobility()
                                         .Routing(40)
                                         .Tcp(1234, 443)
                                         .TcpOptions(40)
                                         .Payload(9)},
      {"IPv6, the longest headers", Ipv6().HopByHop(424).Tcp(1234, 443).TcpOptions(20).Payload(9)},
      {"one VLAN tag",
       Packet().Ethernet().Vlan(100).Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Payload(9)},
      {"two VLAN tags", Packet()
                            .Ethernet()
                            .Vlan(0x6064, PH_ETHERTYPE_QINQ)
                            .Vlan(7)
                            .Ipv6("2001:db8::1", "2001:db8:ffff::2")
                            .Tcp(1234, 443)
                            .Timestamps()},
      {"two VLAN tags, old service tag", Packet()
                                             .Ethernet()
                                             .Vlan(1, PH_ETHERTYPE_QINQ1)
                                             .Vlan(2)
                                             .Ipv4("192.0.2.1", "198.51.100.2")
                                             .Tcp(1234, 80)},
  };
  for (size_t bytes = 0; bytes <= 40; bytes += 4) {
    cases.push_back({"TCP options of " + std::to_string(bytes) + " bytes",
                     Ipv4().Tcp(1234, 80).TcpOptions(bytes).Payload(50)});
  }
  return cases;
}

void CheckHeaders(const Packet& packet, ph_link_layer link_layer) {
  for (const ph_direction direction : {PH_INGRESS, PH_EGRESS}) {
    const Parsed parsed = Parse(packet, link_layer, direction);
    CHECK(Name(parsed.counter) == "captured");
    CHECK(parsed.headers.length == packet.header_length());
    CHECK(parsed.headers.l3_offset == packet.l3_offset());
    CHECK(parsed.headers.l4_offset == packet.l4_offset());
    CHECK(parsed.headers.is_ipv6 == packet.is_ipv6());
    CHECK(parsed.headers.tcp_flags == packet.tcp_flags());
    CHECK(parsed.key == packet.key(direction));
  }
}

TEST_CASE("Headers are found to the end of the TCP header", "[parse]") {
  for (const Case& c : TcpPackets()) {
    INFO(c.name);
    CheckHeaders(c.packet, PH_LINK_ETHERNET);
  }
}

TEST_CASE("A frame may begin with its IP header", "[parse]") {
  CheckHeaders(Packet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Payload(9), PH_LINK_IP);
  CheckHeaders(Packet().Ipv4("192.0.2.1", "198.51.100.2").Ipv4Options(4).Tcp(1, 2), PH_LINK_IP);
  CheckHeaders(Packet().Ipv6("2001:db8::1", "2001:db8::2").HopByHop().Tcp(1234, 80), PH_LINK_IP);
}

TEST_CASE("Every TCP flag is told", "[parse]") {
  for (int flags = 0; flags <= 0xff; flags++) {
    const Packet packet = Ipv4().Tcp(1, 2).Flags(static_cast<uint8_t>(flags));
    CHECK(Parse(packet, PH_LINK_ETHERNET, PH_INGRESS).headers.tcp_flags == flags);
  }
}

TEST_CASE("A frame that ends within its headers is truncated", "[parse]") {
  for (const Case& c : TcpPackets()) {
    INFO(c.name);
    const Bytes bytes = c.packet.bytes();
    for (size_t length = 0; length <= bytes.size(); length++) {
      const Parsed parsed = Parse(bytes, length, PH_LINK_ETHERNET, PH_INGRESS);
      const ph_counter expected = length < c.packet.header_length() ? PH_TRUNCATED : PH_CAPTURED;
      if (parsed.counter != expected) {
        FAIL("of " << length << " bytes: " << Name(parsed.counter));
      }
    }
  }
  const Packet l3_only = Packet().Ipv6("2001:db8::1", "2001:db8::2").Tcp(1, 2).Timestamps();
  for (size_t length = 0; length < l3_only.header_length(); length++) {
    INFO(length);
    CHECK(Parse(l3_only.bytes(), length, PH_LINK_IP, PH_EGRESS).counter == PH_TRUNCATED);
  }
}

struct Rejected {
  std::string name;
  ph_counter counter;
  Packet packet;
  ph_link_layer link_layer = PH_LINK_ETHERNET;
};

const std::vector<Rejected>& RejectedPackets() {
  static const auto* const cases = new std::vector<Rejected>{
      {"ARP", PH_NOT_IP, Packet().Ethernet().EtherType(0x0806).Payload(28)},
      {"an IEEE 802.3 length", PH_NOT_IP, Packet().Ethernet().EtherType(38).Payload(46)},
      {"three VLAN tags", PH_NOT_IP,
       Packet().Ethernet().Vlan(1).Vlan(2).Vlan(3).Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2)},
      {"version 0 without Ethernet", PH_NOT_IP,
       Packet().Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2).LieIpVersion(0), PH_LINK_IP},
      {"version 5 without Ethernet", PH_NOT_IP,
       Packet().Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2).LieIpVersion(5), PH_LINK_IP},

      {"UDP", PH_NOT_TCP, Ipv4().Udp(53, 1234).Payload(40)},
      {"UDP over IPv6", PH_NOT_TCP, Ipv6().Udp(53, 1234).Payload(40)},
      {"UDP behind extension headers", PH_NOT_TCP, Ipv6().HopByHop().Routing().Udp(53, 1234)},
      {"ICMP", PH_NOT_TCP, Ipv4().Protocol(IPPROTO_ICMP).Payload(64)},
      {"ICMPv6", PH_NOT_TCP, Ipv6().HopByHop().Protocol(IPPROTO_ICMPV6).Payload(24)},
      {"ESP", PH_NOT_TCP, Ipv6().Protocol(IPPROTO_ESP).Payload(100)},
      {"no next header", PH_NOT_TCP, Ipv6().Protocol(IPPROTO_NONE).Payload(100)},
      {"a later fragment of UDP", PH_NOT_TCP, Ipv4().Fragment(8, false).Udp(53, 1234)},
      {"TCP in IPv4", PH_NOT_TCP, Ipv4().Protocol(IPPROTO_IPIP).Payload(60)},

      {"a later fragment", PH_FRAGMENT, Ipv4().Fragment(1480, true).Tcp(1, 2)},
      {"the last fragment", PH_FRAGMENT, Ipv4().Fragment(8, false).Tcp(1, 2)},
      {"the highest offset", PH_FRAGMENT, Ipv4().Fragment(0xfff8, false).Tcp(1, 2)},
      {"a short fragment", PH_FRAGMENT,
       Ipv4().Fragment(1480, false).Protocol(IPPROTO_TCP).Payload(1)},
      {"a later IPv6 fragment", PH_FRAGMENT, Ipv6().Fragment(1448, true).Tcp(1, 2)},
      {"the last IPv6 fragment", PH_FRAGMENT, Ipv6().Fragment(8, false).Tcp(1, 2)},
      {"the highest IPv6 offset", PH_FRAGMENT, Ipv6().Fragment(0xfff8, false).Tcp(1, 2)},
      {"an IPv6 fragment behind others", PH_FRAGMENT,
       Ipv6().HopByHop().Routing().Fragment(8, true).Tcp(1, 2)},

      {"an IPv4 header shorter than 20 bytes", PH_MALFORMED_IP,
       Ipv4().Tcp(1, 2).LieIpv4HeaderWords(4)},
      {"an IPv4 header of no length", PH_MALFORMED_IP, Ipv4().Tcp(1, 2).LieIpv4HeaderWords(0)},
      {"an IPv4 packet shorter than its header", PH_MALFORMED_IP, Ipv4().Tcp(1, 2).LieIpLength(19)},
      {"an IPv4 packet that ends in its options", PH_MALFORMED_IP,
       Ipv4().Ipv4Options(8).Tcp(1, 2).LieIpLength(24)},
      {"IPv6 that says to be IPv4", PH_MALFORMED_IP, Ipv4().Tcp(1, 2).LieIpVersion(6)},
      {"IPv4 that says to be IPv6", PH_MALFORMED_IP, Ipv6().Tcp(1, 2).LieIpVersion(4)},
      {"a malformed header of UDP", PH_MALFORMED_IP, Ipv4().Udp(1, 2).LieIpv4HeaderWords(3)},

      {"a TCP header of no length", PH_MALFORMED_TCP, Ipv4().Tcp(1, 2).LieTcpHeaderWords(0)},
      {"a TCP header shorter than 20 bytes", PH_MALFORMED_TCP,
       Ipv6().Tcp(1, 2).LieTcpHeaderWords(4)},
      {"a TCP header longer than its packet", PH_MALFORMED_TCP,
       Ipv4().Tcp(1, 2).Payload(39).LieTcpHeaderWords(15)},
      {"a TCP header that goes on in the padding", PH_MALFORMED_TCP,
       Ipv4().Tcp(1, 2).LieTcpHeaderWords(6).Pad(60)},
      {"an IPv4 packet that ends within TCP", PH_MALFORMED_TCP,
       Ipv4().Tcp(1, 2).Timestamps().LieIpLength(51)},
      {"an IPv6 packet that ends within TCP", PH_MALFORMED_TCP,
       Ipv6().Tcp(1, 2).Timestamps().LieIpLength(31)},
      {"an IPv6 packet that ends within its extension headers", PH_MALFORMED_TCP,
       Ipv6().HopByHop().Routing().Tcp(1, 2).LieIpLength(12)},
      {"an IPv4 header that says to have swallowed TCP", PH_MALFORMED_TCP,
       Ipv4().Tcp(1, 2).LieIpv4HeaderWords(10).Pad(100)},

      {"an extension header that is too long", PH_HEADER_TOO_LONG, Ipv6().HopByHop(472).Tcp(1, 2)},
      {"the longest extension header", PH_HEADER_TOO_LONG, Ipv6().Routing(2048).Tcp(1, 2)},
      {"the longest authentication header", PH_HEADER_TOO_LONG,
       Ipv6().AuthenticationHeader(1028).Tcp(1, 2)},
      {"a TCP header that ends too far", PH_HEADER_TOO_LONG,
       Ipv6().HopByHop(424).Tcp(1, 2).TcpOptions(28)},
      {"nine extension headers", PH_HEADER_TOO_LONG,
       Ipv6()
           .HopByHop()
           .Routing()
           .Routing()
           .Routing()
           .Routing()
           .Routing()
           .Routing()
           .Routing()
           .Routing()
           .Tcp(1, 2)},
  };
  return *cases;
}

TEST_CASE("What has no TCP header to save goes to the counter that says why", "[parse]") {
  std::set<ph_counter> returned = {PH_TRUNCATED};
  for (const Rejected& c : RejectedPackets()) {
    INFO(c.name);
    const ph_counter counter = Parse(c.packet, c.link_layer, PH_INGRESS).counter;
    CHECK(Name(counter) == Name(c.counter));
    returned.insert(counter);
  }
  // The others are not for the parser to find.
  CHECK(returned == std::set<ph_counter>{PH_NOT_IP, PH_NOT_TCP, PH_FRAGMENT, PH_TRUNCATED,
                                         PH_MALFORMED_IP, PH_MALFORMED_TCP, PH_HEADER_TOO_LONG});
}

TEST_CASE("No length of any frame leads the parser outside", "[parse]") {
  for (const Rejected& c : RejectedPackets()) {
    INFO(c.name);
    const Bytes bytes = c.packet.bytes();
    for (size_t length = 0; length <= bytes.size(); length++) {
      const ph_counter counter = Parse(bytes, length, c.link_layer, PH_EGRESS).counter;
      if (counter != c.counter && counter != PH_TRUNCATED) {
        FAIL("of " << length << " bytes: " << Name(counter));
      }
    }
  }
}

TEST_CASE("Headers of just the most bytes that a record holds are captured", "[parse]") {
  const auto packet = [](size_t tcp_options) {
    return Packet()
        .Ipv6("2001:db8::1", "2001:db8::2")
        .HopByHop(440)
        .Tcp(1, 2)
        .TcpOptions(tcp_options)
        .Payload(9);
  };
  REQUIRE(packet(20).header_length() == PH_MAX_HEADER_BYTES);
  CHECK(Name(Parse(packet(20), PH_LINK_IP, PH_INGRESS).counter) == "captured");
  CHECK(Name(Parse(packet(24), PH_LINK_IP, PH_INGRESS).counter) == "header_too_long");
}

TEST_CASE("A read is within the frame or does not happen", "[parse]") {
  const std::unique_ptr<uint8_t[]> bytes(new uint8_t[8]{1, 2, 3, 4, 5, 6, 7, 8});
  const ph_frame frame = {bytes.get(), 8, 0};
  uint8_t to[8] = {};
  const volatile uint32_t huge = UINT32_MAX;  // or the compiler warns of what does not happen
  CHECK(ph_read(frame, 0, to, 8));
  CHECK(ph_read(frame, 7, to, 1));
  CHECK(to[0] == 8);
  CHECK_FALSE(ph_read(frame, 8, to, 1));
  CHECK_FALSE(ph_read(frame, 1, to, 8));
  CHECK_FALSE(ph_read(frame, huge, to, 2));
  CHECK_FALSE(ph_read(frame, 2, to, huge));
}

}  // namespace
}  // namespace packet_headers::testing
