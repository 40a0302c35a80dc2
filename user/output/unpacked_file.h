// The bytes of a file, unpacked where it is compressed.

#ifndef PACKET_HEADERS_USER_OUTPUT_UNPACKED_FILE_H_
#define PACKET_HEADERS_USER_OUTPUT_UNPACKED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

class RawFile;

// Reads from front to back with bounded memory: a few hundred KiB, and for zstd the window that the
// file asks for, up to 128 MiB. Errors say what is wrong, not with which file. One thread.
class UnpackedFile {
 public:
  // What reads should ask for: with less, bytes just before damage can be lost.
  static constexpr size_t kReadBytes = 256 << 10;

  // "-" is standard input. How the file begins tells whether it is compressed, by gzip or zstd:
  // standard input has no ending.
  static absl::StatusOr<std::unique_ptr<UnpackedFile>> Open(const std::string& path);
  static absl::StatusOr<std::unique_ptr<UnpackedFile>> Open(UniqueFd fd);
  UnpackedFile(const UnpackedFile&) = delete;
  UnpackedFile& operator=(const UnpackedFile&) = delete;
  virtual ~UnpackedFile();

  // Returns how many of the next bytes are at `out`, `size` at most; 0 at the end. An error comes
  // after all that is readable, and stays.
  absl::StatusOr<size_t> Read(char* out, size_t size);

  // Of the file as it is, compressed or not.
  int64_t bytes_read() const;
  int64_t size_bytes() const;  // 0: unknown, as of a pipe

  virtual bool is_compressed() const { return true; }

 protected:
  explicit UnpackedFile(std::unique_ptr<RawFile> raw);
  RawFile& raw() { return *raw_; }

 private:
  // As Read(), but may both set `*got` and fail. Not called again once it has failed.
  virtual absl::Status Unpack(char* out, size_t size, size_t* got) = 0;

  const std::unique_ptr<RawFile> raw_;
  absl::Status status_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_UNPACKED_FILE_H_
