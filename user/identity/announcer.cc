#include "user/identity/announcer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "spdlog/spdlog.h"

namespace packet_headers {
namespace {

ph_flow_key Reversed(ph_flow_key key) {
  std::swap(key.local_addr, key.remote_addr);
  std::swap(key.local_port_be, key.remote_port_be);
  return key;
}

}  // namespace

void Announcer::Announce(Announcement announcement) {
  const absl::string_view prefix = PrefixOf(announcement.uuid, announcement.cookie);
  if (announcement.cookie == 0) {
    // Recorded or made without it.
  } else if (prefix.empty()) {
    ++disagreeing_;
  } else if (!std::exchange(has_learned_, true) && prefix_.Learn(std::string(prefix))) {
    spdlog::info("tcp-info's UUIDs begin with {}: from now on ours, too", std::string(prefix));
  }
  const auto shared = std::make_shared<const Announcement>(std::move(announcement));
  for (const ph_flow_key& key : {shared->key, Reversed(shared->key)}) {
    const uint32_t hash = ph_flow_hash(&key, &seed_);
    if (!put_(ph_shard_of(hash, shards_), {key, hash, shared})) ++dropped_;
  }
}

}  // namespace packet_headers
