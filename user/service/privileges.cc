#include "user/service/privileges.h"

#include <cap-ng.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

// Newer than some systems' headers (Linux 5.8).
constexpr unsigned kCapPerfmon = 38;
constexpr unsigned kCapBpf = 39;

// To load and attach programs, the first also without the verifier's guards; to open packet
// sockets; to lock as much memory as maps take before Linux 5.11; to serve metrics on a port below
// 1024.
const Capabilities kForStart = {kCapBpf,     CAP_NET_ADMIN,    kCapPerfmon,
                                CAP_NET_RAW, CAP_SYS_RESOURCE, CAP_NET_BIND_SERVICE};

// What attaching to an interface can take, from the least on: a program's descriptor is enough from
// Linux 5.19 on, but for clsact (CAP_NET_ADMIN) and packet sockets (CAP_NET_RAW). Before, where
// kernel.unprivileged_bpf_disabled is set, bpf(2) takes CAP_BPF whatever it is asked for.
const Capabilities kForAttaching[] = {
    {}, {CAP_NET_RAW}, {CAP_NET_ADMIN}, {kCapBpf}, {kCapBpf, CAP_NET_ADMIN}};

Capabilities Permitted(const Capabilities& of) {
  capng_get_caps_process();
  Capabilities permitted;
  std::copy_if(of.begin(), of.end(), std::back_inserter(permitted), [](unsigned capability) {
    return capng_have_capability(CAPNG_PERMITTED, capability) != 0;
  });
  return permitted;
}

// Nothing is inheritable or ambient afterwards.
absl::Status SetCapabilities(const Capabilities& permitted, const Capabilities& effective) {
  capng_clear(CAPNG_SELECT_CAPS);
  for (const unsigned capability : permitted) {
    capng_update(CAPNG_ADD, CAPNG_PERMITTED, capability);
  }
  for (const unsigned capability : effective) {
    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, capability);
  }
  if (capng_apply(CAPNG_SELECT_CAPS) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "give up capabilities");
}

// So that no file with capabilities or the set-user-ID bit can give any back. Where the right to do
// so is missing, no_new_privs sees to that alone.
void ClearBoundingSet() {
  capng_get_caps_process();
  if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 0) return;
  capng_clear(CAPNG_SELECT_BOUNDS);
  capng_apply(CAPNG_SELECT_BOUNDS);
}

}  // namespace

std::string CapabilityName(unsigned capability) {
  const char* const name = capng_capability_to_name(capability);
  return name != nullptr ? name : absl::StrCat(capability);
}

std::string UserName() {
  const passwd* const entry = getpwuid(geteuid());
  return entry != nullptr ? entry->pw_name : absl::StrCat("uid ", geteuid());
}

absl::Status BecomeUser(const std::string& user) {
  if (user.empty()) return absl::OkStatus();
  const passwd* entry = getpwnam(user.c_str());
  uid_t number = 0;
  if (entry == nullptr && absl::SimpleAtoi(user, &number)) entry = getpwuid(number);
  if (entry == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("-user=", user, ": there is no such user (`getent passwd` lists them)"));
  }
  if (entry->pw_uid == geteuid()) return absl::OkStatus();
  if (geteuid() != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("-user=", user, ": only root can become another user, and this is ",
                     UserName(), " (start it as root, or without -user)"));
  }
  ClearBoundingSet();  // root can, the user can't
  if (prctl(PR_SET_KEEPCAPS, 1) != 0 || setgroups(0, nullptr) != 0 ||
      setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0 ||
      setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0 ||
      prctl(PR_SET_KEEPCAPS, 0) != 0) {
    return absl::ErrnoToStatus(
        errno,
        absl::StrCat("-user=", user, ": become that user (needs CAP_SETUID and CAP_SETGID)"));
  }
  const Capabilities all = Permitted(kForStart);
  return SetCapabilities(all, all);
}

absl::Status KeepStartCapabilities() {
  ClearBoundingSet();
  const Capabilities kept = Permitted(kForStart);
  return SetCapabilities(kept, kept);
}

absl::Status KeepNoCapabilities() {
  ClearBoundingSet();
  return SetCapabilities({}, {});
}

absl::Status DataDirectoryError(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status)) {
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), " (-datadir sets where it is)"));
  }
  return absl::PermissionDeniedError(
      absl::StrCat(status.message(), " (files are written as user ", UserName(),
                   " without capabilities: chown the data directory to that user, or name another "
                   "with -datadir)"));
}

absl::StatusOr<Capabilities> KeepLeastCapabilities(
    absl::FunctionRef<Attempt(bool is_last)> attempt) {
  const Capabilities all = Permitted(kForStart);
  std::vector<Capabilities> candidates;
  for (const Capabilities& some : kForAttaching) {
    if (Permitted(some) == some) candidates.push_back(some);
  }
  Capabilities least;
  size_t achieved = 0;
  for (const Capabilities& candidate : candidates) {
    const absl::Status status = SetCapabilities(all, candidate);
    if (!status.ok()) return status;
    const Attempt result = attempt(&candidate == &candidates.back());
    if (result.achieved > achieved) least = candidate;
    achieved = result.achieved;
    if (!result.lacks_rights) break;
  }
  const absl::Status status = SetCapabilities(least, least);
  if (!status.ok()) return status;
  return least;
}

}  // namespace packet_headers
