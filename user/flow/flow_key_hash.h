// Tables by 4-tuple that strangers can't aim at.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_KEY_HASH_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_KEY_HASH_H_

#include <cstddef>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "packet_headers/flow_key.h"

namespace packet_headers {

// The seed is secret. absl::Hash has none of its own that would do: all keys whose remote address
// begins with a certain constant have one hash, whatever the process.
class FlowKeyHash {
 public:
  explicit FlowKeyHash(const ph_hash_seed& seed) : seed_(seed) {}
  size_t operator()(const ph_flow_key& key) const { return ph_flow_hash(&key, &seed_); }

 private:
  ph_hash_seed seed_;
};

struct FlowKeyEqual {
  bool operator()(const ph_flow_key& a, const ph_flow_key& b) const {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
};

// Made with FlowKeyMap<Value>(0, FlowKeyHash(seed)).
template <typename Value>
using FlowKeyMap = absl::flat_hash_map<ph_flow_key, Value, FlowKeyHash, FlowKeyEqual>;

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_KEY_HASH_H_
