// How much memory there is for this process, and what it may take of it.

#ifndef PACKET_HEADERS_USER_SERVICE_MEMORY_LIMIT_H_
#define PACKET_HEADERS_USER_SERVICE_MEMORY_LIMIT_H_

#include <cstdint>
#include <string>

namespace packet_headers {

struct MemoryLimit {
  int64_t bytes;
  std::string whose;  // the file that says so, or the machine
};

// The least of the machine's memory and of the limits of this process's memory cgroup and of those
// above it (both versions). What can't be read is no limit. `root` is "/" but for tests.
MemoryLimit ReadMemoryLimit(const std::string& root = "/");

// What takes most of it.
struct MemoryUse {
  int64_t heap_bytes;  // -maxheap
  int64_t ring_bytes;  // of each shard
  uint32_t shards;

  friend bool operator==(const MemoryUse&, const MemoryUse&) = default;
};

// `asked`, or as much of it as fits into `limit_bytes` beside what nobody asks for: the process
// itself, and what the allocator takes for what it gives. Smaller rings, where they would take more
// than a quarter, then fewer of them, then less heap.
MemoryUse FitMemory(const MemoryUse& asked, int64_t limit_bytes);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_MEMORY_LIMIT_H_
