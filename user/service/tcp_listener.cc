#include "user/service/tcp_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "user/config/host_and_port.h"

namespace packet_headers {
namespace {

// How long the kernel keeps a connection on which nothing comes. A scraper speaks at once: it is
// never behind those who only connect.
constexpr int kSilentSeconds = 1;

void SetOption(const UniqueFd& socket, int level, int option, int value) {
  setsockopt(socket.get(), level, option, &value, sizeof(value));
}

// Invalid with errno set.
UniqueFd ListenAt(const addrinfo& at, bool dual_stack) {
  UniqueFd listener(socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return listener;
  SetOption(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  SetOption(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, kSilentSeconds);
  if (at.ai_family == AF_INET6) SetOption(listener, IPPROTO_IPV6, IPV6_V6ONLY, !dual_stack);
  if (bind(listener.get(), at.ai_addr, at.ai_addrlen) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    const int error = errno;
    listener.Reset();
    errno = error;
  }
  return listener;
}

// An IPv4 address is mapped into it.
in6_addr AddressOf(const sockaddr_storage& end) {
  if (end.ss_family == AF_INET6) return reinterpret_cast<const sockaddr_in6&>(end).sin6_addr;
  in6_addr address = {};
  address.s6_addr[10] = address.s6_addr[11] = 0xff;
  const in_addr& ipv4 = reinterpret_cast<const sockaddr_in&>(end).sin_addr;
  std::memcpy(&address.s6_addr[12], &ipv4, sizeof(ipv4));
  return address;
}

// From loopback the kernel takes nothing that comes by another interface. Nor does another host get
// answers to what it sends with our address: they stay here.
bool IsOfHost(const in6_addr& peer, const in6_addr& own) {
  return IN6_IS_ADDR_LOOPBACK(&peer) ||
         (IN6_IS_ADDR_V4MAPPED(&peer) && peer.s6_addr[12] == IN_LOOPBACKNET) ||
         IN6_ARE_ADDR_EQUAL(&peer, &own);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpListener>> TcpListener::Listen(const std::string& address,
                                                                 const std::string& what,
                                                                 const std::string& flag) {
  const auto error = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("serve ", what, " on ", address, ": ", why, " (-", flag, " sets where)"));
  };
  const absl::StatusOr<HostAndPort> parts = SplitHostAndPort(address);
  if (!parts.ok()) return error(parts.status().message());
  const auto& [host, port] = *parts;
  UniqueFd socket;
  int why = EAFNOSUPPORT;
  // Without a host the IPv6 socket takes IPv4 as well, where there is IPv6.
  for (const int family : {host.empty() ? AF_INET6 : AF_UNSPEC, AF_INET}) {
    addrinfo hints = {};
    hints.ai_flags = AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_family = family;
    addrinfo* found = nullptr;
    const int failure =
        getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
    if (failure != 0) return error(gai_strerror(failure));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
    socket = ListenAt(*found, /*dual_stack=*/host.empty());
    if (!socket.valid()) why = errno;
    if (socket.valid() || !host.empty() || (why != EAFNOSUPPORT && why != EADDRNOTAVAIL)) break;
  }
  if (!socket.valid()) return error(std::strerror(why));
  return std::unique_ptr<TcpListener>(new TcpListener(std::move(socket)));
}

int TcpListener::port() const {
  sockaddr_in6 address = {};  // the port is where it is in IPv4's
  socklen_t size = sizeof(address);
  getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin6_port);
}

UniqueFd TcpListener::Accept(bool& is_of_host) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  UniqueFd accepted(
      accept4(fd(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!accepted.valid()) return accepted;
  sockaddr_storage own = {};
  size = sizeof(own);
  getsockname(accepted.get(), reinterpret_cast<sockaddr*>(&own), &size);
  is_of_host = IsOfHost(AddressOf(peer), AddressOf(own));
  return accepted;
}

}  // namespace packet_headers
