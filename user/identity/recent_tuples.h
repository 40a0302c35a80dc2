// What is remembered of the tuples that were used last.

#ifndef PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_
#define PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_

#include <cstddef>
#include <utility>

#include "packet_headers/flow_key.h"
#include "user/flow/flow_key_hash.h"

namespace packet_headers {

// A map of at most `most` tuples that forgets those that were not used for the longest time, half
// of all at once. One thread.
template <typename Value>
class RecentTuples {
 public:
  RecentTuples(size_t most, const ph_hash_seed& seed)
      : most_(most), young_(0, FlowKeyHash(seed)), old_(0, FlowKeyHash(seed)) {}

  // Null if there is none. Valid until the next call.
  Value* Find(const ph_flow_key& key) {
    if (const auto found = young_.find(key); found != young_.end()) return &found->second;
    const auto found = old_.find(key);
    if (found == old_.end()) return nullptr;
    const Value value = found->second;
    old_.erase(found);
    return &(Add(key) = value);
  }

  Value& FindOrAdd(const ph_flow_key& key) {
    Value* const found = Find(key);
    return found != nullptr ? *found : Add(key);
  }

 private:
  Value& Add(const ph_flow_key& key) {
    if (young_.size() >= most_ / 2) {
      std::swap(young_, old_);
      young_.clear();
    }
    return young_[key];
  }

  const size_t most_;
  FlowKeyMap<Value> young_;
  FlowKeyMap<Value> old_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_RECENT_TUPLES_H_
