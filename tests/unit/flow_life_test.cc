// From the first packet of a flow to its file, or to the reason why it has none.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;
using Names = std::vector<std::string>;

TEST_CASE("An inbound connection is saved from its SYN on", "[flow]") {
  FlowFixture flows;
  flows.Accept(7);
  CHECK(flows.stats().capturing == 1);
  CHECK(flows.stats().embryonic == 0);
  flows.Close(7);
  flows.Finish();
  CHECK(flows.FileOf(7).uuid == "flow_7");
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 102, 902, 903, 103});
  CHECK(flows.Count(PH_SAVED) == 7);
}

TEST_CASE("An inbound connection over IPv6 and on a device without Ethernet is saved", "[flow]") {
  const Tuple tuple = {"2001:db8::1", 443, "2001:db8:ffff::2", 50000};
  FlowFixture flows;
  for (const uint32_t seq : {1u, 2u}) {
    flows.Out({.seq = seq, .cookie = 7, .tuple = tuple, .link_layer = PH_LINK_IP});
  }
  flows.Finish();
  CHECK(flows.FileOf(7).link_type == LinkType::kRawIp);
  CHECK(Seqs(flows.FileOf(7)) == List{1, 2});
}

TEST_CASE("Only the ACK of its SYN-ACK completes an inbound handshake", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
  flows.In({.seq = 101, .ack = 900});                       // too old
  flows.In({.seq = 101, .ack = 902});                       // of something never sent
  flows.In({.flags = PH_TCP_FIN, .seq = 101, .ack = 901});  // no ACK at all
  flows.In({.flags = kSyn, .seq = 100});                    // a retransmission
  CHECK(flows.stats().capturing == 0);
  SECTION("and it does") {
    flows.In({.seq = 101, .ack = 901});
    CHECK(flows.stats().capturing == 1);
    flows.Finish();
    CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 101, 101, 100, 101});
  }
  SECTION("also when it carries data or the FIN") {
    flows.In({.flags = kFin, .seq = 101, .ack = 901});
    CHECK(flows.stats().capturing == 1);
  }
  SECTION("and without it there is no file") {
    flows.Finish();
    CHECK(flows.files().empty());
    CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 6);
  }
}

TEST_CASE("A RST that acknowledges the SYN-ACK completes nothing", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
  flows.In({.flags = kRst | kAck, .seq = 101, .ack = 901});
  flows.Wait(3 * kSecond);
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.files().empty());
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 3);
}

TEST_CASE("With SYN cookies the host's next packet names the flow", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 0});
  flows.In({.seq = 101, .ack = 901});
  CHECK(flows.stats().capturing == 0);
  flows.Out({.seq = 901, .ack = 102, .cookie = 7});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 901});
}

TEST_CASE("A SYN scan leaves no file", "[flow]") {
  FlowFixture flows;
  for (uint16_t port = 1; port <= 200; ++port) {
    const Tuple tuple = {.local_port = port};
    flows.In({.flags = kSyn, .seq = 100, .tuple = tuple});
    // Odd ports are closed, the others are filtered.
    if (port % 2 == 1) flows.Out({.flags = kRst | kAck, .ack = 101, .tuple = tuple});
  }
  CHECK(flows.stats().embryonic == 200);
  flows.Wait(3 * kSecond);
  CHECK(flows.stats().embryonic == 100);
  flows.Wait(31 * kSecond);
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.stats().ended == 0);
  CHECK(flows.files().empty());
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 300);
  CHECK(flows.settled().empty());
}

TEST_CASE("A handshake that stays half open leaves no file", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100});
  for (int second = 0; second < 16; second = 2 * second + 1) {
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
    flows.Wait((second + 1) * kSecond);
  }
  CHECK(flows.stats().embryonic == 1);
  flows.Wait(31 * kSecond);
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.files().empty());
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 6);
}

TEST_CASE("A RST that belongs to nothing begins nothing", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kRst, .seq = 1});
  flows.Out({.flags = kRst | kAck, .seq = 1});
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.Count(PH_UNOWNED) == 2);
}

TEST_CASE("An outbound connection is saved from its SYN on", "[flow]") {
  FlowFixture flows;
  flows.Connect(7);
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{900, 100, 901});
}

TEST_CASE("An outbound attempt is saved even if it fails", "[flow]") {
  FlowFixture flows;
  flows.Out({.flags = kSyn, .seq = 900, .cookie = 7});
  SECTION("refused") {
    flows.In({.flags = kRst | kAck, .seq = 0, .ack = 901});
    flows.Wait(3 * kSecond);
    CHECK(Seqs(flows.FileOf(7)) == List{900, 0});
  }
  SECTION("unanswered") {
    flows.Wait(kSecond);
    flows.Out({.flags = kSyn, .seq = 900, .cookie = 7});
    flows.Wait(31 * kSecond);
    CHECK(Seqs(flows.FileOf(7)) == List{900, 900});
  }
}

