#include "user/output/file_job.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "user/base/clock.h"
#include "user/base/heartbeat.h"

namespace packet_headers {

void FileJobQueue::Put(FileJob job) {
  // Under the lock: who takes the last job may then destroy the queue.
  const std::scoped_lock lock(mutex_);
  jobs_.push_back(std::move(job));
  changed_.notify_one();
}

std::vector<FileJob> FileJobQueue::Take(size_t most) {
  const std::scoped_lock lock(mutex_);
  return TakeLocked(most);
}

std::vector<FileJob> FileJobQueue::WaitAndTake(size_t most, int64_t until_ns) {
  std::unique_lock lock(mutex_);
  const int64_t wait_ns = std::min(until_ns - MonotonicNow(), kLongestTurnMs * int64_t{1'000'000});
  changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns),
                    [this] { return closed_ || !jobs_.empty(); });
  return TakeLocked(most);
}

std::vector<FileJob> FileJobQueue::TakeLocked(size_t most) {
  const auto end = jobs_.begin() + std::min(most, jobs_.size());
  std::vector<FileJob> taken(std::make_move_iterator(jobs_.begin()), std::make_move_iterator(end));
  jobs_.erase(jobs_.begin(), end);
  return taken;
}

void FileJobQueue::Close() {
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

size_t FileJobQueue::size() const {
  const std::scoped_lock lock(mutex_);
  return jobs_.size();
}

bool FileJobQueue::is_over() const {
  const std::scoped_lock lock(mutex_);
  return closed_ && jobs_.empty();
}

}  // namespace packet_headers
