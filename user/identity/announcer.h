// From what tcp-info says to the shards.

#ifndef PACKET_HEADERS_USER_IDENTITY_ANNOUNCER_H_
#define PACKET_HEADERS_USER_IDENTITY_ANNOUNCER_H_

#include <atomic>
#include <cstdint>
#include <functional>

#include "packet_headers/flow_key.h"
#include "user/flow/announcements.h"
#include "user/identity/uuid.h"

namespace packet_headers {

// One thread announces, any reads the counts.
class Announcer {
 public:
  // Hands an announcement to a shard, in [0, shards); returns whether it had room.
  using Put = std::function<bool(uint32_t shard, KeyedAnnouncement)>;

  // `prefix` outlives it, and learns from the first UUID that ends in its socket's cookie.
  Announcer(const ph_hash_seed& seed, uint32_t shards, UuidPrefix& prefix, Put put)
      : seed_(seed), shards_(shards), prefix_(prefix), put_(std::move(put)) {}

  void Announce(Announcement announcement);

  // UUIDs that do not end in the socket's cookie. They name flows all the same.
  uint64_t disagreeing() const { return disagreeing_.load(std::memory_order_relaxed); }
  // Announcements for which a shard had no room.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  const ph_hash_seed seed_;
  const uint32_t shards_;
  UuidPrefix& prefix_;
  const Put put_;
  bool has_learned_ = false;
  std::atomic<uint64_t> disagreeing_{0};
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_ANNOUNCER_H_
