#include "user/service/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace packet_headers {
namespace {

// Measured: the process with its programs and maps, before there is a flow.
constexpr int64_t kBaseBytes = 64 << 20;

constexpr int64_t kLeastRingBytes = 1 << 20;
constexpr int64_t kLeastHeapBytes = 4'000'000;  // as -maxheap has it

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string Join(absl::string_view root, absl::string_view path) {
  return absl::StrCat(absl::StripSuffix(root, "/"), path);
}

// Where cgroups are seen.
struct Mount {
  bool is_v2;
  std::string root;   // the cgroup that is mounted
  std::string point;  // where
};

// proc_pid_mountinfo(5): ... root point options [optional fields] - type source superoptions
std::optional<Mount> ParseMount(const std::string& line) {
  const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
  if (halves.size() != 2) return std::nullopt;
  const std::vector<std::string> left = absl::StrSplit(halves[0], ' ');
  const std::vector<std::string> right = absl::StrSplit(halves[1], ' ');
  if (left.size() < 6 || right.size() < 3) return std::nullopt;
  const std::vector<std::string> options = absl::StrSplit(right[2], ',');
  const bool is_v1 = right[0] == "cgroup" && absl::c_linear_search(options, "memory");
  if (!is_v1 && right[0] != "cgroup2") return std::nullopt;
  return Mount{!is_v1, left[3], left[4]};
}

// cgroups(7): id:controllers:path
std::optional<std::string> OwnCgroup(const std::vector<std::string>& lines, bool is_v2) {
  for (const std::string& line : lines) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (is_v2 ? parts[0] == "0" && parts[1].empty()
              : absl::c_linear_search(controllers, "memory")) {
      return parts[2];
    }
  }
  return std::nullopt;
}

}  // namespace

MemoryLimit ReadMemoryLimit(const std::string& root) {
  MemoryLimit least = {sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), "this machine"};
  const std::vector<std::string> cgroups = Lines(Join(root, "/proc/self/cgroup"));
  for (const std::string& line : Lines(Join(root, "/proc/self/mountinfo"))) {
    const std::optional<Mount> mount = ParseMount(line);
    if (!mount) continue;
    const std::optional<std::string> own = OwnCgroup(cgroups, mount->is_v2);
    if (!own) continue;
    // A container may see its own cgroup as the root, under whatever name it has outside.
    absl::string_view below = *own;
    if (!absl::ConsumePrefix(&below, absl::StripSuffix(mount->root, "/"))) below = "";
    if (!below.empty() && below.front() != '/') below = "";  // another's, that begins alike
    std::string path(absl::StripSuffix(below, "/"));
    while (true) {
      const std::string file = absl::StrCat(mount->point, path, "/",
                                            mount->is_v2 ? "memory.max" : "memory.limit_in_bytes");
      const std::vector<std::string> content = Lines(Join(root, file));
      int64_t bytes = 0;
      if (!content.empty() && absl::SimpleAtoi(content[0], &bytes) && bytes < least.bytes) {
        least = {bytes, file};
      }
      if (path.empty()) break;
      path.resize(path.rfind('/'));
    }
  }
  return least;
}

MemoryUse FitMemory(const MemoryUse& asked, int64_t limit_bytes) {
  MemoryUse use = asked;
  // A ring has a power of two.
  const auto ring_bytes = [](int64_t at_least) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(at_least)));
  };
  const auto heap_room = [&] {
    // A third is for allocated memory that is not in use, and for tables.
    return (limit_bytes - kBaseBytes - use.shards * ring_bytes(use.ring_bytes)) / 3 * 2;
  };
  if (use.heap_bytes <= heap_room()) return use;

  const int64_t for_rings = std::max(limit_bytes / 4, kLeastRingBytes);
  use.shards =
      static_cast<uint32_t>(std::clamp<int64_t>(for_rings / kLeastRingBytes, 1, asked.shards));
  const int64_t each =
      static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(for_rings / use.shards)));
  if (ring_bytes(use.ring_bytes) > each) use.ring_bytes = each;
  use.heap_bytes = std::clamp(heap_room(), kLeastHeapBytes, asked.heap_bytes);
  return use;
}

}  // namespace packet_headers
