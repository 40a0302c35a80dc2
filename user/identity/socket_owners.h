// Which local socket a TCP 4-tuple belongs to, asked of the kernel through sock_diag.

#ifndef PACKET_HEADERS_USER_IDENTITY_SOCKET_OWNERS_H_
#define PACKET_HEADERS_USER_IDENTITY_SOCKET_OWNERS_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "packet_headers/flow_key.h"

struct mnl_socket;
struct nlmsghdr;

namespace packet_headers {

// One thread. Needs no privilege.
class SocketOwners {
 public:
  // For the network namespace of the calling thread. Unimplemented where the kernel has no
  // tcp_diag.
  static absl::StatusOr<std::unique_ptr<SocketOwners>> Open();

  // The cookie (SO_COOKIE) of the socket that has exactly this 4-tuple, or 0. Its TIME-WAIT has the
  // same; before its handshake is over it has none. `ifindex` is where its packets leave: a socket
  // that is bound to an interface is not found from elsewhere. Takes a few microseconds.
  uint64_t CookieOf(const ph_flow_key& key, uint32_t ifindex);

  // Calls `use` for the sockets that are gone and were not told of before. The kernel tells within
  // some ten milliseconds, and keeps some hundred sockets to be told of; those beyond are lost.
  void ReadDepartures(absl::FunctionRef<void(const ph_flow_key& key, uint64_t cookie)> use);

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  using Socket = std::unique_ptr<mnl_socket, Close>;

  SocketOwners(Socket socket, Socket departures)
      : socket_(std::move(socket)), departures_(std::move(departures)) {}
  static absl::StatusOr<Socket> OpenSocket(unsigned groups);

  // A request of its kind in `buffer_`, where the answer then takes its place.
  struct Request;
  Request Begin(uint16_t flags, int family);
  // The first message of the kernel's answer, or null with the reason in errno.
  const nlmsghdr* Ask(const Request& request);

  const Socket socket_;
  const Socket departures_;
  uint32_t sequence_ = 0;
  alignas(4) char buffer_[8192];
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_SOCKET_OWNERS_H_
