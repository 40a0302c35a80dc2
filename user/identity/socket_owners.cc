#include "user/identity/socket_owners.h"

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "packet_headers/parse.h"

namespace packet_headers {
namespace {

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// TCP_SYN_RECV and TCP_LISTEN.
constexpr uint8_t kRequested = 3;
constexpr uint8_t kListening = 10;

// Each socket that goes is told of in these groups; one in TIME-WAIT went when that began.
constexpr unsigned kDepartures =
    1U << (SKNLGRP_INET_TCP_DESTROY - 1) | 1U << (SKNLGRP_INET6_TCP_DESTROY - 1);
constexpr int kDeparturesBytes = 4 << 20;

bool IsMapped(const __u8 (&address)[16]) {
  return std::memcmp(address, kMappedPrefix, sizeof(kMappedPrefix)) == 0;
}

void SetAddress(const __u8 (&address)[16], int family, __be32 (&to)[4]) {
  const bool is_ipv4 = family == AF_INET;
  std::memcpy(to, address + (is_ipv4 ? sizeof(kMappedPrefix) : 0), is_ipv4 ? 4 : 16);
}

ph_flow_key KeyOf(const inet_diag_msg& socket) {
  ph_flow_key key = {};
  if (socket.idiag_family == AF_INET) {
    ph_map_ipv4(key.local_addr, socket.id.idiag_src[0]);
    ph_map_ipv4(key.remote_addr, socket.id.idiag_dst[0]);
  } else {
    std::memcpy(key.local_addr, socket.id.idiag_src, sizeof(key.local_addr));
    std::memcpy(key.remote_addr, socket.id.idiag_dst, sizeof(key.remote_addr));
  }
  key.local_port_be = socket.id.idiag_sport;
  key.remote_port_be = socket.id.idiag_dport;
  return key;
}

uint64_t CookieIn(const inet_diag_msg& socket) {
  return uint64_t{socket.id.idiag_cookie[1]} << 32 | socket.id.idiag_cookie[0];
}

// The socket that the message tells of, or null.
const inet_diag_msg* SocketIn(const void* bytes, ssize_t size) {
  const auto* message = static_cast<const nlmsghdr*>(bytes);
  if (!mnl_nlmsg_ok(message, static_cast<int>(size)) ||
      message->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
      mnl_nlmsg_get_payload_len(message) < sizeof(inet_diag_msg)) {
    return nullptr;
  }
  return static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(message));
}

}  // namespace

struct SocketOwners::Request {
  nlmsghdr* header;
  inet_diag_req_v2* body;
};

void SocketOwners::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

absl::StatusOr<SocketOwners::Socket> SocketOwners::OpenSocket(unsigned groups) {
  Socket socket(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC));
  if (socket == nullptr || mnl_socket_bind(socket.get(), groups, MNL_SOCKET_AUTOPID) != 0) {
    return absl::ErrnoToStatus(errno, "open a sock_diag socket");
  }
  return socket;
}

absl::StatusOr<std::unique_ptr<SocketOwners>> SocketOwners::Open() {
  absl::StatusOr<Socket> socket = OpenSocket(0);
  if (!socket.ok()) return socket.status();
  absl::StatusOr<Socket> departures = OpenSocket(kDepartures);
  if (!departures.ok()) return departures.status();
  // As much as there may be without privilege.
  const int bytes = kDeparturesBytes;
  setsockopt(mnl_socket_get_fd(departures->get()), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  std::unique_ptr<SocketOwners> owners(
      new SocketOwners(*std::move(socket), *std::move(departures)));

  // A list of the sockets in no state at all: empty, or an error where nobody can make it.
  const nlmsghdr* answer = owners->Ask(owners->Begin(NLM_F_DUMP, AF_INET));
  if (answer == nullptr) return absl::ErrnoToStatus(errno, "ask sock_diag for TCP sockets");
  int error = 0;  // negative; both kinds of message begin with it
  if (mnl_nlmsg_get_payload_len(answer) >= sizeof(error)) {
    std::memcpy(&error, mnl_nlmsg_get_payload(answer), sizeof(error));
  }
  if (error == -ENOENT) {
    return absl::UnimplementedError(
        "ask sock_diag for TCP sockets: the kernel has no tcp_diag (`modprobe tcp_diag` loads it)");
  }
  if (error != 0) return absl::ErrnoToStatus(-error, "ask sock_diag for TCP sockets");
  return owners;
}

SocketOwners::Request SocketOwners::Begin(uint16_t flags, int family) {
  nlmsghdr* const header = mnl_nlmsg_put_header(buffer_);
  header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  header->nlmsg_flags = NLM_F_REQUEST | flags;
  header->nlmsg_seq = ++sequence_;
  auto* const body =
      static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req_v2)));
  body->sdiag_family = static_cast<__u8>(family);
  body->sdiag_protocol = IPPROTO_TCP;
  return {header, body};
}

const nlmsghdr* SocketOwners::Ask(const Request& request) {
  if (mnl_socket_sendto(socket_.get(), request.header, request.header->nlmsg_len) < 0) {
    return nullptr;
  }
  // The kernel answers before it returns from sending, so there is nothing to wait for. An answer
  // to an earlier request, whose reading failed, is passed over.
  while (true) {
    const ssize_t size =
        recv(mnl_socket_get_fd(socket_.get()), buffer_, sizeof(buffer_), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return nullptr;
    const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer_);
    if (mnl_nlmsg_ok(answer, static_cast<int>(size)) && answer->nlmsg_seq == sequence_) {
      return answer;
    }
  }
}

void SocketOwners::ReadDepartures(
    absl::FunctionRef<void(const ph_flow_key& key, uint64_t cookie)> use) {
  while (true) {
    const ssize_t size =
        recv(mnl_socket_get_fd(departures_.get()), buffer_, sizeof(buffer_), MSG_DONTWAIT);
    // ENOBUFS says that some were lost.
    if (size < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
    if (size < 0) return;
    const inet_diag_msg* const socket = SocketIn(buffer_, size);
    if (socket != nullptr) use(KeyOf(*socket), CookieIn(*socket));
  }
}

uint64_t SocketOwners::CookieOf(const ph_flow_key& key, uint32_t ifindex) {
  // Sockets of IPv6 that speak IPv4 are found by their IPv4 addresses.
  const int family = IsMapped(key.local_addr) && IsMapped(key.remote_addr) ? AF_INET : AF_INET6;
  const Request request = Begin(0, family);
  request.body->idiag_states = ~0U;
  inet_diag_sockid& id = request.body->id;
  SetAddress(key.local_addr, family, id.idiag_src);
  SetAddress(key.remote_addr, family, id.idiag_dst);
  id.idiag_sport = key.local_port_be;
  id.idiag_dport = key.remote_port_be;
  id.idiag_if = ifindex;
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;

  const nlmsghdr* answer = Ask(request);
  const inet_diag_msg* const socket =
      answer == nullptr ? nullptr : SocketIn(answer, answer->nlmsg_len);
  // Where no connection has the 4-tuple, the kernel tells of who listens there.
  if (socket == nullptr || socket->idiag_state == kListening) return 0;
  // The question gives a request its cookie, and just when the request becomes a socket that can be
  // too late: the socket gets another.
  if (socket->idiag_state == kRequested) return 0;
  const ph_flow_key found = KeyOf(*socket);
  return std::memcmp(&found, &key, sizeof(key)) == 0 ? CookieIn(*socket) : 0;
}

}  // namespace packet_headers
