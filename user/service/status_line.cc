#include "user/service/status_line.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

// Takes what is on the line from the cursor on.
constexpr absl::string_view kEraseLine = "\r\x1b[K";

void Write(int fd, absl::string_view text) {
  // A terminal that takes nothing does without.
  [[maybe_unused]] const ssize_t written = write(fd, text.data(), text.size());
}

}  // namespace

StatusLine::StatusLine(int fd) : fd_(fd), is_terminal_(isatty(fd) == 1) {}

void StatusLine::Show(absl::string_view text) {
  if (!is_terminal_) return;
  is_drawn_ = true;
  Write(fd_, absl::StrCat(kEraseLine, text));
}

void StatusLine::Clear() {
  if (is_drawn_) Write(fd_, kEraseLine);
  is_drawn_ = false;
}

}  // namespace packet_headers
