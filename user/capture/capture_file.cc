#include "user/capture/capture_file.h"

#include <stdio_ext.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// What 32 bits of seconds hold.
constexpr int64_t kSeconds = int64_t{1} << 32;
constexpr int64_t kLatestTime = kSeconds * kSecond - 1;

}  // namespace

absl::StatusOr<std::unique_ptr<CaptureFile>> CaptureFile::Open(const std::string& path) {
  std::string name = path == "-" ? "standard input" : path;
  absl::StatusOr<std::unique_ptr<UnpackedFile>> unpacked = UnpackedFile::Open(path);
  if (!unpacked.ok()) {
    return absl::Status(unpacked.status().code(),
                        absl::StrCat("read ", name, ": ", unpacked.status().message()));
  }
  std::unique_ptr<CaptureFile> file(new CaptureFile(std::move(name), *std::move(unpacked)));
  const absl::Status status = file->OpenPcap();
  if (!status.ok()) return status;
  return file;
}

absl::Status CaptureFile::OpenPcap() {
  stream_ = fopencookie(this, "r", {.read = ReadStream, .seek = SeekStream});
  if (stream_ == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("read ", name_));
  setvbuf(stream_, stream_buffer_.get(), _IOFBF, UnpackedFile::kReadBytes);
  // Nobody else reads it, and a lock for each packet's header and body costs.
  __fsetlocking(stream_, FSETLOCKING_BYCALLER);

  char why[PCAP_ERRBUF_SIZE];
  pcap_.reset(pcap_fopen_offline_with_tstamp_precision(stream_, PCAP_TSTAMP_PRECISION_NANO, why));
  if (pcap_ == nullptr) {
    fclose(stream_);
    if (!unpack_status_.ok()) return Error(unpack_status_.message());
    if (unpacked_bytes_ == 0) return Error("it is empty");
    return Error(absl::StrCat("not a capture of pcap or pcapng: ", why));
  }
  const int link_type = pcap_datalink(pcap_.get());
  const std::optional<FrameFormat> format = FrameFormatOf(link_type);
  if (!format.has_value()) {
    return Error(absl::StrCat("packets of link type ", link_type, " (",
                              pcap_datalink_val_to_description_or_dlt(link_type),
                              ") can't be read"));
  }
  captured_.frame.format = *format;
  return absl::OkStatus();
}

absl::StatusOr<const CapturedFrame*> CaptureFile::Next() {
  if (!status_.ok()) return status_;
  pcap_pkthdr* header = nullptr;
  const u_char* bytes = nullptr;
  const int result = pcap_next_ex(pcap_.get(), &header, &bytes);
  if (result == PCAP_ERROR_BREAK) return nullptr;
  if (result != 1) {
    status_ = ErrorHere(unpack_status_.ok() ? pcap_geterr(pcap_.get()) : unpack_status_.message());
    return status_;
  }
  ++packets_;
  captured_.frame.bytes = bytes;
  captured_.frame.captured_bytes = header->caplen;
  captured_.frame.wire_bytes = header->len;
  captured_.time_ns = TimeNs(header->ts);
  return &captured_;
}

int64_t CaptureFile::TimeNs(const timeval& stamp) {
  int64_t seconds = stamp.tv_sec;
  // libpcap takes the unsigned seconds of a pcap as signed.
  if (seconds < 0 && seconds >= INT32_MIN) seconds += kSeconds;
  // One second more than there is on either side, so that fractions which aren't can't overflow.
  const int64_t time_ns = std::clamp<int64_t>(seconds, -1, kSeconds) * kSecond + stamp.tv_usec;
  const int64_t clamped = std::clamp<int64_t>(time_ns, 0, kLatestTime);
  if (clamped != time_ns) ++times_clamped_;
  return clamped;
}

absl::Status CaptureFile::Error(absl::string_view why) const {
  return absl::InvalidArgumentError(absl::StrCat("read ", name_, ": ", why));
}

absl::Status CaptureFile::ErrorHere(absl::string_view why) const {
  return absl::DataLossError(
      absl::StrCat("read ", name_, ": stopped after ", packets_, " packets, near byte ",
                   ftello(stream_), unpacked_->is_compressed() ? " of what it unpacks to: " : ": ",
                   why, "; the packets before were read"));
}

ssize_t CaptureFile::ReadStream(void* self, char* out, size_t size) {
  auto& file = *static_cast<CaptureFile*>(self);
  const absl::StatusOr<size_t> got = file.unpacked_->Read(out, size);
  if (!got.ok()) {
    file.unpack_status_ = got.status();
    errno = EIO;
    return -1;
  }
  file.unpacked_bytes_ += *got;
  return *got;
}

// Only tells where it is, for ftello().
int CaptureFile::SeekStream(void* self, off64_t* offset, int whence) {
  if (*offset != 0 || whence != SEEK_CUR) {
    errno = ESPIPE;
    return -1;
  }
  *offset = static_cast<CaptureFile*>(self)->unpacked_bytes_;
  return 0;
}

}  // namespace packet_headers
