// What the flow table makes of the bytes of its records: garbage, anonymisation, and any mixture.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

std::vector<char> GoodRecord() {
  Packet packet;
  packet.Ethernet().Ipv4("198.51.100.7", "192.0.2.1").Tcp(50000, 443).Timestamps();
  return RecordOf(packet, PH_INGRESS,
                  {.time_ns = 5000 * kSecond, .ifindex = 2, .link_layer = PH_LINK_ETHERNET});
}

// Feeds the bytes in an allocation of just that size.
void FeedExactly(FlowFixture& flows, const std::vector<char>& bytes) {
  const std::unique_ptr<char[]> exact(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  flows.FeedBytes(exact.get(), bytes.size());
}

TEST_CASE("A record that contradicts itself is a bad record", "[flow][record]") {
  FlowFixture flows;
  std::vector<char> bytes = GoodRecord();
  ph_header_record& record = *reinterpret_cast<ph_header_record*>(bytes.data());
  SECTION("nothing is wrong with it") {
    FeedExactly(flows, bytes);
    CHECK(flows.Count(PH_BAD_RECORD) == 0);
    return;
  }
  SECTION("shorter than it says") { bytes.pop_back(); }
  SECTION("shorter than any") { bytes.resize(sizeof(ph_header_record) - 1); }
  SECTION("empty") { bytes.clear(); }
  SECTION("header_len is one less") { --record.header_len; }
  SECTION("header_len is huge") { record.header_len = 65535; }
  SECTION("header_len is 0") { record.header_len = 0; }
  SECTION("l3_offset") { ++record.l3_offset; }
  SECTION("l4_offset") { record.l4_offset = 65535; }
  SECTION("a time that no clock tells") { record.time_ns = UINT64_MAX; }
  SECTION("direction") { record.direction = 2; }
  SECTION("link_layer") { record.link_layer = 2; }
  SECTION("another link_layer") { record.link_layer = PH_LINK_IP; }
  SECTION("the IP version") { record.headers[14] = 0x55; }
  SECTION("UDP") { record.headers[23] = 17; }
  SECTION("a TCP header of 16 bytes") { record.headers[46] = 0x40; }
  SECTION("a TCP header that goes on") { record.headers[46] = char(0xf0); }
  FeedExactly(flows, bytes);
  CHECK(flows.Count(PH_BAD_RECORD) == 1);
  CHECK(flows.stats().embryonic == 0);
}

TEST_CASE("A bad record is counted where it says it came from", "[flow][record]") {
  FlowFixture flows;
  std::vector<char> bytes = GoodRecord();
  reinterpret_cast<ph_header_record*>(bytes.data())->l3_offset = 15;
  FeedExactly(flows, bytes);
  CHECK(flows.CountsOf(2)[PH_INGRESS][PH_BAD_RECORD] == 1);
}

TEST_CASE("300,000 records of random bytes do no harm", "[flow][record]") {
  std::mt19937 random(20240229);
  FlowFixture flows;
  std::vector<char> bytes;
  for (int i = 0; i < 300'000; ++i) {
    bytes.resize(random() % 200);
    std::generate(bytes.begin(), bytes.end(), [&random] { return static_cast<char>(random()); });
    FeedExactly(flows, bytes);
  }
  CHECK(flows.Count(PH_BAD_RECORD) == 300'000);
}

TEST_CASE("700,000 damaged records do no harm", "[flow][record]") {
  constexpr int kRecords = 700'000;
  constexpr uint32_t kSeed = 20240229;
  WARN("seed " << kSeed);
  std::mt19937 random(kSeed);
  FlowFixture flows;
  const std::vector<char> good = GoodRecord();
  for (int i = 0; i < kRecords; ++i) {
    std::vector<char> bytes = good;
    for (uint32_t damage = 0; damage <= random() % 4; ++damage) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    // The books have a row for each interface, and those are the kernel's word.
    reinterpret_cast<ph_header_record*>(bytes.data())->ifindex %= 8;
    if (random() % 10 == 0) bytes.resize(random() % bytes.size());
    FeedExactly(flows, bytes);
    // Whatever time it told, timers go on.
    if (i % 1000 == 0) flows.table().Advance(flows.table().latest_ns());
  }
  flows.Finish();
  CHECK(flows.Count(PH_BAD_RECORD) > kRecords / 10);
  CHECK(flows.Count(PH_BAD_RECORD) < kRecords);
}

// The addresses in a flow's file.
std::set<Bytes> AddressesOf(const SavedFlow& flow) {
  std::set<Bytes> found;
  for (const PcapRecord& record : flow.records) {
    found.insert(Bytes(record.bytes.begin() + 26, record.bytes.begin() + 30));
    found.insert(Bytes(record.bytes.begin() + 30, record.bytes.begin() + 34));
  }
  return found;
}

TEST_CASE("Every address is hidden but the host's own", "[flow][record]") {
  FlowOptions options = DefaultFlowOptions();
  options.anonymizer = std::make_shared<const Anonymizer>();
  FlowFixture flows(options);
  auto own = std::make_shared<LocalAddresses>();
  for (const std::string address : {"127.0.0.1", "192.0.2.1"}) {
    MappedAddress mapped;
    std::memcpy(mapped.data(), FlowKey(address, 0, address, 0).local_addr, mapped.size());
    own->insert(mapped);
  }
  flows.table().set_local_addresses(own);
  flows.Accept(1);                                         // of somebody else
  flows.Accept(2, {"127.0.0.1", 80, "127.0.0.1", 50000});  // of the host with itself
  flows.Accept(3, {"192.0.2.1", 80, "192.0.2.1", 50000});
  flows.Accept(4, {"203.0.113.9", 80, "198.51.100.7", 50000});  // of a transparent proxy
  flows.Accept(5, {"203.0.113.9", 80, "192.0.2.1", 50000});
  flows.Finish();
  CHECK(AddressesOf(flows.FileOf(1)) == std::set<Bytes>{{192, 0, 2, 1}, {198, 51, 100, 0}});
  CHECK(flows.FileOf(1).key == FlowKey("192.0.2.1", 443, "198.51.100.0", 50000));
  CHECK(AddressesOf(flows.FileOf(2)) == std::set<Bytes>{{127, 0, 0, 1}});
  CHECK(flows.FileOf(2).key == FlowKey("127.0.0.1", 80, "127.0.0.1", 50000));
  CHECK(AddressesOf(flows.FileOf(3)) == std::set<Bytes>{{192, 0, 2, 1}});
  CHECK(AddressesOf(flows.FileOf(4)) == std::set<Bytes>{{203, 0, 113, 0}, {198, 51, 100, 0}});
  CHECK(AddressesOf(flows.FileOf(5)) == std::set<Bytes>{{203, 0, 113, 0}, {192, 0, 2, 1}});
}

TEST_CASE("Where no address is known to be the host's own all are hidden", "[flow][record]") {
  FlowOptions options = DefaultFlowOptions();
  options.anonymizer = std::make_shared<const Anonymizer>();
  FlowFixture flows(options);
  flows.Accept(1);
  flows.Finish();
  CHECK(AddressesOf(flows.FileOf(1)) == std::set<Bytes>{{192, 0, 2, 0}, {198, 51, 100, 0}});
}

// A few tuples, on each of which now one socket speaks and now another.
struct RandomTraffic {
  std::mt19937 random;
  FlowFixture& flows;
  bool reconnects;  // whether sockets give way to others; else each tuple has one for ever
  std::array<uint64_t, 6> cookie_of = {};
  uint64_t last_cookie = 0;

  uint32_t Below(uint32_t bound) { return random() % bound; }

  void Step() {
    const uint32_t place = Below(cookie_of.size());
    uint64_t& cookie = cookie_of[place];
    if (cookie == 0 || (reconnects && Below(40) == 0)) cookie = ++last_cookie;
    Segment segment = {.seq = 1000 * Below(4), .ack = 1 + 1000 * Below(4)};
    segment.tuple.remote_port = static_cast<uint16_t>(1000 + place);
    if (place == 5) segment.link_layer = PH_LINK_IP;
    segment.ifindex = 2 + Below(2);
    segment.options = 4 * Below(11);
    if (Below(3) == 0) segment.at_ns = flows.now_ns() - Below(20) * kMillisecond;
    constexpr uint8_t kFlags[] = {kAck, kAck, kAck, kAck, kSyn, kSynAck, kFin, kRst, 0};
    segment.flags = kFlags[Below(std::size(kFlags))];
    if (Below(2) == 0) {
      flows.In(segment);
    } else {
      // A socket that stays open sends neither SYN nor FIN nor RST.
      if (!reconnects) segment.flags = kAck;
      if (Below(4) != 0) segment.cookie = cookie;
      flows.Out(segment);
    }
    if (Below(20) == 0) flows.Wait(Below(5) * 500 * kMillisecond);
    if (Below(500) == 0) flows.Wait(Below(40) * kSecond);
    if (Below(100) == 0) flows.HoldJobs(Below(2) == 0);
  }
};

TEST_CASE("Whatever comes in whatever order, the books close", "[flow][random]") {
  // Each packet under one reason, each file's records whole, no memory kept: the fixture sees to
  // it.
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    FlowOptions options = DefaultFlowOptions();
    options.stream = seed % 2 == 0;
    if (seed % 3 == 0) options.anonymizer = std::make_shared<const Anonymizer>();
    options.max_embryonic_flows = seed % 4 == 0 ? 2 : 1000;
    options.max_ended_flows = seed % 5 == 0 ? 2 : 1000;
    FlowFixture flows(options, seed % 6 == 0 ? 600'000 : int64_t{64} << 20, seed % 7 == 0 ? 3 : 0);
    RandomTraffic traffic = {std::mt19937(seed), flows, /*reconnects=*/true};
    for (int step = 0; step < 3000; ++step) {
      traffic.Step();
      if (step % 300 == 0) flows.table().FlushStreams();
    }
    flows.HoldJobs(false);
    flows.Finish();
    CHECK(flows.files().size() > 5);
  }
}

TEST_CASE("A socket that stays open has one file, whatever comes in", "[flow][random]") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    FlowFixture flows;
    RandomTraffic traffic = {std::mt19937(seed), flows, /*reconnects=*/false};
    for (int step = 0; step < 2000; ++step) traffic.Step();
    flows.HoldJobs(false);
    flows.Finish();
    std::set<std::string> files;
    for (const SavedFlow& file : flows.files()) files.insert(file.uuid);
    CHECK(files.size() == flows.files().size());
  }
}

}  // namespace
}  // namespace packet_headers::testing
