// Which threads have stopped.

#ifndef PACKET_HEADERS_USER_SERVICE_HEALTH_H_
#define PACKET_HEADERS_USER_SERVICE_HEALTH_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "user/base/heartbeat.h"

namespace packet_headers {

struct WatchedThread {
  const Heartbeat* heartbeat;
  int64_t patience_ns;  // at least 2 s: it has stopped if it has not beaten for longer
};

// Any thread may look.
class Health {
 public:
  // The heartbeats outlive it.
  explicit Health(std::vector<WatchedThread> threads) : threads_(std::move(threads)) {}

  // The threads that have stopped, and for how long: "shard 0 (12 s), publisher (61 s)"; empty if
  // none has. `looking` is the heartbeat of who looks, and has just beaten: only what happened
  // while that thread was awake counts, so that a stop of the whole process is nobody's.
  std::string Stopped(const Heartbeat& looking, int64_t now_ns) const;

  const std::vector<WatchedThread>& threads() const { return threads_; }

 private:
  const std::vector<WatchedThread> threads_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HEALTH_H_
