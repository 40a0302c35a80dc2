// What is remembered of the tuples that were used last.

#ifndef PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_
#define PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "packet_headers/flow_key.h"

namespace packet_headers {

// A map of at most `most` tuples that forgets those that were not used for the longest time, half
// of all at once. One thread.
template <typename Value>
class RecentTuples {
 public:
  explicit RecentTuples(size_t most) : most_(most) {}

  // Null if there is none. Valid until the next call.
  Value* Find(const ph_flow_key& key) {
    const Key bytes = BytesOf(key);
    if (const auto found = young_.find(bytes); found != young_.end()) return &found->second;
    const auto found = old_.find(bytes);
    if (found == old_.end()) return nullptr;
    const Value value = found->second;
    old_.erase(found);
    return &(Add(bytes) = value);
  }

  Value& FindOrAdd(const ph_flow_key& key) {
    Value* const found = Find(key);
    return found != nullptr ? *found : Add(BytesOf(key));
  }

 private:
  using Key = std::array<uint8_t, sizeof(ph_flow_key)>;

  static Key BytesOf(const ph_flow_key& key) {
    Key bytes;
    std::memcpy(bytes.data(), &key, bytes.size());
    return bytes;
  }

  Value& Add(const Key& bytes) {
    if (young_.size() >= most_ / 2) {
      std::swap(young_, old_);
      young_.clear();
    }
    return young_[bytes];
  }

  const size_t most_;
  absl::flat_hash_map<Key, Value> young_;
  absl::flat_hash_map<Key, Value> old_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_
