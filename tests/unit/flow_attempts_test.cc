// What may never become a connection: how much of it the table takes in, and what gives way.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;

TEST_CASE("A flood pushes out no connection that the host has a request for", "[flow][attempts]") {
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

TEST_CASE("Requests without number are bounded, too", "[flow][attempts]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 10;
  FlowFixture flows(options);
  for (uint16_t port = 1; port <= 100; ++port) {
    flows.In({.flags = kSyn, .seq = 100, .tuple = Peer(port)});
    flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = port, .tuple = Peer(port)});
  }
  CHECK(flows.stats().embryonic == 10);
}

TEST_CASE("A flood of SYNs without memory does not take the rest of it from the open flows",
          "[flow][attempts]") {
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

TEST_CASE("Too many attempts push out the oldest of them and no captured flow",
          "[flow][attempts]") {
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

TEST_CASE("Attempts that fill their memory push out the oldest of them", "[flow][attempts]") {
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

TEST_CASE("SYNs that fill their memory push out the oldest of them", "[flow][attempts]") {
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
  // Three quarters of it are theirs, and a SYN and what is kept beside it take 110 bytes or so.
  CHECK(flows.stats().embryonic >= kMemory / 4 * 3 / 125);
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

TEST_CASE("What is answered with SYN cookies takes little more", "[flow][attempts]") {
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
  CHECK(flows.budget().used_bytes() <= 2 * kSyns * 125 + (256 << 10));
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

TEST_CASE("Of SYNs and other attempts the oldest gives way", "[flow][attempts]") {
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

TEST_CASE("A SYN of a time to come holds up no other", "[flow][attempts]") {
  FlowFixture flows;
  const int64_t now_ns = flows.now_ns();
  flows.In({.flags = kSyn, .seq = 1, .tuple = Peer(1), .at_ns = now_ns + 1000 * kSecond});
  flows.In({.flags = kSyn, .seq = 2, .tuple = Peer(2), .at_ns = now_ns});
  flows.table().Advance(now_ns + 29 * kSecond);
  CHECK(flows.stats().embryonic == 1);
  flows.table().Advance(now_ns + 31 * kSecond);
  CHECK(flows.stats().embryonic == 0);
}

TEST_CASE("A SYN that nobody answers is over after flowtimeout", "[flow][attempts]") {
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

}  // namespace
}  // namespace packet_headers::testing
