#include "user/flow/syn_cache.h"

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

constexpr SynCache::Part kSynPart = SynCache::Part::kSyn;
constexpr SynCache::Part kSynAckPart = SynCache::Part::kSynAck;
constexpr int64_t kSlab = 256 << 10;
constexpr int64_t kMemory = 16 * kSlab;

std::string BytesOf(const ph_header_record& record) {
  return {reinterpret_cast<const char*>(&record), sizeof(record) + record.header_len};
}

// A SYN, each number's of another tuple.
class Syn {
 public:
  explicit Syn(uint16_t number, size_t option_bytes = 20, uint32_t xor_hash = 0) {
    ph_header_record about = {};
    about.time_ns = 1000 + number;
    about.ifindex = 2;
    about.vlan_tci = number;
    about.vlan_proto_be = ph_htons(PH_ETHERTYPE_VLAN);
    record_ = RecordOf(testing::Packet()
                           .Ethernet()
                           .Ipv4("198.51.100.7", "192.0.2.1")
                           .Tcp(number, 443)
                           .Syn()
                           .TcpOptions(option_bytes),
                       PH_INGRESS, about);
    reinterpret_cast<ph_header_record*>(record_.data())->flow_hash ^= xor_hash;
  }

  packet_headers::Packet packet() const { return *DecodeRecord(record_.data(), record_.size()); }
  std::string bytes() const { return BytesOf(*packet().record); }
  uint32_t hash() const { return packet().record->flow_hash; }

 private:
  std::vector<char> record_;
};

TEST_CASE("A SYN is taken out once, as it was put in", "[syn_cache]") {
  MemoryBudget budget(kMemory);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  SynCache syns(pool);
  for (const size_t option_bytes : {0, 20, 40}) {
    const Syn syn(1, option_bytes);
    CHECK_FALSE(syns.Take(syn.packet(), kSynPart));
    REQUIRE(syns.Add(syn.packet()));
    CHECK(syns.size() == 1);
    CHECK(syns.Contains(syn.packet(), kSynPart));
    CHECK_FALSE(syns.Take(Syn(2).packet(), kSynPart));
    CHECK_FALSE(syns.Take(syn.packet(), kSynAckPart));
    const std::optional<packet_headers::Packet> taken = syns.Take(syn.packet(), kSynPart);
    REQUIRE(taken);
    CHECK(BytesOf(*taken->record) == syn.bytes());
    CHECK(taken->key == syn.packet().key);
    CHECK(syns.size() == 0);
  }
}

TEST_CASE("Of either direction and link layer it is what was put in", "[syn_cache]") {
  MemoryBudget budget(kMemory);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  SynCache syns(pool);
  const std::vector<char> syn =
      RecordOf(testing::Packet().Ipv6("2001:db8::1", "2001:db8::2").Tcp(1, 443).Syn(), PH_INGRESS,
               {.time_ns = 1, .ifindex = 2, .link_layer = PH_LINK_IP});
  const std::vector<char> syn_ack =
      RecordOf(testing::Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.7").Tcp(443, 1).SynAck(),
               PH_EGRESS, {.time_ns = 3, .ifindex = 4});
  const auto comes_out = [&syns](const std::vector<char>& record, SynCache::Part part) {
    const auto packet = DecodeRecord(record.data(), record.size());
    REQUIRE(packet);
    REQUIRE(syns.Add(*packet));
    const std::optional<SynCache::About> oldest = syns.Oldest();
    REQUIRE(oldest);
    CHECK(oldest->ifindex == packet->record->ifindex);
    CHECK(oldest->direction == packet->direction());
    CHECK(oldest->part == part);
    const auto taken = syns.Take(*packet, part);
    REQUIRE(taken);
    CHECK(BytesOf(*taken->record) == BytesOf(*packet->record));
  };
  comes_out(syn, kSynPart);
  comes_out(syn_ack, kSynAckPart);
}

