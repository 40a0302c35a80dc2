// The files that were published last, for people to look at.

#ifndef PACKET_HEADERS_USER_OUTPUT_RECENT_FILES_H_
#define PACKET_HEADERS_USER_OUTPUT_RECENT_FILES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace packet_headers {

struct RecentFile {
  std::string path;  // beneath the data directory
  int64_t bytes;     // on the disk
  uint64_t packets;
  int64_t published_ns;  // monotonic
};

// Thread-safe.
class RecentFiles {
 public:
  static constexpr size_t kMost = 12;

  void Add(RecentFile file) {
    const std::scoped_lock lock(mutex_);
    if (files_.size() == kMost) files_.pop_back();
    files_.push_front(std::move(file));
  }

  // The latest first.
  std::vector<RecentFile> Get() const {
    const std::scoped_lock lock(mutex_);
    return {files_.begin(), files_.end()};
  }

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::deque<RecentFile> files_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_RECENT_FILES_H_
