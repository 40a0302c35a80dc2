#include "user/service/memory_limit.h"

#include <unistd.h>

#include <string>

#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kGiB = 1 << 30;

constexpr char kV1Mount[] =
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
constexpr char kV2Mount[] = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
constexpr char kOtherMounts[] =
    "22 28 0:21 / /proc rw - proc proc rw\n"
    "34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "nonsense\n";

// A root directory with cgroups.
class Root {
 public:
  Root(const std::string& cgroup, const std::string& mountinfo) {
    scratch.Write("proc/self/cgroup", cgroup);
    scratch.Write("proc/self/mountinfo", kOtherMounts + mountinfo);
  }
  void Limit(const std::string& file, const std::string& value) { scratch.Write(file, value); }
  MemoryLimit Read() const { return ReadMemoryLimit(scratch.Path()); }

  ScratchDirectory scratch;
};

int64_t MachineBytes() { return sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE); }

TEST_CASE("Without a cgroup the machine's memory is the limit", "[memory_limit]") {
  CHECK(Root("", "").Read().bytes == MachineBytes());
  CHECK(ReadMemoryLimit("/nonexistent").bytes == MachineBytes());
  CHECK(Root("4:memory:/a\n", kV1Mount).Read().bytes == MachineBytes());
  CHECK(ReadMemoryLimit().bytes > 0);
  CHECK(ReadMemoryLimit().bytes <= MachineBytes());
}

TEST_CASE("The limit of the own cgroup counts, of either version", "[memory_limit]") {
  Root v1("9:cpu:/b\n4:hugetlb,memory:/a/b\n0::/c\n", kV1Mount);
  v1.Limit("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "268435456\n");
  CHECK(v1.Read().bytes == 256 * kMiB);
  CHECK(v1.Read().whose == "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes");

  Root v2("0::/system.slice/packet-headers.service\n", kV2Mount);
  v2.Limit("sys/fs/cgroup/system.slice/packet-headers.service/memory.max", "268435456\n");
  CHECK(v2.Read().bytes == 256 * kMiB);
}

TEST_CASE("The limits of the cgroups above count, too", "[memory_limit]") {
  Root root("0::/a/b/c\n", kV2Mount);
  root.Limit("sys/fs/cgroup/a/b/c/memory.max", "max\n");
  CHECK(root.Read().bytes == MachineBytes());
  root.Limit("sys/fs/cgroup/a/b/memory.max", "300000000\n");
  CHECK(root.Read().bytes == 300'000'000);
  root.Limit("sys/fs/cgroup/a/memory.max", "200000000\n");
  CHECK(root.Read().bytes == 200'000'000);
  CHECK(root.Read().whose == "/sys/fs/cgroup/a/memory.max");
  root.Limit("sys/fs/cgroup/a/b/c/memory.max", "100000000\n");
  CHECK(root.Read().bytes == 100'000'000);
}

TEST_CASE("A container sees its cgroup in the place of the root", "[memory_limit]") {
  Root same_name("4:memory:/docker/1234\n",
                 "35 31 0:32 /docker/1234 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  same_name.Limit("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000000\n");
  CHECK(same_name.Read().bytes == 5'000'000);
  Root own_namespace("0::/../other\n", "35 31 0:32 /x /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
  own_namespace.Limit("sys/fs/cgroup/memory.max", "6000000\n");
  CHECK(own_namespace.Read().bytes == 6'000'000);
}

TEST_CASE("What fits is left as it was asked for", "[memory_limit]") {
  const MemoryUse use = {8'000'000'000, 32'000'000, 16};
  CHECK(FitMemory(use, 64 * kGiB) == use);
  CHECK(FitMemory(use, 16 * kGiB) == use);
  const MemoryUse small = {50'000'000, 1 << 20, 1};
  CHECK(FitMemory(small, 256 * kMiB) == small);
}

TEST_CASE("What does not fit is made to fit, rings and all", "[memory_limit]") {
  const uint32_t shards = GENERATE(1, 2, 3, 16, 64);
  const int64_t limit = GENERATE(128 * kMiB, 256 * kMiB, 300'000'000, kGiB, 4 * kGiB);
  const MemoryUse use = FitMemory({8'000'000'000, 32'000'000, shards}, limit);
  CHECK(use.heap_bytes >= limit / 8);
  CHECK(use.heap_bytes < limit / 3 * 2);
  CHECK(use.shards == std::min<int64_t>(shards, limit / 4 / kMiB));
  CHECK(use.ring_bytes >= 1 * kMiB);
  CHECK(use.ring_bytes <= 32'000'000);
  CHECK(use.heap_bytes + use.shards * use.ring_bytes < limit);
}

TEST_CASE("Where there is hardly any memory, the least is taken", "[memory_limit]") {
  for (const int64_t limit : {int64_t{0}, int64_t{1}, 4 * kMiB, 32 * kMiB}) {
    const MemoryUse use = FitMemory({8'000'000'000, 32'000'000, 8}, limit);
    CHECK(use.heap_bytes == 4'000'000);
    CHECK(use.ring_bytes >= kMiB);
    CHECK(use.shards >= 1);
  }
}

}  // namespace
}  // namespace packet_headers::testing