TEST_CASE("Tuples of one hash are told apart", "[syn_cache]") {
  MemoryBudget budget(kMemory);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  SynCache syns(pool);
  const Syn a(1);
  const Syn b(2, 20, Syn(2).hash() ^ a.hash());
  REQUIRE(a.hash() == b.hash());
  REQUIRE(syns.Add(a.packet()));
  CHECK_FALSE(syns.Take(b.packet(), kSynPart));
  REQUIRE(syns.Add(b.packet()));
  CHECK(BytesOf(*syns.Take(a.packet(), kSynPart)->record) == a.bytes());
  CHECK(BytesOf(*syns.Take(b.packet(), kSynPart)->record) == b.bytes());
}

TEST_CASE("A SYN takes little more than its headers", "[syn_cache]") {
  constexpr int kSyns = 10'000;
  MemoryBudget budget(kMemory);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  {
    SynCache syns(pool);
    for (uint16_t i = 0; i < kSyns; ++i) REQUIRE(syns.Add(Syn(i).packet()));
    CHECK(syns.bytes() <= budget.used_bytes());
    CHECK(syns.bytes() / kSyns <= static_cast<int64_t>(Syn(0).packet().record->header_len + 38));
  }
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("Without memory no SYN is taken, and those that are there stay", "[syn_cache]") {
  MemoryBudget budget(kSlab);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  SynCache syns(pool);
  uint16_t kept = 0;
  while (syns.Add(Syn(kept).packet())) ++kept;
  CHECK(kept > 50);
  CHECK(syns.size() == kept);
  CHECK_FALSE(syns.Take(Syn(kept).packet(), kSynPart));
  for (uint16_t i = 0; i < kept; ++i) CHECK(syns.Take(Syn(i).packet(), kSynPart));
  CHECK(syns.Add(Syn(kept).packet()));
}

TEST_CASE("Whatever comes and goes, the oldest SYN is the oldest", "[syn_cache][random]") {
  MemoryBudget budget(kMemory);
  ChunkPool pool(budget, /*max_idle_bytes=*/0);
  SynCache syns(pool);
  std::deque<Syn> expected;  // oldest first
  std::mt19937 random(GENERATE(1, 2, 3));
  uint16_t next = 0;
  for (int turn = 0; turn < 20'000; ++turn) {
    // More come than go, then more go than come.
    const bool grows = turn / 500 % 2 == 0;
    if (expected.empty() || random() % 3 < (grows ? 2 : 1)) {
      expected.emplace_back(next++, random() % 11 * 4);
      REQUIRE(syns.Add(expected.back().packet()));
    } else if (random() % 2 == 0) {
      const std::optional<SynCache::About> oldest = syns.Oldest();
      REQUIRE(oldest);
      CHECK(oldest->time_ns == expected.front().packet().time_ns());
      CHECK(oldest->ifindex == 2);
      CHECK(oldest->direction == PH_INGRESS);
      CHECK(oldest->part == kSynPart);
      CHECK(BytesOf(*syns.DecodeOldest().record) == expected.front().bytes());
      syns.RemoveOldest();
      expected.pop_front();
    } else {
      const auto any = expected.begin() + random() % expected.size();
      const auto taken = syns.Take(any->packet(), kSynPart);
      REQUIRE(taken);
      CHECK(BytesOf(*taken->record) == any->bytes());
      expected.erase(any);
    }
    CHECK(syns.size() == expected.size());
  }
  while (!expected.empty()) {
    CHECK(syns.Take(expected.back().packet(), kSynPart));
    expected.pop_back();
  }
  CHECK_FALSE(syns.Oldest());
  // What is being filled stays.
  CHECK(syns.bytes() <= static_cast<int64_t>(kLargestChunkBytes));
  CHECK(budget.used_bytes() <= kSlab);
}

}  // namespace
}  // namespace packet_headers::testing
