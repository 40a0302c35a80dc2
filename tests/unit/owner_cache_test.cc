#include "user/identity/owner_cache.h"

#include <cstdint>
#include <utility>

#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "user/capture/frame_record.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kMs = 1'000'000;

Packet Segment(uint16_t port) {
  return Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(port, 443);
}

Packet Answer(uint16_t port) {
  return Packet().Ethernet().Ipv4("198.51.100.2", "192.0.2.1").Tcp(443, port);
}

class Fixture {
 public:
  uint64_t Sent(const Packet& packet, int64_t time_ns = 0) {
    return CookieFor(packet, PH_EGRESS, time_ns);
  }
  uint64_t Received(const Packet& packet, int64_t time_ns = 0) {
    return CookieFor(packet, PH_INGRESS, time_ns);
  }
  bool Departed(uint16_t port, uint64_t cookie, int64_t noticed_ns) {
    return cache_.OnDeparture(Segment(port).key(PH_EGRESS), cookie, noticed_ns);
  }

  // Whether it was asked since the last call.
  bool TakeAsked() { return std::exchange(asked_, 0) > 0; }

  uint64_t owner = 0;  // the kernel's next answers

 private:
  uint64_t CookieFor(const Packet& packet, ph_direction direction, int64_t time_ns) {
    const Bytes bytes = packet.bytes();
    const auto size = static_cast<uint32_t>(bytes.size());
    REQUIRE(frame_.Read({bytes.data(), size, size, {PH_LINK_ETHERNET, 0}}, direction) ==
            PH_CAPTURED);
    frame_.record().time_ns = static_cast<uint64_t>(time_ns);
    frame_.record().ifindex = 7;
    return cache_.CookieFor(frame_.key(), frame_.record());
  }

  int asked_ = 0;
  FrameRecord frame_{{}};
  OwnerCache cache_{8, ph_hash_seed{{1, 2, 3}}, [this](const ph_flow_key& key, uint32_t ifindex) {
                      CHECK(ifindex == 7);
                      CHECK(key.remote_port_be == ph_htons(443));
                      ++asked_;
                      return owner;
                    }};
};

TEST_CASE("A connection is asked for once", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1).Syn()) == 11);
  CHECK(cache.TakeAsked());
  cache.owner = 0;
  CHECK(cache.Sent(Segment(1)) == 11);
  CHECK(cache.Sent(Segment(1).Flags(PH_TCP_RST)) == 11);
  CHECK_FALSE(cache.TakeAsked());
  cache.owner = 12;
  CHECK(cache.Sent(Segment(2)) == 12);
}

TEST_CASE("What has no owner is asked for again after ever longer pauses", "[owners]") {
  Fixture cache;
  CHECK(cache.Sent(Segment(1), 0) == 0);
  CHECK(cache.TakeAsked());
  int64_t now_ns = 0;
  for (const int64_t pause_ms :
       {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10'000, 10'000, 10'000}) {
    INFO(pause_ms);
    now_ns += pause_ms * kMs;
    CHECK(cache.Sent(Segment(1), now_ns - 1) == 0);
    CHECK_FALSE(cache.TakeAsked());
    CHECK(cache.Sent(Segment(1), now_ns) == 0);
    CHECK(cache.TakeAsked());
  }
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1), now_ns + 10'000 * kMs) == 11);
}

TEST_CASE("A FIN is asked for at once", "[owners]") {
  Fixture cache;
  CHECK(cache.Sent(Segment(1)) == 0);
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1)) == 0);
  CHECK(cache.Sent(Segment(1).Flags(PH_TCP_FIN | PH_TCP_ACK)) == 11);
}

TEST_CASE("A new SYN asks for a new owner", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1).Syn().Seq(100)) == 11);
  cache.owner = 12;
  SECTION("sent again it is the same connection") {
    CHECK(cache.Sent(Segment(1).Syn().Seq(100)) == 11);
  }
  SECTION("with a sequence number of its own it is another") {
    CHECK(cache.Sent(Segment(1).Syn().Seq(200)) == 12);
    CHECK(cache.Sent(Segment(1)) == 12);
  }
  SECTION("whoever had the tuple before does not own it when there is nobody") {
    cache.owner = 0;
    CHECK(cache.Sent(Segment(1).Syn().Seq(200)) == 0);
  }
}

