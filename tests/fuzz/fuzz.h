// What the fuzz targets share. Each target is one file: it takes the bytes that libFuzzer made up,
// and crashes where something does not hold that must.

#ifndef PACKET_HEADERS_TESTS_FUZZ_FUZZ_H_
#define PACKET_HEADERS_TESTS_FUZZ_FUZZ_H_

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

// Says which condition does not hold and crashes, so that libFuzzer keeps the input.
#define FUZZ_CHECK(condition)                                                        \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)

namespace packet_headers::fuzz {

// The input from front to back; behind its end are zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  uint8_t Byte() { return Number<uint8_t>(); }
  template <typename T>
  T Number() {
    T number = {};
    const absl::string_view bytes = Bytes(sizeof(number));
    std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }
  // `most` bytes, or as many as there are.
  absl::string_view Bytes(size_t most) {
    const absl::string_view bytes = rest_.substr(0, most);
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  absl::string_view Rest() { return Bytes(rest_.size()); }

 private:
  absl::string_view rest_;
};

// A file without a name on any disk.
class MemoryFile {
 public:
  explicit MemoryFile(absl::string_view content) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    FUZZ_CHECK(fd_ >= 0);
    FUZZ_CHECK(write(fd_, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { close(fd_); }

  std::string path() const { return absl::StrCat("/proc/self/fd/", fd_); }

 private:
  const int fd_;
};

}  // namespace packet_headers::fuzz

#endif  // PACKET_HEADERS_TESTS_FUZZ_FUZZ_H_
