#include "user/output/anonymize.h"

#include <cstddef>
#include <cstring>

#include "packet_headers/parse.h"
#include "user/output/scrub_options.h"

namespace packet_headers {
namespace {

constexpr size_t kAddressBytes = 16;
constexpr size_t kIpv4At = 12;  // in the address that it is mapped into
constexpr uint8_t kMapped[kIpv4At] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr uint8_t k6to4[] = {0x20, 0x02};

void HideHost(uint8_t* address) {
  const size_t kept = std::memcmp(address, kMapped, sizeof(kMapped)) == 0 ? kIpv4At + 3
                      : std::memcmp(address, k6to4, sizeof(k6to4)) == 0   ? sizeof(k6to4) + 3
                                                                          : 6;
  std::memset(address + kept, 0, kAddressBytes - kept);
}

// RFC 1071, over a whole number of 16-bit words.
uint16_t InternetChecksum(const uint8_t* bytes, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i < size; i += 2) {
    uint16_t word;
    std::memcpy(&word, bytes + i, sizeof(word));
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

void ReplaceEnd(const HeaderView& headers, bool is_source, const uint8_t* address) {
  if (headers.link_layer == PH_LINK_ETHERNET) {
    std::memset(headers.bytes + (is_source ? offsetof(ethhdr, h_source) : 0), 0, ETH_ALEN);
  }
  if (headers.is_ipv6()) {
    const size_t at = is_source ? offsetof(ipv6hdr, saddr) : offsetof(ipv6hdr, daddr);
    std::memcpy(headers.ip() + at, address, kAddressBytes);
  } else {
    const size_t at = is_source ? offsetof(iphdr, saddr) : offsetof(iphdr, daddr);
    std::memcpy(headers.ip() + at, address + kIpv4At, kAddressBytes - kIpv4At);
  }
}

}  // namespace

void Anonymizer::Replace(uint8_t* address) const {
  if (crypto_pan_ == nullptr) {
    HideHost(address);
  } else if (std::memcmp(address, kMapped, sizeof(kMapped)) == 0) {
    crypto_pan_->ReplaceIpv4(address + kIpv4At);
  } else {
    crypto_pan_->ReplaceIpv6(address);
  }
}

std::optional<Disguise> Anonymizer::DisguiseOf(const ph_flow_key& key, bool hides_local,
                                               bool hides_remote) const {
  if (!hides_local && !hides_remote) return std::nullopt;
  Disguise disguise = {key, hides_local, hides_remote};
  if (hides_local) Replace(disguise.key.local_addr);
  if (hides_remote) Replace(disguise.key.remote_addr);
  return disguise;
}

void Anonymize(const HeaderView& headers, const Disguise& disguise) {
  const bool local_is_source = headers.direction == PH_EGRESS;
  if (disguise.hides_local) ReplaceEnd(headers, local_is_source, disguise.key.local_addr);
  if (disguise.hides_remote) ReplaceEnd(headers, !local_is_source, disguise.key.remote_addr);
  ScrubOptions(headers, Scrub::kAddresses);
  std::memset(headers.tcp() + offsetof(ph_tcp, checksum_be), 0, 2);
  if (headers.is_ipv6()) return;
  uint8_t* const checksum_at = headers.ip() + offsetof(iphdr, check);
  std::memset(checksum_at, 0, 2);
  const uint16_t checksum = InternetChecksum(headers.ip(), (*headers.ip() & 0xf) * 4);
  std::memcpy(checksum_at, &checksum, 2);
}

}  // namespace packet_headers
