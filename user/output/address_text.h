// Addresses as people write them.

#ifndef PACKET_HEADERS_USER_OUTPUT_ADDRESS_TEXT_H_
#define PACKET_HEADERS_USER_OUTPUT_ADDRESS_TEXT_H_

#include <cstdint>
#include <string>

namespace packet_headers {

// The address of 16 bytes, as a flow key has it: an IPv4 one is mapped into IPv6.
std::string AddressText(const uint8_t* address);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_ADDRESS_TEXT_H_
