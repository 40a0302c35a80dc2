#include "user/output/anonymize.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

Bytes Hide(const Packet& packet, ph_link_layer link_layer, ph_direction direction,
           HiddenEnds ends = HiddenEnds::kRemote) {
  Bytes frame = packet.bytes();
  frame.resize(packet.header_length());
  HideNetblocks({reinterpret_cast<char*>(frame.data()), packet.l3_offset(), packet.l4_offset(),
                 link_layer, direction},
                ends);
  return frame;
}

// The headers of the packet, with zeros in [begin, end) of each pair.
Bytes Expected(const Packet& packet, const std::vector<std::pair<size_t, size_t>>& zeros) {
  Bytes frame = packet.bytes();
  frame.resize(packet.header_length());
  for (const auto& [begin, end] : zeros) {
    for (size_t at = begin; at < end; ++at) frame[at] = 0;
  }
  return frame;
}

// The ones' complement sum of an IPv4 header is 0xffff where its checksum is right.
uint32_t HeaderSum(const Bytes& frame, size_t ip, size_t bytes) {
  uint32_t sum = 0;
  for (size_t at = ip; at < ip + bytes; at += 2) sum += frame[at] << 8 | frame[at + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

constexpr char kLocal4[] = "192.0.2.201";
constexpr char kRemote4[] = "198.51.100.202";
constexpr char kLocal6[] = "2001:db8:1:2:3:4:5:6";
constexpr char kRemote6[] = "2001:db8:a:b:c:d:e:f";

TEST_CASE("Of a remote IPv4 address a /24 is left", "[anonymize]") {
  const ph_direction direction = GENERATE(PH_INGRESS, PH_EGRESS);
  const size_t options = GENERATE(0, 8, 40);
  const bool in = direction == PH_INGRESS;
  Packet packet = Packet().Ethernet();
  in ? packet.Ipv4(kRemote4, kLocal4) : packet.Ipv4(kLocal4, kRemote4);
  packet.Ipv4Options(options).Tcp(1234, 80).Timestamps().Payload(33);

  Bytes hidden = Hide(packet, PH_LINK_ETHERNET, direction);
  CHECK(HeaderSum(hidden, 14, 20 + options) == 0xffff);
  const size_t address = 14 + (in ? 12 : 16);
  const size_t mac = in ? 6 : 0;
  hidden[14 + 10] = hidden[14 + 11] = 0;
  const size_t tcp = packet.l4_offset();
  CHECK(hidden == Expected(packet, {{mac, mac + 6},
                                    {address + 3, address + 4},
                                    {14 + 10, 14 + 12},
                                    {tcp + 16, tcp + 18}}));
}

TEST_CASE("Of a remote IPv6 address a /48 is left", "[anonymize]") {
  const ph_direction direction = GENERATE(PH_INGRESS, PH_EGRESS);
  const size_t extension = GENERATE(0, 24);
  const bool in = direction == PH_INGRESS;
  Packet packet = Packet().Ethernet();
  in ? packet.Ipv6(kRemote6, kLocal6) : packet.Ipv6(kLocal6, kRemote6);
  if (extension > 0) packet.DestinationOptions(extension);
  packet.Tcp(1234, 80).Timestamps().Payload(33);

  const size_t address = 14 + (in ? 8 : 24);
  const size_t mac = in ? 6 : 0;
  const size_t tcp = packet.l4_offset();
  CHECK(Hide(packet, PH_LINK_ETHERNET, direction) ==
        Expected(packet, {{mac, mac + 6}, {address + 6, address + 16}, {tcp + 16, tcp + 18}}));
}

TEST_CASE("Where nobody is local both ends are hidden", "[anonymize]") {
  const ph_direction direction = GENERATE(PH_INGRESS, PH_EGRESS);
  Packet four = Packet().Ethernet().Ipv4(kRemote4, kLocal4).Tcp(1234, 80).Timestamps();
  Bytes hidden = Hide(four, PH_LINK_ETHERNET, direction, HiddenEnds::kBoth);
  CHECK(HeaderSum(hidden, 14, 20) == 0xffff);
  hidden[14 + 10] = hidden[14 + 11] = 0;
  CHECK(hidden == Expected(four, {{0, 12}, {29, 30}, {33, 34}, {24, 26}, {50, 52}}));

  Packet six = Packet().Ipv6(kRemote6, kLocal6).Tcp(1234, 80);
  CHECK(Hide(six, PH_LINK_IP, direction, HiddenEnds::kBoth) ==
        Expected(six, {{14, 24}, {30, 40}, {56, 58}}));
}

TEST_CASE("An address alone is hidden like one in a packet", "[anonymize]") {
  const auto hidden = [](const std::string& address) {
    ph_flow_key key = FlowKey(address, 0, address, 0);
    HideNetblock(key.local_addr);
    return Bytes(key.local_addr, key.local_addr + 16);
  };
  const auto bytes = [](const std::string& address) {
    const ph_flow_key key = FlowKey(address, 0, address, 0);
    return Bytes(key.local_addr, key.local_addr + 16);
  };
  CHECK(hidden(kRemote4) == bytes("198.51.100.0"));
  CHECK(hidden(kRemote6) == bytes("2001:db8:a::"));
}

TEST_CASE("Behind VLAN tags the same is hidden", "[anonymize]") {
  const Packet packet =
      Packet().Ethernet().Vlan(1, 0x88a8).Vlan(2).Ipv4(kRemote4, kLocal4).Tcp(1234, 80);
  Bytes hidden = Hide(packet, PH_LINK_ETHERNET, PH_INGRESS);
  CHECK(HeaderSum(hidden, 22, 20) == 0xffff);
  hidden[22 + 10] = hidden[22 + 11] = 0;
  CHECK(hidden == Expected(packet, {{6, 12}, {22 + 15, 22 + 16}, {22 + 10, 22 + 12}, {58, 60}}));
}

TEST_CASE("Without Ethernet there is no MAC address to hide", "[anonymize]") {
  const Packet packet = Packet().Ipv6(kLocal6, kRemote6).Tcp(1234, 80);
  CHECK(Hide(packet, PH_LINK_IP, PH_EGRESS) == Expected(packet, {{24 + 6, 40}, {56, 58}}));
}

TEST_CASE("Packets of two hosts of one netblock look the same", "[anonymize]") {
  const auto hidden = [](const std::string& remote) {
    return Hide(Packet().Ethernet().Ipv4(remote, kLocal4).Tcp(1234, 80).Payload(5),
                PH_LINK_ETHERNET, PH_INGRESS);
  };
  CHECK(hidden("198.51.100.0") == hidden("198.51.100.255"));
  CHECK(hidden("198.51.100.1") == hidden("198.51.100.77"));
  CHECK(hidden("198.51.100.1") != hidden("198.51.101.1"));
}

}  // namespace
}  // namespace packet_headers::testing
