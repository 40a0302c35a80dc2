#include "user/capture/network_interface.h"

#include <net/if_arp.h>

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace packet_headers {
namespace {

using Names = std::vector<std::string>;

Names Select(const std::vector<NetworkInterface>& all, const Names& names = {}) {
  Names selected;
  for (const NetworkInterface& interface : SelectInterfaces(all, names)) {
    selected.push_back(interface.name);
  }
  return selected;
}

TEST_CASE("Without names all interfaces that are up are captured", "[interface]") {
  CHECK(Select({{.ifindex = 1, .name = "lo", .is_up = true},
                {.ifindex = 2, .name = "eth0", .is_up = true},
                {.ifindex = 3, .name = "eth1"},
                {.ifindex = 4, .name = "tun0", .is_up = true}}) == Names{"lo", "eth0", "tun0"});
  CHECK(Select({}).empty());
}

TEST_CASE("A packet that passes two interfaces is captured on the lower one", "[interface]") {
  SECTION("bridge") {
    CHECK(Select({{.ifindex = 2, .name = "eth0", .is_up = true, .master = 9},
                  {.ifindex = 3, .name = "veth0", .is_up = true, .master = 9},
                  {.ifindex = 9, .name = "br0", .is_up = true}}) == Names{"eth0", "veth0"});
  }
  SECTION("VLAN device") {
    CHECK(Select({{.ifindex = 2, .name = "eth0", .is_up = true},
                  {.ifindex = 5, .name = "eth0.7", .is_up = true, .lower = 2}}) == Names{"eth0"});
  }
  SECTION("VLAN device on a bond") {
    CHECK(Select({{.ifindex = 2, .name = "eth0", .is_up = true, .master = 4},
                  {.ifindex = 3, .name = "eth1", .is_up = true, .master = 4},
                  {.ifindex = 4, .name = "bond0", .is_up = true},
                  {.ifindex = 5, .name = "bond0.7", .is_up = true, .lower = 4}}) ==
          Names{"eth0", "eth1"});
  }
}

TEST_CASE("An interface above others that are not captured is captured", "[interface]") {
  SECTION("a bridge without ports") {
    CHECK(Select({{.ifindex = 9, .name = "docker0", .is_up = true}}) == Names{"docker0"});
  }
  SECTION("a bridge whose only port is down") {
    CHECK(Select({{.ifindex = 3, .name = "veth0", .master = 9},
                  {.ifindex = 9, .name = "br0", .is_up = true}}) == Names{"br0"});
  }
  SECTION("one whose lower device is in another namespace") {
    CHECK(Select({{.ifindex = 5, .name = "macvlan0", .is_up = true, .lower = 77}}) ==
          Names{"macvlan0"});
  }
}

TEST_CASE("Interfaces that are named are captured, as they are", "[interface]") {
  const std::vector<NetworkInterface> all = {
      {.ifindex = 2, .name = "eth0", .is_up = true, .master = 9},
      {.ifindex = 3, .name = "eth1"},
      {.ifindex = 9, .name = "br0", .is_up = true}};
  CHECK(Select(all, {"br0"}) == Names{"br0"});
  CHECK(Select(all, {"eth1"}) == Names{"eth1"});
  CHECK(Select(all, {"br0", "eth0", "eth0"}) == Names{"eth0", "br0"});
  CHECK(Select(all, {"eth"}).empty());
}

TEST_CASE("Devices without an Ethernet header give IP packets", "[interface]") {
  for (const uint16_t type : {ARPHRD_ETHER, ARPHRD_LOOPBACK}) {
    CHECK(NetworkInterface{.hardware_type = type}.link_layer() == PH_LINK_ETHERNET);
  }
  for (const uint16_t type : {ARPHRD_NONE, ARPHRD_PPP, ARPHRD_SIT, ARPHRD_TUNNEL, ARPHRD_RAWIP}) {
    CHECK(NetworkInterface{.hardware_type = type}.link_layer() == PH_LINK_IP);
  }
}

}  // namespace
}  // namespace packet_headers
