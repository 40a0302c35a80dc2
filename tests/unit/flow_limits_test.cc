// When the capture of a flow ends, and how much the table takes in.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;

TEST_CASE("A flow ends when captureduration is over", "[flow][limits]") {
  FlowFixture flows;
  flows.Out({.seq = 1, .cookie = 7});
  const int64_t first_ns = flows.now_ns();
  flows.Wait(25 * kSecond);
  flows.In({.seq = 2});
  flows.Wait(25 * kSecond);
  flows.In({.seq = 3});

  SECTION("a packet at its very end is in, one behind it is late") {
    flows.In({.seq = 4, .at_ns = first_ns + 60 * kSecond});
    flows.In({.seq = 5, .at_ns = first_ns + 60 * kSecond + 1});
    CHECK(Seqs(flows.FileOf(7)) == List{1, 2, 3, 4});
    CHECK(flows.settled() == std::vector{Tuple{}.key()});
    CHECK(flows.Count(PH_LATE) == 1);
  }
  SECTION("without any packet: it may be asleep, so it is not settled") {
    flows.Wait(11 * kSecond);
    CHECK(Seqs(flows.FileOf(7)) == List{1, 2, 3});
    CHECK(flows.settled().empty());
    CHECK(flows.stats().ended == 1);
  }
  SECTION("while it sends: it is settled") {
    flows.Wait(9 * kSecond);
    flows.In({.seq = 4});
    flows.Wait(2 * kSecond);
    CHECK(Seqs(flows.FileOf(7)) == List{1, 2, 3, 4});
    CHECK(flows.settled().size() == 1);
  }
}

TEST_CASE("Packets after captureduration are late, and there is no second file", "[flow][limits]") {
  FlowFixture flows;
  for (uint32_t second = 0; second < 300; ++second) {
    flows.Out({.seq = second, .cookie = 7});
    flows.In({.seq = second});
    flows.Wait(kSecond);
  }
  CHECK(flows.files().size() == 1);
  CHECK(flows.FileOf(7).jobs == 1);
  CHECK(flows.FileOf(7).records.back().time_ns - flows.FileOf(7).records.front().time_ns <=
        60 * kSecond);
  CHECK(flows.Count(PH_SAVED) + flows.Count(PH_LATE) == 600);
  CHECK(flows.settled().size() == 1);
}

TEST_CASE("What strangers leave behind pushes out no ended connection", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_ended_flows = 3;
  FlowFixture flows(options);
  flows.Accept(7);
  flows.Close(7);
  flows.Wait(3 * kSecond);
  for (uint16_t port = 1; port <= 100; ++port) {
    for (int i = 0; i < 4; ++i) flows.In({.seq = port, .tuple = Peer(port)});
  }
  flows.Wait(31 * kSecond);
  CHECK(flows.stats().ended == 3);
  flows.Out({.seq = 904, .cookie = 7});
  CHECK(flows.Count(PH_LATE) == 1);
  CHECK(flows.files().size() == 1);
}

TEST_CASE("A flow that sends again after its end is settled at the fourth packet",
          "[flow][limits]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Wait(31 * kSecond);
  for (int i = 0; i < 3; ++i) flows.Out({.seq = 902, .cookie = 7});
  CHECK(flows.settled().empty());
  for (int i = 0; i < 3; ++i) flows.Out({.seq = 902, .cookie = 7});
  CHECK(flows.settled().size() == 1);
  CHECK(flows.Count(PH_LATE) == 6);
}

TEST_CASE("A flow without packets for flowtimeout is over", "[flow][limits]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Wait(29 * kSecond);
  flows.In({.seq = 102});
  flows.Wait(29 * kSecond);
  CHECK(flows.stats().capturing == 1);
  flows.Wait(2 * kSecond);
  CHECK(flows.stats().capturing == 0);
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 102});
  flows.Out({.seq = 903, .cookie = 7});
  CHECK(flows.Count(PH_LATE) == 1);
  flows.Finish();
  CHECK(flows.files().size() == 1);
}

