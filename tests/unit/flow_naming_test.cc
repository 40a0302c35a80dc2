// Names of flows: announced ones, and what a flow is called that nobody announced.

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;
using Names = std::vector<std::string>;

FlowOptions Options(Naming naming, Ownership ownership = Ownership::kSocket) {
  FlowOptions options = DefaultFlowOptions();
  options.naming = naming;
  options.ownership = ownership;
  return options;
}

TEST_CASE("An announced flow has the announced name", "[flow][naming]") {
  const Naming naming = GENERATE(Naming::kAnnouncedOrOwn, Naming::kAnnounced);
  const bool reversed = GENERATE(false, true);
  FlowFixture flows(Options(naming));
  Told told = {.uuid = "host_1_0007", .cookie = 7, .date = absl::CivilDay(2026, 11, 20)};
  if (reversed) told.tuple = {"198.51.100.7", 50000, "192.0.2.1", 443};
  SECTION("while it is captured") {
    flows.Accept(7);
    flows.Announce(told);
    flows.Close(7);
  }
  SECTION("before its first packet was read") {
    flows.Announce(told);
    flows.Accept(7);
    flows.Close(7);
  }
  SECTION("between its packets, before it has an owner") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.Announce(told);
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
    flows.In({.seq = 101, .ack = 901});
    flows.Close(7);
  }
  SECTION("after its end") {
    flows.Accept(7);
    flows.Close(7);
    flows.Wait(4 * kSecond);
    CHECK(flows.files().empty());
    flows.Announce(told);
  }
  SECTION("more than once") {
    flows.Announce(told);
    flows.Accept(7);
    flows.Announce(told);
    flows.Announce(told);
    flows.Close(7);
  }
  flows.Wait(10 * kSecond);
  REQUIRE(flows.uuids() == Names{"host_1_0007"});
  CHECK(flows.files()[0].date == absl::CivilDay(2026, 11, 20));
  CHECK(Seqs(flows.files()[0]) == List{100, 900, 101, 102, 902, 903, 103});
  CHECK(flows.stats().unnamed == 0);
}

TEST_CASE("A flow that is not announced waits for its name, then has its own", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn));
  flows.Accept(7);
  flows.Close(7);
  CHECK(flows.stats().unnamed == 1);
  flows.Wait(4800 * kMillisecond);
  CHECK(flows.uuids().empty());
  flows.Wait(300 * kMillisecond);
  CHECK(flows.uuids() == Names{"flow_7"});
  CHECK(flows.stats().unnamed == 0);
}

TEST_CASE("Once it has its name, a flow ends as soon as without", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn));
  flows.Accept(7);
  flows.Close(7);
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.Wait(kLingerNs + 100 * kMillisecond);
  CHECK(flows.uuids() == Names{"seven"});
}

TEST_CASE("A flow that must be announced and is not is dropped", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnounced));
  SECTION("when it has waited, though it goes on") {
    flows.Accept(7);
    for (int second = 0; second < 6; ++second) {
      flows.Wait(kSecond);
      flows.Out({.seq = 901, .ack = 102, .cookie = 7});
    }
    CHECK(flows.Count(PH_UNANNOUNCED) == 9);
  }
  SECTION("when its tuple is used again") {
    flows.Accept(7);
    flows.Close(7);
    flows.In({.flags = kSyn, .seq = 5000});
    CHECK(flows.Count(PH_UNANNOUNCED) == 7);
  }
  SECTION("at the end of the program") {
    flows.Accept(7);
    flows.Finish();
    CHECK(flows.Count(PH_UNANNOUNCED) == 3);
  }
  flows.Finish();
  CHECK(flows.uuids().empty());
  CHECK(flows.stats().unannounced == 1);
  CHECK(flows.stats().unnamed == 0);
}

