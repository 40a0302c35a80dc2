// Who the process is, and what it may do. All of it concerns the calling thread and those that it
// starts later: to be called before there are others.

#ifndef PACKET_HEADERS_USER_SERVICE_PRIVILEGES_H_
#define PACKET_HEADERS_USER_SERVICE_PRIVILEGES_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace packet_headers {

// By number, as in linux/capability.h.
using Capabilities = std::vector<unsigned>;

// "net_admin"
std::string CapabilityName(unsigned capability);

// "nobody", or "uid 1000" of a user without a name.
std::string UserName();

// Becomes `user`, by name or number, with its primary group and no other, and keeps of its
// capabilities those that a capture takes to begin with. Empty, or that user already: stays as it
// is. An error unless root otherwise.
absl::Status BecomeUser(const std::string& user);

// Gives up all capabilities for good but those that a capture takes to begin with.
absl::Status KeepStartCapabilities();

// Gives up all capabilities for good.
absl::Status KeepNoCapabilities();

// The error of a data directory that can't be written, with what to do about it: not even root
// writes the folders of others without CAP_DAC_OVERRIDE.
absl::Status DataDirectoryError(const absl::Status& status);

struct Attempt {
  bool lacks_rights;
  size_t achieved;  // so far, by all attempts
};

// Calls `attempt` without any capability, and as long as it lacks rights with others of those that
// capturing can take; `is_last`: no more can be had. Keeps the least with which all was achieved
// that could be, returns them, and gives up all others for good.
absl::StatusOr<Capabilities> KeepLeastCapabilities(
    absl::FunctionRef<Attempt(bool is_last)> attempt);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_PRIVILEGES_H_
