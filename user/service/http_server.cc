#include "user/service/http_server.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "user/base/clock.h"
#include "user/base/descriptors.h"
#include "user/base/named_thread.h"

namespace packet_headers {
namespace {

// Without descriptors the listener would stay readable.
constexpr int kRetryMs = 10;

int WaitMs(int64_t wait_ns, int most_ms) {
  return static_cast<int>(std::clamp<int64_t>((wait_ns + 999'999) / 1'000'000, 0, most_ms));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(std::unique_ptr<TcpListener> listener,
                                                              HttpRoutes routes,
                                                              Heartbeat& heartbeat) {
  absl::StatusOr<std::unique_ptr<HttpConnections>> connections =
      HttpConnections::Make(std::move(routes), DescriptorsForClients(kMostPlaces));
  if (!connections.ok()) return connections.status();
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "make an eventfd");
  return std::unique_ptr<HttpServer>(
      new HttpServer(std::move(listener), *std::move(connections), std::move(stop), heartbeat));
}

HttpServer::HttpServer(std::unique_ptr<TcpListener> listener,
                       std::unique_ptr<HttpConnections> connections, UniqueFd stop,
                       Heartbeat& heartbeat)
    : listener_(std::move(listener)),
      connections_(std::move(connections)),
      stop_(std::move(stop)),
      heartbeat_(heartbeat),
      thread_(StartThread(heartbeat_.thread(), [this] { Run(); })) {}

HttpServer::~HttpServer() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void HttpServer::Run() {
  while (true) {
    pollfd waiting[] = {{stop_.get(), POLLIN, 0},
                        {connections_->fd(), POLLIN, 0},
                        {can_accept_ ? listener_->fd() : -1, POLLIN, 0}};
    const int most_ms = can_accept_ ? kLongestTurnMs : kRetryMs;
    poll(waiting, std::size(waiting), WaitMs(connections_->due_ns() - MonotonicNow(), most_ms));
    heartbeat_.Beat();
    if (waiting[0].revents != 0) return;
    const int64_t now_ns = MonotonicNow();
    can_accept_ = true;
    if (waiting[2].revents != 0) Accept(now_ns);
    connections_->Step(now_ns);
  }
}

void HttpServer::Accept(int64_t now_ns) {
  while (connections_->room() > 0) {
    bool is_of_host = false;
    UniqueFd socket = listener_->Accept(is_of_host);
    if (socket.valid()) {
      connections_->Adopt(std::move(socket), is_of_host, now_ns);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    can_accept_ = errno == EAGAIN;
    // Its descriptor is the next one's.
    if (!can_accept_) connections_->CloseOldest();
    return;
  }
}

}  // namespace packet_headers
