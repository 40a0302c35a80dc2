// What each program makes of one packet: verdict, counter and record, and the packet untouched.

#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bpf/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

// The programs for devices without Ethernet run here too: a test run takes the first 14 bytes of
// a frame for an Ethernet header, but shows them to the program all the same.
Packet Begin(const Hook& hook) {
  return hook.link_layer == PH_LINK_ETHERNET ? Packet().Ethernet() : Packet();
}

Packet Ipv4(const Hook& hook) { return Begin(hook).Ipv4("192.0.2.1", "198.51.100.2"); }
Packet Ipv6(const Hook& hook) { return Begin(hook).Ipv6("2001:db8::1", "2001:db8:ffff::2"); }

struct Case {
  std::string name;
  std::function<Packet(const Hook&)> packet;
  ph_counter counter = PH_CAPTURED;
  bool ethernet_only = false;
};

void CheckRecord(const Record& record, const Kernel& kernel, const Hook& hook, const Packet& packet,
                 const Outcome& outcome, const Metadata& metadata = {}) {
  const Bytes frame = packet.bytes();
  const size_t header_bytes = packet.header_length();
  REQUIRE(record.bytes().size() == sizeof(ph_header_record) + SizeClass(header_bytes));
  const ph_header_record& fixed = record.fixed();
  CHECK(fixed.time_ns >= outcome.not_before_ns);
  CHECK(fixed.time_ns <= outcome.not_after_ns);
  CHECK(fixed.socket_cookie == 0);
  CHECK(fixed.flow_hash == kernel.HashOf(packet.key(hook.direction)));
  CHECK(fixed.ifindex == metadata.ifindex);
  CHECK(fixed.wire_len == frame.size());
  CHECK(fixed.header_len == header_bytes);
  CHECK(fixed.l3_offset == packet.l3_offset());
  CHECK(fixed.l4_offset == packet.l4_offset());
  CHECK(fixed.gso_size == metadata.gso_size);
  CHECK(fixed.gso_segs == metadata.gso_segs);
  CHECK(fixed.vlan_tci == 0);
  CHECK(fixed.vlan_proto_be == 0);
  CHECK(fixed.direction == hook.direction);
  CHECK(fixed.link_layer == hook.link_layer);
  CHECK(fixed.tcp_flags == packet.tcp_flags());
  CHECK(std::all_of(fixed.reserved, fixed.reserved + 3, [](uint8_t byte) { return byte == 0; }));

  Bytes headers(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(header_bytes));
  headers.resize(SizeClass(header_bytes));
  CHECK(record.headers() == headers);
}

Counters Expected(ph_counter counter) {
  Counters counters = {};
  counters[PH_SEEN] = 1;
  counters[counter] = 1;
  return counters;
}

void CheckPacket(Kernel& kernel, const Hook& hook, const Packet& packet, ph_counter counter) {
  const Outcome outcome = kernel.Run(hook, packet.bytes());
  REQUIRE(outcome.error == 0);
  CHECK(outcome.verdict == hook.verdict);
  CHECK(outcome.untouched);
  CHECK(Text(kernel.TakeCounters(hook)) == Text(Expected(counter)));
  const std::vector<Record> records = kernel.Drain();
  REQUIRE(records.size() == (counter == PH_CAPTURED ? 1 : 0));
  for (const Record& record : records) CheckRecord(record, kernel, hook, packet, outcome);
}

void CheckTable(const std::vector<Case>& cases) {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    for (const Case& c : cases) {
      if (c.ethernet_only && hook.link_layer != PH_LINK_ETHERNET) continue;
      INFO(hook.name << ": " << c.name);
      CheckPacket(kernel, hook, c.packet(hook), c.counter);
    }
  }
}

