#include "user/service/health.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace packet_headers {

std::string Health::Stopped(const Heartbeat& looking, int64_t now_ns) const {
  std::string stopped;
  for (const WatchedThread& thread : threads_) {
    const int64_t age_ns = thread.heartbeat->Age(now_ns);
    if (std::min(age_ns, now_ns - looking.awake_since_ns()) <= thread.patience_ns) continue;
    absl::StrAppend(&stopped, stopped.empty() ? "" : ", ", thread.heartbeat->thread(), " (",
                    age_ns / 1'000'000'000, " s)");
  }
  return stopped;
}

}  // namespace packet_headers
