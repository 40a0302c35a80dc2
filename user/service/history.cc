#include "user/service/history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "user/base/scaled.h"

namespace packet_headers {

std::string FormatSample(const Sample& before, const Sample& now) {
  const int64_t elapsed_ns = std::max<int64_t>(now.time_ns - before.time_ns, 1);
  const double rate = static_cast<double>(now.packets_seen - before.packets_seen) * 1e9 /
                      static_cast<double>(elapsed_ns);
  return absl::StrCat(ScaledCount(now.flows_open), " flows  ", ScaledCount(rate),
                      " packets/s  saved ", ScaledCount(now.packets_saved), "  lost ",
                      ScaledCount(now.packets_lost), "  memory ", Scaled(now.memory_bytes), "B");
}

}  // namespace packet_headers
