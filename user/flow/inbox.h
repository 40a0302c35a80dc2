// What other threads have for a shard.

#ifndef PACKET_HEADERS_USER_FLOW_INBOX_H_
#define PACKET_HEADERS_USER_FLOW_INBOX_H_

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "user/flow/announcements.h"

namespace packet_headers {

// Thread-safe. Nobody ever waits: what finds it full is refused.
class Inbox {
 public:
  explicit Inbox(size_t most) : most_(most) {}

  // Whether there was room.
  bool TryPut(KeyedAnnouncement announcement) {
    const std::scoped_lock lock(mutex_);
    if (waiting_.size() >= most_) return false;
    waiting_.push_back(std::move(announcement));
    return true;
  }

  // All, oldest first.
  std::vector<KeyedAnnouncement> Take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(waiting_, {});
  }

 private:
  const size_t most_;
  std::mutex mutex_;  // guards what follows
  std::vector<KeyedAnnouncement> waiting_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_INBOX_H_
