#include "user/identity/event_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "spdlog/spdlog.h"
#include "user/base/clock.h"
#include "user/base/descriptors.h"
#include "user/base/named_thread.h"
#include "user/flow/announcement.h"
#include "user/identity/socket_event.h"
#include "user/identity/uuid.h"

namespace packet_headers {
namespace {

constexpr int64_t kTickNs = 1'000'000'000;

// In one round, so that no client waits for long.
constexpr size_t kMaxEvents = 256;
constexpr size_t kMaxHeardBytes = 64 * 1024;

// As tcp-info's isLocal.
bool IsLocal(const __u8 (&address)[16]) {
  in6_addr ipv6;
  std::memcpy(&ipv6, address, sizeof(ipv6));
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
    uint32_t ipv4_be;
    std::memcpy(&ipv4_be, address + 12, sizeof(ipv4_be));
    const uint32_t ipv4 = ntohl(ipv4_be);
    return ipv4 >> 24 == IN_LOOPBACKNET || ipv4 >> 16 == 0xa9fe || IN_MULTICAST(ipv4) ||
           ipv4 == INADDR_ANY;
  }
  return IN6_IS_ADDR_LOOPBACK(&ipv6) || IN6_IS_ADDR_LINKLOCAL(&ipv6) ||
         IN6_IS_ADDR_MULTICAST(&ipv6) || IN6_IS_ADDR_UNSPECIFIED(&ipv6);
}

bool IsPrivileged(uid_t uid) { return uid == 0 || uid == geteuid(); }

bool IsPassing(int error) { return error == EAGAIN || error == EINTR; }

void Increment(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

void EventServer::Stream::Append(absl::string_view bytes) {
  bytes_.append(bytes.data(), bytes.size());
}

absl::string_view EventServer::Stream::From(uint64_t position) const {
  return absl::string_view(bytes_).substr(position - forgotten_);
}

void EventServer::Stream::Forget(uint64_t before) {
  // What is left has to be moved, so not at every step.
  if (before - forgotten_ < bytes_.size() / 2) return;
  bytes_ = std::string(From(before));
  forgotten_ = before;
}

absl::StatusOr<std::unique_ptr<EventServer>> EventServer::Start(
    std::unique_ptr<UnixListener> listener, const UuidPrefix& uuid_prefix,
    SocketEventSource& source) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "make an eventfd");
  spdlog::info("event socket: serving {}", listener->path());
  return std::unique_ptr<EventServer>(
      new EventServer(std::move(listener), std::move(stop), uuid_prefix, source));
}

EventServer::EventServer(std::unique_ptr<UnixListener> listener, UniqueFd stop,
                         const UuidPrefix& uuid_prefix, SocketEventSource& source)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      max_clients_(DescriptorsForClients(kMaxClients)),
      uuid_prefix_(uuid_prefix),
      source_(source),
      thread_(StartThread(heartbeat_.thread(), [this] { Run(); })) {}

EventServer::~EventServer() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void EventServer::Run() {
  std::vector<pollfd> waiting;
  while (true) {
    waiting = {{stop_.get(), POLLIN, 0},
               {source_.fd(), POLLIN, 0},
               {can_accept_ ? listener_->fd() : -1, POLLIN, 0}};
    const size_t others = waiting.size();
    for (const Client& client : clients_) {
      const int wanted = (client.is_silent ? 0 : POLLIN) | (client.is_full ? POLLOUT : 0);
      waiting.push_back({client.socket.get(), static_cast<short>(wanted), 0});
    }
    poll(waiting.data(), waiting.size(), kLongestTurnMs);
    heartbeat_.Beat();
    if (waiting[0].revents != 0) return;
    now_ns_ = MonotonicNow();
    if (now_ns_ >= next_tick_ns_) Tick();
    for (size_t i = 0; i < clients_.size(); ++i) Hear(clients_[i], waiting[others + i].revents);
    RemoveGone();

    // Whoever connected before an event is found behind it, and hears of it.
    const uint64_t position = stream_.end();
    source_.Drain(kMaxEvents, [this](const ph_socket_event& event) { Announce(event); });
    Accept(position);
    for (Client& client : clients_) Send(client);
    RemoveGone();

    uint64_t slowest = stream_.end();
    for (const Client& client : clients_) slowest = std::min(slowest, client.position);
    stream_.Forget(slowest);
  }
}

void EventServer::Tick() {
  next_tick_ns_ = now_ns_ + kTickNs;
  wall_offset_ns_ = WallOffset();
  stats_.lost.store(source_.lost(), std::memory_order_relaxed);
  can_accept_ = true;
  log_.CatchUp(now_ns_);
}

