// A disk that is full for large files.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_
#define PACKET_HEADERS_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_

#include <sys/resource.h>

#include <csignal>

#include "tests/support/catch.h"

namespace packet_headers::testing {

// While it lives, no file of this process grows beyond `bytes`: writing fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*const handler_)(int);
  rlimit before_;
};

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_
