// Flows of a capture: nobody knows their sockets, only their handshakes.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"
#include "user/flow/trace_clock.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;
using Names = std::vector<std::string>;

FlowOptions Options(Ownership ownership = Ownership::kHandshake) {
  FlowOptions options = DefaultFlowOptions();
  options.ownership = ownership;
  // They have no cookie to be named by.
  options.name_flow = [](const Flow& flow) {
    return "at_" + std::to_string((flow.first_ns - 5000 * kSecond) / kMillisecond);
  };
  return options;
}

TEST_CASE("A connection of either side is a flow", "[flow][offline]") {
  FlowFixture flows(Options());
  const bool outbound = GENERATE(false, true);
  outbound ? flows.Connect(0) : flows.Accept(0);
  flows.Close(0);
  flows.Wait(10 * kSecond);
  CHECK(flows.uuids() == Names{"at_1"});
  CHECK(flows.Count(PH_SAVED) == 7);
}

TEST_CASE("Where one direction was captured, what goes on behind its SYN is a flow",
          "[flow][offline]") {
  FlowFixture flows(Options());
  SECTION("of the client") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.In({.seq = 101, .ack = 901});
    flows.In({.seq = 101, .ack = 901});
  }
  SECTION("of the server") {
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101});
    flows.Out({.seq = 901, .ack = 201});
    flows.Out({.seq = 1901, .ack = 201});
  }
  SECTION("whose first segments are missing") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.In({.seq = 1101, .ack = 901});
    flows.In({.seq = 2101, .ack = 901});
  }
  SECTION("with data in its SYN (RFC 7413)") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 501});
    flows.In({.seq = 501, .ack = 901});
  }
  flows.Finish();
  CHECK(flows.Count(PH_SAVED) == 3);
}

TEST_CASE("What is no connection leaves no file", "[flow][offline]") {
  FlowFixture flows(Options());
  ph_counter reason = PH_INCOMPLETE_HANDSHAKE;
  SECTION("an attempt") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.In({.flags = kSyn, .seq = 100});
  }
  SECTION("a closed port") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.Out({.flags = kRst | kAck, .ack = 101});
  }
  SECTION("a scan that found an open port") {
    flows.In({.flags = kSyn, .seq = 100});
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101});
    flows.In({.flags = kRst, .seq = 101});
  }
  SECTION("a connection that began before the capture") {
    reason = PH_NO_HANDSHAKE;
    flows.In({.seq = 7000, .ack = 9000});
    flows.Out({.seq = 9000, .ack = 7100});
    flows.Close(0);
  }
  SECTION("the end of one") {
    reason = PH_NO_HANDSHAKE;
    flows.Out({.flags = kRst, .seq = 9000});
  }
  SECTION("much of one") {
    reason = PH_NO_HANDSHAKE;
    for (uint32_t packet = 0; packet < 1000; ++packet) flows.In({.seq = 7000 + packet, .ack = 1});
  }
  flows.Wait(60 * kSecond);
  CHECK(flows.uuids().empty());
  CHECK(flows.Count(reason) == flows.fed());
}

TEST_CASE("-write.all keeps them all", "[flow][offline]") {
  FlowFixture flows(Options(Ownership::kNone));
  SECTION("an attempt") { flows.In({.flags = kSyn, .seq = 100}); }
  SECTION("the middle of a connection") {
    flows.In({.seq = 7000, .ack = 9000});
    flows.Out({.seq = 9000, .ack = 7100});
  }
  SECTION("an end") { flows.Out({.flags = kRst, .seq = 9000}); }
  flows.Finish();
  CHECK(flows.uuids() == Names{"at_1"});
  CHECK(flows.Count(PH_SAVED) == flows.fed());
}

TEST_CASE("A tuple that is used again is another flow, whoever begins", "[flow][offline]") {
  FlowFixture flows(Options());
  flows.Accept(0);
  SECTION("after a close") {
    flows.Close(0);
    flows.In({.flags = kSyn, .seq = 5000});
    flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001});
    flows.In({.seq = 5001, .ack = 6001});
    flows.Finish();
    CHECK(Seqs(flows.files().at(1)) == List{5000, 6000, 5001});
  }
  SECTION("without one") {
    flows.In({.flags = kSyn, .seq = 5000});
    flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001});
    flows.In({.seq = 5001, .ack = 6001});
    flows.Finish();
    CHECK(Seqs(flows.files().at(1)) == List{5000, 6000, 5001});
  }
  SECTION("without one, from the other side") {
    flows.Out({.flags = kSyn, .seq = 6000});
    flows.In({.flags = kSynAck, .seq = 5000, .ack = 6001});
    flows.Out({.seq = 6001, .ack = 5001});
    flows.Finish();
    CHECK(Seqs(flows.files().at(1)) == List{6000, 5000, 6001});
  }
  SECTION("without one, where the answer was not captured") {
    flows.In({.flags = kSyn, .seq = 5000});
    flows.In({.seq = 5001, .ack = 6001});
    flows.Finish();
    CHECK(Seqs(flows.files().at(1)) == List{5000, 5001});
  }
  CHECK(flows.files().size() == 2);
}

