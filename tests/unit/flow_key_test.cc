#include "packet_headers/flow_key.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "packet_headers/kernel_config.h"
#include "packet_headers/parse.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "user/flow/flow_key_hash.h"

namespace packet_headers::testing {
namespace {

ph_hash_seed Seed(uint32_t number) {
  std::mt19937 random(number);
  ph_hash_seed seed;
  for (uint32_t& word : seed.words) word = static_cast<uint32_t>(random());
  return seed;
}

std::string Text(const ph_flow_key& key) {
  return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

ph_flow_key Parse(const Packet& packet, ph_direction direction) {
  const Bytes bytes = packet.bytes();
  const Parsed parsed = testing::Parse(bytes.data(), bytes.size(), PH_LINK_ETHERNET, direction);
  REQUIRE(parsed.counter == PH_CAPTURED);
  return parsed.key;
}

// Keys as they come in practice, which differ in few bits.
struct Workload {
  std::string name;
  std::vector<ph_flow_key> keys;
};

std::vector<Workload> Workloads() {
  Workload ports = {"one client, consecutive ports", {}};
  Workload clients = {"consecutive clients, one port", {}};
  Workload ipv6 = {"IPv6 clients of consecutive networks", {}};
  for (int i = 0; i < 1 << 15; i++) {
    const std::string high = std::to_string(i >> 8);
    const std::string low = std::to_string(i & 255);
    ports.keys.push_back(
        FlowKey("192.0.2.1", 443, "198.51.100.2", static_cast<uint16_t>(20000 + i)));
    clients.keys.push_back(FlowKey("192.0.2.1", 443, "10.1." + high + "." + low, 40000));
    ipv6.keys.push_back(FlowKey("2001:db8::1", 443, "2001:db8:" + high + ":" + low + "::1", 40000));
  }
  return {ports, clients, ipv6};
}

TEST_CASE("Both directions of a flow have the key of its local socket", "[flow_key]") {
  struct Case {
    std::string local;
    std::string remote;
    Packet egress;
    Packet ingress;
  };
  const std::vector<Case> cases = {
      {"192.0.2.1", "198.51.100.2",
       Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80),
       Packet().Ethernet().Ipv4("198.51.100.2", "192.0.2.1").Tcp(80, 1234)},
      {"2001:db8::1", "2001:db8::2",
       Packet().Ethernet().Ipv6("2001:db8::1", "2001:db8::2").Tcp(1234, 80),
       Packet().Ethernet().Ipv6("2001:db8::2", "2001:db8::1").Tcp(80, 1234)},
  };
  for (const Case& c : cases) {
    const std::string key = Text(FlowKey(c.local, 1234, c.remote, 80));
    CHECK(Text(Parse(c.egress, PH_EGRESS)) == key);
    CHECK(Text(Parse(c.ingress, PH_INGRESS)) == key);
  }
}

TEST_CASE("The two sockets of a loopback connection have two keys", "[flow_key]") {
  const Packet packet = Packet().Ethernet().Ipv4("127.0.0.1", "127.0.0.1").Tcp(1234, 80);
  CHECK(Text(Parse(packet, PH_EGRESS)) == Text(FlowKey("127.0.0.1", 1234, "127.0.0.1", 80)));
  CHECK(Text(Parse(packet, PH_INGRESS)) == Text(FlowKey("127.0.0.1", 80, "127.0.0.1", 1234)));
}

TEST_CASE("An IPv4 address is mapped into IPv6", "[flow_key]") {
  const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  const ph_flow_key key =
      Parse(Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80), PH_EGRESS);
  CHECK(std::equal(key.local_addr, key.local_addr + 16, mapped));
  CHECK(key.local_port_be == htons(1234));
  CHECK(key.remote_port_be == htons(80));

