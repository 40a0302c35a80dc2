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
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr size_t kReceiveBytes = 64 * 1024;

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

bool IsPair(const nlattr* link_info) {
  bool is_pair = false;
  const auto look = [&is_pair](const nlattr* detail) {
    if (mnl_attr_get_type(detail) != IFLA_INFO_KIND) return;
    const absl::string_view kind = mnl_attr_get_str(detail);
    is_pair = kind == "veth" || kind == "netkit";
  };
  UseAttribute use(look);
  mnl_attr_parse_nested(link_info, CallUse, &use);
  return is_pair;
}

NetworkInterface ReadInterface(const nlmsghdr* message) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  NetworkInterface interface;
  interface.ifindex = info->ifi_index;
  interface.is_up = (info->ifi_flags & IFF_UP) != 0;
  interface.hardware_type = info->ifi_type;
  bool link_is_elsewhere = false;
  bool is_pair = false;  // IFLA_LINK of a veth is its peer, not a device below it
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
        is_pair = IsPair(attribute);
        break;
      default:
        break;
    }
  });
  if (link_is_elsewhere || is_pair || interface.lower == interface.ifindex) interface.lower = 0;
  interface.is_physical =
      access(absl::StrCat("/sys/class/net/", interface.name, "/device").c_str(), F_OK) == 0;
  return interface;
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
  absl::StatusOr<Socket> events = OpenSocket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
  if (!events.ok()) return events.status();
  absl::StatusOr<Socket> queries = OpenSocket(0);
  if (!queries.ok()) return queries.status();
  fcntl(mnl_socket_get_fd(events->get()), F_SETFL, O_NONBLOCK);
  return std::unique_ptr<InterfaceWatcher>(
      new InterfaceWatcher(*std::move(events), *std::move(queries)));
}

int InterfaceWatcher::fd() const { return mnl_socket_get_fd(events_.get()); }

void InterfaceWatcher::Acknowledge() {
  char buffer[kReceiveBytes];
  // ENOBUFS says that notifications were lost, and the listing makes up for them.
  while (recv(fd(), buffer, sizeof(buffer), 0) > 0 || errno == ENOBUFS || errno == EINTR) {
  }
}

absl::Status InterfaceWatcher::Dump(uint16_t type, unsigned char family,
                                    const std::function<void(const nlmsghdr*)>& use) {
  char buffer[kReceiveBytes];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = ++sequence_;
  auto* general = static_cast<rtgenmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg)));
  general->rtgen_family = family;
  if (mnl_socket_sendto(queries_.get(), request, request->nlmsg_len) < 0) {
    return NetlinkError("ask for interfaces");
  }
  const auto callback = [](const nlmsghdr* message, void* context) {
    (*static_cast<const std::function<void(const nlmsghdr*)>*>(context))(message);
    return MNL_CB_OK;
  };
  int more = MNL_CB_OK;
  while (more > MNL_CB_STOP) {
    const ssize_t size = mnl_socket_recvfrom(queries_.get(), buffer, sizeof(buffer));
    if (size < 0) return NetlinkError("list interfaces");
    more = mnl_cb_run(buffer, size, sequence_, mnl_socket_get_portid(queries_.get()), callback,
                      const_cast<std::function<void(const nlmsghdr*)>*>(&use));
  }
  return more == MNL_CB_ERROR ? NetlinkError("list interfaces") : absl::OkStatus();
}

absl::StatusOr<std::vector<NetworkInterface>> InterfaceWatcher::ListInterfaces() {
  std::vector<NetworkInterface> interfaces;
  const absl::Status status = Dump(RTM_GETLINK, AF_UNSPEC, [&interfaces](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWLINK) interfaces.push_back(ReadInterface(message));
  });
  if (!status.ok()) return status;
  return interfaces;
}

absl::StatusOr<LocalAddresses> InterfaceWatcher::ListAddresses() {
  LocalAddresses addresses;
  const absl::Status status = Dump(RTM_GETADDR, AF_UNSPEC, [&addresses](const nlmsghdr* message) {
    const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    // Of a point-to-point interface IFA_ADDRESS is the peer's and IFA_LOCAL ours.
    const nlattr* own = nullptr;
    ForEachAttribute(message, sizeof(*info), [&own](const nlattr* attribute) {
      const uint16_t type = mnl_attr_get_type(attribute);
      if (type == IFA_LOCAL || (type == IFA_ADDRESS && own == nullptr)) own = attribute;
    });
    if (own == nullptr) return;
    MappedAddress address;
    if (info->ifa_family == AF_INET && mnl_attr_get_payload_len(own) == 4) {
      __be32 ipv4;
      std::memcpy(&ipv4, mnl_attr_get_payload(own), sizeof(ipv4));
      ph_map_ipv4(address.data(), ipv4);
    } else if (info->ifa_family == AF_INET6 && mnl_attr_get_payload_len(own) == 16) {
      std::memcpy(address.data(), mnl_attr_get_payload(own), address.size());
    } else {
      return;
    }
    addresses.insert(address);
  });
  if (!status.ok()) return status;
  return addresses;
}

}  // namespace packet_headers