TEST_CASE("An announcement names the socket that it tells of, not its tuple", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn));
  flows.Accept(7);
  flows.Announce({.uuid = "eight", .cookie = 8});
  flows.Close(7);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 8});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Announce({.uuid = "seven", .cookie = 7});  // too late: its flow had to give way
  flows.Finish();
  CHECK(flows.uuids() == Names{"flow_7", "eight"});
}

TEST_CASE("A name that came too late is not taken", "[flow][naming]") {
  const bool stream = GENERATE(false, true);
  FlowOptions options = Options(Naming::kAnnouncedOrOwn);
  options.stream = stream;
  FlowFixture flows(options);
  flows.Accept(7);
  CHECK(flows.stats().unnamed == 1);
  flows.Wait(6 * kSecond);
  CHECK(flows.stats().unnamed == 0);
  CHECK(flows.stats().capturing == 1);
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.Close(7);
  flows.Finish();
  CHECK(flows.uuids() == Names{"flow_7"});
}

TEST_CASE("A flow that found no memory waits for no name", "[flow][naming]") {
  FlowOptions options = Options(GENERATE(Naming::kAnnouncedOrOwn, Naming::kAnnounced));
  FlowFixture flows(options, /*memory_bytes=*/200'000);  // less than a slab
  flows.Connect(7);
  flows.Wait(10 * kSecond);
  CHECK(flows.stats().unnamed == 0);
}

TEST_CASE("Many announcements of one tuple cost no more than of many", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn, Ownership::kAnnounced));
  for (uint64_t cookie = 1; cookie <= 100'000; ++cookie) {
    flows.Announce({.uuid = "x" + std::to_string(cookie),
                    .cookie = cookie,
                    .at_ns = flows.now_ns() + static_cast<int64_t>(cookie)});
  }
  flows.Accept(0);
  flows.Finish();
  // The latest few are known, and of those the earliest is the flow's.
  CHECK(flows.uuids() == Names{"x99997"});
}

TEST_CASE("What is announced and never seen gives way to what comes", "[flow][naming]") {
  FlowOptions options = Options(Naming::kAnnouncedOrOwn);
  options.max_announcements = 2 * 100;  // each is kept both ways
  FlowFixture flows(options);
  flows.Announce({.uuid = "seven", .cookie = 7});
  for (uint16_t port = 1; port <= 99; ++port) {
    flows.Announce({.uuid = "x", .cookie = 1000, .tuple = {.remote_port = port}});
  }
  SECTION("still there") {
    flows.Accept(7);
    flows.Finish();
    CHECK(flows.uuids() == Names{"seven"});
  }
  SECTION("pushed out") {
    flows.Announce({.uuid = "x", .cookie = 1000, .tuple = {.remote_port = 100}});
    flows.Accept(7);
    flows.Finish();
    CHECK(flows.uuids() == Names{"flow_7"});
  }
}

TEST_CASE("No file is begun before its name is decided", "[flow][naming][stream]") {
  FlowOptions options = Options(GENERATE(Naming::kAnnouncedOrOwn, Naming::kAnnounced));
  options.stream = true;
  FlowFixture flows(options);
  flows.Accept(7);
  for (uint32_t packet = 0; packet < 1000; ++packet) {
    flows.Out({.seq = 901 + packet, .ack = 102, .cookie = 7});
  }
  flows.table().FlushStreams();
  flows.Wait(kMillisecond);
  CHECK(flows.files().empty());
  SECTION("by an announcement") {
    flows.Announce({.uuid = "seven", .cookie = 7});
    flows.table().FlushStreams();
    flows.Finish();
    CHECK(flows.uuids() == Names{"seven"});
    CHECK(flows.files()[0].records.size() == 1003);
  }
  SECTION("by time") {
    flows.Wait(5 * kSecond);
    flows.table().FlushStreams();
    flows.Wait(kMillisecond);
    CHECK(flows.files().size() == (options.naming == Naming::kAnnounced ? 0 : 1));
  }
}

