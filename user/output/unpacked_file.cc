#include "user/output/unpacked_file.h"

#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "user/base/out_of_memory.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

// The file as it is, with a buffer for those who don't bring one.
class RawFile {
 public:
  static absl::StatusOr<std::unique_ptr<RawFile>> Open(UniqueFd fd) {
    struct stat status;
    if (!fd.valid() || fstat(fd.get(), &status) != 0) return ErrnoStatus();
    posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    return std::unique_ptr<RawFile>(
        new RawFile(std::move(fd), S_ISREG(status.st_mode) ? status.st_size : 0));
  }

  absl::StatusOr<size_t> Read(char* out, size_t size) {
    // Not again after a signal, which is how one gets out of the wait for a pipe.
    const ssize_t got = read(fd_.get(), out, size);
    if (got < 0) return ErrnoStatus();
    bytes_read_ += got;
    return got;
  }

  // What was read into the buffer and not taken yet.
  absl::string_view buffered() const { return {buffer_ + begin_, end_ - begin_}; }
  void Take(size_t size) { begin_ += size; }

  // The same, `least` bytes of it or all that is left of the file.
  absl::StatusOr<absl::string_view> Peek(size_t least) {
    while (end_ - begin_ < least) {
      std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
      end_ -= std::exchange(begin_, 0);
      const absl::StatusOr<size_t> got = Read(buffer_ + end_, sizeof(buffer_) - end_);
      if (!got.ok()) return got.status();
      if (*got == 0) break;
      end_ += *got;
    }
    return buffered();
  }

  int64_t bytes_read() const { return bytes_read_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  static absl::Status ErrnoStatus() {
    return absl::Status(absl::ErrnoToStatusCode(errno), std::strerror(errno));
  }

  RawFile(UniqueFd fd, int64_t size_bytes) : fd_(std::move(fd)), size_bytes_(size_bytes) {}

  const UniqueFd fd_;
  const int64_t size_bytes_;
  int64_t bytes_read_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  char buffer_[256 << 10];
};

namespace {

absl::Status EndsTooSoon(absl::string_view format) {
  return absl::DataLossError(absl::StrCat("its ", format, " data ends in the middle"));
}

class PlainFile : public UnpackedFile {
 public:
  explicit PlainFile(std::unique_ptr<RawFile> raw) : UnpackedFile(std::move(raw)) {}

  bool is_compressed() const override { return false; }

 private:
  absl::Status Unpack(char* out, size_t size, size_t* got) override {
    // Only what was read to look at the beginning.
    const absl::string_view buffered = raw().buffered();
    if (!buffered.empty()) {
      *got = std::min(buffered.size(), size);
      std::memcpy(out, buffered.data(), *got);
      raw().Take(*got);
      return absl::OkStatus();
    }
    const absl::StatusOr<size_t> read = raw().Read(out, size);
    if (!read.ok()) return read.status();
    *got = *read;
    return absl::OkStatus();
  }
};

// Members may follow each other, and zeros the last one, as gunzip takes them.
class GzipFile : public UnpackedFile {
 public:
  explicit GzipFile(std::unique_ptr<RawFile> raw) : UnpackedFile(std::move(raw)) {
    isal_inflate_init(&state_);
  }

 private:
  absl::Status Unpack(char* out, size_t size, size_t* got) override {
    while (*got == 0) {
      const absl::StatusOr<absl::string_view> packed = raw().Peek(1);
      if (!packed.ok()) return packed.status();
      if (!in_member_) {
        if (packed->empty()) return absl::OkStatus();
        if (packed->front() == '\0') {
          raw().Take(1);
          continue;
        }
        isal_inflate_reset(&state_);
        state_.crc_flag = ISAL_GZIP;
        in_member_ = true;
      }
      state_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(packed->data()));
      state_.avail_in = packed->size();
      state_.next_out = reinterpret_cast<uint8_t*>(out);
      state_.avail_out = size;
      const int result = isal_inflate(&state_);
      const size_t taken = packed->size() - state_.avail_in;
      raw().Take(taken);
      *got = size - state_.avail_out;
      if (result < 0) return Damage(result);
      if (state_.block_state == ISAL_BLOCK_FINISH) {
        in_member_ = false;
      } else if (taken == 0 && *got == 0) {
        return EndsTooSoon("gzip");
      }
    }
    return absl::OkStatus();
  }

