// A file descriptor that is closed with its owner.

#ifndef PACKET_HEADERS_USER_BASE_UNIQUE_FD_H_
#define PACKET_HEADERS_USER_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace packet_headers {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  // Gives it to somebody else, who closes it.
  int Release() { return std::exchange(fd_, -1); }

  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_UNIQUE_FD_H_
