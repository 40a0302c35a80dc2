// Decides before any test runs whether the kernel lets this process load programs: if not, the
// exit code says that nothing was tested.

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tests/support/run_tests.h"

namespace {

constexpr int kSkipped = 77;

// What the kernel refuses, with the reason in errno, or null.
const char* Refused() {
  const bpf_insn return_zero[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  const int program =
      bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe", "GPL", return_zero, 2, nullptr);
  if (program < 0) return "to load a program";
  close(program);
  const int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "probe", 0, 0, 4096, nullptr);
  if (ring < 0) return "to create a ring buffer";
  close(ring);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (const char* const refused = Refused(); refused != nullptr) {
    std::fprintf(stderr,
                 "SKIPPED: the kernel refuses %s: %s. These tests need CAP_BPF and CAP_NET_ADMIN, "
                 "or root.\n",
                 refused, std::strerror(errno));
    return kSkipped;
  }
  return RunTests(argc, argv);
}