TEST_CASE("A TCP packet becomes a record of its headers", "[bpf]") {
  CheckTable({
      {"IPv4", [](const Hook& h) { return Ipv4(h).Tcp(1234, 80).Timestamps().Payload(1448); }},
      {"IPv4 SYN", [](const Hook& h) { return Ipv4(h).Tcp(1234, 80).Syn().TcpOptions(20); }},
      {"IPv4 SYN-ACK", [](const Hook& h) { return Ipv4(h).Tcp(80, 1234).SynAck().TcpOptions(20); }},
      {"IPv4 padded", [](const Hook& h) { return Ipv4(h).Tcp(1234, 80).Payload(1).Pad(60); }},
      {"IPv4 options", [](const Hook& h) { return Ipv4(h).Ipv4Options(8).Tcp(1, 2).Payload(9); }},
      {"IPv4, all options",
       [](const Hook& h) { return Ipv4(h).Ipv4Options(40).Tcp(1, 2).TcpOptions(40).Payload(9); }},
      {"IPv4 first fragment",
       [](const Hook& h) { return Ipv4(h).Fragment(0, true).Tcp(1, 2).Payload(100); }},
      {"IPv4 without a total length",
       [](const Hook& h) { return Ipv4(h).Tcp(1, 2).Payload(9).LieIpLength(0); }},
      {"IPv6", [](const Hook& h) { return Ipv6(h).Tcp(1234, 443).Timestamps().Payload(1428); }},
      {"IPv6 SYN", [](const Hook& h) { return Ipv6(h).Tcp(1234, 443).Syn().TcpOptions(20); }},
      {"IPv6 hop-by-hop",
       [](const Hook& h) { return Ipv6(h).HopByHop().Tcp(1, 2).Timestamps().Payload(9); }},
      {"IPv6 routing", [](const Hook& h) { return Ipv6(h).Routing(24).Tcp(1, 2).Payload(9); }},
      {"IPv6 authentication",
       [](const Hook& h) { return Ipv6(h).AuthenticationHeader(28).Tcp(1, 2).Payload(9); }},
      {"IPv6 first fragment",
       [](const Hook& h) { return Ipv6(h).Fragment(0, true).Tcp(1, 2).Payload(100); }},
      {"IPv6, the most extension headers",
       [](const Hook& h) {
         return Ipv6(h)
             .HopByHop()
             .DestinationOptions(24)
             .Routing()
             .Fragment(0, false)
             .AuthenticationHeader()
             .DestinationOptions()
             .Mobility()
             .Routing(40)
             .Tcp(1, 2)
             .TcpOptions(40)
             .Payload(9);
       }},
  });
}

TEST_CASE("A record holds any TCP options", "[bpf]") {
  std::vector<Case> cases;
  for (size_t bytes = 0; bytes <= 40; bytes += 4) {
    const std::string name = " with options of " + std::to_string(bytes) + " bytes";
    cases.push_back({"IPv4" + name, [bytes](const Hook& hook) {
                       return Ipv4(hook).Tcp(1234, 80).TcpOptions(bytes).Payload(100);
                     }});
    cases.push_back({"IPv6" + name, [bytes](const Hook& hook) {
                       return Ipv6(hook).Tcp(1234, 80).TcpOptions(bytes).Payload(100);
                     }});
  }
  CheckTable(cases);
}

TEST_CASE("VLAN tags in the frame belong to its headers", "[bpf]") {
  const auto tagged = [](const Hook& hook, std::vector<uint16_t> tpids) {
    Packet packet = Begin(hook);
    for (const uint16_t tpid : tpids) packet.Vlan(0x6064, tpid);
    return packet;
  };
  std::vector<Case> cases;
  for (const std::vector<uint16_t>& tpids : std::vector<std::vector<uint16_t>>{
           {0x8100}, {0x88a8}, {0x8100, 0x8100}, {0x88a8, 0x8100}, {0x9100, 0x8100}}) {
    const auto ipv4 = [=](const Hook& hook) {
      return tagged(hook, tpids).Ipv4("192.0.2.1", "198.51.100.2").Tcp(1, 2).Payload(9);
    };
    const auto ipv6 = [=](const Hook& hook) {
      return tagged(hook, tpids).Ipv6("2001:db8::1", "2001:db8::2").Tcp(1, 2).Payload(9);
    };
    const std::string name =
        std::to_string(tpids.size()) + " tags, the first " + std::to_string(tpids[0]);
    cases.push_back({name + ", IPv4", ipv4, PH_CAPTURED, true});
    cases.push_back({name + ", IPv6", ipv6, PH_CAPTURED, true});
  }
  CheckTable(cases);
}

