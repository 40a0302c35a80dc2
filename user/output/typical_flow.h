// What a compressor can expect of a file.

#ifndef PACKET_HEADERS_USER_OUTPUT_TYPICAL_FLOW_H_
#define PACKET_HEADERS_USER_OUTPUT_TYPICAL_FLOW_H_

#include <random>
#include <string>

namespace packet_headers {

// The file of a connection that never was: 30 packets, some with data, by Ethernet and IPv4 or
// IPv6, with timestamps. The same state of `random` makes the same file on hosts of the same byte
// order.
std::string TypicalFlow(std::minstd_rand& random);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_TYPICAL_FLOW_H_
