// When the capture of a flow ends, and how much the table takes in.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;

Tuple Peer(uint16_t port) { return {.remote_port = port}; }

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

TEST_CASE("A flood pushes out no connection that the host has a request for", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 10;
  FlowFixture flows(options);
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
  for (uint16_t port = 1; port <= 1000; ++port) {
    flows.In({.flags = port % 2 != 0 ? kSyn : kAck, .seq = port, .tuple = Peer(port)});
  }
  CHECK(flows.stats().embryonic == 10);
  flows.In({.seq = 101, .ack = 901});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101});
  CHECK(flows.Count(PH_EVICTED) == 991);
}

TEST_CASE("Requests without number are bounded, too", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 10;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= 100; ++port) {
    flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port)});
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = port, .tuple = Peer(port)});
  }
  CHECK(flows.stats().embryonic == 10);
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

TEST_CASE("A flood of SYNs without memory does not take the rest of it from the open flows",
          "[flow][limits]") {
  constexpr int64_t kMemory = 4 << 20;
  FlowOptions options = DefaultFlowOptions();
  options.max_ended_flows = 1 << 20;
  options.capture_duration_ns = options.flow_timeout_ns = 1000 * kSecond;
  FlowFixture flows(options, kMemory);
  flows.HoldJobs(true);  // the disk takes nothing
  flows.Accept(7);
  while (!flows.budget().nearly_exhausted()) {
    flows.Out({.seq = 1, .cookie = 8, .tuple = Peer(1)});
  }
  for (uint16_t port = 2; port < 20'000; ++port) {
    flows.In({.flags = kSyn, .seq = 1, .tuple = Peer(port)});
  }
  for (int packet = 0; packet < 1000; ++packet) flows.In({.seq = 102});
  CHECK(flows.stats().capturing == 2);
  flows.HoldJobs(false);
  flows.Finish();
  CHECK(flows.FileOf(7).records.size() == 1003);
}

TEST_CASE("Memory that holds nothing refuses everything", "[flow][limits]") {
  FlowFixture flows(DefaultFlowOptions(), /*memory_bytes=*/100);
  flows.Accept(7);
  flows.Connect(8, Peer(1));
  flows.Finish();
  CHECK(flows.files().empty());
  CHECK(flows.Count(PH_MEMORY_LIMIT) == 6);
}

TEST_CASE("Too many attempts push out the oldest of them and no captured flow", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 100;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= 50; ++port) flows.Connect(port, Peer(port));
  for (uint16_t port = 1001; port <= 1300; ++port) {
    flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port)});
  }
  CHECK(flows.stats().embryonic == 100);
  CHECK(flows.stats().capturing == 50);
  CHECK(flows.Count(PH_EVICTED) == 200);
  // The newest 100 are there still.
  for (const uint16_t port : {1201, 1300}) {
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = port, .tuple = Peer(port)});
    flows.In({.seq = 101, .ack = 901, .tuple = Peer(port)});
  }
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1201)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(1300)) == List{100, 900, 101});
}

TEST_CASE("Attempts that fill their memory push out the oldest of them", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  constexpr int64_t kAttemptBytes = sizeof(Flow) + kSmallestChunkBytes;
  // And where a SYN waits to be repeated.
  options.max_embryonic_bytes = 100 * kAttemptBytes + kLargestChunkBytes;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= 90; ++port) {
    for (int i = 0; i < 2; ++i) flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port)});
  }
  CHECK(flows.Count(PH_EVICTED) == 0);
  // One that keeps sending: 11 kB, in chunks of up to twice as much, cost other attempts, but for
  // the nine whose place was free.
  for (uint32_t packet = 0; packet < 100; ++packet) {
    flows.In({.seq = packet, .tuple = Peer(1000), .options = 40});
  }
  CHECK(flows.Count(PH_EVICTED) >= 2 * (11'000 / kAttemptBytes - 9));
  CHECK(flows.Count(PH_EVICTED) <= 2 * (22'000 / kAttemptBytes - 9));
  CHECK(flows.stats().embryonic == 91 - static_cast<int64_t>(flows.Count(PH_EVICTED)) / 2);
  CHECK(flows.stats().ended == 0);
}

TEST_CASE("SYNs that fill their memory push out the oldest of them", "[flow][limits]") {
  constexpr int64_t kMemory = 1 << 20;
  constexpr uint16_t kSyns = 20'000;
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 100'000;
  options.max_embryonic_bytes = kMemory;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= kSyns; ++port) {
    flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port), .options = 20});
  }
  CHECK(flows.budget().used_bytes() <= kMemory / 4 * 3 + (256 << 10));  // whole slabs
  // Three quarters of it are theirs, and a SYN and what is kept beside it take 130 bytes or so.
  CHECK(flows.stats().embryonic >= kMemory / 4 * 3 / 150);
  const auto evicted = static_cast<uint16_t>(flows.Count(PH_EVICTED));
  CHECK(evicted == kSyns - flows.stats().embryonic);
  // The one that is answered takes more, and the oldest give way for it.
  const uint16_t middle = (evicted + kSyns) / 2;
  for (const uint16_t port : {middle, kSyns}) {
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = port, .tuple = Peer(port)});
    flows.In({.seq = 101, .ack = 901, .tuple = Peer(port)});
  }
  flows.Finish();
  CHECK(Seqs(flows.FileOf(middle)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(kSyns)) == List{100, 900, 101});
}