TEST_CASE("What has no TCP header is counted and leaves no record", "[bpf]") {
  CheckTable({
      {"ARP", [](const Hook& h) { return Begin(h).EtherType(0x0806).Payload(28); }, PH_NOT_IP,
       true},
      {"three VLAN tags",
       [](const Hook& h) {
         return Begin(h).Vlan(1).Vlan(2).Vlan(3).Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2);
       },
       PH_NOT_IP, true},
      {"UDP", [](const Hook& h) { return Ipv4(h).Udp(53, 1234).Payload(40); }, PH_NOT_TCP},
      {"UDP over IPv6", [](const Hook& h) { return Ipv6(h).HopByHop().Udp(53, 1); }, PH_NOT_TCP},
      {"ICMP", [](const Hook& h) { return Ipv4(h).Protocol(IPPROTO_ICMP).Payload(64); },
       PH_NOT_TCP},
      {"ICMPv6", [](const Hook& h) { return Ipv6(h).Protocol(IPPROTO_ICMPV6).Payload(64); },
       PH_NOT_TCP},
      {"a later fragment", [](const Hook& h) { return Ipv4(h).Fragment(1480, true).Tcp(1, 2); },
       PH_FRAGMENT},
      {"the last IPv6 fragment", [](const Hook& h) { return Ipv6(h).Fragment(8, false).Tcp(1, 2); },
       PH_FRAGMENT},
      {"an IPv4 header of 16 bytes",
       [](const Hook& h) { return Ipv4(h).Tcp(1, 2).LieIpv4HeaderWords(4); }, PH_MALFORMED_IP},
      {"an IPv4 packet of 19 bytes",
       [](const Hook& h) { return Ipv4(h).Tcp(1, 2).LieIpLength(19); }, PH_MALFORMED_IP},
      {"the wrong version", [](const Hook& h) { return Ipv4(h).Tcp(1, 2).LieIpVersion(7); },
       PH_MALFORMED_IP, true},
      {"the wrong version of IPv6", [](const Hook& h) { return Ipv6(h).Tcp(1, 2).LieIpVersion(4); },
       PH_MALFORMED_IP, true},
      {"a TCP header of 16 bytes",
       [](const Hook& h) { return Ipv4(h).Tcp(1, 2).LieTcpHeaderWords(4); }, PH_MALFORMED_TCP},
      {"a TCP header longer than its packet",
       [](const Hook& h) { return Ipv6(h).Tcp(1, 2).LieTcpHeaderWords(6).Pad(200); },
       PH_MALFORMED_TCP},
      {"an IPv6 packet that ends within TCP",
       [](const Hook& h) { return Ipv6(h).Tcp(1, 2).Timestamps().LieIpLength(31); },
       PH_MALFORMED_TCP},
      {"a long extension header", [](const Hook& h) { return Ipv6(h).HopByHop(480).Tcp(1, 2); },
       PH_HEADER_TOO_LONG},
      {"the longest extension header",
       [](const Hook& h) { return Ipv6(h).Routing(2048).Tcp(1, 2); }, PH_HEADER_TOO_LONG},
      {"a long TCP header",
       [](const Hook& h) { return Ipv6(h).HopByHop(440).Tcp(1, 2).TcpOptions(24); },
       PH_HEADER_TOO_LONG},
      {"nine extension headers",
       [](const Hook& h) {
         Packet packet = Ipv6(h);
         for (int i = 0; i < 9; i++) packet.Routing();
         return packet.Tcp(1, 2);
       },
       PH_HEADER_TOO_LONG},
  });
}

TEST_CASE("A frame that ends within its headers is counted", "[bpf]") {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    for (const Packet& packet : {Ipv4(hook).Tcp(1, 2).Timestamps().Payload(9),
                                 Ipv6(hook).HopByHop().Tcp(1, 2).Timestamps().Payload(9)}) {
      // A test run takes no shorter ones, except for XDP.
      const size_t shortest =
          hook.is_xdp() ? 14 : packet.l3_offset() + (packet.is_ipv6() ? 40 : 20);
      Bytes frame = packet.bytes();
      for (size_t length = frame.size(); length >= shortest; length--) {
        INFO(hook.name << ": " << length << " bytes");
        frame.resize(length);
        const Outcome outcome = kernel.Run(hook, frame);
        REQUIRE(outcome.error == 0);
        CHECK(outcome.verdict == hook.verdict);
        CHECK(outcome.untouched);
        const bool whole = length >= packet.header_length();
        CHECK(Text(kernel.TakeCounters(hook)) ==
              Text(Expected(whole ? PH_CAPTURED : PH_TRUNCATED)));
        CHECK(kernel.Drain().size() == (whole ? 1 : 0));
      }
    }
  }
}

// Without Ethernet, IPv6 headers reach each size exactly.
TEST_CASE("A record has the smallest size that holds its headers", "[bpf]") {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    if (hook.link_layer != PH_LINK_IP) continue;
    for (const size_t size : {72, 76, 136, 140, 264, 268, 520, 524}) {
      INFO(hook.name << ": " << size << " bytes");
      const size_t tcp_options = size % 8 == 0 ? 4 : 0;
      const size_t extension = size - 60 - tcp_options;
      const Packet packet =
          Ipv6(hook).HopByHop(extension).Tcp(1, 2).TcpOptions(tcp_options).Payload(600);
      REQUIRE(packet.header_length() == size);
      CheckPacket(kernel, hook, packet, size > 520 ? PH_HEADER_TOO_LONG : PH_CAPTURED);
    }
  }
}

