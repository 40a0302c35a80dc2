// News that may come at any pace, and a log that it must not fill.

#ifndef PACKET_HEADERS_USER_BASE_PACED_LOG_H_
#define PACKET_HEADERS_USER_BASE_PACED_LOG_H_

#include <cstdint>
#include <limits>
#include <string>

#include "spdlog/spdlog.h"

namespace packet_headers {

// Logs a few lines at once, then one every ten seconds; the same line again after a minute. A line
// that comes too soon waits for its turn, or for a newer one to take its place: so what the log
// says last is true, if somewhat late. One thread; times are monotonic.
class PacedLog {
 public:
  void Say(spdlog::level::level_enum level, std::string line, int64_t now_ns);

  // Logs the line that waits, if its turn has come.
  void CatchUp(int64_t now_ns);

  // When that is; the end of time if no line waits.
  int64_t due_ns() const { return due_ns_; }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  int64_t due_ns_ = kNever;
  spdlog::level::level_enum level_ = spdlog::level::info;
  std::string waiting_;
  uint64_t left_out_ = 0;  // lines whose place the waiting one took

  int64_t paid_until_ns_ = 0;  // each line moves it on by ten seconds
  int64_t last_ns_ = 0;
  std::string last_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_PACED_LOG_H_