TEST_CASE("A connection from outside is asked for with the answer to its SYN-ACK", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  CHECK(cache.Received(Answer(1).Syn()) == 0);
  CHECK(cache.Sent(Segment(1).SynAck().Seq(100)) == 0);
  CHECK(cache.Sent(Segment(1).SynAck().Seq(100)) == 0);
  CHECK_FALSE(cache.TakeAsked());
  SECTION("that gets the cookie, and all that is sent") {
    CHECK(cache.Received(Answer(1)) == 11);
    CHECK(cache.Received(Answer(1)) == 0);
    cache.owner = 12;
    CHECK(cache.Sent(Segment(1).SynAck().Seq(100)) == 11);
    CHECK(cache.Sent(Segment(1)) == 11);
    CHECK(cache.Received(Answer(1)) == 0);
  }
  SECTION("and again with the next packet that is sent") {
    cache.owner = 0;
    CHECK(cache.Received(Answer(1)) == 0);
    cache.owner = 11;
    CHECK(cache.Received(Answer(1)) == 0);
    CHECK(cache.Sent(Segment(1)) == 11);
  }
  SECTION("but not with a reset") {
    CHECK(cache.Received(Answer(1).Flags(PH_TCP_RST | PH_TCP_ACK)) == 0);
    CHECK_FALSE(cache.TakeAsked());
  }
  SECTION("another SYN-ACK is of another connection") {
    CHECK(cache.Received(Answer(1)) == 11);
    cache.owner = 12;
    CHECK(cache.Sent(Segment(1).SynAck().Seq(200)) == 0);
    CHECK(cache.Received(Answer(1)) == 12);
  }
}

TEST_CASE("After a SYN from outside the owner is asked for again", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1)) == 11);
  cache.owner = 12;
  CHECK(cache.Received(Answer(1)) == 0);
  CHECK(cache.Received(Answer(1).SynAck()) == 0);
  CHECK(cache.Sent(Segment(1)) == 11);
  CHECK(cache.Received(Answer(1).Syn()) == 0);
  CHECK(cache.Sent(Segment(1)) == 12);
}

TEST_CASE("A socket that is gone owns what it sent", "[owners]") {
  Fixture cache;
  SECTION("that has been seen") {
    CHECK(cache.Sent(Segment(1), 10) == 0);
    CHECK(cache.Departed(1, 11, 20));
    CHECK(cache.Sent(Segment(1), 15) == 11);
    CHECK_FALSE(cache.Departed(1, 12, 30));
  }
  SECTION("that is seen now") {
    CHECK_FALSE(cache.Departed(1, 11, 20));
    CHECK(cache.Sent(Segment(1).Syn().Seq(5), 10) == 11);
  }
  SECTION("that is seen now, of a connection from outside") {
    CHECK_FALSE(cache.Departed(1, 11, 20));
    CHECK(cache.Received(Answer(1).Syn(), 5) == 0);
    CHECK(cache.Sent(Segment(1).SynAck(), 6) == 0);
    CHECK(cache.Received(Answer(1), 7) == 11);
  }
  SECTION("not what is sent later") {
    CHECK_FALSE(cache.Departed(1, 11, 20));
    CHECK(cache.Sent(Segment(1).Syn().Seq(5), 21) == 0);
  }
  SECTION("not what another sent") {
    cache.owner = 12;
    CHECK(cache.Sent(Segment(1), 10) == 12);
    CHECK_FALSE(cache.Departed(1, 11, 20));
    CHECK(cache.Sent(Segment(1), 15) == 12);
  }
}

TEST_CASE("A reset of nobody's is not asked for", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  CHECK(cache.Sent(Segment(1).Flags(PH_TCP_RST | PH_TCP_ACK)) == 0);
  CHECK_FALSE(cache.TakeAsked());
}

TEST_CASE("The tuples that sent nothing for the longest time are forgotten", "[owners]") {
  Fixture cache;
  cache.owner = 11;
  cache.Sent(Segment(1));
  for (uint16_t port = 2; port < 100; ++port) {
    cache.Sent(Segment(port));
    if (port % 4 == 0) {
      cache.TakeAsked();
      CHECK(cache.Sent(Segment(1)) == 11);
      CHECK_FALSE(cache.TakeAsked());
    }
  }
  cache.TakeAsked();
  cache.Sent(Segment(2));
  CHECK(cache.TakeAsked());
}

}  // namespace
}  // namespace packet_headers::testing
