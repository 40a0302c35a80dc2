#include "user/identity/announcer.h"

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

Announcement Of(const std::string& uuid, uint64_t cookie, uint16_t port = 50000) {
  Announcement announcement;
  announcement.key = FlowKey("192.0.2.1", 443, "198.51.100.7", port);
  announcement.cookie = cookie;
  announcement.uuid = uuid;
  return announcement;
}

TEST_CASE("An announcement goes to the shards of both ways to read it", "[announcer]") {
  UuidPrefix prefix("own");
  std::vector<std::pair<uint32_t, KeyedAnnouncement>> put;
  Announcer announcer(kSeed, 7, prefix, [&](uint32_t shard, KeyedAnnouncement keyed) {
    put.emplace_back(shard, std::move(keyed));
    return true;
  });
  std::set<uint32_t> shards;
  for (uint16_t port = 1; port <= 50; ++port) {
    put.clear();
    announcer.Announce(Of("x", 1, port));
    REQUIRE(put.size() == 2);
    const ph_flow_key keys[] = {FlowKey("192.0.2.1", 443, "198.51.100.7", port),
                                FlowKey("198.51.100.7", port, "192.0.2.1", 443)};
    for (int way = 0; way < 2; ++way) {
      const auto& [shard, keyed] = put[way];
      CHECK(std::memcmp(&keyed.key, &keys[way], sizeof(ph_flow_key)) == 0);
      CHECK(keyed.flow_hash == ph_flow_hash(&keys[way], &kSeed));
      CHECK(shard == ph_shard_of(keyed.flow_hash, 7));
      CHECK(keyed.announcement->uuid == "x");
      shards.insert(shard);
    }
  }
  CHECK(shards.size() == 7);
  CHECK(announcer.dropped() == 0);
}

TEST_CASE("What a full shard refuses is counted", "[announcer]") {
  UuidPrefix prefix("own");
  Announcer announcer(kSeed, 1, prefix, [](uint32_t, KeyedAnnouncement) { return false; });
  announcer.Announce(Of("x", 1));
  CHECK(announcer.dropped() == 2);
}

TEST_CASE("The prefix is that of the first UUID that ends in its cookie", "[announcer]") {
  UuidPrefix prefix("own");
  Announcer announcer(kSeed, 1, prefix, [](uint32_t, KeyedAnnouncement) { return true; });
  announcer.Announce(Of("host_1_0000000000000007", 8));
  announcer.Announce(Of("anything", 7));
  CHECK(prefix.Get() == "own");
  CHECK(announcer.disagreeing() == 2);
  announcer.Announce(Of("host_1_0000000000000007", 7));
  CHECK(prefix.Get() == "host_1");
  announcer.Announce(Of("other_0000000000000009", 9));
  CHECK(prefix.Get() == "host_1");
  CHECK(announcer.disagreeing() == 2);
}

}  // namespace
}  // namespace packet_headers::testing
