// The client of tcp-info's event socket.

#ifndef PACKET_HEADERS_USER_IDENTITY_EVENT_CLIENT_H_
#define PACKET_HEADERS_USER_IDENTITY_EVENT_CLIENT_H_

#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "user/base/heartbeat.h"
#include "user/base/paced_log.h"
#include "user/base/unique_fd.h"
#include "user/flow/announcement.h"
#include "user/identity/socket_event.h"
#include "user/identity/unix_peer.h"

namespace packet_headers {

// Written by the client's thread, read by any.
struct EventClientStats {
  std::atomic<bool> connected{false};
  std::atomic<uint64_t> connects{0};
  std::atomic<uint64_t> opens{0};
  std::atomic<uint64_t> closes{0};
  std::array<std::atomic<uint64_t>, std::size(kBadEventNames)> bad_events{};  // by BadEvent
};

// The waits between two tries double from the first to the longest, and begin anew after a
// connection that brought an event. Each is shortened by up to a half, at random.
struct RetryWaits {
  absl::Duration first = absl::Milliseconds(50);
  absl::Duration longest = absl::Seconds(5);
};

// Owns one thread, which reads all that tcp-info sends as fast as it comes: tcp-info waits for its
// slowest client. A socket that is not there, or no longer, or that is served by somebody who could
// forge names (CheckServer()), is tried again until it is. Nothing that comes through it ends the
// client.
class EventClient {
 public:
  // Gets each open, in the client's thread. Must not block.
  using OnOpen = std::function<void(Announcement)>;

  // InvalidArgument when `path` can't be that of a socket. Whether there is one is not looked at.
  static absl::StatusOr<std::unique_ptr<EventClient>> Start(const std::string& path, OnOpen on_open,
                                                            RetryWaits waits = {});

  EventClient(const EventClient&) = delete;
  EventClient& operator=(const EventClient&) = delete;
  // Ends the thread at once, whatever it waits for.
  ~EventClient();

  const EventClientStats& stats() const { return stats_; }
  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  EventClient(const sockaddr_un& address, OnOpen on_open, RetryWaits waits, UniqueFd stop);

  void Run();
  // Sets `server` to who serves the socket.
  absl::StatusOr<UniqueFd> Connect(UnixPeer& server);
  std::optional<std::string> ReadAll(const UniqueFd& socket);
  void OnLine(absl::string_view line);
  void OnBadEvent(BadEvent reason, uint64_t count = 1);
  int64_t NextWaitNs();
  bool Wait(int fd, int64_t until_ns);

  const sockaddr_un address_;
  const OnOpen on_open_;
  const RetryWaits waits_;
  const UniqueFd stop_;  // an eventfd: readable when the thread is to end
  EventClientStats stats_;
  Heartbeat heartbeat_{"event client"};

  // The thread's.
  std::vector<char> buffer_;
  absl::Duration wait_;
  std::minstd_rand random_;
  PacedLog connection_log_;
  PacedLog bad_event_log_;

  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_EVENT_CLIENT_H_
