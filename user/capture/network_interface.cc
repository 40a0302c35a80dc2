#include "user/capture/network_interface.h"

#include <net/if_arp.h>

#include <algorithm>

namespace packet_headers {

ph_link_layer NetworkInterface::link_layer() const {
  switch (hardware_type) {
    case ARPHRD_ETHER:
    case ARPHRD_LOOPBACK:
      return PH_LINK_ETHERNET;
    default:
      return PH_LINK_IP;
  }
}

std::vector<NetworkInterface> SelectInterfaces(absl::Span<const NetworkInterface> all,
                                               absl::Span<const std::string> names) {
  std::vector<NetworkInterface> selected;
  for (const NetworkInterface& interface : all) {
    if (!names.empty()) {
      if (std::find(names.begin(), names.end(), interface.name) != names.end()) {
        selected.push_back(interface);
      }
      continue;
    }
    const bool is_above =
        std::any_of(all.begin(), all.end(), [&interface](const NetworkInterface& other) {
          return other.is_up &&
                 (other.master == interface.ifindex || other.ifindex == interface.lower);
        });
    if (interface.is_up && !is_above) selected.push_back(interface);
  }
  return selected;
}

}  // namespace packet_headers
