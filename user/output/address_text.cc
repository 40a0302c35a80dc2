#include "user/output/address_text.h"

#include <arpa/inet.h>
#include <netinet/in.h>

namespace packet_headers {

std::string AddressText(const uint8_t* address) {
  constexpr size_t kIpv4At = 12;
  char text[INET6_ADDRSTRLEN];
  const bool is_ipv4 = IN6_IS_ADDR_V4MAPPED(reinterpret_cast<const in6_addr*>(address));
  inet_ntop(is_ipv4 ? AF_INET : AF_INET6, is_ipv4 ? address + kIpv4At : address, text,
            sizeof(text));
  return text;
}

}  // namespace packet_headers
