// What the kernel tells of real connections, in network namespaces of the test's own.

#include "user/capture/socket_events.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "user/base/clock.h"
#include "user/base/unique_fd.h"

namespace packet_headers::testing {
namespace {

constexpr int kPatienceMs = 30'000;
constexpr uint32_t kLoopbackIfindex = 1;

// The addresses of a socket; IPv4 or IPv6 as the text is.
class Address {
 public:
  Address(const std::string& text, uint16_t port) {
    if (inet_pton(AF_INET, text.c_str(), &ipv4_.sin_addr) == 1) {
      ipv4_.sin_family = AF_INET;
      ipv4_.sin_port = htons(port);
    } else {
      REQUIRE(inet_pton(AF_INET6, text.c_str(), &ipv6_.sin6_addr) == 1);
      ipv6_.sin6_family = AF_INET6;
      ipv6_.sin6_port = htons(port);
    }
  }

  int family() const { return any_.sa_family; }
  const sockaddr* get() const { return &any_; }
  socklen_t size() const { return family() == AF_INET ? sizeof(ipv4_) : sizeof(ipv6_); }

 private:
  union {
    sockaddr any_;
    sockaddr_in ipv4_;
    sockaddr_in6 ipv6_ = {};
  };
};

UniqueFd MakeSocket(int family) {
  UniqueFd made(socket(family, SOCK_STREAM, 0));
  REQUIRE(made.valid());
  const timeval patience = {kPatienceMs / 1000, 0};
  setsockopt(made.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return made;
}

// Network namespaces are left for good when the test ends.
class Namespace {
 public:
  Namespace() {
    const UniqueFd outside(open("/proc/thread-self/ns/net", O_RDONLY));
    REQUIRE(unshare(CLONE_NEWNET) == 0);
    fd_.Reset(open("/proc/thread-self/ns/net", O_RDONLY));
    SetUp("lo");
    Enter(outside);
  }
  void Enter() const { Enter(fd_); }
  static void Enter(const UniqueFd& fd) { REQUIRE(setns(fd.get(), CLONE_NEWNET) == 0); }

  static void SetUp(const char* device) {
    ifreq request = {};
    std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP;
    REQUIRE(ioctl(MakeSocket(AF_INET).get(), SIOCSIFFLAGS, &request) == 0);
  }

 private:
  UniqueFd fd_;
};

uint64_t CookieOf(const UniqueFd& socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  REQUIRE(getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0);
  return cookie;
}

uint16_t PortOf(const UniqueFd& socket) {
  sockaddr_in6 name = {};  // the port of IPv4 has the same place
  socklen_t size = sizeof(name);
  REQUIRE(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return ntohs(name.sin6_port);
}

UniqueFd Listen(const std::string& address, uint16_t port = 0) {
  UniqueFd listener = MakeSocket(Address(address, 0).family());
  const int yes = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const Address name(address, port);
  REQUIRE(bind(listener.get(), name.get(), name.size()) == 0);
  REQUIRE(listen(listener.get(), 16) == 0);
  return listener;
}

UniqueFd Connect(const std::string& address, uint16_t port) {
  const Address peer(address, port);
  UniqueFd client = MakeSocket(peer.family());
  REQUIRE(connect(client.get(), peer.get(), peer.size()) == 0);
  return client;
}

UniqueFd Accept(const UniqueFd& listener) {
  UniqueFd accepted(accept(listener.get(), nullptr, nullptr));
  REQUIRE(accepted.valid());
  return accepted;
}

void Reset(UniqueFd& socket) {
  const linger at_once = {1, 0};
  REQUIRE(setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) == 0);
  socket.Reset();
}

// Addresses and ports of both ends, as one reads them.
std::string Text(const ph_flow_key& key) {
  char local[INET6_ADDRSTRLEN];
  char remote[INET6_ADDRSTRLEN];
  return std::string(inet_ntop(AF_INET6, key.local_addr, local, sizeof(local))) + " " +
         std::to_string(ntohs(key.local_port_be)) + " - " +
         inet_ntop(AF_INET6, key.remote_addr, remote, sizeof(remote)) + " " +
         std::to_string(ntohs(key.remote_port_be));
}

std::string Text(const std::string& local, uint16_t local_port, const std::string& remote,
                 uint16_t remote_port) {
  return Text(FlowKey(local, local_port, remote, remote_port));
}

// A namespace, and what its sockets do.
struct Fixture {
  Fixture() {
    inside.Enter();
    absl::StatusOr<std::unique_ptr<SocketEvents>> started = SocketEvents::Start();
    INFO(started.status());
    REQUIRE(started.ok());
    events = *std::move(started);
  }
  ~Fixture() { setns(outside.get(), CLONE_NEWNET); }

  // Waits for so many events, and takes all that there are then. A failure shows them.
  std::vector<ph_socket_event> Take(size_t count) {
    std::vector<ph_socket_event> taken;
    do {
      pollfd waiting = {events->fd(), POLLIN, 0};
      if (taken.size() < count) REQUIRE(poll(&waiting, 1, kPatienceMs) == 1);
      events->Drain(SIZE_MAX, [&taken](const ph_socket_event& event) { taken.push_back(event); });
    } while (taken.size() < count);
    std::string all;
    for (const ph_socket_event& event : taken) {
      all += Text(event.key) + (event.kind == PH_SOCKET_OPEN ? " opens\n" : " closes\n");
      CHECK(event.time_ns <= static_cast<uint64_t>(MonotonicNow()));
      CHECK(event.time_ns > static_cast<uint64_t>(MonotonicNow()) - kPatienceMs * 1'000'000UL);
    }
    INFO(all);
    REQUIRE(taken.size() == count);
    return taken;
  }

  // The same as the sockets' keys by cookie. All events are of this kind.
  std::map<uint64_t, std::string> Take(size_t count, ph_socket_event_kind kind) {
    std::map<uint64_t, std::string> keys;
    for (const ph_socket_event& event : Take(count)) {
      CHECK(event.kind == kind);
      CHECK(event.bound_ifindex == 0);
      keys[event.socket_cookie] = Text(event.key);
    }
    return keys;
  }

  const UniqueFd outside{open("/proc/thread-self/ns/net", O_RDONLY)};
  const Namespace inside;
  std::unique_ptr<SocketEvents> events;
};

using Keys = std::map<uint64_t, std::string>;

TEST_CASE_METHOD(Fixture, "Both ends of a connection open and close", "[socket_events]") {
  struct Ends {
    std::string listener;
    std::string client;  // what it connects to
    std::string local;   // what its address is then
  };
  const Ends ends = GENERATE(values<Ends>({
      {"127.0.0.1", "127.0.0.1", "127.0.0.1"},
      {"::1", "::1", "::1"},
      {"::", "::1", "::1"},
      {"::", "127.0.0.1", "127.0.0.1"},
      {"::", "::ffff:127.0.0.1", "127.0.0.1"},
      {"0.0.0.0", "::ffff:127.0.0.1", "127.0.0.1"},
  }));
  const bool client_goes_first = GENERATE(true, false);
  CAPTURE(ends.listener, ends.client, client_goes_first);

  const UniqueFd listener = Listen(ends.listener);
  const uint16_t port = PortOf(listener);
  UniqueFd client = Connect(ends.client, port);
  UniqueFd server = Accept(listener);
  const Keys keys = {
      {CookieOf(client), Text(ends.local, PortOf(client), ends.local, port)},
      {CookieOf(server), Text(ends.local, port, ends.local, PortOf(client))},
  };
  CHECK(Take(2, PH_SOCKET_OPEN) == keys);
  SECTION("one after the other") {
    (client_goes_first ? client : server).Reset();
    (client_goes_first ? server : client).Reset();
    CHECK(Take(2, PH_SOCKET_CLOSE) == keys);
  }
  SECTION("by reset") {
    Reset(client_goes_first ? client : server);
    CHECK(Take(2, PH_SOCKET_CLOSE) == keys);
  }
}

TEST_CASE_METHOD(Fixture, "A connection that nobody accepts opens and closes", "[socket_events]") {
  UniqueFd listener = Listen("127.0.0.1");
  const UniqueFd client = Connect("127.0.0.1", PortOf(listener));
  const Keys opened = Take(2, PH_SOCKET_OPEN);
  listener.Reset();
  CHECK(Take(2, PH_SOCKET_CLOSE) == opened);
  CHECK(opened.contains(CookieOf(client)));
}

TEST_CASE_METHOD(Fixture, "Listeners and attempts that fail tell nothing", "[socket_events]") {
  UniqueFd listener = Listen("127.0.0.1");
  const Address nobody("127.0.0.1", PortOf(listener));
  listener.Reset();
  UniqueFd refused = MakeSocket(AF_INET);
  REQUIRE(connect(refused.get(), nobody.get(), nobody.size()) == -1);
  REQUIRE(errno == ECONNREFUSED);
  refused.Reset();

  listener = Listen("127.0.0.1");
  const UniqueFd client = Connect("127.0.0.1", PortOf(listener));
  CHECK(Take(2, PH_SOCKET_OPEN).contains(CookieOf(client)));
}

TEST_CASE_METHOD(Fixture, "A socket that is connected again opens again", "[socket_events]") {
  const UniqueFd listener = Listen("127.0.0.1");
  const uint16_t port = PortOf(listener);
  const UniqueFd client = Connect("127.0.0.1", port);
  const std::string first = Text("127.0.0.1", PortOf(client), "127.0.0.1", port);
  CHECK(Take(2, PH_SOCKET_OPEN)[CookieOf(client)] == first);

  const sockaddr nobody = {AF_UNSPEC, {}};
  REQUIRE(connect(client.get(), &nobody, sizeof(nobody)) == 0);
  CHECK(Take(2, PH_SOCKET_CLOSE)[CookieOf(client)] == first);

  const Address address("127.0.0.1", port);
  REQUIRE(connect(client.get(), address.get(), address.size()) == 0);
  CHECK(Take(2, PH_SOCKET_OPEN)[CookieOf(client)] ==
        Text("127.0.0.1", PortOf(client), "127.0.0.1", port));
}

TEST_CASE_METHOD(Fixture, "A socket that is connected to itself opens once", "[socket_events]") {
  UniqueFd self = MakeSocket(AF_INET);
  const Address name("127.0.0.1", 12'345);
  REQUIRE(bind(self.get(), name.get(), name.size()) == 0);
  REQUIRE(connect(self.get(), name.get(), name.size()) == 0);
  const Keys keys = {{CookieOf(self), Text("127.0.0.1", 12'345, "127.0.0.1", 12'345)}};
  CHECK(Take(1, PH_SOCKET_OPEN) == keys);
  Reset(self);
  CHECK(Take(1, PH_SOCKET_CLOSE) == keys);
}

TEST_CASE_METHOD(Fixture, "The device that a socket is bound to is told", "[socket_events]") {
  const UniqueFd listener = Listen("127.0.0.1");
  const UniqueFd client = MakeSocket(AF_INET);
  REQUIRE(setsockopt(client.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
  const Address address("127.0.0.1", PortOf(listener));
  REQUIRE(connect(client.get(), address.get(), address.size()) == 0);
  for (const ph_socket_event& event : Take(2)) {
    CHECK(event.bound_ifindex == (event.socket_cookie == CookieOf(client) ? kLoopbackIfindex : 0));
  }
}

// The peer is the test itself, behind a TUN device, so that the handshake need not end.
TEST_CASE_METHOD(Fixture, "A Fast Open socket that closes before the handshake ends opens first",
                 "[socket_events]") {
  const UniqueFd tun(open("/dev/net/tun", O_RDWR));
  if (!tun.valid()) {
    WARN("skipped: no /dev/net/tun");
    return;
  }
  ifreq request = {};
  std::strncpy(request.ifr_name, "tun0", IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  REQUIRE(ioctl(tun.get(), TUNSETIFF, &request) == 0);
  const std::pair<unsigned long, Address> ends[] = {{SIOCSIFADDR, Address("10.9.0.1", 0)},
                                                    {SIOCSIFDSTADDR, Address("10.9.0.2", 0)}};
  for (const auto& [operation, address] : ends) {
    std::memcpy(&request.ifr_addr, address.get(), sizeof(request.ifr_addr));
    REQUIRE(ioctl(MakeSocket(AF_INET).get(), operation, &request) == 0);
  }
  Namespace::SetUp("tun0");
  // For servers, also without a cookie.
  std::ofstream("/proc/sys/net/ipv4/tcp_fastopen") << 0x202;

  const UniqueFd listener = Listen("10.9.0.1", 80);
  const int queue = 16;
  REQUIRE(setsockopt(listener.get(), IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)) == 0);
  const Bytes syn =
      Packet().Ipv4("10.9.0.2", "10.9.0.1").Tcp(50'000, 80).Syn().Seq(1000).Payload(9).bytes();
  REQUIRE(write(tun.get(), syn.data(), syn.size()) == static_cast<ssize_t>(syn.size()));
  UniqueFd server = Accept(listener);
  const Keys keys = {{CookieOf(server), Text("10.9.0.1", 80, "10.9.0.2", 50'000)}};
  char payload[16];
  REQUIRE(recv(server.get(), payload, sizeof(payload), 0) == 9);
  server.Reset();
  CHECK(Take(1, PH_SOCKET_OPEN) == keys);

  const Bytes rst =
      Packet().Ipv4("10.9.0.2", "10.9.0.1").Tcp(50'000, 80).Flags(PH_TCP_RST).Seq(1010).bytes();
  REQUIRE(write(tun.get(), rst.data(), rst.size()) == static_cast<ssize_t>(rst.size()));
  CHECK(Take(1, PH_SOCKET_CLOSE) == keys);
}

TEST_CASE_METHOD(Fixture, "Nothing is told of other namespaces", "[socket_events]") {
  const Namespace other;
  other.Enter();
  {
    const UniqueFd listener = Listen("127.0.0.1");
    const UniqueFd client = Connect("127.0.0.1", PortOf(listener));
    const UniqueFd server = Accept(listener);
  }
  inside.Enter();
  const UniqueFd listener = Listen("127.0.0.1");
  const UniqueFd client = Connect("127.0.0.1", PortOf(listener));
  CHECK(Take(2, PH_SOCKET_OPEN).contains(CookieOf(client)));
}

TEST_CASE_METHOD(Fixture, "What the ring has no room for is lost and counted", "[socket_events]") {
  constexpr uint64_t kConnections = 5000;
  const UniqueFd listener = Listen("127.0.0.1");
  for (uint64_t i = 0; i < kConnections; ++i) {
    UniqueFd client = Connect("127.0.0.1", PortOf(listener));
    const UniqueFd server = Accept(listener);
    Reset(client);
  }
  uint64_t taken = 0;
  events->Drain(SIZE_MAX, [&taken](const ph_socket_event&) { ++taken; });
  CHECK(taken > 0);
  CHECK(events->lost() > 0);
  CHECK(taken + events->lost() == 4 * kConnections);
}

}  // namespace
}  // namespace packet_headers::testing
