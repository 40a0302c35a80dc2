#include "user/output/record_encoder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"
#include "tests/support/packet.h"
#include "tests/support/pcap_reader.h"

namespace packet_headers::testing {
namespace {

constexpr uint32_t kAll = 1000;

// The headers of the packet, and nothing behind them.
Bytes Headers(const Packet& packet) {
  const Bytes frame = packet.bytes();
  return Bytes(frame.begin(), frame.begin() + packet.header_length());
}

PcapRecord Encode(RecordEncoder encoder, const std::vector<char>& record, int64_t time_ns = 1,
                  const Disguise* disguise = nullptr) {
  const absl::string_view encoded =
      encoder.Encode(*reinterpret_cast<const ph_header_record*>(record.data()), time_ns, disguise);
  const std::vector<PcapRecord> records = ReadPcapRecords({encoded.data(), encoded.size()});
  REQUIRE(records.size() == 1);
  return records[0];
}

Packet Ipv4() { return Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2"); }

TEST_CASE("A record holds the headers and the length of the frame", "[encoder]") {
  const Packet packet = GENERATE(values<Packet>({
      Ipv4().Tcp(1234, 80),
      Ipv4().Tcp(1234, 80).Timestamps().Payload(1448),
      Ipv4().Ipv4Options(40).Tcp(1234, 80).TcpOptions(40).Payload(1),
      Packet().Ethernet().Ipv6("2001:db8::1", "2001:db8::2").HopByHop(264).Tcp(1, 2).Payload(99),
      Packet().Ethernet().Vlan(7).Ipv4("192.0.2.1", "198.51.100.2").Tcp(1, 2).Pad(64),
  }));
  const PcapRecord record =
      Encode(RecordEncoder(kAll), RecordOf(packet, PH_INGRESS, {}), 1'234'567'890'123);
  CHECK(record.bytes == Headers(packet));
  CHECK(record.original_bytes == packet.bytes().size());
  CHECK(record.time_ns == 1'234'567'890'123);
}

TEST_CASE("A record of a device without Ethernet begins with the IP header", "[encoder]") {
  const Packet packet = Packet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1, 2).Payload(50);
  // A tag has no place in it.
  const PcapRecord record =
      Encode(RecordEncoder(kAll),
             RecordOf(packet, PH_EGRESS,
                      {.vlan_tci = 5, .vlan_proto_be = htons(0x8100), .link_layer = PH_LINK_IP}));
  CHECK(record.bytes == Headers(packet));
  CHECK(record.original_bytes == 90);
}

TEST_CASE("A tag that the kernel had stripped is put back", "[encoder]") {
  const uint16_t tpid = GENERATE(uint16_t{0x8100}, uint16_t{0x88a8});
  const auto rest = [](Packet packet) {
    return packet.Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Timestamps().Payload(100);
  };
  const ph_header_record about = {.vlan_tci = 0xa123, .vlan_proto_be = htons(tpid)};
  SECTION("of one") {
    const PcapRecord record =
        Encode(RecordEncoder(kAll), RecordOf(rest(Packet().Ethernet()), PH_INGRESS, about));
    const Packet expected = rest(Packet().Ethernet().Vlan(0xa123, tpid));
    CHECK(record.bytes == Headers(expected));
    CHECK(record.original_bytes == expected.bytes().size());
  }
  SECTION("of two, the outer one") {
    const PcapRecord record =
        Encode(RecordEncoder(kAll), RecordOf(rest(Packet().Ethernet().Vlan(9)), PH_INGRESS, about));
    CHECK(record.bytes == Headers(rest(Packet().Ethernet().Vlan(0xa123, tpid).Vlan(9))));
  }
}

TEST_CASE("The longest headers and a tag that is put back fit", "[encoder]") {
  const Packet packet = Packet()
                            .Ethernet()
                            .Ipv6("2001:db8::1", "2001:db8::2")
                            .HopByHop(PH_MAX_HEADER_BYTES - 14 - 40 - 20 - 6)
                            .Tcp(1, 2);
  REQUIRE(packet.header_length() <= PH_MAX_HEADER_BYTES);
  REQUIRE(packet.header_length() > PH_MAX_HEADER_BYTES - 8);
  const PcapRecord record =
      Encode(RecordEncoder(kAll),
             RecordOf(packet, PH_INGRESS, {.vlan_tci = 1, .vlan_proto_be = htons(0x8100)}));
  CHECK(record.bytes.size() == packet.header_length() + 4);
}

TEST_CASE("At most -maxheadersize bytes are kept, and the true length is told", "[encoder]") {
  const Packet packet = Ipv4().Tcp(1234, 80).Timestamps().Payload(100);
  const uint32_t limit = GENERATE(1u, 14u, 20u, 53u, 65u, 66u, 67u);
  const Bytes headers = Headers(packet);
  const PcapRecord record = Encode(RecordEncoder(limit), RecordOf(packet, PH_INGRESS, {}));
  const size_t kept = std::min<size_t>(limit, headers.size());
  CHECK(record.bytes == Bytes(headers.begin(), headers.begin() + kept));
  CHECK(record.original_bytes == 166);
  // Behind a tag that is put back, the limit holds as well.
  const PcapRecord tagged =
      Encode(RecordEncoder(limit),
             RecordOf(packet, PH_INGRESS, {.vlan_tci = 1, .vlan_proto_be = htons(0x8100)}));
  CHECK(tagged.bytes.size() == std::min<size_t>(limit, headers.size() + 4));
  CHECK(tagged.original_bytes == 170);
}

TEST_CASE("An address behind a tag that was put back is hidden", "[encoder]") {
  const Packet packet = Ipv4().Tcp(1234, 80);
  const auto disguise = Anonymizer().DisguiseOf(packet.key(PH_EGRESS), false, true);
  const ph_header_record about = {.vlan_tci = 1, .vlan_proto_be = htons(0x8100)};
  const PcapRecord record =
      Encode(RecordEncoder(kAll), RecordOf(packet, PH_EGRESS, about), 1, &*disguise);
  REQUIRE(record.bytes.size() == 58);
  CHECK(Bytes(record.bytes.begin() + 30, record.bytes.begin() + 38) ==
        Bytes{192, 0, 2, 1, 198, 51, 100, 0});
  CHECK(Bytes(record.bytes.begin(), record.bytes.begin() + 6) == Bytes(6, 0));
  CHECK(Bytes(record.bytes.begin() + 12, record.bytes.begin() + 16) == Bytes{0x81, 0, 0, 1});
}

}  // namespace
}  // namespace packet_headers::testing
