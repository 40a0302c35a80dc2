// What other threads have for a shard.

#ifndef PACKET_HEADERS_USER_FLOW_INBOX_H_
#define PACKET_HEADERS_USER_FLOW_INBOX_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "user/flow/announcements.h"

namespace packet_headers {

// Thread-safe. Nobody ever waits: what finds it full is refused.
class Inbox {
 public:
  explicit Inbox(size_t most) : most_(most) {}

  // Whether there was room.
  bool TryPut(KeyedAnnouncement announcement) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (waiting_.size() >= most_) return false;
    waiting_.push_back(std::move(announcement));
    return true;
  }

  // All, oldest first.
  std::vector<KeyedAnnouncement> Take() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return std::exchange(waiting_, {});
  }

 private:
  const size_t most_;
  absl::Mutex mutex_;
  std::vector<KeyedAnnouncement> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_INBOX_H_
