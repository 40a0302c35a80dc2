// How far the reading of files has come.

#ifndef PACKET_HEADERS_USER_SERVICE_PROGRESS_H_
#define PACKET_HEADERS_USER_SERVICE_PROGRESS_H_

#include <cstdint>
#include <string>

#include "user/service/status_line.h"

namespace packet_headers {

// "34 %  812 MB of 2.40 GB  1.21 M packets/s  12 s left", 79 columns at most, without what can't be
// said: `size_bytes` is 0 where it is not known.
std::string FormatProgress(int64_t bytes_read, int64_t size_bytes, uint64_t packets,
                           int64_t elapsed_ns);

// That, on a terminal. One thread.
class Progress {
 public:
  // Of reading `size_bytes`, 0 where that is not known. Draws on `fd`, not its own, if that is a
  // terminal.
  Progress(int fd, int64_t size_bytes, int64_t now_ns);

  // Draws the line, five times a second at most.
  void Update(int64_t bytes_read, uint64_t packets, int64_t now_ns);

  // Takes the line away, before something else is written.
  void Clear() { line_.Clear(); }

 private:
  StatusLine line_;
  const int64_t size_bytes_;
  const int64_t start_ns_;
  int64_t next_ns_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_PROGRESS_H_
