// The sockets whose capture is over.

#ifndef PACKET_HEADERS_USER_FLOW_RECENT_COOKIES_H_
#define PACKET_HEADERS_USER_FLOW_RECENT_COOKIES_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_set.h"

namespace packet_headers {

// A set of socket cookies that forgets the oldest beyond `most`. One thread.
class RecentCookies {
 public:
  explicit RecentCookies(size_t most) : most_(most) {}

  void Add(uint64_t cookie) {
    if (!set_.insert(cookie).second) return;
    order_.push_back(cookie);
    if (order_.size() <= most_) return;
    set_.erase(order_.front());
    order_.pop_front();
  }

  bool Contains(uint64_t cookie) const { return set_.contains(cookie); }

 private:
  const size_t most_;
  absl::flat_hash_set<uint64_t> set_;
  std::deque<uint64_t> order_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_RECENT_COOKIES_H_
