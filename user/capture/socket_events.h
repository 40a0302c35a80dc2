// The opens and closes of this host's TCP sockets, told by the kernel as they happen.

#ifndef PACKET_HEADERS_USER_CAPTURE_SOCKET_EVENTS_H_
#define PACKET_HEADERS_USER_CAPTURE_SOCKET_EVENTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "packet_headers/socket_event.h"
#include "user/identity/socket_event_source.h"

struct socket_events_bpf;

namespace packet_headers {

class BpfRing;

// Of the network namespace of the process. Sockets that are open at the start are told of when they
// close.
class SocketEvents : public SocketEventSource {
 public:
  // Needs Linux 5.12 with its types (BTF), CAP_BPF and CAP_PERFMON. Afterwards no capability is
  // needed.
  static absl::StatusOr<std::unique_ptr<SocketEvents>> Start();
  ~SocketEvents() override;

  int fd() const override;
  void Drain(size_t most, absl::FunctionRef<void(const ph_socket_event&)> use) override;

  // Events that the ring had no room for.
  uint64_t lost() const override;

 private:
  explicit SocketEvents(socket_events_bpf* skeleton);

  socket_events_bpf* const skeleton_;
  std::unique_ptr<BpfRing> ring_;  // once loaded
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_SOCKET_EVENTS_H_
