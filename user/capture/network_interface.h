// The network interfaces of this host.

#ifndef PACKET_HEADERS_USER_CAPTURE_NETWORK_INTERFACE_H_
#define PACKET_HEADERS_USER_CAPTURE_NETWORK_INTERFACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "packet_headers/contract.h"

namespace packet_headers {

struct NetworkInterface {
  uint32_t ifindex = 0;
  std::string name;
  bool is_up = false;
  uint16_t hardware_type = 0;  // ARPHRD_*
  uint32_t master = 0;         // ifindex of the bridge, bond or VRF it is part of; 0: none
  uint32_t lower = 0;          // ifindex of the device it is stacked on, e.g. of a VLAN; 0: none
  bool is_physical = false;    // there is a device on a bus behind it

  // Interfaces without an Ethernet header give IP packets (tun, WireGuard, PPP, SIT...).
  ph_link_layer link_layer() const;
};

// Those to capture on: the ones named, or where none is, all that are up. Of the latter those are
// left out whose packets all pass an interface below them that is captured (bridges and bonds with
// ports, VRFs, VLAN devices), so that a packet is saved once, as it is on the wire.
std::vector<NetworkInterface> SelectInterfaces(absl::Span<const NetworkInterface> all,
                                               absl::Span<const std::string> names);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_NETWORK_INTERFACE_H_