  const Packet same_in_ipv6 =
      Packet().Ethernet().Ipv6("::ffff:192.0.2.1", "::ffff:198.51.100.2").Tcp(1234, 80);
  CHECK(Text(Parse(same_in_ipv6, PH_EGRESS)) == Text(key));
}

// Writes the members of a key and hashes it, all in one function: where the hash reads the members
// as another type than they have, an optimizer may take the stores for dead.
[[gnu::noinline, gnu::flatten]] uint32_t HashOfPorts(uint16_t local_be, uint16_t remote_be,
                                                     const ph_hash_seed& seed) {
  ph_flow_key key = {};
  key.local_port_be = local_be;
  key.remote_port_be = remote_be;
  return ph_flow_hash(&key, &seed);
}

TEST_CASE("Equal keys have equal hashes, however they were made", "[flow_key]") {
  const ph_hash_seed seed = Seed(1);
  for (uint16_t port = 1; port < 1000; port++) {
    const uint32_t hash = HashOfPorts(htons(port), htons(port), seed);
    const ph_flow_key from_text = FlowKey("::", port, "::", port);
    const Packet packet = Packet().Ethernet().Ipv6("::", "::").Tcp(port, port);
    const ph_flow_key parsed = Parse(packet, PH_EGRESS);
    ph_flow_key copied;
    std::memcpy(&copied, &parsed, sizeof(copied));
    CHECK(ph_flow_hash(&from_text, &seed) == hash);
    CHECK(ph_flow_hash(&parsed, &seed) == hash);
    CHECK(ph_flow_hash(&copied, &seed) == hash);
  }
}

TEST_CASE("Every bit of a key counts", "[flow_key]") {
  const ph_hash_seed seed = Seed(2);
  const ph_flow_key key = FlowKey("2001:db8::1", 1234, "2001:db8::2", 80);
  std::unordered_set<uint32_t> hashes = {ph_flow_hash(&key, &seed)};
  for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
    ph_flow_key other = key;
    reinterpret_cast<uint8_t*>(&other)[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    hashes.insert(ph_flow_hash(&other, &seed));
  }
  CHECK(hashes.size() == 1 + 8 * sizeof(key));
}

TEST_CASE("Hashes seldom collide", "[flow_key]") {
  const ph_hash_seed seed = Seed(3);
  for (const Workload& workload : Workloads()) {
    INFO(workload.name);
    std::unordered_set<uint32_t> hashes;
    for (const ph_flow_key& key : workload.keys) hashes.insert(ph_flow_hash(&key, &seed));
    // 2^15 random numbers of 32 bits have one collision in eight tries.
    CHECK(hashes.size() + 3 >= workload.keys.size());
  }
}

TEST_CASE("A seed says where a flow goes", "[flow_key]") {
  const ph_hash_seed one = Seed(4);
  const ph_hash_seed other = Seed(5);
  for (const Workload& workload : Workloads()) {
    INFO(workload.name);
    int equal_hashes = 0;
    int equal_shards = 0;
    for (const ph_flow_key& key : workload.keys) {
      const uint32_t hash = ph_flow_hash(&key, &one);
      const uint32_t other_hash = ph_flow_hash(&key, &other);
      equal_hashes += hash == other_hash;
      equal_shards += ph_shard_of(hash, 16) == ph_shard_of(other_hash, 16);
    }
    CHECK(equal_hashes <= 1);
    const double expected = static_cast<double>(workload.keys.size()) / 16;
    CHECK(std::abs(equal_shards - expected) < expected / 5);
  }
}

TEST_CASE("Flows are spread evenly over the shards", "[flow_key]") {
  for (const Workload& workload : Workloads()) {
    for (const uint32_t shards : {2U, 3U, 8U, 24U, uint32_t{PH_MAX_SHARDS}}) {
      for (uint32_t number = 10; number < 20; number++) {
        INFO(workload.name << ", " << shards << " shards, seed " << number);
        const ph_hash_seed seed = Seed(number);
        std::vector<double> flows(shards);
        for (const ph_flow_key& key : workload.keys) {
          flows.at(ph_shard_of(ph_flow_hash(&key, &seed), shards))++;
        }
        // Six standard deviations of a fair draw.
        const double mean = static_cast<double>(workload.keys.size()) / shards;
        const auto [least, most] = std::minmax_element(flows.begin(), flows.end());
        CHECK(mean - *least < 6 * std::sqrt(mean));
        CHECK(*most - mean < 6 * std::sqrt(mean));
      }
    }
  }
}

// How many keys are in the fullest of 2^bits buckets.
size_t FullestBucket(const std::vector<ph_flow_key>& keys, const ph_hash_seed& seed, int bits) {
  std::vector<size_t> buckets(size_t{1} << bits);
  size_t fullest = 0;
  for (const ph_flow_key& key : keys) {
    // As flat_hash_set does: seven bits are the tag, those above them the place.
    const size_t place = (FlowKeyHash(seed)(key) >> 7) & (buckets.size() - 1);
    fullest = std::max(fullest, ++buckets[place]);
  }
  return fullest;
}

TEST_CASE("Who does not know the seed can't aim at a shard or a bucket", "[flow_key]") {
  constexpr int kBits = 12;
  constexpr uint32_t kShards = 16;
  constexpr size_t kKeys = 20'000;
  std::vector<Workload> families = {{"one bucket under another seed", {}},
                                    {"one shard under another seed", {}},
                                    {"one remote port, hosts of a /24, all ports", {}},
                                    {"what absl::Hash can't tell apart", {}},
                                    {"only high bits of the address vary", {}}};
  const ph_hash_seed known = Seed(99);
  std::mt19937 random(20240229);
  const auto random_key = [&random] {
    ph_flow_key key = FlowKey("2001:db8::1", 443, "2001:db8::2", 1);
    const uint32_t words[3] = {static_cast<uint32_t>(random()), static_cast<uint32_t>(random()),
                               static_cast<uint32_t>(random())};
    std::memcpy(key.remote_addr + 8, words, 8);
    std::memcpy(&key.remote_port_be, &words[2], 2);
    return key;
  };
  while (families[0].keys.size() < kKeys / 40) {
    const ph_flow_key key = random_key();
    if ((ph_flow_hash(&key, &known) >> 7 & ((1 << kBits) - 1)) == 7)
      families[0].keys.push_back(key);
  }
  while (families[1].keys.size() < kKeys) {
    const ph_flow_key key = random_key();
    if (ph_shard_of(ph_flow_hash(&key, &known), kShards) == 3) families[1].keys.push_back(key);
  }
  for (uint32_t i = 0; i < kKeys; i++) {
    families[2].keys.push_back(FlowKey("192.0.2.1", static_cast<uint16_t>(i / 256 * 7),
                                       "198.51.100." + std::to_string(i % 256), 80));
    ph_flow_key key = FlowKey("2001:db8::1", 443, "2001:db8::2", 1);
    const uint64_t salt = 0x13198a2e03707344;
    std::memcpy(key.remote_addr, &salt, sizeof(salt));
    std::memcpy(key.remote_addr + 8, &i, sizeof(i));
    families[3].keys.push_back(key);
    key = FlowKey("2001:db8::1", 443, "::", 1);
    const uint32_t high = i << 17;
    std::memcpy(key.remote_addr, &high, sizeof(high));
    families[4].keys.push_back(key);
  }
  for (const Workload& family : families) {
    for (uint32_t number = 10; number < 30; number++) {
      INFO(family.name << ", seed " << number);
      const ph_hash_seed seed = Seed(number);
      std::vector<double> flows(kShards);
      for (const ph_flow_key& key : family.keys) {
        flows[ph_shard_of(ph_flow_hash(&key, &seed), kShards)]++;
      }
      const double mean = static_cast<double>(family.keys.size()) / kShards;
      CHECK(*std::max_element(flows.begin(), flows.end()) - mean < 6 * std::sqrt(mean));
      // At 5 keys a bucket, more than 25 in one come once in 10^6 draws of all buckets.
      CHECK(FullestBucket(family.keys, seed, kBits) <= 25);
    }
  }
}

TEST_CASE("A shard is one of the shards", "[flow_key]") {
  for (uint32_t shards = 1; shards <= PH_MAX_SHARDS; shards++) {
    CHECK(ph_shard_of(0, shards) == 0);
    CHECK(ph_shard_of(UINT32_MAX, shards) == shards - 1);
    for (uint32_t hash = 0; hash < UINT32_MAX - 0x10001; hash += 0x10001) {
      if (ph_shard_of(hash, shards) >= shards) FAIL(hash << " of " << shards);
    }
  }
}

}  // namespace
}  // namespace packet_headers::testing
