// A line on a terminal that is drawn over and over.

#ifndef PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_
#define PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace packet_headers {

// One thread. Does nothing where `fd`, which is not its own, is no terminal.
class StatusLine {
 public:
  explicit StatusLine(int fd);
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;
  ~StatusLine() { Clear(); }

  bool is_terminal() const { return is_terminal_; }

  // Draws it in the place of the one before.
  void Show(absl::string_view text);

  // Takes it away, before something else is written.
  void Clear();

 private:
  const int fd_;
  const bool is_terminal_;
  bool is_drawn_ = false;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_STATUS_LINE_H_
