#include "user/service/health.h"

#include <cstdint>
#include <string>

#include "tests/support/catch.h"
#include "user/base/clock.h"

namespace packet_headers {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// One who looks, a quick thread and a patient one, which have all just beaten.
struct Fixture {
  Heartbeat looking{"main"};
  Heartbeat shard{"shard 0"};
  Heartbeat publisher{"publisher"};
  const Health health{
      {{&looking, 10 * kSecond}, {&shard, 10 * kSecond}, {&publisher, 60 * kSecond}}};
  const int64_t begin_ns = MonotonicNow();

  std::string After(int64_t seconds) const {
    return health.Stopped(looking, begin_ns + seconds * kSecond);
  }
};

TEST_CASE_METHOD(Fixture, "Threads that beat are well", "[health]") {
  CHECK(After(0).empty());
  CHECK(After(9).empty());
}

TEST_CASE_METHOD(Fixture, "Who does not beat is named, each after its own patience", "[health]") {
  looking.Rest();
  CHECK(After(11) == "shard 0 (11 s)");
  CHECK(After(59) == "shard 0 (59 s)");
  CHECK(After(61) == "shard 0 (61 s), publisher (61 s)");
}

TEST_CASE_METHOD(Fixture, "Who looks is watched like the others", "[health]") {
  shard.Rest();
  CHECK(After(11) == "main (11 s)");
}

TEST_CASE_METHOD(Fixture, "A stop of the whole process is nobody's", "[health]") {
  looking.Beat(begin_ns + 100 * kSecond);
  CHECK(After(100).empty());
  // Who then still does not beat is missed.
  for (int64_t second = 101; second <= 110; ++second) {
    looking.Beat(begin_ns + second * kSecond);
    CHECK(After(second).empty());
  }
  looking.Beat(begin_ns + 111 * kSecond);
  CHECK(After(111) == "shard 0 (111 s)");
}

TEST_CASE_METHOD(Fixture, "A thread that has ended as it should has not stopped", "[health]") {
  looking.Rest();
  shard.Rest();
  publisher.Rest();
  CHECK(After(3600).empty());
}

}  // namespace
}  // namespace packet_headers