TEST_CASE("A closed flow waits two seconds for stragglers", "[flow][limits]") {
  FlowFixture flows;
  flows.Accept(7);
  SECTION("after both FINs") {
    flows.Close(7);
    flows.Wait(kSecond);
    flows.Out({.flags = kFin, .seq = 103, .cookie = 7});  // a retransmission
    flows.Wait(1800 * kMillisecond);
    CHECK(flows.files().empty());
    flows.Wait(300 * kMillisecond);
    CHECK(flows.FileOf(7).records.size() == 8);
    flows.In({.seq = 104});
    CHECK(flows.Count(PH_LATE) == 1);
    flows.Wait(61 * kSecond);
    CHECK(flows.stats().ended == 0);
  }
  SECTION("after the other side's RST") {
    flows.In({.flags = kRst, .seq = 102});
    flows.Wait(1900 * kMillisecond);
    CHECK(flows.files().empty());
    flows.Wait(200 * kMillisecond);
    CHECK(flows.FileOf(7).records.size() == 4);
  }
  SECTION("after the host's RST, which a socket of the kernel's own sends") {
    flows.Out({.flags = kRst, .seq = 902});
    flows.Wait(2100 * kMillisecond);
    CHECK(flows.FileOf(7).records.size() == 4);
  }
  SECTION("but not after a FIN of one side") {
    flows.In({.flags = kFin, .seq = 102});
    flows.Wait(10 * kSecond);
    CHECK(flows.stats().capturing == 1);
  }
  SECTION("nor after a RST that the socket challenged") {
    flows.In({.flags = kRst, .seq = 9999});
    flows.Out({.seq = 902, .cookie = 7});
    flows.Wait(10 * kSecond);
    CHECK(flows.stats().capturing == 1);
    flows.Close(7);
    flows.Wait(3 * kSecond);
    CHECK(flows.FileOf(7).records.size() == 9);
  }
}

TEST_CASE("-maxflows is exact", "[flow][limits]") {
  FlowFixture flows(DefaultFlowOptions(), int64_t{64} << 20, /*most_flows=*/150);
  for (uint16_t port = 1; port <= 151; ++port) flows.Accept(port, Peer(port));
  CHECK(flows.stats().capturing == 150);
  CHECK(flows.stats().refused_by_limit == 1);
  CHECK(flows.Count(PH_FLOW_LIMIT) == 3);

  // When there is room again, what was refused stays refused, also in its retransmissions.
  flows.Close(1, Peer(1));
  flows.Wait(3 * kSecond);
  CHECK(flows.stats().capturing == 149);
  flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(151)});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 151, .tuple = Peer(151)});
  flows.Out({.seq = 901, .cookie = 151, .tuple = Peer(151)});
  flows.In({.seq = 102, .tuple = Peer(151)});
  CHECK(flows.stats().capturing == 149);
  CHECK(flows.Count(PH_FLOW_LIMIT) == 7);

  flows.Connect(152, Peer(152));
  CHECK(flows.stats().capturing == 150);
  flows.Connect(153, Peer(153));
  CHECK(flows.stats().refused_by_limit == 2);
  flows.Close(2, Peer(2));
  flows.Wait(3 * kSecond);
  flows.Out({.flags = kSyn, .seq = 900, .cookie = 153, .tuple = Peer(153)});
  CHECK(flows.stats().capturing == 149);

  // Another connection on its tuple is another matter.
  flows.Out({.flags = kSyn, .seq = 12345, .cookie = 154, .tuple = Peer(153)});
  CHECK(flows.stats().capturing == 150);
  flows.Finish();
  CHECK(Seqs(flows.FileOf(154)) == List{12345});
  CHECK(flows.limit().TryEnter());
}

TEST_CASE("-maxflows=0 is no limit", "[flow][limits]") {
  FlowLimit limit(0);
  for (int i = 0; i < 1000; ++i) CHECK(limit.TryEnter());
}

TEST_CASE("Without memory no new flow is taken, and the open ones go on", "[flow][limits]") {
  constexpr int64_t kMemory = 4 << 20;
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 100'000;
  options.max_ended_flows = 100'000;
  FlowFixture flows(options, kMemory);
  flows.HoldJobs(true);  // the disk takes nothing
  flows.Accept(7);
  uint64_t packets = 0;
  while (!flows.budget().nearly_exhausted()) {
    flows.Out({.seq = 1, .cookie = 8, .tuple = Peer(1)});
    ++packets;
  }
  CHECK(packets > kMemory / 2 / 256);
  flows.Out({.flags = kSyn, .seq = 1, .cookie = 9, .tuple = Peer(2)});
  CHECK(flows.stats().refused_by_memory == 1);
  CHECK(flows.Count(PH_MEMORY_LIMIT) == 1);
  flows.In({.flags = kSynAck, .seq = 1, .ack = 2, .tuple = Peer(2)});
  flows.Out({.flags = kSyn, .seq = 1, .cookie = 9, .tuple = Peer(2)});
  CHECK(flows.Count(PH_MEMORY_LIMIT) == 3);

  flows.In({.seq = 102});
  CHECK(flows.stats().capturing == 2);

  // The last of the memory: who wants more ends there.
  while (flows.stats().capturing == 2) {
    flows.Out({.seq = 1, .cookie = 8, .tuple = Peer(1)});
    ++packets;
    REQUIRE(flows.budget().used_bytes() <= kMemory);
  }
  CHECK(flows.settled() == std::vector{Peer(1).key()});
  flows.HoldJobs(false);
  flows.Finish();
  CHECK(flows.FileOf(8).records.size() == packets - 1);
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 102});
  flows.Out({.seq = 1, .cookie = 8, .tuple = Peer(1)});
  CHECK(flows.Count(PH_MEMORY_LIMIT) == 5);
}

