#include "user/service/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace packet_headers {
namespace {

absl::string_view Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Invalid where there is none.
UniqueFd ConnectToManager() {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const absl::string_view path = Environment("NOTIFY_SOCKET");
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return UniqueFd();
  path.copy(address.sun_path, path.size());
  if (path.front() == '@') address.sun_path[0] = '\0';  // a name that is no file's
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  UniqueFd connected(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (connect(connected.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    connected.Reset();
  }
  return connected;
}

// What does not get there is missed by systemd, and nothing else can be done about it.
void Tell(const UniqueFd& manager, absl::string_view state, int flags) {
  [[maybe_unused]] const ssize_t sent =
      send(manager.get(), state.data(), state.size(), MSG_NOSIGNAL | flags);
}

}  // namespace

ServiceManager::ServiceManager() : socket_(ConnectToManager()) {
  int64_t term_us = 0;
  pid_t pid = getpid();
  const absl::string_view for_pid = Environment("WATCHDOG_PID");
  if (!for_pid.empty() && (!absl::SimpleAtoi(for_pid, &pid) || pid != getpid())) return;
  if (!absl::SimpleAtoi(Environment("WATCHDOG_USEC"), &term_us) || term_us <= 0) return;
  if (!socket_.valid() || term_us > std::numeric_limits<int64_t>::max() / 1000) return;
  interval_ns_ = term_us * 1000 / 2;
  watchdog_due_ns_ = 0;
}

void ServiceManager::Ready(const std::string& status) {
  Tell(socket_, absl::StrCat("READY=1\nSTATUS=", status), 0);
}

void ServiceManager::Stopping() { Tell(socket_, "STOPPING=1", MSG_DONTWAIT); }

void ServiceManager::Watchdog(bool is_healthy, int64_t now_ns) {
  watchdog_due_ns_ = now_ns + interval_ns_;
  if (is_healthy) Tell(socket_, "WATCHDOG=1", MSG_DONTWAIT);
}

}  // namespace packet_headers
