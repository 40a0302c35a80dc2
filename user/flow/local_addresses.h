// The host's own addresses.

#ifndef PACKET_HEADERS_USER_FLOW_LOCAL_ADDRESSES_H_
#define PACKET_HEADERS_USER_FLOW_LOCAL_ADDRESSES_H_

#include <array>
#include <cstdint>

#include "absl/container/flat_hash_set.h"

namespace packet_headers {

// As in ph_flow_key: IPv6, or IPv4 mapped into it.
using MappedAddress = std::array<uint8_t, 16>;

// Immutable once it is shared with other threads.
using LocalAddresses = absl::flat_hash_set<MappedAddress>;

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_LOCAL_ADDRESSES_H_