TEST_CASE("Both sides may open at the same time", "[flow]") {
  FlowFixture flows;
  SECTION("the host first") {
    flows.Out({.flags = kSyn, .seq = 900, .cookie = 7});
    flows.In({.flags = kSyn, .seq = 100});
  }
  SECTION("the other side first") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.Out({.flags = kSyn, .seq = 900, .cookie = 7});
  }
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
  flows.In({.flags = kSynAck, .seq = 100, .ack = 901});
  flows.Out({.seq = 901, .ack = 101, .cookie = 7});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)).size() == 5);
}

TEST_CASE("A flow that was open before the start is named by the host's next packet", "[flow]") {
  FlowFixture flows;
  flows.In({.seq = 5000, .ack = 1});
  flows.In({.seq = 6000, .ack = 1});
  CHECK(flows.stats().embryonic == 1);
  flows.Wait(4 * kSecond);
  flows.Out({.seq = 1, .ack = 7000, .cookie = 7});
  CHECK(flows.stats().capturing == 1);
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{5000, 6000, 1});
}

TEST_CASE("What no socket owns is dropped after uuidwaitduration", "[flow]") {
  FlowFixture flows;
  flows.In({.seq = 1});
  flows.Out({.seq = 2});
  flows.In({.seq = 3});
  flows.Wait(6 * kSecond);
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.stats().ended == 0);
  CHECK(flows.Count(PH_UNOWNED) == 3);
  CHECK(flows.settled().empty());
}

TEST_CASE("What no socket owns and keeps sending is settled", "[flow]") {
  FlowFixture flows;
  for (uint32_t packet = 0; packet < 300; ++packet) flows.In({.seq = packet});
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.stats().ended == 1);
  CHECK(flows.settled() == std::vector{Tuple{}.key()});
  CHECK(flows.Count(PH_UNOWNED) == 300);
  SECTION("A socket that speaks after all begins a flow") {
    flows.Out({.seq = 9, .cookie = 7});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(7)) == List{9});
  }
  SECTION("It is forgotten after a while") {
    flows.Wait(61 * kSecond);
    CHECK(flows.stats().ended == 0);
  }
}

TEST_CASE("What no socket owns does not begin again every few seconds", "[flow]") {
  FlowFixture flows;
  for (int second = 0; second < 30; ++second) {
    flows.In({.seq = 1});
    flows.Wait(kSecond);
  }
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.stats().ended == 1);
  CHECK(flows.settled().size() == 1);
  CHECK(flows.Count(PH_UNOWNED) == 30);
}

TEST_CASE("The sockets of a loopback connection are two flows", "[flow]") {
  const Tuple client = {"127.0.0.1", 50000, "127.0.0.1", 80};
  const Tuple server = {"127.0.0.1", 80, "127.0.0.1", 50000};
  FlowFixture flows;
  const auto cross = [&](const Tuple& from, const Tuple& to, Segment segment) {
    segment.tuple = from;
    flows.Out(segment);
    segment.tuple = to;
    segment.cookie = 0;
    flows.In(segment);
  };
  cross(client, server, {.flags = kSyn, .seq = 900, .cookie = 1});
  cross(server, client, {.flags = kSynAck, .seq = 100, .ack = 901, .cookie = 2});
  cross(client, server, {.seq = 901, .ack = 101, .cookie = 1});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{900, 100, 901});
  CHECK(Seqs(flows.FileOf(2)) == List{900, 100, 901});
}

TEST_CASE("Packets that came out of order are in order in the file", "[flow]") {
  FlowFixture flows;
  flows.Accept(7);
  const int64_t now_ns = flows.now_ns();
  for (const uint32_t place : {5u, 3u, 1u, 4u, 2u}) {
    flows.In({.seq = 1000 + place, .at_ns = now_ns + place * 1000});
  }
  flows.In({.seq = 1000, .at_ns = now_ns - kSecond});  // older than the flow
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{1000, 100, 900, 101, 1001, 1002, 1003, 1004, 1005});
  const std::vector<PcapRecord>& records = flows.FileOf(7).records;
  CHECK(records.back().time_ns - records.front().time_ns == kSecond + 5000);
}

