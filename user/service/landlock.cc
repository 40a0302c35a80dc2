#include "user/service/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "user/base/unique_fd.h"

namespace packet_headers {
namespace {

// Newer than Debian 12's headers, by the ABI that brought it.
constexpr uint64_t kTruncate = 1ULL << 14;            // 3
constexpr uint64_t kIoctlDevice = 1ULL << 15;         // 5
constexpr uint64_t kConnectTcp = 1ULL << 1;           // 4
constexpr uint64_t kScopeAbstractSocket = 1ULL << 0;  // 6
constexpr uint64_t kScopeSignal = 1ULL << 1;          // 6

struct RulesetAttributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kRead = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kRemove = LANDLOCK_ACCESS_FS_REMOVE_FILE;
constexpr uint64_t kReplace = LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR;
constexpr uint64_t kWrite = kRead | kRemove | kTruncate | LANDLOCK_ACCESS_FS_WRITE_FILE |
                            LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                            LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER;

// What the kernel of that ABI can forbid.
RulesetAttributes ForbidAll(int abi) {
  RulesetAttributes all = {};
  all.handled_access_fs = LANDLOCK_ACCESS_FS_REFER - 1;
  if (abi >= 2) all.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) all.handled_access_fs |= kTruncate;
  if (abi >= 4) all.handled_access_net = kConnectTcp;
  if (abi >= 5) all.handled_access_fs |= kIoctlDevice;
  if (abi >= 6) all.scoped = kScopeSignal | kScopeAbstractSocket;
  return all;
}

absl::Status Allow(int ruleset, const std::string& path, uint64_t access) {
  const UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return absl::OkStatus();  // nothing to allow
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("landlock: open ", path));
  struct stat status = {};
  if (fstat(fd.get(), &status) == 0 && !S_ISDIR(status.st_mode)) access &= kReadFile;
  const landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd.get()};
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0) {
    return absl::OkStatus();
  }
  if (errno == EBADFD) return absl::OkStatus();  // a pipe without a name, which needs no rule
  return absl::ErrnoToStatus(errno, absl::StrCat("landlock: allow ", path));
}

}  // namespace

absl::StatusOr<int> RestrictFiles(const FileAccess& access) {
  const auto abi = static_cast<int>(
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  if (abi < 1) {
    return absl::ErrnoToStatus(errno,
                               "landlock: the kernel has none (Linux 5.13 or newer has, "
                               "unless it was left out or is not in the boot option lsm=)");
  }
  const RulesetAttributes all = ForbidAll(abi);
  const UniqueFd ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0)));
  if (!ruleset.valid()) return absl::ErrnoToStatus(errno, "landlock: make a set of rules");
  for (const auto& [paths, rights] :
       {std::pair(&access.write_beneath, kWrite), std::pair(&access.replace_beneath, kReplace),
        std::pair(&access.remove_beneath, kRemove), std::pair(&access.read, kRead)}) {
    for (const std::string& path : *paths) {
      const absl::Status status = Allow(ruleset.get(), path, rights & all.handled_access_fs);
      if (!status.ok()) return status;
    }
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return absl::ErrnoToStatus(errno, "landlock: restrict this process");
  }
  return abi;
}

}  // namespace packet_headers
