#include "user/identity/socket_owners.h"

#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "tests/bpf/own_network.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

std::unique_ptr<SocketOwners> Owners() {
  absl::StatusOr<std::unique_ptr<SocketOwners>> owners = SocketOwners::Open();
  INFO(std::string(owners.status().message()));
  REQUIRE(owners.ok());
  return *std::move(owners);
}

uint32_t Loopback() { return InterfaceNamed("lo").ifindex; }

TEST_CASE("Both ends of a connection are found by their own tuples", "[owners]") {
  OwnNetwork network;
  for (const std::string address : {"127.0.0.1", "::1"}) {
    INFO(address);
    const std::unique_ptr<SocketOwners> owners = Owners();
    TcpPair tcp({.address = address});
    tcp.Accept();
    CHECK(owners->CookieOf(tcp.client_key(), Loopback()) == CookieOf(tcp.client()));
    CHECK(owners->CookieOf(tcp.server_key(), Loopback()) == CookieOf(tcp.server()));
  }
}

TEST_CASE("A socket of IPv6 is found by the IPv4 that it speaks", "[owners]") {
  OwnNetwork network;
  const std::unique_ptr<SocketOwners> owners = Owners();
  TcpPair tcp({.listen_address = "::"});
  tcp.Accept();
  CHECK(owners->CookieOf(tcp.server_key(), Loopback()) == CookieOf(tcp.server()));
}

TEST_CASE("A request has no owner, what becomes of it has", "[owners]") {
  OwnNetwork network;
  for (const std::string listen_address : {"127.0.0.1", "::"}) {
    INFO(listen_address);
    const std::unique_ptr<SocketOwners> owners = Owners();
    TcpPair tcp({.listen_address = listen_address, .accept_with_data = true});
    CHECK(owners->CookieOf(tcp.server_key(), Loopback()) == 0);
    REQUIRE(send(tcp.client().get(), "x", 1, 0) == 1);
    const uint64_t before_accept = owners->CookieOf(tcp.server_key(), Loopback());
    CHECK(before_accept != 0);
    tcp.Accept();
    CHECK(CookieOf(tcp.server()) == before_accept);
  }
}

TEST_CASE("TIME-WAIT has the cookie of the socket that it was", "[owners]") {
  OwnNetwork network;
  const std::unique_ptr<SocketOwners> owners = Owners();
  TcpPair tcp;
  tcp.Accept();
  const uint64_t cookie = CookieOf(tcp.client());
  tcp.client().Reset();
  tcp.server().Reset();
  CHECK(owners->CookieOf(tcp.client_key(), Loopback()) == cookie);
  CHECK(owners->CookieOf(tcp.server_key(), Loopback()) == 0);
}

TEST_CASE("A socket bound to an interface is found there alone", "[owners]") {
  OwnNetwork network;
  const std::unique_ptr<SocketOwners> owners = Owners();
  TcpPair tcp({.device = "lo"});
  CHECK(owners->CookieOf(tcp.client_key(), Loopback()) == CookieOf(tcp.client()));
  CHECK(owners->CookieOf(tcp.client_key(), Loopback() + 1) == 0);
}

TEST_CASE("Who listens does not own what others send", "[owners]") {
  OwnNetwork network;
  const std::unique_ptr<SocketOwners> owners = Owners();
  TcpPair tcp;
  ph_flow_key key = tcp.server_key();
  key.remote_port_be ^= htons(1);
  CHECK(owners->CookieOf(key, Loopback()) == 0);
  CHECK(owners->CookieOf(FlowKey("127.0.0.1", 1, "127.0.0.1", 2), Loopback()) == 0);
  CHECK(owners->CookieOf(FlowKey("192.0.2.1", 1, "198.51.100.2", 2), Loopback()) == 0);
  CHECK(owners->CookieOf(FlowKey("2001:db8::1", 1, "2001:db8::2", 2), Loopback()) == 0);
  // Nor has any of these put the next answer out of step.
  CHECK(owners->CookieOf(tcp.client_key(), Loopback()) == CookieOf(tcp.client()));
}

TEST_CASE("Each socket that is gone is told of once", "[owners]") {
  OwnNetwork network;
  for (const std::string address : {"127.0.0.1", "::1"}) {
    INFO(address);
    const std::unique_ptr<SocketOwners> owners = Owners();
    TcpPair tcp({.address = address});
    tcp.Accept();
    std::map<uint64_t, ph_flow_key> expected = {{CookieOf(tcp.client()), tcp.client_key()},
                                                {CookieOf(tcp.server()), tcp.server_key()}};
    const auto use = [&expected](const ph_flow_key& key, uint64_t cookie) {
      const auto found = expected.find(cookie);
      REQUIRE(found != expected.end());
      CHECK(std::memcmp(&key, &found->second, sizeof(key)) == 0);
      expected.erase(found);
    };
    owners->ReadDepartures(use);
    CHECK(expected.size() == 2);
    tcp.client().Reset();
    tcp.server().Reset();
    // The kernel does it from a work queue.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!expected.empty() && std::chrono::steady_clock::now() < deadline) {
      owners->ReadDepartures(use);
      std::this_thread::yield();
    }
    CHECK(expected.empty());
  }
}

}  // namespace
}  // namespace packet_headers::testing
