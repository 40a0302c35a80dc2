// Crypto-PAn: addresses that stand for others and share a prefix where those do.

#ifndef PACKET_HEADERS_USER_OUTPUT_CRYPTO_PAN_H_
#define PACKET_HEADERS_USER_OUTPUT_CRYPTO_PAN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace packet_headers {

// J. Xu, J. Fan, M. Ammar, S. Moon: Prefix-Preserving IP Address Anonymization (ICNP 2002), with
// the bits of their reference implementation 1.0; over the 128 bits of IPv6 the same. Immutable;
// any thread. The key lies in a page that is neither swapped nor dumped and is wiped at the end.
class CryptoPan {
 public:
  static constexpr size_t kKeyBytes = 32;  // half for AES, half for the pad

  // `key` has kKeyBytes.
  static absl::StatusOr<std::unique_ptr<const CryptoPan>> Make(absl::string_view key);

  // With the key in the file: 32 bytes, or 64 hex digits and perhaps a newline. A file that is not
  // regular, belongs to somebody else than root or this process' user, or that others may open, is
  // refused.
  static absl::StatusOr<std::unique_ptr<const CryptoPan>> FromFile(const std::string& path);

  // Replace the 4 or 16 bytes of an address.
  void ReplaceIpv4(uint8_t* address) const;
  void ReplaceIpv6(uint8_t* address) const;

 private:
  struct Secret;
  struct Wipe {
    void operator()(Secret* secret) const;
  };

  template <size_t kBytes>
  void ReplaceBytes(uint8_t* address) const;

  explicit CryptoPan(std::unique_ptr<Secret, Wipe> secret) : secret_(std::move(secret)) {}

  const std::unique_ptr<Secret, Wipe> secret_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_CRYPTO_PAN_H_
