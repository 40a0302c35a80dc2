// Compression of files on their way to the disk.

#ifndef PACKET_HEADERS_USER_OUTPUT_COMPRESSOR_H_
#define PACKET_HEADERS_USER_OUTPUT_COMPRESSOR_H_

#include <cstddef>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace packet_headers {

enum class Compression { kNone, kGzip, kZstd };

// Gzip members below this size are made with codes that suit most of them: to make codes for each
// takes three quarters of the time (docs/performance.md).
inline constexpr size_t kTypicalBytes = 8 * 1024;

// What the names of pcap files end with: ".pcap", ".pcap.gz" or ".pcap.zst".
absl::string_view PcapExtension(Compression compression);

// Makes members: gzip members (RFC 1952) or zstd frames (RFC 8878), each with a checksum. Any
// number of them, one behind the other, is a valid file, and what is whole of it stays readable
// when the rest is lost. With Compression::kNone a member is its bytes. The same bytes in the same
// pieces make the same member. Takes the same memory (gzip 0.5 MiB, zstd 1.8 MiB) however long a
// member is. One thread.
class Compressor {
 public:
  using Sink = absl::FunctionRef<absl::Status(absl::string_view)>;

  static std::unique_ptr<Compressor> Make(Compression compression);
  virtual ~Compressor() = default;

  // Adds `bytes` (less than 4 GiB) to the current member and completes it if they are its last.
  // What is ready goes to `sink`; after the last bytes that is all. A member without bytes is not
  // written. After an error, which may be the sink's, the next bytes begin a member.
  absl::Status Write(absl::string_view bytes, bool last, Sink sink);

 protected:
  // `bytes` are the first of the member, and all of it if `last`.
  virtual void Begin(absl::string_view bytes, bool last) = 0;
  virtual absl::Status Compress(absl::string_view bytes, bool last, Sink sink) = 0;

 private:
  bool in_member_ = false;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_COMPRESSOR_H_