TEST_CASE("Where records can't tell every cookie an announcement tells the owner",
          "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn, Ownership::kAnnounced));
  const Told told = {.uuid = "seven", .cookie = 7};
  SECTION("of a flow") {
    flows.Accept(0);
    flows.Announce(told);
    flows.Close(0);
  }
  SECTION("before its packets") {
    flows.Announce(told);
    flows.Accept(0);
    flows.Close(0);
  }
  SECTION("and a cookie that comes later is the same") {
    flows.Accept(0);
    flows.Announce(told);
    flows.Close(7);
  }
  flows.Finish();
  CHECK(flows.uuids() == Names{"seven"});
  CHECK(flows.Count(PH_SAVED) == 7);
}

TEST_CASE("A closed flow without an owner waits for its announcement", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn, Ownership::kAnnounced));
  flows.Accept(0);
  flows.Close(0);
  flows.Wait(4 * kSecond);
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.Finish();
  CHECK(flows.uuids() == Names{"seven"});
}

TEST_CASE("Without cookies the SYN-ACK of a reused tuple is of the new connection",
          "[flow][naming]") {
  FlowFixture flows(Options(Naming::kOwn, Ownership::kAnnounced));
  flows.Accept(7);
  flows.Out({.seq = 901, .ack = 101, .cookie = 7});
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Out({.seq = 6001, .ack = 5001, .cookie = 8});
  flows.Finish();
  REQUIRE(flows.uuids() == Names{"flow_7", "flow_8"});
  CHECK(Seqs(flows.FileOf(8)) == List{5000, 6000, 5001, 6001});
}

TEST_CASE("An owner that becomes known late owns what came before", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kOwn, Ownership::kAnnounced));
  flows.Accept(0);
  const int64_t middle_ns = flows.now_ns();
  flows.Close(0);
  SECTION("of a flow") {
    flows.Own(7, flows.now_ns());
    flows.Finish();
    CHECK(flows.uuids() == Names{"flow_7"});
    CHECK(flows.Count(PH_SAVED) == 7);
  }
  SECTION("that began in its time and went on") {
    flows.Own(7, middle_ns);
    flows.Finish();
    CHECK(flows.uuids() == Names{"flow_7"});
  }
  SECTION("but not of a later one") {
    flows.Own(7, middle_ns - kSecond);
    flows.Finish();
    CHECK(flows.uuids().empty());
  }
  SECTION("once only") {
    flows.Own(7, flows.now_ns());
    flows.Wait(5 * kSecond);
    flows.Own(7, flows.now_ns());
    flows.In({.flags = kSyn, .seq = 5000});
    flows.Own(7, flows.now_ns());
    flows.Finish();
    CHECK(flows.uuids() == Names{"flow_7"});
  }
}

TEST_CASE("An announcement that is older than a flow does not own it", "[flow][naming]") {
  FlowFixture flows(Options(Naming::kAnnouncedOrOwn, Ownership::kAnnounced));
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.Wait(kSecond);
  flows.Accept(0);
  flows.Finish();
  CHECK(flows.uuids().empty());
}

TEST_CASE("An announcement of a socket whose capture is over begins nothing", "[flow][naming]") {
  FlowOptions options = Options(Naming::kAnnouncedOrOwn, Ownership::kAnnounced);
  options.capture_duration_ns = 6 * kSecond;
  FlowFixture flows(options);
  flows.Accept(7);
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.Wait(10 * kSecond);
  flows.Announce({.uuid = "seven", .cookie = 7});
  for (int packet = 0; packet < 10; ++packet) flows.Out({.seq = 901, .ack = 102, .cookie = 7});
  flows.In({.flags = kSyn, .seq = 77});  // by whoever guessed the tuple
  flows.Announce({.uuid = "seven", .cookie = 7});
  flows.In({.seq = 102, .ack = 901});
  flows.Finish();
  CHECK(flows.uuids() == Names{"seven"});
}

}  // namespace
}  // namespace packet_headers::testing
