// Gives up for good what the process does not need any more. Who takes over the process afterwards
// can write the data directory and read the packets' headers, and little else.

#ifndef PACKET_HEADERS_USER_SERVICE_SANDBOX_H_
#define PACKET_HEADERS_USER_SERVICE_SANDBOX_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "user/config/config.h"
#include "user/service/landlock.h"
#include "user/service/privileges.h"
#include "user/service/sandbox_selftest.h"
#include "user/service/system_calls.h"

namespace packet_headers {

// What a process goes on with.
struct SandboxPolicy {
  Capabilities kept = {};  // others are given up already
  FileAccess files;
  unsigned system_calls;  // SystemCallUse
};

// Of a process, which has one.
class Sandbox {
 public:
  explicit Sandbox(SandboxMode mode) : mode_(mode), user_(UserName()) {}

  // Allows what `policy` says and nothing else: no core dump, and nobody of the same user looks
  // inside. To be called before there are other threads. What can't be had is an error with
  // -sandbox=require, and logged and left out otherwise, as is what is in force.
  absl::Status Enter(const SandboxPolicy& policy);

  // Counts what is not refused; an error with -sandbox=require.
  absl::Status Test(const SandboxSelfTest& test);

  // Whether it is in force. Any thread, as all that follows.
  bool capabilities() const { return capabilities_; }  // none but kept() is left
  bool no_new_privs() const { return no_new_privs_; }
  bool undumpable() const { return undumpable_; }
  bool landlock() const { return landlock_abi_ > 0; }
  bool seccomp() const { return seccomp_; }
  const Capabilities& kept() const { return kept_; }

  // What a self-test found that was not refused.
  uint64_t breaches() const { return breaches_; }

 private:
  // What becomes of a part that could not be had.
  absl::Status Miss(const absl::Status& why) const;
  std::string InForce() const;

  const SandboxMode mode_;
  const std::string user_;
  bool capabilities_ = false;
  bool no_new_privs_ = false;
  bool undumpable_ = false;
  bool seccomp_ = false;
  int landlock_abi_ = 0;
  Capabilities kept_;
  std::atomic<uint64_t> breaches_{0};
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SANDBOX_H_
