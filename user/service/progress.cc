#include "user/service/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "user/base/scaled.h"

namespace packet_headers {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kPeriod = kSecond / 5;

std::string TimeLeft(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 120 * 60) return absl::StrFormat("%.0f min", seconds / 60);
  return absl::StrFormat("%.0f h", std::min(seconds / 3600, 9999.0));
}

}  // namespace

std::string FormatProgress(int64_t bytes_read, int64_t size_bytes, uint64_t packets,
                           int64_t elapsed_ns) {
  const double elapsed = static_cast<double>(elapsed_ns) / kSecond;
  std::string line;
  if (size_bytes > 0) {
    // A file may grow while it is read.
    size_bytes = std::max(size_bytes, bytes_read);
    const double share = static_cast<double>(bytes_read) / size_bytes;
    line = absl::StrFormat("%d %%  %sB of %sB", static_cast<int>(share * 100), Scaled(bytes_read),
                           Scaled(size_bytes));
  } else {
    line = absl::StrCat(Scaled(bytes_read), "B");
  }
  if (elapsed_ns > 0) {
    absl::StrAppend(&line, "  ", ScaledCount(packets / elapsed), " packets/s");
  }
  if (elapsed_ns > 0 && bytes_read > 0 && bytes_read < size_bytes) {
    const double left = elapsed * (size_bytes - bytes_read) / bytes_read;
    absl::StrAppend(&line, "  ", TimeLeft(left), " left");
  }
  return line;
}

Progress::Progress(int fd, int64_t size_bytes, int64_t now_ns)
    : line_(fd), size_bytes_(size_bytes), start_ns_(now_ns), next_ns_(now_ns + kPeriod) {}

void Progress::Update(int64_t bytes_read, uint64_t packets, int64_t now_ns) {
  if (!line_.is_terminal() || now_ns < next_ns_) return;
  next_ns_ = now_ns + kPeriod;
  line_.Show(FormatProgress(bytes_read, size_bytes_, packets, now_ns - start_ns_));
}

}  // namespace packet_headers