TEST_CASE("What is answered with SYN cookies takes little more", "[flow][limits]") {
  constexpr uint16_t kSyns = 5000;
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = kSyns;
  options.max_embryonic_bytes = 4 << 20;
  FlowFixture flows(options);
  const auto attempt = [&flows](uint16_t port) {
    flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port), .options = 20});
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .tuple = Peer(port), .options = 20});
  };
  for (uint16_t port = 1; port <= kSyns; ++port) attempt(port);
  CHECK(flows.stats().embryonic == kSyns);
  CHECK(flows.budget().used_bytes() <= 2 * kSyns * 150 + (256 << 10));
  SECTION("and becomes a whole flow") {
    flows.In({.seq = 101, .ack = 901, .tuple = Peer(7)});
    flows.Out({.seq = 901, .ack = 102, .cookie = 7, .tuple = Peer(7)});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 901});
    CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 2 * (kSyns - 1));
  }
  SECTION("and gives way to what comes, a SYN before its answer") {
    attempt(kSyns + 1);
    CHECK(flows.Count(PH_EVICTED) == 1);
    flows.Out({.seq = 901, .ack = 102, .cookie = 7, .tuple = Peer(7)});  // makes room
    flows.Out({.seq = 901, .ack = 102, .cookie = 1, .tuple = Peer(1)});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(1)) == List{900, 901});
  }
  SECTION("and is over after flowtimeout") {
    flows.Wait(40 * kSecond);
    CHECK(flows.stats().embryonic == 0);
    CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 2 * kSyns);
    CHECK(flows.stats().expired == kSyns);
  }
  SECTION("and an answer that is sent again is part of the flow") {
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .tuple = Peer(7)});
    flows.Out({.seq = 901, .ack = 102, .cookie = 7, .tuple = Peer(7)});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 900, 901});
  }
}

TEST_CASE("Of SYNs and other attempts the oldest gives way", "[flow][limits]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 4;
  FlowFixture flows(options);
  const auto come = [&flows](uint16_t port, uint8_t flags) {
    flows.In({.flags = flags, .seq = 100, .tuple = Peer(port)});
  };
  come(1, kAck);
  come(2, kSyn);
  come(3, kAck);
  come(4, kSyn);
  CHECK(flows.Count(PH_EVICTED) == 0);
  for (const uint16_t port : {5, 6, 7}) {
    const uint64_t evicted_before = flows.Count(PH_EVICTED);
    come(port, port % 2 == 0 ? kSyn : kAck);
    CHECK(flows.Count(PH_EVICTED) == evicted_before + 1);
  }
  // 4 to 7 are left.
  for (uint16_t port = 1; port <= 7; ++port) {
    flows.Out({.seq = 901, .cookie = port, .tuple = Peer(port)});
  }
  flows.Finish();
  for (uint16_t port = 1; port <= 7; ++port) {
    CHECK(flows.FileOf(port).records.size() == (port < 4 ? 1 : 2));
  }
}

TEST_CASE("A SYN of a time to come holds up no other", "[flow][limits]") {
  FlowFixture flows;
  const int64_t now_ns = flows.now_ns();
  flows.In({.flags = kSyn, .seq = 1, .tuple = Peer(1), .at_ns = now_ns + 1000 * kSecond});
  flows.In({.flags = kSyn, .seq = 2, .tuple = Peer(2), .at_ns = now_ns});
  flows.table().Advance(now_ns + 29 * kSecond);
  CHECK(flows.stats().embryonic == 1);
  flows.table().Advance(now_ns + 31 * kSecond);
  CHECK(flows.stats().embryonic == 0);
}

TEST_CASE("A SYN that nobody answers is over after flowtimeout", "[flow][limits]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(1)});
  flows.Wait(20 * kSecond);
  flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(2)});
  flows.Wait(9 * kSecond);
  CHECK(flows.stats().embryonic == 2);
  flows.Wait(2 * kSecond);
  CHECK(flows.stats().embryonic == 1);
  CHECK(flows.stats().expired == 1);
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 1);
  // One that was sent again is over that long after the last time.
  flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(2)});
  flows.Wait(29 * kSecond);
  CHECK(flows.stats().embryonic == 1);
  flows.Wait(2 * kSecond);
  CHECK(flows.stats().embryonic == 0);
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 3);
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
