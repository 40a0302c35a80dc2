#include "user/output/anonymize.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr bool kShowsLocal = false;
constexpr bool kHidesLocal = true;

std::unique_ptr<const CryptoPan> SomePan() {
  return *CryptoPan::Make(std::string(CryptoPan::kKeyBytes, 'k'));
}

Bytes Hide(const Packet& packet, ph_link_layer link_layer, ph_direction direction,
           bool hides_local = kShowsLocal, const Anonymizer& anonymizer = Anonymizer()) {
  Bytes frame = packet.bytes();
  frame.resize(packet.header_length());
  const auto disguise =
      anonymizer.DisguiseOf(packet.key(direction), hides_local, /*hides_remote=*/true);
  Anonymize({.bytes = frame.data(),
             .size = frame.size(),
             .l3_offset = packet.l3_offset(),
             .l4_offset = packet.l4_offset(),
             .link_layer = link_layer,
             .direction = direction},
            *disguise);
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

Bytes AddressBytes(const std::string& address) {
  const ph_flow_key key = FlowKey(address, 0, address, 0);
  return Bytes(key.local_addr, key.local_addr + 16);
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
  Bytes hidden = Hide(four, PH_LINK_ETHERNET, direction, kHidesLocal);
  CHECK(HeaderSum(hidden, 14, 20) == 0xffff);
  hidden[14 + 10] = hidden[14 + 11] = 0;
  CHECK(hidden == Expected(four, {{0, 12}, {29, 30}, {33, 34}, {24, 26}, {50, 52}}));

  Packet six = Packet().Ipv6(kRemote6, kLocal6).Tcp(1234, 80);
  CHECK(Hide(six, PH_LINK_IP, direction, kHidesLocal) ==
        Expected(six, {{14, 24}, {30, 40}, {56, 58}}));
}

TEST_CASE("Where both ends are local nothing is hidden", "[anonymize]") {
  CHECK(Anonymizer().DisguiseOf(FlowKey(kLocal4, 1, kRemote4, 2), false, false) == std::nullopt);
}

TEST_CASE("What stands for an address tells no IPv4 address in it", "[anonymize]") {
  const auto [address, netblock] = GENERATE(table<std::string, std::string>({
      {kRemote4, "198.51.100.0"},
      {kRemote6, "2001:db8:a::"},
      {"2002:c633:64ca::1", "2002:c633:6400::"},               // 6to4
      {"2001:0:c633:64ca:0:ffff:399c:cc35", "2001:0:c633::"},  // Teredo
      {"64:ff9b::c633:64ca", "64:ff9b::"},                     // NAT64
      {"64:ff9b:1:c633:64:ca00::", "64:ff9b:1::"},             // and with a prefix of one's own
      {"fe80::5efe:c633:64ca", "fe80::"},                      // ISATAP
      {"fe80::ff:fe00:2", "fe80::"},                           // EUI-64 of a MAC address
      {"::c633:64ca", "::"},                                   // IPv4-compatible
      {"::ffff:0:c633:64ca", "::"},                            // IPv4-translated
      {"ff02::1:ffab:cdef", "ff02::"},                         // solicited-node
      {"fd12:3456:789a:1::1", "fd12:3456:789a::"},
  }));
  Bytes bytes = AddressBytes(address);
  Anonymizer().Replace(bytes.data());
  CHECK(bytes == AddressBytes(netblock));
}

TEST_CASE("A pseudonym takes the place of the address, and the checksum is right", "[anonymize]") {
  const Anonymizer anonymizer(SomePan());
  const auto pan = SomePan();
  const ph_direction direction = GENERATE(PH_INGRESS, PH_EGRESS);
  const bool in = direction == PH_INGRESS;

  Packet four = Packet().Ethernet();
  in ? four.Ipv4(kRemote4, kLocal4) : four.Ipv4(kLocal4, kRemote4);
  four.Tcp(1234, 80).Timestamps();
  Bytes expected = Expected(four, {{in ? 6 : 0, in ? 12 : 6}, {24, 26}, {50, 52}});
  pan->ReplaceIpv4(&expected[in ? 26 : 30]);
  Bytes hidden = Hide(four, PH_LINK_ETHERNET, direction, kShowsLocal, anonymizer);
  CHECK(HeaderSum(hidden, 14, 20) == 0xffff);
  hidden[24] = hidden[25] = 0;
  CHECK(hidden == expected);

  Packet six;
  in ? six.Ipv6(kRemote6, kLocal6) : six.Ipv6(kLocal6, kRemote6);
  six.Tcp(1234, 80);
  expected = Expected(six, {{56, 58}});
  pan->ReplaceIpv6(&expected[in ? 8 : 24]);
  CHECK(Hide(six, PH_LINK_IP, direction, kShowsLocal, anonymizer) == expected);
}

TEST_CASE("An IPv4 address has one pseudonym, mapped or not", "[anonymize]") {
  Bytes mapped = AddressBytes(kRemote4);
  Bytes bare(mapped.begin() + 12, mapped.end());
  Anonymizer(SomePan()).Replace(mapped.data());
  SomePan()->ReplaceIpv4(bare.data());
  CHECK(Bytes(mapped.begin() + 12, mapped.end()) == bare);
  CHECK(mapped[11] == 0xff);
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

// Of two hosts of one netblock nobody can tell which it was, wherever they write their address.
TEST_CASE("Packets of two hosts of one netblock look the same", "[anonymize]") {
  const bool is_ipv6 = GENERATE(false, true);
  const auto hidden = [is_ipv6](const std::string& remote) {
    const Bytes address = AddressBytes(remote);
    const auto with_address = [&address, is_ipv6](Bytes option) {
      option.insert(option.end(), address.begin() + (is_ipv6 ? 0 : 12), address.end());
      option.resize((option.size() + 7) / 8 * 8);
      return option;
    };
    Packet packet = Packet().Ethernet();
    if (is_ipv6) {
      packet.Ipv6(remote, kLocal6)
          .Extension(PH_IPPROTO_HOPOPTS, with_address({0, 2, 0x1e, 20}))
          .Extension(PH_IPPROTO_DSTOPTS, with_address({0, 2, 0xc9, 16}))
          .Extension(PH_IPPROTO_ROUTING, with_address({0, 2, 2, 1, 0, 0, 0, 0}))
          .Extension(PH_IPPROTO_AH, with_address({0, 4, 0, 0, 0, 0, 0, 1}))
          .Extension(PH_IPPROTO_MH, with_address({0, 2, 0, 0, 0, 0, 0, 0}));
    } else {
      packet.Ipv4(remote, kLocal4).RawIpv4Options(with_address({131, 8, 8, 0}));
    }
    packet.Tcp(1234, 80).RawTcpOptions(with_address({30, uint8_t(is_ipv6 ? 20 : 8), 0x30, 1}));
    return Hide(packet.Payload(5), PH_LINK_ETHERNET, PH_INGRESS);
  };
  if (is_ipv6) {
    CHECK(hidden("2001:db8:a:b::1") == hidden("2001:db8:a:c:d:e:f:7"));
    CHECK(hidden("2002:c633:6401:1::1") == hidden("2002:c633:64ca::2"));
    CHECK(hidden("2001:db8:a:b::1") != hidden("2001:db8:b::1"));
  } else {
    CHECK(hidden("198.51.100.0") == hidden("198.51.100.255"));
    CHECK(hidden("198.51.100.1") == hidden("198.51.100.77"));
    CHECK(hidden("198.51.100.1") != hidden("198.51.101.1"));
  }
}

}  // namespace
}  // namespace packet_headers::testing
