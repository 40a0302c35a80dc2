#include "user/capture/interface_watcher.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr size_t kReceiveBytes = 64 * 1024;

// On a host whose addresses never rest the caller comes back later.
constexpr int kMostDumps = 5;

absl::Status NetlinkError(absl::string_view tried) {
  return absl::ErrnoToStatus(errno, absl::StrCat(tried, " (rtnetlink)"));
}

using UseAttribute = absl::FunctionRef<void(const nlattr*)>;

int CallUse(const nlattr* attribute, void* use) {
  (*static_cast<UseAttribute*>(use))(attribute);
  return MNL_CB_OK;
}

// The attributes behind the `header_bytes` of the message's own header.
void ForEachAttribute(const nlmsghdr* message, unsigned header_bytes, UseAttribute use) {
  mnl_attr_parse(message, header_bytes, CallUse, &use);
}

// Whether what such a device sends and receives passes the device of IFLA_LINK as it is: not of a
// veth, whose IFLA_LINK is its peer, and not of a tunnel, whose packets are wrapped there.
bool IsStacked(const nlattr* link_info) {
  bool is_stacked = false;
  const auto look = [&is_stacked](const nlattr* detail) {
    if (mnl_attr_get_type(detail) != IFLA_INFO_KIND) return;
    const absl::string_view kind = mnl_attr_get_str(detail);
    is_stacked = kind == "vlan" || kind == "macvlan" || kind == "macvtap" || kind == "ipvlan";
  };
  UseAttribute use(look);
  mnl_attr_parse_nested(link_info, CallUse, &use);
  return is_stacked;
}

NetworkInterface ReadInterface(const nlmsghdr* message) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  NetworkInterface interface;
  interface.ifindex = info->ifi_index;
  interface.is_up = (info->ifi_flags & IFF_UP) != 0;
  interface.hardware_type = info->ifi_type;
  bool link_is_elsewhere = false;
  bool is_stacked = false;
  ForEachAttribute(message, sizeof(*info), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        interface.name = mnl_attr_get_str(attribute);
        break;
      case IFLA_MASTER:
        interface.master = mnl_attr_get_u32(attribute);
        break;
      case IFLA_LINK:
        interface.lower = mnl_attr_get_u32(attribute);
        break;
      case IFLA_LINK_NETNSID:
        link_is_elsewhere = true;
        break;
      case IFLA_LINKINFO:
        is_stacked = IsStacked(attribute);
        break;
      default:
        break;
    }
  });
  if (link_is_elsewhere || !is_stacked) interface.lower = 0;
  interface.is_physical =
      access(absl::StrCat("/sys/class/net/", interface.name, "/device").c_str(), F_OK) == 0;
  return interface;
}

std::optional<MappedAddress> ReadAddress(const nlmsghdr* message) {
  const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
  // Of a point-to-point interface IFA_ADDRESS is the peer's and IFA_LOCAL ours.
  const nlattr* own = nullptr;
  ForEachAttribute(message, sizeof(*info), [&own](const nlattr* attribute) {
    const uint16_t type = mnl_attr_get_type(attribute);
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && own == nullptr)) own = attribute;
  });
  if (own == nullptr) return std::nullopt;
  MappedAddress address;
  if (info->ifa_family == AF_INET && mnl_attr_get_payload_len(own) == 4) {
    __be32 ipv4;
    std::memcpy(&ipv4, mnl_attr_get_payload(own), sizeof(ipv4));
    ph_map_ipv4(address.data(), ipv4);
  } else if (info->ifa_family == AF_INET6 && mnl_attr_get_payload_len(own) == 16) {
    std::memcpy(address.data(), mnl_attr_get_payload(own), address.size());
  } else {
    return std::nullopt;
  }
  return address;
}

// One answer to RTM_GET*, in which `read` gets each message. A socket for each, since one that was
// left in the middle of an answer would mix it into the next.
int TryDump(uint16_t type, absl::FunctionRef<void(const nlmsghdr*)> read) {
  const std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket(
      mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC), mnl_socket_close);
  if (socket == nullptr || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) return -1;
  char buffer[kReceiveBytes];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto* general = static_cast<rtgenmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg)));
  general->rtgen_family = AF_UNSPEC;
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) return -1;
  const auto callback = [](const nlmsghdr* message, void* context) {
    (*static_cast<absl::FunctionRef<void(const nlmsghdr*)>*>(context))(message);
    return MNL_CB_OK;
  };
  int more = MNL_CB_OK;
  while (more > MNL_CB_STOP) {
    const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer, sizeof(buffer));
    if (size < 0) return -1;
    more = mnl_cb_run(buffer, size, 0, mnl_socket_get_portid(socket.get()), callback, &read);
  }
  return more;
}

// What `parse` makes of all messages, or an error. What changes while it is listed makes the kernel
// say so, and the list begin anew.
template <typename Result>
absl::StatusOr<Result> Dump(uint16_t type,
                            absl::FunctionRef<void(const nlmsghdr*, Result&)> parse) {
  for (int attempt = 1;; ++attempt) {
    Result result;
    if (TryDump(type, [&](const nlmsghdr* message) { parse(message, result); }) >= 0) {
      return result;
    }
    if (errno != EINTR || attempt == kMostDumps) return NetlinkError("list interfaces");
  }
}

}  // namespace

void InterfaceWatcher::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

absl::StatusOr<InterfaceWatcher::Socket> InterfaceWatcher::OpenSocket(unsigned groups) {
  Socket socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (socket == nullptr) return NetlinkError("open a netlink socket");
  if (mnl_socket_bind(socket.get(), groups, MNL_SOCKET_AUTOPID) != 0) {
    return NetlinkError("bind a netlink socket");
  }
  return socket;
}

absl::StatusOr<std::unique_ptr<InterfaceWatcher>> InterfaceWatcher::Open() {
  absl::StatusOr<Socket> events =
      OpenSocket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_TC);
  if (!events.ok()) return events.status();
  fcntl(mnl_socket_get_fd(events->get()), F_SETFL, O_NONBLOCK);
  return std::unique_ptr<InterfaceWatcher>(new InterfaceWatcher(*std::move(events)));
}

int InterfaceWatcher::fd() const { return mnl_socket_get_fd(events_.get()); }

void InterfaceWatcher::Acknowledge() {
  char buffer[kReceiveBytes];
  // ENOBUFS says that notifications were lost, and the listing makes up for them.
  while (recv(fd(), buffer, sizeof(buffer), 0) > 0 || errno == ENOBUFS || errno == EINTR) {
  }
}

absl::StatusOr<std::vector<NetworkInterface>> InterfaceWatcher::ListInterfaces() {
  return Dump<std::vector<NetworkInterface>>(
      RTM_GETLINK, [](const nlmsghdr* message, std::vector<NetworkInterface>& interfaces) {
        if (message->nlmsg_type == RTM_NEWLINK) interfaces.push_back(ReadInterface(message));
      });
}

absl::StatusOr<LocalAddresses> InterfaceWatcher::ListAddresses() {
  return Dump<LocalAddresses>(RTM_GETADDR, [](const nlmsghdr* message, LocalAddresses& addresses) {
    if (const std::optional<MappedAddress> address = ReadAddress(message)) {
      addresses.insert(*address);
    }
  });
}

}  // namespace packet_headers