void EventServer::Announce(const ph_socket_event& event) {
  if (IsLocal(event.key.local_addr) || IsLocal(event.key.remote_addr)) {
    Increment(stats_.left_out);
    return;
  }
  const int64_t time_ns = static_cast<int64_t>(event.time_ns) + wall_offset_ns_;
  std::string uuid = UuidFromCookie(uuid_prefix_.Get(), event.socket_cookie);
  if (event.kind == PH_SOCKET_CLOSE) {
    stream_.Append(EncodeClose(time_ns, uuid));
    Increment(stats_.closes);
    return;
  }
  Announcement announcement;
  announcement.key = event.key;
  announcement.cookie = event.socket_cookie;
  announcement.time_ns = time_ns;
  announcement.date = absl::ToCivilDay(absl::FromUnixNanos(time_ns), absl::UTCTimeZone());
  announcement.uuid = std::move(uuid);
  stream_.Append(EncodeOpen(announcement, event.bound_ifindex));
  Increment(stats_.opens);
}

// Takes in those who wait; for them the stream begins at `position`.
void EventServer::Accept(uint64_t position) {
  for (size_t i = 0; can_accept_ && i < kMaxClients; ++i) {
    UniqueFd socket = listener_->Accept();
    if (!socket.valid()) {
      // Without descriptors the listener would stay readable: it is left alone until the next tick.
      can_accept_ = IsPassing(errno) || errno == ECONNABORTED;
      return;
    }
    const absl::StatusOr<UnixPeer> peer = PeerOf(socket.get());
    if (!peer.ok()) continue;
    if (const char* const why = WhyNoRoom(*peer); why != nullptr) {
      log_.Say(spdlog::level::warn,
               absl::StrCat("event socket: no room for ", peer->Describe(), ": ", why), now_ns_);
      Increment(stats_.clients_dropped);
      continue;
    }
    log_.Say(spdlog::level::info, absl::StrCat("event socket: client ", peer->Describe()), now_ns_);
    clients_.push_back({std::move(socket), *peer, position});
  }
}

// Null: there is room.
const char* EventServer::WhyNoRoom(const UnixPeer& peer) const {
  if (clients_.size() >= max_clients_) return "every place is taken";
  if (IsPrivileged(peer.uid)) return nullptr;
  const size_t for_all = max_clients_ * 3 / 4;
  size_t of_all = 0;
  size_t of_user = 0;
  for (const Client& client : clients_) {
    of_all += !IsPrivileged(client.peer.uid);
    of_user += client.peer.uid == peer.uid;
  }
  if (of_user >= for_all / 3) return "its user has its share of places";
  return of_all >= for_all ? "the other places are kept for root and this user" : nullptr;
}

// Clients have nothing to say. It is read nevertheless, so that none that does blocks.
void EventServer::Hear(Client& client, int poll_events) {
  if ((poll_events & (POLLHUP | POLLERR)) != 0) return Leave(client);
  if ((poll_events & POLLOUT) != 0) client.is_full = false;
  if ((poll_events & POLLIN) == 0) return;
  char heard[kMaxHeardBytes];
  const ssize_t size = recv(client.socket.get(), heard, sizeof(heard), MSG_DONTWAIT);
  if (size < 0 && !IsPassing(errno)) return Leave(client);
  if (size == 0) client.is_silent = true;
}

void EventServer::Send(Client& client) {
  absl::string_view unsent = stream_.From(client.position);
  if (!client.is_full && !unsent.empty()) {
    const ssize_t size =
        send(client.socket.get(), unsent.data(), unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && !IsPassing(errno)) return Leave(client);
    if (size > 0) client.position += static_cast<uint64_t>(size);
    unsent = stream_.From(client.position);
    client.is_full = !unsent.empty();
  }
  if (unsent.size() <= kMaxBehindBytes) return;
  log_.Say(spdlog::level::warn,
           absl::StrCat("event socket: dropped ", client.peer.Describe(), ": it reads too slowly"),
           now_ns_);
  Increment(stats_.clients_dropped);
  client.socket.Reset();
}

void EventServer::Leave(Client& client) {
  log_.Say(spdlog::level::info, absl::StrCat("event socket: ", client.peer.Describe(), " left"),
           now_ns_);
  Increment(stats_.clients_left);
  client.socket.Reset();
}

void EventServer::RemoveGone() {
  std::erase_if(clients_, [](const Client& client) { return !client.socket.valid(); });
  stats_.clients.store(static_cast<int64_t>(clients_.size()), std::memory_order_relaxed);
}

}  // namespace packet_headers
