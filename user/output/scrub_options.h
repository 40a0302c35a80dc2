// Takes out of IPv4 options, IPv6 extension headers and TCP options what must not be kept.

#ifndef PACKET_HEADERS_USER_OUTPUT_SCRUB_OPTIONS_H_
#define PACKET_HEADERS_USER_OUTPUT_SCRUB_OPTIONS_H_

#include "user/output/header_view.h"

namespace packet_headers {

enum class Scrub {
  // What no end of the connection reads, and so may hold anything: bytes behind the end of a list
  // of options, or from an option on whose length can't be; the content of padding.
  kPadding,
  // Also what may hold an address or a digest over one: the contents of all options and extension
  // headers but those that are known to hold none. Types and lengths stay.
  kAddresses,
};

// Zeroes it. Nothing moves, so the packet can be parsed as before.
void ScrubOptions(const HeaderView& headers, Scrub scrub);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_SCRUB_OPTIONS_H_
