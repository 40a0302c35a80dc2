// How many file descriptors there are, and for whom.

#ifndef PACKET_HEADERS_USER_BASE_DESCRIPTORS_H_
#define PACKET_HEADERS_USER_BASE_DESCRIPTORS_H_

#include <cstddef>

namespace packet_headers {

// How many descriptors the clients of one server may take: `most`, or fewer where the process may
// have so few that an eighth of them is less; at least four.
size_t DescriptorsForClients(size_t most);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_DESCRIPTORS_H_
