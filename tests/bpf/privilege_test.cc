// Which capabilities the programs need.

#include <bpf/libbpf.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "tests/bpf/fixture.h"
#include "tests/support/catch.h"
#include "user/capture/socket_events.h"

namespace packet_headers::testing {
namespace {

constexpr uint32_t kCapNetAdmin = 12;
constexpr uint32_t kCapPerfmon = 38;
constexpr uint32_t kCapBpf = 39;

// Gives up all capabilities of this thread but these, for good.
int KeepOnly(std::initializer_list<uint32_t> capabilities) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  for (const uint32_t capability : capabilities) {
    data[capability / 32].effective |= 1U << capability % 32;
    data[capability / 32].permitted |= 1U << capability % 32;
  }
  return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

// Calls `load` in a process with these capabilities alone. Returns its errno.
int With(std::initializer_list<uint32_t> capabilities, absl::FunctionRef<int()> load) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (const int error = KeepOnly(capabilities); error != 0) _exit(error);
    _exit(load());
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

int LoadWith(std::initializer_list<uint32_t> capabilities) {
  return With(capabilities, [] {
    ph_kernel_config config = {};
    config.shards = 2;
    std::vector<int> ring_fds;
    return LoadPrograms(config, 1 << 20, ring_fds) != nullptr ? 0 : errno;
  });
}

int WatchSocketsWith(std::initializer_list<uint32_t> capabilities) {
  return With(capabilities, [] {
    const absl::Status status = SocketEvents::Start().status();
    if (status.ok()) return 0;
    return absl::IsPermissionDenied(status) ? EPERM : EINVAL;
  });
}

TEST_CASE("CAP_BPF and CAP_NET_ADMIN load the programs", "[bpf]") {
  const int error = LoadWith({kCapBpf, kCapNetAdmin});
  INFO(std::strerror(error));
  CHECK(error == 0);
}

TEST_CASE("Without CAP_BPF the kernel refuses the programs", "[bpf]") {
  const libbpf_print_fn_t print = libbpf_set_print(nullptr);
  CHECK(LoadWith({}) == EPERM);
  CHECK(LoadWith({kCapNetAdmin}) == EPERM);
  libbpf_set_print(print);
}

TEST_CASE("CAP_BPF and CAP_PERFMON tell of sockets, and no less does", "[bpf]") {
  CHECK(WatchSocketsWith({kCapBpf, kCapPerfmon}) == 0);
  const libbpf_print_fn_t print = libbpf_set_print(nullptr);
  CHECK(WatchSocketsWith({kCapBpf, kCapNetAdmin}) == EPERM);
  CHECK(WatchSocketsWith({kCapPerfmon}) == EPERM);
  libbpf_set_print(print);
}

}  // namespace
}  // namespace packet_headers::testing
