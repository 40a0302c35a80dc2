// A network namespace for one test, and TCP connections in it.

#ifndef PACKET_HEADERS_TESTS_BPF_OWN_NETWORK_H_
#define PACKET_HEADERS_TESTS_BPF_OWN_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "packet_headers/flow_key.h"
#include "tests/support/packet.h"
#include "user/base/unique_fd.h"
#include "user/capture/network_interface.h"

namespace packet_headers::testing {

// The calling thread is in a network namespace of its own, with lo up, until this is destroyed.
// Interfaces that are made in it have no IPv6, so that nothing is sent but what the test sends.
class OwnNetwork {
 public:
  OwnNetwork();
  ~OwnNetwork();
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  // `ip` with these arguments.
  void Ip(const std::string& arguments);

  // A pair of interfaces, up: what one sends the other receives.
  void AddVeth(const std::string& name, const std::string& peer);

 private:
  UniqueFd before_;
};

NetworkInterface InterfaceNamed(const std::string& name);

// Sends whole frames on an interface.
class FrameSender {
 public:
  explicit FrameSender(const std::string& interface);
  void Send(const Bytes& frame);

 private:
  UniqueFd socket_;
};

struct TcpOptions {
  std::string address = "127.0.0.1";
  std::string listen_address = address;
  bool accept_with_data = false;  // the listener makes a socket only when there is data
  std::string device;             // to which the client is bound
};

// A listener and a client that is connected to it.
class TcpPair {
 public:
  explicit TcpPair(const TcpOptions& options = {});

  void Accept();

  const UniqueFd& listener() const { return listener_; }
  UniqueFd& client() { return client_; }
  UniqueFd& server() { return server_; }  // once accepted

  ph_flow_key client_key() const { return client_key_; }
  ph_flow_key server_key() const { return server_key_; }

 private:
  UniqueFd listener_;
  UniqueFd client_;
  UniqueFd server_;
  ph_flow_key client_key_;
  ph_flow_key server_key_;
};

// SO_COOKIE.
uint64_t CookieOf(const UniqueFd& socket);

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_BPF_OWN_NETWORK_H_