TEST_CASE("Memory that holds nothing refuses everything", "[flow][limits]") {
  FlowFixture flows(DefaultFlowOptions(), /*memory_bytes=*/100);
  flows.Accept(7);
  flows.Connect(8, Peer(1));
  flows.Finish();
  CHECK(flows.files().empty());
  CHECK(flows.Count(PH_MEMORY_LIMIT) == 6);
}

TEST_CASE("Too many ended flows push out the oldest of them", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_ended_flows = 10;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= 30; ++port) flows.Accept(port, Peer(port));
  flows.Wait(31 * kSecond);
  CHECK(flows.stats().ended == 10);
  CHECK(flows.files().size() == 30);
  for (uint16_t port = 21; port <= 30; ++port) {
    flows.Out({.seq = 901, .cookie = port, .tuple = Peer(port)});
  }
  CHECK(flows.Count(PH_LATE) == 10);
}

TEST_CASE("With -stream a flow's records go to the file in parts", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.stream = true;
  FlowFixture flows(options);
  flows.Accept(7);
  List expected = {100, 900, 101};
  for (uint32_t seq = 1000; seq < 2000; ++seq) {
    flows.Out({.seq = seq, .cookie = 7});
    expected.push_back(seq);
    if (seq % 300 == 0) flows.table().FlushStreams();
  }
  REQUIRE(flows.files().size() == 1);
  CHECK_FALSE(flows.files()[0].is_last);
  CHECK(flows.Count(PH_SAVED) == 0);
  flows.Close(7);
  flows.Wait(3 * kSecond);
  for (const uint32_t seq : {102, 902, 903, 103}) expected.push_back(seq);
  CHECK(Seqs(flows.FileOf(7)) == expected);
  CHECK(flows.FileOf(7).jobs > 5);
  CHECK(flows.Count(PH_SAVED) == expected.size());
}

TEST_CASE("Of a flow no more than half a megabyte waits in memory", "[flow][limits]") {
  FlowFixture flows;
  flows.Accept(7);
  List expected = {100, 900, 101};
  for (uint32_t seq = 1000; seq < 21'000; ++seq) {
    flows.Out({.seq = seq, .cookie = 7});
    expected.push_back(seq);
    REQUIRE(flows.stats().mapped_bytes <= 2 << 20);
  }
  REQUIRE(flows.files().size() == 1);
  CHECK_FALSE(flows.files()[0].is_last);
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == expected);
  CHECK(flows.FileOf(7).jobs > 2);
  CHECK(flows.Count(PH_SAVED) == expected.size());
}

TEST_CASE("Nothing to stream is no job", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.stream = true;
  FlowFixture flows(options);
  flows.table().FlushStreams();
  flows.Accept(7);
  flows.In({.flags = kSyn, .tuple = Peer(9)});
  flows.table().FlushStreams();
  flows.table().FlushStreams();
  flows.HoldJobs(true);
  flows.Finish();
  CHECK(flows.table().jobs_outstanding() == 1);
  flows.HoldJobs(false);
  CHECK(flows.FileOf(7).jobs == 2);
}

TEST_CASE("The books wait for jobs that are under way", "[flow][limits]") {
  FlowFixture flows;
  flows.HoldJobs(true);
  flows.Accept(7);
  flows.Close(7);
  flows.Wait(10 * kSecond);
  CHECK(flows.table().jobs_outstanding() == 1);
  CHECK(flows.Count(PH_SAVED) == 0);
  flows.HoldJobs(false);
  CHECK(flows.table().jobs_outstanding() == 0);
  CHECK(flows.Count(PH_SAVED) == 7);
}

}  // namespace
}  // namespace packet_headers::testing
