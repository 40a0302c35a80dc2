// Where records go, and where they don't: shards, full rings, wake-ups, settled flows.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bpf/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "user/base/unique_fd.h"

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

TEST_CASE("Records are read in order, wherever the ring begins again", "[bpf]") {
  Kernel kernel({.ring_bytes = 8192});
  const Hook& hook = Hooks().front();
  uint16_t sent = 0;
  uint16_t next = 0;
  // More than a batch, in amounts that don't divide the ring, of two sizes.
  for (int round = 0; round < 200; round++) {
    for (int i = 0; i < 37; i++) {
      Packet packet = Segment(hook, sent++);
      if (i % 5 == 0) packet.TcpOptions(40);
      REQUIRE(Send(kernel, hook, packet) == "seen 1, captured 1");
    }
    for (const Record& record : kernel.Drain()) {
      const uint8_t* const port_be = record.fixed().headers + record.fixed().l4_offset;
      REQUIRE((port_be[0] << 8 | port_be[1]) == next++);
    }
    REQUIRE(next == sent);
  }
}

// A connection of this host with itself, by IPv4 or IPv6.
class Connection {
 public:
  explicit Connection(const std::string& address) : address_(address) {
    sockaddr_storage to = {};
    socklen_t bytes = 0;
    if (address.find(':') != std::string::npos) {
      auto& ipv6 = reinterpret_cast<sockaddr_in6&>(to);
      ipv6.sin6_family = AF_INET6;
      inet_pton(AF_INET6, address.c_str(), &ipv6.sin6_addr);
      bytes = sizeof(ipv6);
    } else {
      auto& ipv4 = reinterpret_cast<sockaddr_in&>(to);
      ipv4.sin_family = AF_INET;
      inet_pton(AF_INET, address.c_str(), &ipv4.sin_addr);
      bytes = sizeof(ipv4);
    }
    listener_.Reset(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    client_.Reset(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&to), bytes) == 0);
    REQUIRE(listen(listener_.get(), 1) == 0);
    REQUIRE(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&to), &bytes) == 0);
    REQUIRE(connect(client_.get(), reinterpret_cast<sockaddr*>(&to), bytes) == 0);
  }

  // From its client, or from another port, to its listener.
  Packet Segment(const Hook& hook, bool from_client = true) const {
    Packet packet = hook.link_layer == PH_LINK_ETHERNET ? Packet().Ethernet() : Packet();
    if (address_.find(':') != std::string::npos) {
      packet.Ipv6(address_, address_);
    } else {
      packet.Ipv4(address_, address_);
    }
    const uint16_t client = PortOf(client_);
    return packet.Tcp(from_client ? client : static_cast<uint16_t>(client ^ 1), PortOf(listener_));
  }

 private:
  static uint16_t PortOf(const UniqueFd& socket) {
    sockaddr_in6 name = {};
    socklen_t bytes = sizeof(name);
    REQUIRE(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &bytes) == 0);
    return ntohs(name.sin6_port);  // at the same place in sockaddr_in
  }

  const std::string address_;
  UniqueFd listener_;
  UniqueFd client_;
};

TEST_CASE("A ring that fills up takes only what has a local socket", "[bpf]") {
  Kernel kernel({.ring_bytes = 8192, .shed_bytes = 10 * kBytesInRing});
  for (const std::string address : {"127.0.0.1", "::1"}) {
    const Connection connection(address);
    for (const Hook& hook : Hooks()) {
      INFO(hook.name << ", " << address);
      for (int i = 0; i < 11; i++) {
        REQUIRE(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, captured 1");
      }
      CHECK(Send(kernel, hook, Segment(hook).Syn()) == "seen 1, shed_syn 1");
      CHECK(Send(kernel, hook, Segment(hook).Flags(PH_TCP_SYN | 0xc0)) == "seen 1, shed_syn 1");
      for (const uint8_t flags :
           {PH_TCP_ACK, PH_TCP_RST, PH_TCP_SYN | PH_TCP_ACK, PH_TCP_FIN | PH_TCP_ACK, 0}) {
        CHECK(Send(kernel, hook, Segment(hook).Flags(flags)) == "seen 1, shed_stray 1");
        CHECK(Send(kernel, hook, connection.Segment(hook, false).Flags(flags)) ==
              "seen 1, shed_stray 1");
        CHECK(Send(kernel, hook, connection.Segment(hook).Flags(flags)) == "seen 1, captured 1");
      }
      CHECK(kernel.Drain().size() == 16);
    }
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

TEST_CASE("A ring is touched once all over, and is empty then", "[bpf]") {
  constexpr uint32_t kShard = 1;
  constexpr uint32_t kBytes = 4 * PH_TOUCH_BYTES;
  Kernel kernel({.shards = 3, .ring_bytes = kBytes});
  kernel.TouchRing(kShard);
  for (uint32_t shard = 0; shard < 3; shard++) {
    CHECK(kernel.RingProducedBytes(shard) == (shard == kShard ? kBytes : 0));
    CHECK(kernel.RingUsedBytes(shard) == 0);
  }
  const Hook& hook = Hooks().front();
  CHECK(Send(kernel, hook, Segment(hook)) == "seen 1, captured 1");
  CHECK(kernel.Drain().size() == 1);
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
