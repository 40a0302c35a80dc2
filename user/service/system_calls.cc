#include "user/service/system_calls.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {
namespace {

using Condition = scmp_arg_cmp;

// Allowed with arguments as said; of several rows one is enough.
struct AllowedCall {
  int number;
  std::vector<Condition> when = {};
};

struct Group {
  unsigned use;
  std::vector<AllowedCall> calls;
};

Condition Is(unsigned argument, uint64_t value) { return {argument, SCMP_CMP_EQ, value, 0}; }

// Of the bits in `mask` exactly those in `value` are set.
Condition Has(unsigned argument, uint64_t mask, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

// A new process, or one in namespaces of its own, is no thread.
constexpr uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr uint64_t kThread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;

// Newer than some headers; the C library names memory with it.
constexpr uint64_t kPrSetVma = 0x53564d41;

constexpr int kMostTries = 3;
// It takes some milliseconds, and memory far below this.
constexpr unsigned kMostSeconds = 5;
constexpr size_t kEnoughBytes = size_t{4} << 20;

// All that is allowed, and what for.
std::vector<Group> Groups(pid_t own) {
  const auto process = static_cast<uint64_t>(own);
  return {
      // Memory, none of which becomes code.
      {kForFiles,
       {{SCMP_SYS(brk)},
        {SCMP_SYS(mmap), {Has(2, PROT_EXEC, 0)}},
        {SCMP_SYS(mprotect), {Has(2, PROT_EXEC, 0)}},
        {SCMP_SYS(mremap)},
        {SCMP_SYS(munmap)},
        {SCMP_SYS(madvise)}}},
      // Threads, and what they wait for each other with.
      {kForFiles,
       {{SCMP_SYS(clone), {Has(0, kThread | kNewNamespaces, kThread)}},
        {SCMP_SYS(futex)},
        {SCMP_SYS(rseq)},
        {SCMP_SYS(set_robust_list)},
        {SCMP_SYS(membarrier)},
        {SCMP_SYS(sched_yield)},
        {SCMP_SYS(sched_getaffinity)},
        {SCMP_SYS(getpriority), {Is(0, PRIO_PROCESS), Is(1, 0)}},
        {SCMP_SYS(setpriority), {Is(0, PRIO_PROCESS), Is(1, 0), Is(2, 0)}},
        {SCMP_SYS(getcpu)},
        {SCMP_SYS(prctl), {Is(0, PR_SET_NAME)}},
        {SCMP_SYS(prctl), {Is(0, PR_GET_NAME)}},
        {SCMP_SYS(prctl), {Is(0, kPrSetVma)}},
        {SCMP_SYS(exit)},
        {SCMP_SYS(exit_group)}}},
      // Signals: taking them, and sending them to ourselves, as abort() does.
      {kForFiles,
       {{SCMP_SYS(rt_sigaction)},
        {SCMP_SYS(rt_sigprocmask)},
        {SCMP_SYS(rt_sigreturn)},
        {SCMP_SYS(sigaltstack)},
        {SCMP_SYS(restart_syscall)},
        {SCMP_SYS(tgkill), {Is(0, process)}}}},
      // Clocks, and what can be asked about ourselves.
      {kForFiles,
       {{SCMP_SYS(clock_gettime)},
        {SCMP_SYS(clock_getres)},
        {SCMP_SYS(gettimeofday)},
        {SCMP_SYS(time)},
        {SCMP_SYS(clock_nanosleep)},
        {SCMP_SYS(nanosleep)},
        {SCMP_SYS(getrandom)},
        {SCMP_SYS(getpid)},
        {SCMP_SYS(getppid)},
        {SCMP_SYS(gettid)},
        {SCMP_SYS(getuid)},
        {SCMP_SYS(geteuid)},
        {SCMP_SYS(getgid)},
        {SCMP_SYS(getegid)},
        {SCMP_SYS(getrusage)},
        {SCMP_SYS(uname)},
        {SCMP_SYS(sysinfo)},
        {SCMP_SYS(prlimit64), {Is(0, 0), Is(2, 0)}},  // reading our own
        {SCMP_SYS(getrlimit)}}},
      // Files, where Landlock lets us: the data directory's, made, written, synced, named, listed
      // and removed. No links out of it, no owners, no modes (which Landlock leaves to us), no
      // mounts, no signals by way of a descriptor.
      {kForFiles,
       {{SCMP_SYS(open)},
        {SCMP_SYS(openat)},
        {SCMP_SYS(openat2)},
        {SCMP_SYS(close)},
        {SCMP_SYS(read)},
        {SCMP_SYS(readv)},
        {SCMP_SYS(pread64)},
        {SCMP_SYS(preadv)},
        {SCMP_SYS(write)},
        {SCMP_SYS(writev)},
        {SCMP_SYS(pwrite64)},
        {SCMP_SYS(pwritev)},
        {SCMP_SYS(lseek)},
        {SCMP_SYS(ftruncate)},
        {SCMP_SYS(fallocate)},
        {SCMP_SYS(fadvise64)},
        {SCMP_SYS(fsync)},
        {SCMP_SYS(fdatasync)},
        {SCMP_SYS(syncfs)},
        {SCMP_SYS(flock)},
        {SCMP_SYS(fcntl), {Is(1, F_DUPFD_CLOEXEC)}},
        {SCMP_SYS(fcntl), {Is(1, F_GETFD)}},
        {SCMP_SYS(fcntl), {Is(1, F_SETFD)}},
        {SCMP_SYS(fcntl), {Is(1, F_GETFL)}},
        {SCMP_SYS(fcntl), {Is(1, F_SETFL)}},
        {SCMP_SYS(dup)},
        {SCMP_SYS(dup3)},
        {SCMP_SYS(stat)},
        {SCMP_SYS(lstat)},
        {SCMP_SYS(fstat)},
        {SCMP_SYS(newfstatat)},
        {SCMP_SYS(statx)},
        {SCMP_SYS(statfs)},
        {SCMP_SYS(fstatfs)},
        {SCMP_SYS(access)},
        {SCMP_SYS(faccessat)},
        {SCMP_SYS(faccessat2)},
        {SCMP_SYS(readlink)},
        {SCMP_SYS(readlinkat)},
        {SCMP_SYS(getdents64)},
        {SCMP_SYS(getcwd)},
        {SCMP_SYS(mkdir)},
        {SCMP_SYS(mkdirat)},
        {SCMP_SYS(rmdir)},
        {SCMP_SYS(unlink)},
        {SCMP_SYS(unlinkat)},
        {SCMP_SYS(rename)},
        {SCMP_SYS(renameat)},
        {SCMP_SYS(renameat2)},
        {SCMP_SYS(linkat)},
        {SCMP_SYS(ioctl), {Is(1, TCGETS)}},
        {SCMP_SYS(ioctl), {Is(1, TIOCGPGRP)}},
        {SCMP_SYS(ioctl), {Is(1, TIOCGWINSZ)}}}},
      // Waiting for descriptors; pipes and events between threads.
      {kForFiles,
       {{SCMP_SYS(poll)},
        {SCMP_SYS(ppoll)},
        {SCMP_SYS(select)},
        {SCMP_SYS(pselect6)},
        {SCMP_SYS(epoll_create1)},
        {SCMP_SYS(epoll_ctl)},
        {SCMP_SYS(epoll_wait)},
        {SCMP_SYS(epoll_pwait)},
        {SCMP_SYS(epoll_pwait2)},
        {SCMP_SYS(eventfd2)},
        {SCMP_SYS(pipe2)},
        {SCMP_SYS(timerfd_create)},
        {SCMP_SYS(timerfd_settime)},
        {SCMP_SYS(timerfd_gettime)}}},
      // New sockets: rtnetlink and sock_diag. None that reaches another host.
      {kForCapture,
       {{SCMP_SYS(socket), {Is(0, AF_NETLINK), Is(2, NETLINK_ROUTE)}},
        {SCMP_SYS(socket), {Is(0, AF_NETLINK), Is(2, NETLINK_SOCK_DIAG)}}}},
      // Using them, and those that were opened before: the metrics' and the event server's.
      {kForCapture,
       {{SCMP_SYS(bind)},
        {SCMP_SYS(accept)},
        {SCMP_SYS(accept4)},
        {SCMP_SYS(shutdown)},
        {SCMP_SYS(sendto), {Has(3, MSG_FASTOPEN, 0)}},  // which would connect
        {SCMP_SYS(sendmsg), {Has(2, MSG_FASTOPEN, 0)}},
        {SCMP_SYS(sendfile)},
        {SCMP_SYS(recvfrom)},
        {SCMP_SYS(recvmsg)},
        {SCMP_SYS(recvmmsg)},
        {SCMP_SYS(getsockopt)},
        {SCMP_SYS(setsockopt)},
        {SCMP_SYS(getsockname)},
        {SCMP_SYS(getpeername)},
        {SCMP_SYS(ioctl), {Is(1, FIONREAD)}},
        {SCMP_SYS(ioctl), {Is(1, FIONBIO)}}}},
      // tcp-info's event socket, again and again: any Unix socket, for its name can't be looked at.
      {kForEventClient, {{SCMP_SYS(socket), {Is(0, AF_UNIX)}}, {SCMP_SYS(connect)}}},
      // Maps that are open, and a program that is loaded, put at one more interface.
      {kForBpf,
       {{SCMP_SYS(bpf), {Is(0, BPF_MAP_LOOKUP_ELEM)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_UPDATE_ELEM)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_DELETE_ELEM)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_GET_NEXT_KEY)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_LOOKUP_AND_DELETE_ELEM)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_LOOKUP_BATCH)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_LOOKUP_AND_DELETE_BATCH)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_UPDATE_BATCH)}},
        {SCMP_SYS(bpf), {Is(0, BPF_MAP_DELETE_BATCH)}},
        {SCMP_SYS(bpf), {Is(0, BPF_LINK_CREATE)}},
        {SCMP_SYS(bpf), {Is(0, BPF_OBJ_GET_INFO_BY_FD)}}}},
      // libpcap at one more interface: it asks what kind of device that is, nl80211 included.
      {kForPcap,
       {{SCMP_SYS(socket), {Is(0, AF_PACKET)}},
        {SCMP_SYS(socket), {Is(0, AF_NETLINK), Is(2, NETLINK_GENERIC)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCGIFNAME)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCGIFINDEX)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCGIFFLAGS)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCGIFMTU)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCGIFHWADDR)}},
        {SCMP_SYS(ioctl), {Is(1, SIOCETHTOOL)}}}},
  };
}

