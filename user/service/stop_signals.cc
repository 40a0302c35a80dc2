#include "user/service/stop_signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"

namespace packet_headers {

absl::StatusOr<UniqueFd> CatchStopSignals() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGHUP);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  UniqueFd fd(signalfd(-1, &stop, SFD_CLOEXEC));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "catch signals");
  return fd;
}

int TakeStopSignal(const UniqueFd& signals) {
  signalfd_siginfo taken = {};
  if (read(signals.get(), &taken, sizeof(taken)) != sizeof(taken)) return SIGTERM;
  return static_cast<int>(taken.ssi_signo);
}

void ExitOnInterrupt() {
  // First the handler, so that no signal meets the default.
  struct sigaction at_once = {};
  at_once.sa_handler = [](int) { _exit(128 + SIGINT); };
  sigaction(SIGINT, &at_once, nullptr);
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_UNBLOCK, &interrupt, nullptr);
}

}  // namespace packet_headers