TEST_CASE("The clock of a flow is that of its beginning", "[flow]") {
  constexpr int64_t kOffset = 1'700'000'000 * kSecond;
  FlowFixture flows;
  flows.table().set_wall_offset_ns(kOffset);
  const int64_t start_ns = flows.now_ns();
  flows.In({.flags = kSyn, .seq = 100, .at_ns = start_ns});
  // The wall clock is put forward by an hour.
  flows.table().set_wall_offset_ns(kOffset + 3600 * kSecond);
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7, .at_ns = start_ns + 1});
  flows.In({.seq = 101, .ack = 901, .at_ns = start_ns + 2});
  flows.Out({.seq = 1, .cookie = 8, .tuple = {.remote_port = 1}, .at_ns = start_ns + 3});
  flows.Finish();
  CHECK(flows.FileOf(7).date == absl::CivilDay(2023, 11, 14));
  for (int i = 0; i < 3; ++i) {
    CHECK(flows.FileOf(7).records.at(i).time_ns == kOffset + start_ns + i);
  }
  CHECK(flows.FileOf(8).date == absl::CivilDay(2023, 11, 15));
  CHECK(flows.FileOf(8).records.at(0).time_ns == kOffset + 3600 * kSecond + start_ns + 3);
}

TEST_CASE("What waits for a flow keeps its clock, too", "[flow]") {
  constexpr int64_t kOffset = 1'700'000'000 * kSecond;
  constexpr int64_t kSuspended = 3600 * kSecond;
  constexpr uint16_t kPeers = 100;  // more than a chunk holds
  const auto peer = [](uint16_t port) { return Tuple{.remote_port = port}; };
  const bool is_wall_first = GENERATE(true, false);
  FlowFixture flows;
  flows.table().set_wall_offset_ns(kOffset);
  const int64_t start_ns = flows.now_ns();
  for (const uint8_t flags : {kSyn, kSynAck}) {
    for (uint16_t port = 1; port <= kPeers; ++port) {
      const Segment segment = {
          .flags = flags, .seq = flags, .tuple = peer(port), .at_ns = start_ns + flags};
      flags == kSyn ? flows.In(segment) : flows.Out(segment);
    }
  }
  CHECK(flows.stats().embryonic == kPeers);
  if (is_wall_first) flows.table().set_wall_offset_ns(kOffset + kSuspended);
  flows.table().set_suspended_ns(kSuspended);
  if (!is_wall_first) flows.table().set_wall_offset_ns(kOffset + kSuspended);
  CHECK(flows.stats().embryonic == kPeers);
  for (uint16_t port = 1; port <= kPeers; ++port) {
    flows.Out({.seq = 3, .cookie = port, .tuple = peer(port), .at_ns = start_ns + 100});
  }
  flows.Finish();
  for (uint16_t port = 1; port <= kPeers; ++port) {
    const std::vector<PcapRecord>& records = flows.FileOf(port).records;
    REQUIRE(records.size() == 3);
    CHECK(records[0].time_ns == kOffset + start_ns + kSyn);
    CHECK(records[1].time_ns == kOffset + start_ns + kSynAck);
    CHECK(records[2].time_ns == kOffset + kSuspended + start_ns + 100);
  }
}

TEST_CASE("Suspended time is in the file and not in a flow's age", "[flow]") {
  constexpr int64_t kOffset = 1'700'000'000 * kSecond;
  constexpr int64_t kSuspended = 24 * 3600 * kSecond;
  FlowFixture flows;
  flows.table().set_wall_offset_ns(kOffset);
  flows.table().set_suspended_ns(5 * kSecond);  // before the daemon
  const int64_t start_ns = flows.now_ns();
  flows.In({.flags = kSyn, .seq = 100, .at_ns = start_ns});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7, .at_ns = start_ns + 1});
  // Readings differ a little, and move no packet.
  flows.table().set_suspended_ns(5 * kSecond + 1000);
  flows.In({.seq = 101, .ack = 901, .at_ns = start_ns + 2});
  // The monotonic clock stands still, the others don't.
  flows.table().set_wall_offset_ns(kOffset + kSuspended);
  flows.table().set_suspended_ns(5 * kSecond + kSuspended);
  flows.Wait(0);
  CHECK(flows.stats().capturing == 1);
  flows.In({.seq = 102, .at_ns = start_ns + 3});
  flows.Out({.seq = 1, .cookie = 8, .tuple = {.remote_port = 1}, .at_ns = start_ns + 4});
  flows.Finish();
  CHECK(flows.FileOf(7).date == absl::CivilDay(2023, 11, 14));
  for (int i = 0; i < 3; ++i) {
    CHECK(flows.FileOf(7).records.at(i).time_ns == kOffset + start_ns + i);
  }
  CHECK(flows.FileOf(7).records.at(3).time_ns == kOffset + kSuspended + start_ns + 3);
  CHECK(flows.FileOf(8).date == absl::CivilDay(2023, 11, 15));
  CHECK(flows.FileOf(8).records.at(0).time_ns == kOffset + kSuspended + start_ns + 4);
}

