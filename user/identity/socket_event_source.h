// Where the event server's socket events come from.

#ifndef PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_SOURCE_H_
#define PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_SOURCE_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "packet_headers/socket_event.h"

namespace packet_headers {

// Used by the thread of the event server alone.
class SocketEventSource {
 public:
  virtual ~SocketEventSource() = default;

  // Is readable while events wait.
  virtual int fd() const = 0;

  // Calls `use` for the waiting events, in order, until none is left or `most` were used.
  virtual void Drain(size_t most, absl::FunctionRef<void(const ph_socket_event&)> use) = 0;

  // How many events there were that Drain() never gives.
  virtual uint64_t lost() const = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_SOURCE_H_
