#include "user/base/paced_log.h"

#include <algorithm>
#include <utility>

namespace packet_headers {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kNsPerLine = 10 * kSecondNs;
constexpr int64_t kCreditNs = 5 * kNsPerLine;  // six lines at once
constexpr int64_t kRepeatNs = 60 * kSecondNs;

}  // namespace

void PacedLog::Say(spdlog::level::level_enum level, std::string line, int64_t now_ns) {
  if (due_ns_ != kNever) ++left_out_;
  level_ = level;
  waiting_ = std::move(line);
  due_ns_ = paid_until_ns_ - kCreditNs;
  if (waiting_ == last_) due_ns_ = std::max(due_ns_, last_ns_ + kRepeatNs);
  CatchUp(now_ns);
}

void PacedLog::CatchUp(int64_t now_ns) {
  if (now_ns < due_ns_) return;
  if (left_out_ == 0) {
    spdlog::log(level_, "{}", waiting_);
  } else {
    spdlog::log(level_, "{} ({} lines left out before)", waiting_, left_out_);
  }
  paid_until_ns_ = std::max(paid_until_ns_, now_ns) + kNsPerLine;
  last_ns_ = now_ns;
  last_ = std::move(waiting_);
  left_out_ = 0;
  due_ns_ = kNever;
}

}  // namespace packet_headers
