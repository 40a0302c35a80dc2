#include "user/output/scrub_options.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr size_t kTypeAndLength = 2;  // these stay of every option

// How many bytes of an option of `length` bytes stay, type and length included. What is longer than
// its RFC says is cut to that. Null: all of them stay.
using KeptBytes = size_t (*)(const uint8_t* option, size_t length);

size_t KeptOfIpv4Option(const uint8_t* option, size_t length) {
  switch (option[0]) {
    case 7:    // record route: the pointer
    case 131:  // loose source route
    case 137:  // strict source route
      return std::min<size_t>(length, 3);
    case 68:   // timestamps: pointer, overflow and flag
    case 148:  // router alert (RFC 2113)
      return std::min<size_t>(length, 4);
    default:
      return kTypeAndLength;
  }
}

size_t KeptOfIpv6Option(const uint8_t* option, size_t length) {
  switch (option[0]) {
    case 0x05:  // router alert (RFC 2711)
      return std::min<size_t>(length, 4);
    case 0xc2:  // jumbo payload (RFC 2675)
      return std::min<size_t>(length, 6);
    default:
      return kTypeAndLength;
  }
}

// A Fast Open cookie (RFC 7413) is a digest of the client's address, and so are, over both, those
// of TCP-MD5 and TCP-AO. Multipath TCP (RFC 8684) announces addresses, and signs them with keys
// that it has told before; the subtype stays, and of data sequence signals all.
size_t KeptOfTcpOption(const uint8_t* option, size_t length) {
  constexpr uint8_t kMultipath = 30;
  constexpr uint8_t kDataSequenceSignal = 2;
  switch (option[0]) {
    case 2:   // maximum segment size
    case 28:  // user timeout (RFC 5482)
      return std::min<size_t>(length, 4);
    case 3:  // window scale
      return std::min<size_t>(length, 3);
    case 5:  // SACK
      return std::min<size_t>(length, 34);
    case 8:  // timestamps
      return std::min<size_t>(length, 10);
    case kMultipath:
      if (length > 2 && option[2] >> 4 == kDataSequenceSignal) return std::min<size_t>(length, 28);
      return std::min<size_t>(length, 3);
    default:
      return kTypeAndLength;
  }
}

void Zero(uint8_t* begin, uint8_t* end) {
  if (begin < end) std::memset(begin, 0, end - begin);
}

// Options as IPv4 and TCP have them: 0 ends the list, 1 stands alone, the length counts all bytes.
void ScrubList(uint8_t* at, uint8_t* end, KeptBytes kept_of) {
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNoOperation = 1;
  while (at < end && *at != kEnd) {
    if (*at == kNoOperation) {
      ++at;
      continue;
    }
    const size_t length = end - at >= 2 ? at[1] : 0;
    if (length < kTypeAndLength || length > static_cast<size_t>(end - at)) break;
    if (kept_of != nullptr) Zero(at + kept_of(at, length), at + length);
    at += length;
  }
  Zero(at, end);
}

// Options as IPv6 has them (RFC 8200, 4.2): 0 is a byte of padding, 1 more of it, the length counts
// the content.
void ScrubIpv6List(uint8_t* at, uint8_t* end, KeptBytes kept_of) {
  constexpr uint8_t kPad1 = 0;
  constexpr uint8_t kPadN = 1;
  while (at < end) {
    if (*at == kPad1) {
      ++at;
      continue;
    }
    const size_t length = end - at >= 2 ? kTypeAndLength + at[1] : 0;
    if (length == 0 || length > static_cast<size_t>(end - at)) break;
    if (*at == kPadN) {
      Zero(at + kTypeAndLength, at + length);
    } else if (kept_of != nullptr) {
      Zero(at + kept_of(at, length), at + length);
    }
    at += length;
  }
  Zero(at, end);
}

// The bytes that stay of an extension header that is no list of options.
size_t KeptOfExtension(uint8_t type, size_t length) {
  switch (type) {
    case PH_IPPROTO_FRAGMENT:
      return length;
    case PH_IPPROTO_AH:
      return 12;  // all but the digest, which covers the addresses
    default:
      return 4;  // routing: type and segments left; mobility: type
  }
}

void ScrubExtensions(const HeaderView& headers, KeptBytes kept_of) {
  uint8_t type = headers.ip()[offsetof(ipv6hdr, nexthdr)];
  for (uint8_t* at = headers.ip() + sizeof(ipv6hdr); at < headers.tcp();) {
    const size_t length = type == PH_IPPROTO_FRAGMENT ? 8
                          : type == PH_IPPROTO_AH     ? (at[1] + 2) * 4
                                                      : (at[1] + 1) * 8;
    if (type == PH_IPPROTO_HOPOPTS || type == PH_IPPROTO_DSTOPTS) {
      ScrubIpv6List(at + 2, at + length, kept_of);
    } else if (kept_of != nullptr) {
      Zero(at + KeptOfExtension(type, length), at + length);
    }
    type = *at;
    at += length;
  }
}

// Nearly all packets: IP without anything behind it, and TCP with timestamps, of which all stays.
bool HasUsualOptions(const HeaderView& headers) {
  constexpr uint8_t kTimestamps[] = {1, 1, 8, 10};
  const uint8_t* const tcp = headers.tcp();
  const size_t ip_bytes = headers.is_ipv6() ? sizeof(ipv6hdr) : sizeof(iphdr);
  return headers.ip() + ip_bytes == tcp && headers.end() == tcp + sizeof(ph_tcp) + 12 &&
         std::memcmp(tcp + sizeof(ph_tcp), kTimestamps, sizeof(kTimestamps)) == 0;
}

}  // namespace

void ScrubOptions(const HeaderView& headers, Scrub scrub) {
  if (HasUsualOptions(headers)) return;
  const bool keeps = scrub == Scrub::kPadding;
  if (headers.is_ipv6()) {
    ScrubExtensions(headers, keeps ? nullptr : KeptOfIpv6Option);
  } else {
    ScrubList(headers.ip() + sizeof(iphdr), headers.tcp(), keeps ? nullptr : KeptOfIpv4Option);
  }
  ScrubList(headers.tcp() + sizeof(ph_tcp), headers.end(), keeps ? nullptr : KeptOfTcpOption);
}

}  // namespace packet_headers
