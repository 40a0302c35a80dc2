// Where records go, and where they don't: shards, full rings, wake-ups, settled flows.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bpf/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

// With its 8 bytes in the ring and 48 of the fixed part, a record of the smallest class.
constexpr uint32_t kBytesInRing = 128;

Packet Segment(const Hook& hook, uint16_t source_port = 1234) {
  Packet packet = hook.link_layer == PH_LINK_ETHERNET ? Packet().Ethernet() : Packet();
  return packet.Ipv4("192.0.2.1", "198.51.100.2").Tcp(source_port, 80);
}

// Sends the packet and returns what the program counted.
std::string Send(Kernel& kernel, const Hook& hook, const Packet& packet) {
  const Outcome outcome = kernel.Run(hook, packet.bytes());
  REQUIRE(outcome.error == 0);
  REQUIRE(outcome.verdict == hook.verdict);
  REQUIRE(outcome.untouched);
  return Text(kernel.TakeCounters(hook));
}

TEST_CASE("What no longer fits into the ring is counted", "[bpf]") {
  Kernel kernel({.ring_bytes = 4096});
  for (const Hook& hook : Hooks()) {
    INFO(hook.name);
    // A ring is never filled to the last byte: full and empty would look the same.
    const uint32_t fit = 4096 / kBytesInRing - 1;
    for (uint32_t i = 0; i < fit; i++) {
      REQUIRE(Send(kernel, hook, Segment(hook)) == "seen 1, captured 1");
    }
    CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, ring_full 1");
    CHECK(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, ring_full 1");
    CHECK(Send(kernel, hook, Segment(hook).TcpOptions(40)) == "seen 1, ring_full 1");
    CHECK(kernel.Drain().size() == fit);
    CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, captured 1");
    CHECK(kernel.Drain().size() == 1);
  }
}

TEST_CASE("A ring that fills up takes no connection attempts", "[bpf]") {
  Kernel kernel({.ring_bytes = 4096, .shed_bytes = 10 * kBytesInRing});
  for (const Hook& hook : Hooks()) {
    INFO(hook.name);
    for (int i = 0; i < 11; i++) {
      REQUIRE(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, captured 1");
    }
    CHECK(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, shed_syn 1");
    CHECK(Send(kernel, hook, Segment(hook).Flags(PH_TCP_SYN | 0xc0)) == "seen 1, shed_syn 1");
    CHECK(Send(kernel, hook, Segment(hook).SynAck()) == "seen 1, captured 1");
    CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, captured 1");
    CHECK(Send(kernel, hook, Segment(hook).Flags(PH_TCP_FIN | PH_TCP_ACK)) == "seen 1, captured 1");
    CHECK(Send(kernel, hook, Segment(hook).Flags(PH_TCP_RST)) == "seen 1, captured 1");
    CHECK(kernel.Drain().size() == 15);
  }
}

TEST_CASE("Only a ring that holds enough wakes its reader", "[bpf]") {
  Kernel kernel({.ring_bytes = 4096, .wakeup_bytes = 4 * kBytesInRing});
  for (const Hook& hook : Hooks()) {
    INFO(hook.name);
    for (int i = 0; i < 5; i++) Send(kernel, hook, Segment(hook));
    CHECK_FALSE(kernel.IsReaderWoken(0));
    Send(kernel, hook, Segment(hook));
    CHECK(kernel.IsReaderWoken(10'000));
    CHECK(kernel.Drain().size() == 6);
    CHECK_FALSE(kernel.IsReaderWoken(0));
  }
}

TEST_CASE("A record is in the ring of its flow's shard", "[bpf]") {
  constexpr uint32_t kShards = 5;
  Kernel kernel({.shards = kShards});
  for (const Hook& hook : Hooks()) {
    uint32_t used_shards = 0;
    std::vector<bool> used(kShards);
    for (uint16_t port = 1000; port < 1100; port++) {
      INFO(hook.name << ", port " << port);
      const Packet packet = Segment(hook, port);
      REQUIRE(Send(kernel, hook, packet) == "seen 1, captured 1");
      const uint32_t shard = ph_shard_of(kernel.HashOf(packet.key(hook.direction)), kShards);
      CHECK(kernel.Drain(shard).size() == 1);
      CHECK(kernel.Drain().empty());
      if (!used[shard]) used_shards++;
      used[shard] = true;
    }
    CHECK(used_shards == kShards);
  }
}

TEST_CASE("A settled flow is counted and sends no records", "[bpf]") {
  for (const Hook& hook : Hooks()) {
    INFO(hook.name);
    Kernel kernel;
    const Packet packet = Segment(hook).Timestamps().Payload(1400);
    const ph_flow_key key = packet.key(hook.direction);
    kernel.Settle(key);
    for (uint64_t packets = 1; packets <= 3; packets++) {
      const Outcome outcome = kernel.Run(hook, packet.bytes());
      CHECK(outcome.verdict == hook.verdict);
      CHECK(outcome.untouched);
      CHECK(Text(kernel.TakeCounters(hook)) == "seen 1, settled 1");
      ph_settled_flow flow = {};
      REQUIRE(kernel.FindSettled(key, &flow));
      CHECK(flow.packets == packets);
    }
    for (const Packet& other : {Segment(hook).SynAck(), Segment(hook).Flags(PH_TCP_RST),
                                Segment(hook).Flags(PH_TCP_FIN | PH_TCP_ACK)}) {
      CHECK(Send(kernel, hook, other) == "seen 1, settled 1");
    }
    CHECK(kernel.Drain().empty());
    CHECK(Send(kernel, hook, Segment(hook, 1235)) == "seen 1, captured 1");
    CHECK(kernel.Drain().size() == 1);
  }
}

TEST_CASE("Both directions of a settled flow are settled", "[bpf]") {
  Kernel kernel;
  const Hook& in = Hooks()[0];
  const Hook& out = Hooks()[1];
  kernel.Settle(FlowKey("2001:db8::1", 1234, "2001:db8::2", 80));
  const Packet sent = Packet().Ethernet().Ipv6("2001:db8::1", "2001:db8::2").Tcp(1234, 80);
  const Packet received = Packet().Ethernet().Ipv6("2001:db8::2", "2001:db8::1").Tcp(80, 1234);
  CHECK(Send(kernel, out, sent) == "seen 1, settled 1");
  CHECK(Send(kernel, in, received) == "seen 1, settled 1");
  CHECK(Send(kernel, in, sent) == "seen 1, captured 1");  // another flow: of a peer so called
}

TEST_CASE("A connection attempt brings a settled flow back", "[bpf]") {
  for (const Hook& hook : Hooks()) {
    INFO(hook.name);
    Kernel kernel;
    const ph_flow_key key = Segment(hook).key(hook.direction);
    kernel.Settle(key);
    CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, settled 1");
    CHECK(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, captured 1");
    ph_settled_flow flow = {};
    CHECK_FALSE(kernel.FindSettled(key, &flow));
    CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, captured 1");
    CHECK(kernel.Drain().size() == 2);
  }
}

}  // namespace
}  // namespace packet_headers::testing
