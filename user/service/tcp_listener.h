// A TCP socket that listens at an address in Go's form.

#ifndef PACKET_HEADERS_USER_SERVICE_TCP_LISTENER_H_
#define PACKET_HEADERS_USER_SERVICE_TCP_LISTENER_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

class TcpListener {
 public:
  // `address` is "host:port", ":port" (IPv6 and IPv4, or what there is of them) or "[v6]:port".
  // Port 0 lets the system choose. An error names `flag`, which sets the address, and what is
  // served.
  static absl::StatusOr<std::unique_ptr<TcpListener>> Listen(const std::string& address,
                                                             const std::string& what,
                                                             const std::string& flag);

  // Becomes readable when somebody has connected and sent something, or nothing for a while.
  int fd() const { return socket_.get(); }
  int port() const;

  // The next of those who have connected; it doesn't block. Invalid with errno set: EAGAIN when
  // there is none. Sets `is_of_host`: whether this host has connected, from loopback or from the
  // address that it connected to.
  UniqueFd Accept(bool& is_of_host);

 private:
  explicit TcpListener(UniqueFd socket) : socket_(std::move(socket)) {}

  const UniqueFd socket_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_TCP_LISTENER_H_
