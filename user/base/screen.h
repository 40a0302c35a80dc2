// Terminals that people look at.

#ifndef PACKET_HEADERS_USER_BASE_SCREEN_H_
#define PACKET_HEADERS_USER_BASE_SCREEN_H_

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace packet_headers {

// Whether there is a terminal that obeys control sequences.
inline bool IsScreen(int fd) {
  const char* const type = std::getenv("TERM");
  return isatty(fd) == 1 && (type == nullptr || std::string_view(type) != "dumb");
}

// In characters; 0 where the terminal doesn't know.
inline winsize SizeOfScreen(int fd) {
  winsize size = {};
  ioctl(fd, TIOCGWINSZ, &size);
  return size;
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_SCREEN_H_
