// Stands in for tcp-info's event socket: tells other programs of this host's TCP connections.

#ifndef PACKET_HEADERS_USER_IDENTITY_EVENT_SERVER_H_
#define PACKET_HEADERS_USER_IDENTITY_EVENT_SERVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "packet_headers/socket_event.h"
#include "user/base/heartbeat.h"
#include "user/base/paced_log.h"
#include "user/base/unique_fd.h"
#include "user/identity/socket_event_source.h"
#include "user/identity/unix_listener.h"
#include "user/identity/unix_peer.h"
#include "user/identity/uuid.h"

namespace packet_headers {

// Written by the server's thread, read by any.
struct EventServerStats {
  std::atomic<int64_t> clients{0};           // now
  std::atomic<uint64_t> clients_left{0};     // went by themselves
  std::atomic<uint64_t> clients_dropped{0};  // read too slowly, or were one too many
  std::atomic<uint64_t> opens{0};            // announced
  std::atomic<uint64_t> closes{0};           // announced
  std::atomic<uint64_t> left_out{0};         // events that are not announced: an address is local
  std::atomic<uint64_t> lost{0};             // events that the source lost
};

// Owns one thread, which announces what the source tells to all clients alike. Connections with a
// loopback, link-local, multicast or unspecified address are left out. Nothing is replayed, but a
// client that has connected when a socket opens does hear of it.
class EventServer {
 public:
  // Where there are descriptors enough. Three quarters of the places are for all users together but
  // root and our own, and one of these gets a third of that.
  static constexpr size_t kMaxClients = 64;
  // A client that has left more than this unread is dropped. All clients share what they have not
  // read yet, so twice this is also about the most memory that it takes.
  static constexpr size_t kMaxBehindBytes = 8 << 20;

  // The source and the prefix outlive the server.
  static absl::StatusOr<std::unique_ptr<EventServer>> Start(std::unique_ptr<UnixListener> listener,
                                                            const UuidPrefix& uuid_prefix,
                                                            SocketEventSource& source);
  EventServer(const EventServer&) = delete;
  EventServer& operator=(const EventServer&) = delete;
  // Hangs up on all clients, whatever they have not read yet.
  ~EventServer();

  const EventServerStats& stats() const { return stats_; }
  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  // A stream of bytes, from where the slowest client stands to its end. Positions count from its
  // beginning.
  class Stream {
   public:
    void Append(absl::string_view bytes);
    uint64_t end() const { return forgotten_ + bytes_.size(); }
    absl::string_view From(uint64_t position) const;
    void Forget(uint64_t before);

   private:
    uint64_t forgotten_ = 0;  // bytes before bytes_
    std::string bytes_;
  };

  struct Client {
    UniqueFd socket;  // closed: to be removed
    UnixPeer peer;
    uint64_t position;       // in the stream: what is before it was sent
    bool is_full = false;    // the kernel takes no more until the client reads
    bool is_silent = false;  // the client has shut down its own side
  };

  EventServer(std::unique_ptr<UnixListener> listener, UniqueFd stop, const UuidPrefix& uuid_prefix,
              SocketEventSource& source);

  void Run();
  void Tick();
  void Announce(const ph_socket_event& event);
  void Accept(uint64_t position);
  const char* WhyNoRoom(const UnixPeer& peer) const;
  void Hear(Client& client, int poll_events);
  void Send(Client& client);
  void Leave(Client& client);
  void RemoveGone();

  const std::unique_ptr<UnixListener> listener_;
  const UniqueFd stop_;
  const size_t max_clients_;
  const UuidPrefix& uuid_prefix_;
  SocketEventSource& source_;
  EventServerStats stats_;
  Heartbeat heartbeat_{"event server"};

  // The thread's.
  Stream stream_;
  std::vector<Client> clients_;
  PacedLog log_;
  int64_t now_ns_ = 0;
  int64_t next_tick_ns_ = 0;
  int64_t wall_offset_ns_ = 0;
  bool can_accept_ = true;  // there were descriptors when last tried

  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_EVENT_SERVER_H_
