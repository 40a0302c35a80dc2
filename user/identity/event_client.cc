#include "user/identity/event_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "user/base/clock.h"
#include "user/base/named_thread.h"
#include "user/identity/line_splitter.h"

namespace packet_headers {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// Only the client's thread adds: no locked instruction.
void Add(std::atomic<uint64_t>& counter, uint64_t count) {
  counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventClient>> EventClient::Start(const std::string& path,
                                                                OnOpen on_open, RetryWaits waits) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  constexpr size_t kMaxPathBytes = sizeof(address.sun_path) - 1;
  if (path.empty() || path.size() > kMaxPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat("event socket \"", path,
                                                   "\": a socket's path has 1 to ", kMaxPathBytes,
                                                   " bytes, this one ", path.size()));
  }
  path.copy(address.sun_path, kMaxPathBytes);
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "event socket: eventfd");
  return std::unique_ptr<EventClient>(
      new EventClient(address, std::move(on_open), waits, std::move(stop)));
}

EventClient::EventClient(const sockaddr_un& address, OnOpen on_open, RetryWaits waits,
                         UniqueFd stop)
    : address_(address),
      on_open_(std::move(on_open)),
      waits_(waits),
      stop_(std::move(stop)),
      buffer_(kReadBytes),
      wait_(waits.first),
      random_(static_cast<uint32_t>(MonotonicNow())),
      thread_(StartThread(heartbeat_.thread(), [this] { Run(); })) {}

EventClient::~EventClient() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void EventClient::Run() {
  const auto say = [this](spdlog::level::level_enum level, absl::string_view news) {
    connection_log_.Say(level, absl::StrCat("event socket ", address_.sun_path, ": ", news),
                        MonotonicNow());
  };
  do {
    UnixPeer server;
    const absl::StatusOr<UniqueFd> socket = Connect(server);
    if (!socket.ok()) {
      say(spdlog::level::warn, absl::StrCat(socket.status().message(), "; trying again"));
      continue;
    }
    Add(stats_.connects, 1);
    stats_.connected.store(true, std::memory_order_relaxed);
    say(spdlog::level::info, absl::StrCat("connected to ", server.Describe()));
    const std::optional<std::string> end = ReadAll(*socket);
    stats_.connected.store(false, std::memory_order_relaxed);
    if (!end.has_value()) return;
    say(spdlog::level::warn, absl::StrCat(*end, "; trying again"));
  } while (Wait(/*fd=*/-1, MonotonicNow() + NextWaitNs()));
}

absl::StatusOr<UniqueFd> EventClient::Connect(UnixPeer& server) {
  // Not to wait for a server that does not accept.
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() ||
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 0) {
    return absl::ErrnoToStatus(errno, "connect");
  }
  const absl::StatusOr<UnixPeer> peer = PeerOf(fd.get());
  if (!peer.ok()) return peer.status();
  server = *peer;
  const absl::Status status = CheckServer(server, address_.sun_path, geteuid());
  if (!status.ok()) return status;
  return fd;
}

// Returns how the connection ended; nothing: the client is to stop.
std::optional<std::string> EventClient::ReadAll(const UniqueFd& socket) {
  LineSplitter lines;
  const auto use = [this](absl::string_view line) { OnLine(line); };
  while (Wait(socket.get(), kNever)) {
    const ssize_t size = read(socket.get(), buffer_.data(), buffer_.size());
    if (size > 0) {
      OnBadEvent(BadEvent::kOversized,
                 lines.Feed({buffer_.data(), static_cast<size_t>(size)}, use));
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
      std::string end = size == 0 ? "closed by the other end" : std::strerror(errno);
      OnLine(lines.rest());  // as Go's bufio.Scanner does; a torn one is malformed
      return end;
    }
  }
  return std::nullopt;
}

void EventClient::OnLine(absl::string_view line) {
  SocketEvent event = DecodeSocketEvent(line);
  if (auto* const announcement = std::get_if<Announcement>(&event)) {
    Add(stats_.opens, 1);
    wait_ = waits_.first;
    on_open_(std::move(*announcement));
  } else if (std::holds_alternative<ClosedSocket>(event)) {
    Add(stats_.closes, 1);
    wait_ = waits_.first;
  } else if (const auto* const reason = std::get_if<BadEvent>(&event)) {
    OnBadEvent(*reason);
  }
}

void EventClient::OnBadEvent(BadEvent reason, uint64_t count) {
  if (count == 0) return;
  const auto index = static_cast<size_t>(reason);
  Add(stats_.bad_events[index], count);
  bad_event_log_.Say(spdlog::level::warn,
                     absl::StrCat("event socket ", address_.sun_path, ": skipped a bad event (",
                                  kBadEventNames[index], ")"),
                     MonotonicNow());
}

int64_t EventClient::NextWaitNs() {
  const int64_t most_ns = absl::ToInt64Nanoseconds(wait_);
  wait_ = std::min(wait_ * 2, waits_.longest);
  return std::uniform_int_distribution<int64_t>(most_ns / 2, most_ns)(random_);
}

// Returns at `until_ns`, or when there is something to read from `fd`; -1 is none. False: the
// client is to stop.
bool EventClient::Wait(int fd, int64_t until_ns) {
  pollfd events[] = {{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  for (;;) {
    heartbeat_.Beat();
    const int64_t now_ns = MonotonicNow();
    connection_log_.CatchUp(now_ns);
    bad_event_log_.CatchUp(now_ns);
    const int64_t wake_ns = std::min({until_ns, connection_log_.due_ns(), bad_event_log_.due_ns(),
                                      now_ns + kLongestTurnMs * int64_t{1'000'000}});
    const absl::Duration left = absl::Nanoseconds(std::max<int64_t>(wake_ns - now_ns, 0));
    const timespec timeout = absl::ToTimespec(left);
    if (ppoll(events, std::size(events), &timeout, nullptr) > 0) return events[0].revents == 0;
    if (MonotonicNow() >= until_ns) return true;
  }
}

}  // namespace packet_headers
