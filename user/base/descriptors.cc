#include "user/base/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace packet_headers {

size_t DescriptorsForClients(size_t most) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return most;
  return static_cast<size_t>(std::clamp<rlim_t>(limit.rlim_cur / 8, 4, most));
}

}  // namespace packet_headers
