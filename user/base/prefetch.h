// Memory that is needed soon.

#ifndef PACKET_HEADERS_USER_BASE_PREFETCH_H_
#define PACKET_HEADERS_USER_BASE_PREFETCH_H_

#include <cstddef>

namespace packet_headers {

inline constexpr size_t kCacheLineBytes = 64;

// Begins to fetch an object into the cache, to be written, a line at a time. Any address does.
inline void PrefetchLines(const void* object, size_t bytes) {
  const char* const begin = static_cast<const char*>(object);
  for (size_t at = 0; at < bytes; at += kCacheLineBytes) __builtin_prefetch(begin + at, 1);
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_PREFETCH_H_
