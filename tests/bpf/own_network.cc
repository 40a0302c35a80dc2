#include "tests/bpf/own_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

ifreq RequestFor(const std::string& name) {
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

struct SocketAddress {
  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&storage); }

  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
};

SocketAddress AddressOf(const std::string& text, uint16_t port_be) {
  SocketAddress address;
  if (text.find(':') == std::string::npos) {
    auto* ipv4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = port_be;
    REQUIRE(inet_pton(AF_INET, text.c_str(), &ipv4->sin_addr) == 1);
    address.size = sizeof(*ipv4);
  } else {
    auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = port_be;
    REQUIRE(inet_pton(AF_INET6, text.c_str(), &ipv6->sin6_addr) == 1);
    address.size = sizeof(*ipv6);
  }
  return address;
}

uint16_t PortBe(const UniqueFd& socket) {
  SocketAddress address;
  REQUIRE(getsockname(socket.get(), address.generic(), &address.size) == 0);
  // In the same place in both families.
  return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port;
}

UniqueFd TcpSocket(const std::string& address) {
  UniqueFd made(socket(address.find(':') == std::string::npos ? AF_INET : AF_INET6,
                       SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(made.valid());
  return made;
}

}  // namespace

OwnNetwork::OwnNetwork() : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  REQUIRE(before_.valid());
  REQUIRE(unshare(CLONE_NEWNET) == 0);
  Ip("link set lo up");
  std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1;
}

OwnNetwork::~OwnNetwork() {
  if (setns(before_.get(), CLONE_NEWNET) != 0) std::abort();
}

void OwnNetwork::Ip(const std::string& arguments) {
  INFO("ip " << arguments);
  REQUIRE(std::system(("PATH=$PATH:/usr/sbin:/sbin ip " + arguments).c_str()) == 0);
}

void OwnNetwork::AddVeth(const std::string& name, const std::string& peer) {
  Ip("link add " + name + " type veth peer name " + peer);
  Ip("link set " + name + " up");
  Ip("link set " + peer + " up");
}

NetworkInterface InterfaceNamed(const std::string& name) {
  const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = RequestFor(name);
  REQUIRE(ioctl(any.get(), SIOCGIFHWADDR, &request) == 0);
  NetworkInterface interface;
  interface.ifindex = if_nametoindex(name.c_str());
  interface.name = name;
  interface.hardware_type = request.ifr_hwaddr.sa_family;
  return interface;
}

FrameSender::FrameSender(const std::string& interface)
    : socket_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
}

void FrameSender::Send(const Bytes& frame) {
  if (send(socket_.get(), frame.data(), frame.size(), 0) != static_cast<ssize_t>(frame.size())) {
    FAIL("send a frame: " << std::strerror(errno));
  }
}

TcpPair::TcpPair(const TcpOptions& options)
    : listener_(TcpSocket(options.listen_address)), client_(TcpSocket(options.address)) {
  SocketAddress bound = AddressOf(options.listen_address, 0);
  REQUIRE(bind(listener_.get(), bound.generic(), bound.size) == 0);
  const int on = 1;
  if (options.accept_with_data) {
    REQUIRE(setsockopt(listener_.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof(on)) == 0);
  }
  REQUIRE(listen(listener_.get(), 8) == 0);
  if (!options.device.empty()) {
    REQUIRE(setsockopt(client_.get(), SOL_SOCKET, SO_BINDTODEVICE, options.device.c_str(),
                       static_cast<socklen_t>(options.device.size())) == 0);
  }
  SocketAddress remote = AddressOf(options.address, PortBe(listener_));
  REQUIRE(connect(client_.get(), remote.generic(), remote.size) == 0);
  client_key_ =
      FlowKey(options.address, ntohs(PortBe(client_)), options.address, ntohs(PortBe(listener_)));
  server_key_ =
      FlowKey(options.address, ntohs(PortBe(listener_)), options.address, ntohs(PortBe(client_)));
}

void TcpPair::Accept() {
  server_.Reset(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server_.valid());
}

uint64_t CookieOf(const UniqueFd& socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  REQUIRE(getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0);
  return cookie;
}

}  // namespace packet_headers::testing
