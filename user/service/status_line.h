// A line on a terminal that is drawn over and over.

#ifndef PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_
#define PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_

#include <sys/types.h>

#include "absl/strings/string_view.h"

namespace packet_headers {

// One thread. Does nothing where `fd`, which is not its own, is no terminal or a dumb one, and
// while it takes nothing (Ctrl-S) or another job has it: it neither waits nor gets the process
// stopped.
class StatusLine {
 public:
  explicit StatusLine(int fd);
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;
  ~StatusLine() { Clear(); }

  bool is_terminal() const { return is_terminal_; }

  // Draws it in the place of the one before, as much as there is room for.
  void Show(absl::string_view text);

  // Takes it away, before something else is written.
  void Clear();

 private:
  void Draw(absl::string_view text) const;

  const int fd_;
  const pid_t group_;
  const bool is_terminal_;
  bool is_drawn_ = false;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_
