// What rtnetlink says of interfaces and addresses.

#ifndef PACKET_HEADERS_USER_CAPTURE_INTERFACE_WATCHER_H_
#define PACKET_HEADERS_USER_CAPTURE_INTERFACE_WATCHER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/capture/network_interface.h"
#include "user/flow/local_addresses.h"

struct mnl_socket;

namespace packet_headers {

// One thread. Needs no privilege.
class InterfaceWatcher {
 public:
  static absl::StatusOr<std::unique_ptr<InterfaceWatcher>> Open();

  // Becomes readable when an interface, an address or a TC filter came, went or changed.
  int fd() const;

  // Reads the notifications away; what changed is found by listing anew, since notifications can
  // be lost.
  void Acknowledge();

  absl::StatusOr<std::vector<NetworkInterface>> ListInterfaces();

  // The addresses of the host, 127.0.0.0/8 beyond 127.0.0.1 excepted.
  absl::StatusOr<LocalAddresses> ListAddresses();

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  using Socket = std::unique_ptr<mnl_socket, Close>;

  explicit InterfaceWatcher(Socket events) : events_(std::move(events)) {}

  static absl::StatusOr<Socket> OpenSocket(unsigned groups);
  Socket events_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_INTERFACE_WATCHER_H_
