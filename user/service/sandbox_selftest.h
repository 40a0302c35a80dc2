// Whether the sandbox holds, found out from inside.

#ifndef PACKET_HEADERS_USER_SERVICE_SANDBOX_SELFTEST_H_
#define PACKET_HEADERS_USER_SERVICE_SANDBOX_SELFTEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

// Lets each thread of the process, whoever started it, try in its own context what the sandbox
// forbids: they are interrupted by a signal for it.
class SandboxSelfTest {
 public:
  // To be called before the sandbox hides /proc.
  static absl::StatusOr<std::unique_ptr<SandboxSelfTest>> Open(const std::string& data_dir);

  // Logs a line for each thread and try. Returns how many were not refused. Main thread.
  uint64_t Run() const;

 private:
  SandboxSelfTest(UniqueFd threads, std::string outside)
      : threads_(std::move(threads)), outside_(std::move(outside)) {}

  const UniqueFd threads_;     // the folder of the process's threads in /proc
  const std::string outside_;  // a path outside of the data directory
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SANDBOX_SELFTEST_H_