  static absl::Status Damage(int result) {
    const char* what = "invalid symbol or distance";
    if (result == ISAL_INVALID_BLOCK) what = "invalid block";
    if (result == ISAL_INVALID_WRAPPER) what = "what follows is no gzip data";
    if (result == ISAL_UNSUPPORTED_METHOD) what = "unknown method";
    if (result == ISAL_INCORRECT_CHECKSUM) what = "wrong checksum";
    return absl::DataLossError(absl::StrCat("its gzip data is damaged: ", what));
  }

  bool in_member_ = false;
  // With zeros, for damaged data can refer to what was before its beginning.
  inflate_state state_ = {};
};

// Frames may follow each other.
class ZstdFile : public UnpackedFile {
 public:
  explicit ZstdFile(std::unique_ptr<RawFile> raw) : UnpackedFile(std::move(raw)) {}

 private:
  absl::Status Unpack(char* out, size_t size, size_t* got) override {
    while (*got == 0) {
      const absl::StatusOr<absl::string_view> packed = raw().Peek(1);
      if (!packed.ok()) return packed.status();
      if (due_ == 0) {
        if (packed->empty()) return absl::OkStatus();
        due_ = ZSTD_initDStream(stream_.get());
      }
      // Not more than the block that is due, for a call that fails gives nothing of the blocks
      // before.
      ZSTD_inBuffer input = {packed->data(), std::min(packed->size(), due_), 0};
      ZSTD_outBuffer output = {out, size, 0};
      due_ = ZSTD_decompressStream(stream_.get(), &output, &input);
      if (ZSTD_getErrorCode(due_) == ZSTD_error_memory_allocation) {
        return absl::ResourceExhaustedError("unpack zstd data: there is no memory");
      }
      if (ZSTD_isError(due_)) {
        return absl::DataLossError(
            absl::StrCat("its zstd data is damaged: ", ZSTD_getErrorName(due_)));
      }
      raw().Take(input.pos);
      *got = output.pos;
      if (due_ != 0 && packed->empty() && *got == 0) return EndsTooSoon("zstd");
    }
    return absl::OkStatus();
  }

  // Refuses windows of more than 128 MiB, which is its default and what `zstd --long` makes.
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_{
      InsistOnMemory(ZSTD_createDStream), ZSTD_freeDStream};
  size_t due_ = 0;  // bytes that the decoder wants next; 0 between frames
};

constexpr size_t kMagicBytes = 4;

bool IsGzip(absl::string_view magic) { return magic.substr(0, 2) == "\x1f\x8b"; }

// A frame, or one to be skipped, which may come first.
bool IsZstd(absl::string_view magic) {
  if (magic.size() < kMagicBytes) return false;
  return magic.substr(0, 4) == "\x28\xb5\x2f\xfd" ||
         (magic.substr(1, 3) == "\x2a\x4d\x18" && (magic[0] & 0xf0) == 0x50);
}

}  // namespace

UnpackedFile::UnpackedFile(std::unique_ptr<RawFile> raw) : raw_(std::move(raw)) {}

UnpackedFile::~UnpackedFile() = default;

absl::StatusOr<std::unique_ptr<UnpackedFile>> UnpackedFile::Open(const std::string& path) {
  return Open(UniqueFd(path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                                   : open(path.c_str(), O_RDONLY | O_CLOEXEC)));
}

absl::StatusOr<std::unique_ptr<UnpackedFile>> UnpackedFile::Open(UniqueFd fd) {
  absl::StatusOr<std::unique_ptr<RawFile>> raw = RawFile::Open(std::move(fd));
  if (!raw.ok()) return raw.status();
  const absl::StatusOr<absl::string_view> beginning = (*raw)->Peek(kMagicBytes);
  if (!beginning.ok()) return beginning.status();
  if (IsGzip(*beginning)) return std::make_unique<GzipFile>(*std::move(raw));
  if (IsZstd(*beginning)) return std::make_unique<ZstdFile>(*std::move(raw));
  return std::make_unique<PlainFile>(*std::move(raw));
}

absl::StatusOr<size_t> UnpackedFile::Read(char* out, size_t size) {
  size_t got = 0;
  if (status_.ok()) status_ = Unpack(out, size, &got);
  if (got == 0 && !status_.ok()) return status_;
  return got;
}

int64_t UnpackedFile::bytes_read() const { return raw_->bytes_read(); }

int64_t UnpackedFile::size_bytes() const { return raw_->size_bytes(); }

}  // namespace packet_headers
