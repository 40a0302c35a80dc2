// Anonymisation of the ends of a flow.

#ifndef PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
#define PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "packet_headers/flow_key.h"
#include "user/output/crypto_pan.h"
#include "user/output/header_view.h"

namespace packet_headers {

// What is shown of a flow of which an end is hidden.
struct Disguise {
  ph_flow_key key;  // with what stands for the hidden addresses
  bool hides_local;
  bool hides_remote;
};

// What stands for addresses. Immutable; any thread.
class Anonymizer {
 public:
  // Netblocks: a /24 of an IPv4 address and a /48 of an IPv6 address, the rest is zero. Of a 6to4
  // address (RFC 3056) a /40, since the IPv4 address in it follows its first two bytes.
  Anonymizer() = default;

  // Pseudonyms. An IPv4 address in IPv6 (mapped) is an IPv4 address.
  explicit Anonymizer(std::unique_ptr<const CryptoPan> crypto_pan)
      : crypto_pan_(std::move(crypto_pan)) {}

  // The 16 bytes of an address as in ph_flow_key.
  void Replace(uint8_t* address) const;

  // None if neither end is to be hidden.
  std::optional<Disguise> DisguiseOf(const ph_flow_key& key, bool hides_local,
                                     bool hides_remote) const;

 private:
  const std::unique_ptr<const CryptoPan> crypto_pan_;  // null: netblocks
};

// Leaves in a packet of the flow nothing that tells a hidden address: the addresses are replaced,
// the MAC addresses of hidden ends zeroed, options scrubbed (ScrubOptions). The IPv4 header
// checksum is computed anew over what is left; the TCP checksum becomes 0, since it covers the true
// address and can't be computed anew without the payload.
void Anonymize(const HeaderView& headers, const Disguise& disguise);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_ANONYMIZE_H_
