// Captures that exist already.

#ifndef PACKET_HEADERS_USER_CAPTURE_CAPTURE_FILE_H_
#define PACKET_HEADERS_USER_CAPTURE_CAPTURE_FILE_H_

#include <pcap/pcap.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "user/capture/frame_record.h"
#include "user/output/unpacked_file.h"

namespace packet_headers {

struct CapturedFrame {
  Frame frame;
  int64_t time_ns;  // since the Unix epoch
};

// Reads a file of pcap or pcapng, of microseconds or finer, plain or compressed by gzip or zstd,
// from front to back with bounded memory. One thread.
class CaptureFile {
 public:
  // "-" is standard input. An error names the file, and a link type that can't be read.
  static absl::StatusOr<std::unique_ptr<CaptureFile>> Open(const std::string& path);
  CaptureFile(const CaptureFile&) = delete;
  CaptureFile& operator=(const CaptureFile&) = delete;

  // The next frame, valid until the next call; null at the end. Where the file is cut off or
  // damaged, an error comes after all that is readable, says where, and stays.
  absl::StatusOr<const CapturedFrame*> Next();

  const std::string& name() const { return name_; }  // for people
  uint64_t packets() const { return packets_; }      // that Next() gave so far

  // Packets whose time lay outside of what a pcap can say (1970 to 2106), and was set to its edge.
  uint64_t times_clamped() const { return times_clamped_; }

  // Of the file as it is, compressed or not. It is read some hundred KiB ahead.
  int64_t bytes_read() const { return unpacked_->bytes_read(); }
  int64_t size_bytes() const { return unpacked_->size_bytes(); }  // 0: unknown, as of a pipe

 private:
  CaptureFile(std::string name, std::unique_ptr<UnpackedFile> unpacked)
      : name_(std::move(name)), unpacked_(std::move(unpacked)) {}

  absl::Status OpenPcap();
  int64_t TimeNs(const timeval& stamp);
  absl::Status Error(absl::string_view why) const;
  absl::Status ErrorHere(absl::string_view why) const;

  // Of the stream that libpcap reads.
  static ssize_t ReadStream(void* self, char* out, size_t size);
  static int SeekStream(void* self, off64_t* offset, int whence);

  const std::string name_;
  const std::unique_ptr<UnpackedFile> unpacked_;
  absl::Status unpack_status_;  // why ReadStream() failed, of which libpcap sees only that
  int64_t unpacked_bytes_ = 0;
  const std::unique_ptr<char[]> stream_buffer_{new char[UnpackedFile::kReadBytes]};
  FILE* stream_ = nullptr;  // owned by pcap_
  std::unique_ptr<pcap_t, void (*)(pcap_t*)> pcap_{nullptr, pcap_close};
  CapturedFrame captured_ = {};
  uint64_t packets_ = 0;
  uint64_t times_clamped_ = 0;
  absl::Status status_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_CAPTURE_FILE_H_
