#include "user/service/status_line.h"

#include <poll.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "user/base/screen.h"

namespace packet_headers {
namespace {

// Takes what is on the line from the cursor on.
constexpr absl::string_view kEraseLine = "\r\x1b[K";

}  // namespace

// The group is what it will be: a shell sets it before it starts a program.
StatusLine::StatusLine(int fd) : fd_(fd), group_(getpgrp()), is_terminal_(IsScreen(fd)) {}

void StatusLine::Draw(absl::string_view text) const {
  const pid_t foreground = tcgetpgrp(fd_);  // negative: the terminal is not the one of our session
  pollfd terminal = {fd_, POLLOUT, 0};
  if ((foreground >= 0 && foreground != group_) || poll(&terminal, 1, /*timeout=*/0) != 1) return;
  [[maybe_unused]] const ssize_t written = write(fd_, text.data(), text.size());
}

void StatusLine::Show(absl::string_view text) {
  if (!is_terminal_) return;
  is_drawn_ = true;
  // What goes on in the next line would stay there.
  const size_t columns = SizeOfScreen(fd_).ws_col;
  Draw(absl::StrCat(kEraseLine, columns == 0 ? text : text.substr(0, columns - 1)));
}

void StatusLine::Clear() {
  if (is_drawn_) Draw(kEraseLine);
  is_drawn_ = false;
}

}  // namespace packet_headers