TEST_CASE("No byte of payload or padding is in a record", "[bpf]") {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    for (const Packet& packet :
         {Ipv4(hook).Tcp(1, 2).Payload(1400), Ipv4(hook).Tcp(1, 2).Payload(2).Pad(200),
          Ipv4(hook).Tcp(1, 2).Payload(100).LieIpLength(0),
          Ipv4(hook).Tcp(1, 2).Payload(100).LieIpLength(40),
          Ipv6(hook).Tcp(1, 2).Timestamps().Payload(1400),
          Ipv6(hook).HopByHop(200).Tcp(1, 2).Payload(2).Pad(400)}) {
      REQUIRE(kernel.Run(hook, packet.bytes()).error == 0);
      const std::vector<Record> records = kernel.Drain();
      REQUIRE(records.size() == 1);
      for (const uint8_t byte : {kPayloadByte, kPaddingByte}) {
        const Bytes& bytes = records[0].bytes();
        CHECK(std::search_n(bytes.begin(), bytes.end(), 2, byte) == bytes.end());
      }
    }
  }
}

TEST_CASE("A record tells the segments of an aggregate", "[bpf]") {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    if (hook.is_xdp()) continue;  // sees no aggregates
    INFO(hook.name);
    const Packet packet = Ipv4(hook).Tcp(1234, 80).Timestamps().Payload(2800);
    const Metadata metadata = {kLoopback, 1400, 2};
    const Outcome outcome = kernel.Run(hook, packet.bytes(), metadata);
    REQUIRE(outcome.error == 0);
    CHECK(outcome.untouched);
    const std::vector<Record> records = kernel.Drain();
    REQUIRE(records.size() == 1);
    CheckRecord(records[0], kernel, hook, packet, outcome, metadata);
  }
}

TEST_CASE("XDP sees frames in several buffers", "[bpf]") {
  Kernel kernel;
  const Hook& hook = Hooks().back();
  REQUIRE(hook.is_xdp());
  CheckPacket(kernel, hook, Ipv4(hook).Tcp(1234, 80).Timestamps().Payload(8900), PH_CAPTURED);
}

TEST_CASE("A packet is counted and recorded under its interface", "[bpf]") {
  Kernel kernel;
  const std::unique_ptr<struct if_nameindex[], decltype(&if_freenameindex)> interfaces(
      if_nameindex(), if_freenameindex);
  uint32_t ifindex = 0;
  for (size_t i = 0; interfaces[i].if_index != 0; i++) {
    if (interfaces[i].if_index != kLoopback) ifindex = interfaces[i].if_index;
  }
  if (ifindex == 0) {
    WARN("not tested: there is no interface beside the loopback device");
    return;
  }
  kernel.CountInterface(ifindex);
  for (const Hook& hook : Hooks()) {
    INFO(hook.name << ", interface " << ifindex);
    const Packet packet = Ipv4(hook).Tcp(1234, 80).Payload(9);
    const Metadata metadata = {ifindex, 0, 0};
    const Outcome outcome = kernel.Run(hook, packet.bytes(), metadata);
    REQUIRE(outcome.error == 0);
    const std::vector<Record> records = kernel.Drain();
    REQUIRE(records.size() == 1);
    CheckRecord(records[0], kernel, hook, packet, outcome, metadata);
    CHECK(Text(kernel.TakeCounters(hook, ifindex)) == "seen 1, captured 1");
    CHECK(Text(kernel.TakeCounters(hook)).empty());
  }
}

TEST_CASE("Only the socket with the packet's 4-tuple gives its cookie", "[bpf]") {
  Kernel kernel;
  for (const Hook& hook : Hooks()) {
    if (hook.link_layer != PH_LINK_ETHERNET) continue;
    const auto has_cookie = [&](const Packet& packet) {
      REQUIRE(kernel.Run(hook, packet.bytes()).error == 0);
      const std::vector<Record> records = kernel.Drain();
      REQUIRE(records.size() == 1);
      return records[0].fixed().socket_cookie != 0;
    };
    INFO(hook.name);
    CHECK(has_cookie(Ipv4(hook).Tcp(0, 0)) == (hook.direction == PH_EGRESS));
    CHECK(has_cookie(Ipv6(hook).Tcp(0, 0)) == (hook.direction == PH_EGRESS));
    CHECK_FALSE(has_cookie(Ipv4(hook).Tcp(1, 0)));
    CHECK_FALSE(has_cookie(Ipv4(hook).Tcp(0, 1)));
    CHECK_FALSE(has_cookie(Ipv6(hook).Tcp(1, 0)));
    CHECK_FALSE(has_cookie(Ipv6(hook).Tcp(0, 1)));
    // The kernel looks for no addresses behind a tag: the socket has none.
    CHECK_FALSE(has_cookie(Begin(hook).Vlan(1).Ipv4("192.0.2.1", "192.0.2.2").Tcp(0, 0)));
    CHECK_FALSE(has_cookie(Begin(hook).Vlan(1).Ipv6("2001:db8::1", "2001:db8::2").Tcp(0, 0)));
  }
}

}  // namespace
}  // namespace packet_headers::testing
