#include "user/service/sandbox_selftest.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "user/base/clock.h"

namespace packet_headers {
namespace {

constexpr int kPatienceSeconds = 10;

const char* outside_path;

// Each returns 0, or the errno with which it was refused. They run in a signal handler.

int Opened(int fd) {
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

int ReadShadow() { return Opened(open("/etc/shadow", O_RDONLY | O_CLOEXEC)); }

int WriteOutside() {
  const int error = Opened(open(outside_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (error == 0) unlink(outside_path);
  return error;
}

// Its arguments are bad, so that this process stays where it would be allowed.
int Execute() {
  char** const bad = reinterpret_cast<char**>(1);
  execve("/bin/sh", bad, nullptr);
  return errno == EFAULT ? 0 : errno;
}

// To what it is.
int ChangeMode() {
  struct stat status;
  if (stat("/etc/shadow", &status) != 0) return errno;
  return chmod("/etc/shadow", status.st_mode & 07777) == 0 ? 0 : errno;
}

// Of signals that never come.
int SignalParent() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno;
  const int error = fcntl(ends[0], F_SETOWN, getppid()) == 0 ? 0 : errno;
  close(ends[0]);
  close(ends[1]);
  return error;
}

int TraceParent() {
  const pid_t parent = getppid();
  if (ptrace(PTRACE_SEIZE, parent, nullptr, nullptr) != 0) return errno;
  ptrace(PTRACE_INTERRUPT, parent, nullptr, nullptr);
  waitpid(parent, nullptr, __WALL);
  ptrace(PTRACE_DETACH, parent, nullptr, nullptr);
  return 0;
}

int OpenTcpSocket() { return Opened(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

int OpenUdpSocket() { return Opened(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

int LoadProgram() {
  const bpf_insn program[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
  bpf_attr attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uintptr_t>(program);
  attributes.insn_cnt = 2;
  attributes.license = reinterpret_cast<uintptr_t>("GPL");
  return Opened(static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes))));
}

constexpr struct {
  const char* what;
  int (*attempt)();
} kTries[] = {
    {"read /etc/shadow", ReadShadow},     {"write outside the data directory", WriteOutside},
    {"change a file's mode", ChangeMode}, {"have another process signalled", SignalParent},
    {"execute a program", Execute},       {"trace another process", TraceParent},
    {"open a TCP socket", OpenTcpSocket}, {"open a UDP socket", OpenUdpSocket},
    {"load a BPF program", LoadProgram}};
constexpr size_t kTryCount = std::size(kTries);

// The answers of the one thread that is asked.
struct Answers {
  char thread[16];
  int errors[kTryCount];
} answers;
sem_t answered;

void TryAll() {
  const int error = errno;
  prctl(PR_GET_NAME, answers.thread);
  for (size_t i = 0; i < kTryCount; ++i) answers.errors[i] = kTries[i].attempt();
  errno = error;
}

void OnSignal(int) {
  TryAll();
  sem_post(&answered);
}

enum class Answer { kGiven, kThreadEnded, kMissing };

// Of a thread that was signalled. One that was about to end may do so without an answer.
Answer WaitForAnswer(pid_t thread) {
  const int64_t last_ns = MonotonicNow() + kPatienceSeconds * int64_t{1'000'000'000};
  while (MonotonicNow() < last_ns) {
    timespec until = {};
    clock_gettime(CLOCK_REALTIME, &until);
    ++until.tv_sec;
    if (sem_timedwait(&answered, &until) == 0) return Answer::kGiven;
    if (errno != ETIMEDOUT || syscall(SYS_tgkill, getpid(), thread, 0) == 0) continue;
    return sem_trywait(&answered) == 0 ? Answer::kGiven : Answer::kThreadEnded;
  }
  return Answer::kMissing;
}

uint64_t Report(const std::string& thread) {
  uint64_t breaches = 0;
  for (size_t i = 0; i < kTryCount; ++i) {
    const int error = answers.errors[i];
    if (error == EPERM || error == EACCES) {
      spdlog::info("sandbox selftest: {}: {}: refused ({})", thread, kTries[i].what,
                   std::strerror(error));
    } else {
      ++breaches;
      spdlog::error("sandbox selftest: {}: {}: not refused ({})", thread, kTries[i].what,
                    error == 0 ? "done" : std::strerror(error));
    }
  }
  return breaches;
}

// A thread that is not among those known, to which it is added.
std::optional<pid_t> NextThread(const UniqueFd& folder, std::set<pid_t>& known) {
  const std::unique_ptr<DIR, int (*)(DIR*)> list(fdopendir(dup(folder.get())), closedir);
  if (list == nullptr) return std::nullopt;
  // Twice, for where a thread ends while the kernel's list is read, another may be left out.
  for (int look = 0; look < 2; ++look) {
    rewinddir(list.get());
    while (const dirent* const entry = readdir(list.get())) {
      pid_t thread;
      if (absl::SimpleAtoi(entry->d_name, &thread) && known.insert(thread).second) return thread;
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SandboxSelfTest>> SandboxSelfTest::Open(
    const std::string& data_dir) {
  constexpr const char* kThreads = "/proc/self/task";
  UniqueFd threads(open(kThreads, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!threads.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("-sandbox.selftest: open ", kThreads));
  }
  const std::unique_ptr<char, void (*)(void*)> path(realpath(data_dir.c_str(), nullptr), free);
  const bool is_tmp = path != nullptr && std::strcmp(path.get(), "/tmp") == 0;
  return std::unique_ptr<SandboxSelfTest>(new SandboxSelfTest(
      std::move(threads),
      absl::StrCat(is_tmp ? "/var" : "", "/tmp/packet-headers.selftest.", getpid())));
}

uint64_t SandboxSelfTest::Run() const {
  outside_path = outside_.c_str();
  sem_init(&answered, 0, 0);
  const int number = SIGRTMIN;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
  TryAll();
  uint64_t breaches = Report("main");
  std::set<pid_t> asked = {gettid()};
  while (const std::optional<pid_t> thread = NextThread(threads_, asked)) {
    if (syscall(SYS_tgkill, getpid(), *thread, number) != 0) continue;  // it has ended
    switch (WaitForAnswer(*thread)) {
      case Answer::kGiven:
        breaches += Report(answers.thread);
        break;
      case Answer::kThreadEnded:
        break;
      case Answer::kMissing:
        // A late answer must not pass for another thread's.
        spdlog::error("sandbox selftest: thread {} did not answer within {} s; giving up", *thread,
                      kPatienceSeconds);
        return breaches + 1;
    }
  }
  return breaches;
}

}  // namespace packet_headers