TEST_CASE("Packets of several interfaces are counted where they came", "[flow]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100, .ifindex = 2});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7, .ifindex = 3});
  flows.In({.seq = 101, .ack = 901, .ifindex = 4});
  flows.Finish();
  CHECK(flows.CountsOf(2)[PH_INGRESS][PH_SAVED] == 1);
  CHECK(flows.CountsOf(3)[PH_EGRESS][PH_SAVED] == 1);
  CHECK(flows.CountsOf(4)[PH_INGRESS][PH_SAVED] == 1);
}

TEST_CASE("A packet on another kind of link layer does not enter the file", "[flow]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.In({.seq = 555, .link_layer = PH_LINK_IP});
  flows.In({.seq = 556});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 556});
  CHECK(flows.Count(PH_LINK_MISMATCH) == 1);
}

TEST_CASE("A file says how its flow ended", "[flow]") {
  FlowOptions options = DefaultFlowOptions();
  options.flow_timeout_ns = 5 * kSecond;
  options.capture_duration_ns = 10 * kSecond;
  FlowFixture flows(options);
  flows.Accept(7);
  FlowEnd end = FlowEnd::kShutdown;
  SECTION("by FINs") {
    flows.Close(7);
    flows.Wait(kLingerNs);
    end = FlowEnd::kFin;
  }
  SECTION("by FINs, whatever comes then") {
    flows.Close(7);
    flows.In({.flags = kRst, .seq = 104});
    end = FlowEnd::kFin;
  }
  SECTION("by a RST") {
    flows.In({.flags = kFin, .seq = 101, .ack = 901});
    flows.Out({.flags = kRst, .seq = 901, .cookie = 7});
    flows.Wait(kLingerNs);
    end = FlowEnd::kRst;
  }
  SECTION("by silence") {
    flows.In({.flags = kFin, .seq = 101, .ack = 901});
    flows.Wait(options.flow_timeout_ns + kSecond);
    end = FlowEnd::kIdle;
  }
  SECTION("by the time that is captured, in the middle of packets") {
    for (uint32_t i = 0; i < 4; ++i) {
      flows.Wait(3 * kSecond);
      flows.In({.seq = 101 + i});
    }
    end = FlowEnd::kDuration;
  }
  SECTION("by the time that is captured, between packets") {
    for (uint32_t i = 0; i < 3; ++i) {
      flows.Wait(3 * kSecond);
      flows.In({.seq = 101 + i});
    }
    flows.Wait(2 * kSecond);
    end = FlowEnd::kDuration;
  }
  SECTION("by another connection") {
    flows.Out({.flags = kSyn, .seq = 5000, .cookie = 8});
    end = FlowEnd::kReused;
  }
  SECTION("by the end of the program") {}
  flows.Finish();
  CHECK(flows.FileOf(7).end == end);
}

TEST_CASE("A closed tuple is remembered as long as TIME-WAIT, however late its timer was set",
          "[flow]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Close(7);
  flows.Wait(kLingerNs + kSecond);
  REQUIRE(flows.stats().ended == 1);
  // Timers were not looked at before it came, for half of what they can tell apart.
  flows.In({.flags = kFin, .seq = 102, .ack = 903, .at_ns = flows.now_ns() + 30 * kSecond});
  flows.Wait(kTimeWaitNs - kSecond);
  CHECK(flows.stats().ended == 1);
  flows.Wait(2 * kSecond);
  CHECK(flows.stats().ended == 0);
}

TEST_CASE("At the end of the program what has an owner is saved", "[flow]") {
  FlowFixture flows;
  flows.Accept(1, {.remote_port = 1});
  flows.Connect(2, {.remote_port = 2});
  flows.In({.flags = kSyn, .seq = 1, .tuple = {.remote_port = 3}});
  flows.In({.seq = 1, .tuple = {.remote_port = 4}});
  flows.Finish();
  CHECK(flows.uuids() == Names{"flow_1", "flow_2"});
  CHECK(flows.Count(PH_SAVED) == 6);
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 1);
  CHECK(flows.Count(PH_UNOWNED) == 1);
}

TEST_CASE("Packets of a file that could not be written are not called saved", "[flow]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.FailFiles();
  flows.Finish();
  CHECK(flows.Count(PH_SAVED) == 0);
  CHECK(flows.Count(PH_WRITE_ERROR) == 3);
}

}  // namespace
}  // namespace packet_headers::testing
