#include "user/service/sandbox.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "spdlog/spdlog.h"

namespace packet_headers {

absl::Status Sandbox::Miss(const absl::Status& why) const {
  if (mode_ == SandboxMode::kRequire) {
    return absl::Status(why.code(), absl::StrCat("-sandbox=require: ", why.message(),
                                                 " (-sandbox=auto goes on without it)"));
  }
  spdlog::warn("sandbox: going on without a part of it: {}", std::string(why.message()));
  return absl::OkStatus();
}

absl::Status Sandbox::Enter(const SandboxPolicy& policy) {
  if (mode_ == SandboxMode::kOff) {
    spdlog::info("sandbox: off, user {}", user_);
    return absl::OkStatus();
  }
  kept_ = policy.kept;
  capabilities_ = true;
  absl::Status status;
  const rlimit no_core = {0, 0};
  undumpable_ = prctl(PR_SET_DUMPABLE, 0) == 0 && setrlimit(RLIMIT_CORE, &no_core) == 0;
  if (!undumpable_) status.Update(Miss(absl::ErrnoToStatus(errno, "forbid core dumps")));
  no_new_privs_ = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
  if (!no_new_privs_) status.Update(Miss(absl::ErrnoToStatus(errno, "set no_new_privs")));
  const absl::StatusOr<int> abi = RestrictFiles(policy.files);
  if (!abi.ok()) status.Update(Miss(abi.status()));
  landlock_abi_ = abi.ok() ? *abi : 0;
  const absl::Status seccomp = RestrictSystemCalls(policy.system_calls);
  if (!seccomp.ok()) status.Update(Miss(seccomp));
  seccomp_ = seccomp.ok();
  if (status.ok()) spdlog::info("sandbox: user {}, {}", user_, InForce());
  return status;
}

absl::Status Sandbox::Test(const SandboxSelfTest& test) {
  const uint64_t breaches = test.Run();
  breaches_ += breaches;
  if (breaches == 0) return absl::OkStatus();
  const std::string found = absl::StrCat("sandbox selftest: ", breaches, " tries were not refused");
  if (mode_ == SandboxMode::kRequire) return absl::InternalError(found);
  spdlog::error("{}", found);
  return absl::OkStatus();
}

std::string Sandbox::InForce() const {
  std::vector<std::string> parts;
  std::string kept;
  for (const unsigned capability : kept_) absl::StrAppend(&kept, " ", CapabilityName(capability));
  parts.push_back(
      kept_.empty() ? "no capabilities"
                    : absl::StrCat("no capabilities but", kept, " (to attach to new interfaces)"));
  if (no_new_privs_) parts.emplace_back("no_new_privs");
  if (undumpable_) parts.emplace_back("not dumpable");
  if (landlock()) parts.push_back(absl::StrCat("landlock ABI ", landlock_abi_));
  if (seccomp_) parts.emplace_back("seccomp");
  return absl::StrJoin(parts, ", ");
}

}  // namespace packet_headers
