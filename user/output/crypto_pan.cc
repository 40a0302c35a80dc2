#include "user/output/crypto_pan.h"

#include <fcntl.h>
#include <nettle/aes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "user/base/unique_fd.h"

namespace packet_headers {
namespace {

constexpr size_t kHexDigits = 2 * CryptoPan::kKeyBytes;

// A string that is wiped when it goes.
struct SecretText {
  ~SecretText() { explicit_bzero(text.data(), text.size()); }
  std::string text;
};

absl::Status CheckKeyFile(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return absl::ErrnoToStatus(errno, "look at it");
  if (!S_ISREG(status.st_mode)) return absl::InvalidArgumentError("it is no regular file");
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat("it belongs to user ", status.st_uid,
                                                    ", who can read and change it: `chown ",
                                                    geteuid(), "` it"));
  }
  if ((status.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(
        absl::StrFormat("its mode %04o lets others than its owner open it: `chmod 600` it",
                        status.st_mode & 07777));
  }
  return absl::OkStatus();
}

absl::Status ReadKeyFile(const std::string& path, SecretText& key) {
  // A pipe must not stop the start before it is refused.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "open it");
  const absl::Status status = CheckKeyFile(fd.get());
  if (!status.ok()) return status;
  SecretText read_text;
  read_text.text.resize(kHexDigits + 2);  // a newline, and room to see that there is more
  const ssize_t size = read(fd.get(), read_text.text.data(), read_text.text.size());
  if (size < 0) return absl::ErrnoToStatus(errno, "read it");

  absl::string_view text(read_text.text.data(), static_cast<size_t>(size));
  if (text.size() == CryptoPan::kKeyBytes) {
    key.text = std::string(text);
    return absl::OkStatus();
  }
  absl::ConsumeSuffix(&text, "\n");
  const auto is_hex = [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); };
  if (text.size() == kHexDigits && std::all_of(text.begin(), text.end(), is_hex)) {
    key.text = absl::HexStringToBytes(text);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "it holds neither 32 bytes nor 64 hexadecimal digits (`head -c 32 /dev/urandom` makes a "
      "key)");
}

}  // namespace

struct CryptoPan::Secret {
  aes128_ctx aes;
  uint8_t pad[AES_BLOCK_SIZE];
};

void CryptoPan::Wipe::operator()(Secret* secret) const {
  explicit_bzero(secret, sizeof(*secret));
  munmap(secret, sizeof(*secret));
}

absl::StatusOr<std::unique_ptr<const CryptoPan>> CryptoPan::Make(absl::string_view key) {
  void* const page = mmap(nullptr, sizeof(Secret), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, /*offset=*/0);
  if (page == MAP_FAILED) return absl::ErrnoToStatus(errno, "map a page for the key");
  // Where it may not be locked, the key works all the same.
  mlock(page, sizeof(Secret));
  madvise(page, sizeof(Secret), MADV_DONTDUMP);
  std::unique_ptr<Secret, Wipe> secret(new (page) Secret);
  const auto* const bytes = reinterpret_cast<const uint8_t*>(key.data());
  aes128_set_encrypt_key(&secret->aes, bytes);
  aes128_encrypt(&secret->aes, AES_BLOCK_SIZE, secret->pad, bytes + AES128_KEY_SIZE);
  return std::unique_ptr<const CryptoPan>(new CryptoPan(std::move(secret)));
}

absl::StatusOr<std::unique_ptr<const CryptoPan>> CryptoPan::FromFile(const std::string& path) {
  SecretText key;
  const absl::Status status = ReadKeyFile(path, key);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("key file ", path, ": ", status.message()));
  }
  return Make(key.text);
}

// Bit i of what stands for an address is bit i of the address, flipped if AES says so of the i bits
// before it, followed by the pad. All these blocks are known before: they are encrypted in one go.
template <size_t kBytes>
void CryptoPan::ReplaceBytes(uint8_t* address) const {
  uint8_t blocks[kBytes][8][AES_BLOCK_SIZE];
  uint8_t start[AES_BLOCK_SIZE];  // the bytes before, and the pad
  memcpy(start, secret_->pad, sizeof(start));
  for (size_t byte = 0; byte < kBytes; ++byte) {
    for (size_t bit = 0; bit < 8; ++bit) {
      const uint8_t of_pad = 0xff >> bit;
      memcpy(blocks[byte][bit], start, sizeof(start));
      blocks[byte][bit][byte] = (address[byte] & ~of_pad) | (start[byte] & of_pad);
    }
    start[byte] = address[byte];
  }
  aes128_encrypt(&secret_->aes, sizeof(blocks), blocks[0][0], blocks[0][0]);
  for (size_t byte = 0; byte < kBytes; ++byte) {
    uint8_t flips = 0;
    for (size_t bit = 0; bit < 8; ++bit) flips |= (blocks[byte][bit][0] & 0x80) >> bit;
    address[byte] ^= flips;
  }
}

void CryptoPan::ReplaceIpv4(uint8_t* address) const { ReplaceBytes<4>(address); }

void CryptoPan::ReplaceIpv6(uint8_t* address) const { ReplaceBytes<16>(address); }

}  // namespace packet_headers
