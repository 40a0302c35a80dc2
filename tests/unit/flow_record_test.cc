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

TEST_CASE("100,000 records of random bytes do no harm", "[flow][record]") {
  std::mt19937 random(20240229);
  FlowFixture flows;
  std::vector<char> bytes;
  for (int i = 0; i < 100'000; ++i) {
    bytes.resize(random() % 200);
    std::generate(bytes.begin(), bytes.end(), [&random] { return static_cast<char>(random()); });
    flows.FeedBytes(bytes.data(), bytes.size());
  }
  CHECK(flows.Count(PH_BAD_RECORD) == 100'000);
}

TEST_CASE("100,000 damaged records do no harm", "[flow][record]") {
  std::mt19937 random(20240229);
  FlowFixture flows;
  const std::vector<char> good = GoodRecord();
  // The time and the hash are the kernel's word.
  const size_t first = offsetof(ph_header_record, socket_cookie);
  for (int i = 0; i < 100'000; ++i) {
    std::vector<char> bytes = good;
    for (uint32_t damage = 0; damage <= random() % 4; ++damage) {
      bytes[first + random() % (bytes.size() - first)] = static_cast<char>(random());
    }
    if (random() % 10 == 0) bytes.resize(random() % bytes.size());
    flows.FeedBytes(bytes.data(), bytes.size());
  }
  flows.Finish();
  CHECK(flows.Count(PH_BAD_RECORD) > 10'000);
  CHECK(flows.Count(PH_BAD_RECORD) < 100'000);
}

TEST_CASE("The remote address is hidden, but not the host's own", "[flow][record]") {
  FlowOptions options = DefaultFlowOptions();
  options.hidden = HiddenEnds::kRemote;
  FlowFixture flows(options);
  auto own = std::make_shared<LocalAddresses>();
  for (const Tuple& tuple :
       {Tuple{"192.0.2.1", 1, "127.0.0.1", 2}, Tuple{"192.0.2.1", 1, "192.0.2.1", 2}}) {
    MappedAddress address;
    std::memcpy(address.data(), tuple.key().remote_addr, address.size());
    own->insert(address);
  }
  flows.table().set_local_addresses(own);
  flows.Accept(1);                                         // of somebody else
  flows.Accept(2, {"127.0.0.1", 80, "127.0.0.1", 50000});  // of the host with itself
  flows.Accept(3, {"192.0.2.1", 80, "192.0.2.1", 50000});
  flows.Finish();
  const auto addresses = [&](uint64_t cookie) {
    std::set<Bytes> found;
    for (const PcapRecord& record : flows.FileOf(cookie).records) {
      found.insert(Bytes(record.bytes.begin() + 26, record.bytes.begin() + 30));
      found.insert(Bytes(record.bytes.begin() + 30, record.bytes.begin() + 34));
    }
    return found;
  };
  CHECK(addresses(1) == std::set<Bytes>{{192, 0, 2, 1}, {198, 51, 100, 0}});
  CHECK(addresses(2) == std::set<Bytes>{{127, 0, 0, 1}});
  CHECK(addresses(3) == std::set<Bytes>{{192, 0, 2, 1}});
}

TEST_CASE("Before the host's addresses are known every remote one is hidden", "[flow][record]") {
  FlowOptions options = DefaultFlowOptions();
  options.hidden = HiddenEnds::kRemote;
  FlowFixture flows(options);
  flows.Accept(1);
  flows.Finish();
  for (const PcapRecord& record : flows.FileOf(1).records) {
    CHECK((record.bytes[29] == 0 || record.bytes[33] == 0));
  }
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
    options.hidden = seed % 3 == 0 ? HiddenEnds::kRemote : HiddenEnds::kNone;
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