TEST_CASE("A SYN that is challenged is of the flow that it met", "[flow][offline]") {
  FlowFixture flows(Options());
  flows.Accept(0);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 901, .ack = 101});
  flows.In({.seq = 102, .ack = 901});
  flows.Finish();
  CHECK(flows.uuids() == Names{"at_1"});
  CHECK(Seqs(flows.files()[0]) == List{100, 900, 101, 5000, 901, 102});
}

TEST_CASE("A handshake that goes on behind a RST was not ended by it", "[flow][offline]") {
  FlowFixture flows(Options(GENERATE(Ownership::kHandshake, Ownership::kNone)));
  flows.Accept(0);
  flows.Close(0);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 904, .ack = 103});  // of the socket before, in TIME-WAIT
  flows.In({.flags = kRst, .seq = 103});
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Wait(kLingerNs + kSecond);
  flows.In({.seq = 5002, .ack = 6001});
  flows.Finish();
  REQUIRE(flows.files().size() == 2);
  CHECK(flows.Count(PH_SAVED) == flows.fed());
  CHECK(flows.files()[1].end == FlowEnd::kShutdown);
}

TEST_CASE("Recorded announcements name the flows on whose tuples they are", "[flow][offline]") {
  FlowOptions options = Options();
  options.naming = Naming::kAnnouncedOrOwn;
  FlowFixture flows(options);
  flows.Accept(0);
  flows.Announce({.uuid = "first", .cookie = 7});
  flows.Close(0);
  flows.Wait(10 * kSecond);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001});
  flows.In({.seq = 5001, .ack = 6001});
  SECTION("each its own") {
    flows.Announce({.uuid = "second", .cookie = 8});
    flows.Finish();
    CHECK(flows.uuids() == Names{"first", "second"});
  }
  SECTION("and no later one, though it comes late") {
    flows.Announce({.uuid = "again", .cookie = 7, .at_ns = 5002 * kSecond});
    flows.Finish();
    CHECK(flows.uuids().front() == "first");
    CHECK(flows.uuids().back().substr(0, 3) == "at_");
  }
}

TEST_CASE("Every shuffle of captured packets closes the books", "[flow][offline][random]") {
  uint64_t state = 1;
  const auto below = [&state](uint32_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33) % bound;
  };
  for (int run = 0; run < 20; ++run) {
    FlowOptions options = Options(run % 3 == 0 ? Ownership::kNone : Ownership::kHandshake);
    options.stream = run % 2 == 0;
    options.anonymizer = std::make_shared<const Anonymizer>();
    FlowFixture flows(options, run % 5 == 0 ? 600'000 : int64_t{64} << 20, run % 7 == 0 ? 3 : 0);
    constexpr uint8_t kFlags[] = {kAck, kAck, kAck, kSyn, kSynAck, kFin, kRst, 0};
    for (int step = 0; step < 3000; ++step) {
      Segment segment = {.flags = kFlags[below(std::size(kFlags))],
                         .seq = 1000 * below(4) + below(2),
                         .ack = 1 + 1000 * below(4)};
      segment.tuple.remote_port = static_cast<uint16_t>(1000 + below(6));
      below(2) == 0 ? flows.In(segment) : flows.Out(segment);
      if (below(50) == 0) flows.Wait(below(5) * 500 * kMillisecond);
      if (below(300) == 0) flows.table().FlushStreams();
    }
    flows.Finish();
    CHECK(flows.Count(PH_SAVED) > 0);
  }
}

TEST_CASE("A trace's time never goes back by much", "[flow][offline]") {
  TraceClock clock;
  CHECK(clock.TimeOf(1'000 * kSecond) == 1'000 * kSecond);
  CHECK(clock.TimeOf(1'001 * kSecond) == 1'001 * kSecond);
  CHECK(clock.TimeOf(1'001 * kSecond - 5) == 1'001 * kSecond - 5);
  CHECK(clock.latest_ns() == 1'001 * kSecond);
  CHECK(clock.wall_offset_ns() == 0);
  // Set back by an hour: the trace goes on from there.
  CHECK(clock.TimeOf(1'001 * kSecond - 3'600 * kSecond) == 1'001 * kSecond);
  CHECK(clock.wall_offset_ns() == -3'600 * kSecond);
  CHECK(clock.TimeOf(1'003 * kSecond - 3'600 * kSecond) == 1'003 * kSecond);
  CHECK(clock.steps_back() == 1);
}

TEST_CASE("However often a trace's clock is set, its time stays in bounds", "[flow][offline]") {
  TraceClock clock;
  constexpr int64_t kIn2106 = int64_t{4'294'967'295} * kSecond;
  int64_t last_ns = 0;
  for (int step = 0; step < 20; ++step) {
    const int64_t time_ns = clock.TimeOf(step % 2 == 0 ? kIn2106 : 0);
    CHECK(time_ns >= last_ns);
    CHECK(time_ns <= TraceClock::kLatestNs);
    last_ns = time_ns;
  }
}

}  // namespace
}  // namespace packet_headers::testing