struct Release {
  void operator()(void* filter) const { seccomp_release(filter); }
};

// 0, or an errno. The filter goes to `fd` as the kernel takes it.
int WriteFilter(unsigned uses, pid_t process, int fd) {
  const std::unique_ptr<void, Release> filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (filter == nullptr) return ENOMEM;
  // A search tree: what is called for each packet must not be looked for in a list.
  int error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  // Its flags can't be looked at; the C library takes clone() then.
  if (error == 0) {
    error = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  }
  for (const Group& group : Groups(process)) {
    if ((group.use & uses) == 0) continue;
    for (const AllowedCall& call : group.calls) {
      if (error != 0) break;
      error = seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call.number,
                                     static_cast<unsigned>(call.when.size()), call.when.data());
    }
  }
  if (error == 0) error = seccomp_export_bpf(filter.get(), fd);
  return -error;
}

// Makes malloc() keep so much that it needs none from the kernel; whether that was to be had.
bool KeepMemory(size_t bytes) {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(2 * bytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(2 * bytes));
  void* volatile memory = malloc(bytes);  // volatile: or the compiler leaves both calls out
  free(memory);
  return memory != nullptr;
}

// The instructions, made in a process of its own: libseccomp can crash, or not end, where it finds
// no memory.
absl::StatusOr<std::string> MakeFilter(unsigned uses) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "seccomp: make a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t process = getpid();
  const pid_t maker = fork();
  if (maker < 0) return absl::ErrnoToStatus(errno, "seccomp: fork");
  if (maker == 0) {
    alarm(kMostSeconds);
    _exit(KeepMemory(kEnoughBytes) ? WriteFilter(uses, process, to.get()) : ENOMEM);
  }
  to.Reset();
  std::string filter((BPF_MAXINSNS + 1) * sizeof(sock_filter), '\0');
  size_t bytes = 0;
  while (bytes < filter.size()) {
    const ssize_t got = read(from.get(), &filter[bytes], filter.size() - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    bytes += static_cast<size_t>(got);
  }
  int result = 0;
  while (waitpid(maker, &result, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(result)) return absl::InternalError("seccomp: libseccomp did not end");
  if (WEXITSTATUS(result) != 0) {
    return absl::ErrnoToStatus(WEXITSTATUS(result), "seccomp: make the filter");
  }
  if (bytes == 0 || bytes % sizeof(sock_filter) != 0 || bytes == filter.size()) {
    return absl::InternalError("seccomp: the filter has no length that one can have");
  }
  filter.resize(bytes);
  return filter;
}

}  // namespace

absl::Status RestrictSystemCalls(unsigned uses) {
  // Until two are the same: where libseccomp finds no memory, it may also leave something out.
  absl::StatusOr<std::string> filter = MakeFilter(uses);
  for (int tries = 0;; ++tries) {
    absl::StatusOr<std::string> again = MakeFilter(uses);
    if (filter.ok() && again.ok() && *filter == *again) break;
    if (tries == kMostTries) {
      return again.ok() ? absl::InternalError("seccomp: no filter comes out like another")
                        : again.status();
    }
    filter = std::move(again);
  }
  std::vector<sock_filter> instructions(filter->size() / sizeof(sock_filter));
  std::memcpy(instructions.data(), filter->data(), filter->size());
  const sock_fprog program = {static_cast<unsigned short>(instructions.size()),
                              instructions.data()};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
    return absl::ErrnoToStatus(errno, "seccomp: load the filter");
  }
  return absl::OkStatus();
}

}  // namespace packet_headers
