// What systemd is told, if it started us as a service of Type=notify: sd_notify(3). Our own, for
// libsystemd's waits while systemd does not read, and opens a socket each time.

#ifndef PACKET_HEADERS_USER_SERVICE_SERVICE_MANAGER_H_
#define PACKET_HEADERS_USER_SERVICE_SERVICE_MANAGER_H_

#include <cstdint>
#include <limits>
#include <string>

#include "user/base/unique_fd.h"

namespace packet_headers {

// One thread.
class ServiceManager {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; without the first nothing is told.
  ServiceManager();

  // Once: capturing.
  void Ready(const std::string& status);
  // Once: the end has begun.
  void Stopping();

  // Twice in each term of the watchdog: when to say that all is well; the end of time without one.
  int64_t watchdog_due_ns() const { return watchdog_due_ns_; }
  // To be called then.
  void Watchdog(bool is_healthy, int64_t now_ns);

 private:
  UniqueFd socket_;
  int64_t interval_ns_ = 0;
  int64_t watchdog_due_ns_ = std::numeric_limits<int64_t>::max();
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SERVICE_MANAGER_H_
