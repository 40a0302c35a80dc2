// What the daemon counted in the last minutes, for charts and for the line on a terminal.

#ifndef PACKET_HEADERS_USER_SERVICE_HISTORY_H_
#define PACKET_HEADERS_USER_SERVICE_HISTORY_H_

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace packet_headers {

// Counters, but for the gauges that are marked.
struct Sample {
  int64_t time_ns = 0;  // monotonic
  uint64_t packets_seen = 0;
  uint64_t packets_saved = 0;
  uint64_t packets_lost = 0;
  uint64_t flows_begun = 0;
  int64_t flows_open = 0;    // gauge
  int64_t memory_bytes = 0;  // gauge
};

// "39 flows  8.05 k packets/s  saved 78.1 k  lost 0  memory 3.56 MB": `now`, and the rate since
// `before`. 79 columns at most.
std::string FormatSample(const Sample& before, const Sample& now);

inline constexpr int64_t kSampleIntervalNs = 1'000'000'000;  // and no less

// Thread-safe.
class History {
 public:
  static constexpr int64_t kSpanNs = 120'000'000'000;

  // Returns the one before, or the same if it is the first.
  Sample Add(const Sample& sample) {
    const std::scoped_lock lock(mutex_);
    const Sample before = samples_.empty() ? sample : samples_.back();
    samples_.push_back(sample);
    while (samples_.front().time_ns < sample.time_ns - kSpanNs) samples_.pop_front();
    return before;
  }

  // The oldest first.
  std::vector<Sample> Get() const {
    const std::scoped_lock lock(mutex_);
    return {samples_.begin(), samples_.end()};
  }

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::deque<Sample> samples_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HISTORY_H_
