#include "user/service/progress.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace packet_headers {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kPeriod = kSecond / 5;

// Takes what is on the line from the cursor on.
constexpr absl::string_view kEraseLine = "\r\x1b[K";

// Three digits and a prefix of powers of 1000, for a unit to follow: "812 ", "2.40 G".
std::string Scaled(double value) {
  static constexpr absl::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  const absl::string_view* prefix = kPrefixes;
  // What would be rounded to four digits goes to the next prefix.
  for (; value >= 999.5 && prefix != std::end(kPrefixes) - 1; ++prefix) value /= 1000;
  const bool is_whole = prefix == kPrefixes || value >= 99.95;
  return absl::StrFormat("%.*f %s", is_whole ? 0 : value >= 9.995 ? 1 : 2, value, *prefix);
}

std::string TimeLeft(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 120 * 60) return absl::StrFormat("%.0f min", seconds / 60);
  return absl::StrFormat("%.0f h", std::min(seconds / 3600, 9999.0));
}

void Write(int fd, absl::string_view text) {
  // A terminal that takes nothing does without.
  [[maybe_unused]] const ssize_t written = write(fd, text.data(), text.size());
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
    const std::string rate = Scaled(packets / elapsed);
    absl::StrAppend(&line, "  ", rate, rate.back() == ' ' ? "" : " ", "packets/s");
  }
  if (elapsed_ns > 0 && bytes_read > 0 && bytes_read < size_bytes) {
    const double left = elapsed * (size_bytes - bytes_read) / bytes_read;
    absl::StrAppend(&line, "  ", TimeLeft(left), " left");
  }
  return line;
}

Progress::Progress(int fd, int64_t size_bytes, int64_t now_ns)
    : fd_(fd),
      is_terminal_(isatty(fd) == 1),
      size_bytes_(size_bytes),
      start_ns_(now_ns),
      next_ns_(now_ns + kPeriod) {}

void Progress::Update(int64_t bytes_read, uint64_t packets, int64_t now_ns) {
  if (!is_terminal_ || now_ns < next_ns_) return;
  next_ns_ = now_ns + kPeriod;
  is_drawn_ = true;
  Write(fd_, absl::StrCat(kEraseLine,
                          FormatProgress(bytes_read, size_bytes_, packets, now_ns - start_ns_)));
}

void Progress::Clear() {
  if (is_drawn_) Write(fd_, kEraseLine);
  is_drawn_ = false;
}

}  // namespace packet_headers
