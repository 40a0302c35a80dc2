// Names of flows: the UUIDs that m-lab/uuid and tcp-info give to the same sockets.

#ifndef PACKET_HEADERS_USER_IDENTITY_UUID_H_
#define PACKET_HEADERS_USER_IDENTITY_UUID_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "packet_headers/flow_key.h"

namespace packet_headers {

// Whether `uuid` may become a file name: 1 to 128 of [A-Za-z0-9._-], and neither "." nor "..".
bool IsValidUuid(absl::string_view uuid);

// "<prefix>_%016X" of the kernel's socket cookie (SO_COOKIE).
std::string UuidFromCookie(absl::string_view prefix, uint64_t cookie);

// The name of a flow whose socket nobody knows, made of when it began, to the nanosecond in UTC,
// and of its ends: 20261121T195825.916725472Z_10.9.0.1.8020_10.9.0.200.48852. In IPv6 addresses '-'
// stands for ':'. `start_ns` is since the Unix epoch.
std::string UuidFromTuple(const ph_flow_key& key, int64_t start_ns);

// The prefix for which UuidFromCookie(prefix, cookie) is `uuid`; empty if there is none.
absl::string_view PrefixOf(absl::string_view uuid, uint64_t cookie);

// The prefix of this host's UUIDs, which events can correct while UUIDs are made. Thread-safe.
class UuidPrefix {
 public:
  explicit UuidPrefix(std::string prefix) : prefix_(std::move(prefix)) {}

  std::string Get() const;
  // `prefix` is that of a valid UUID (PrefixOf). Returns whether it is another than before.
  bool Learn(std::string prefix);

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::string prefix_;
};

// The content of the file at `path`. m-lab/uuid takes it as it is; here one newline at the end is
// dropped, since an editor adds it and no UUID may hold it. InvalidArgument when UUIDs with the
// prefix would not be valid.
absl::StatusOr<std::string> ReadUuidPrefix(const std::string& path);

// The environment's POD_NAME or else the host name, made a valid UUID. Reads the environment: call
// it before there are other threads.
std::string HostForFileNames();

// The prefix for when there is no file: "<host>_<boot time in unix seconds>_unsafe", where host is
// the environment's POD_NAME or else the host name. Reads the environment: call it before there are
// other threads.
absl::StatusOr<std::string> DefaultUuidPrefix();

// What DefaultUuidPrefix makes of its inputs. `proc_uptime` is the content of /proc/uptime, read at
// `now`. Characters of `host` that no UUID may hold become '-'.
absl::StatusOr<std::string> UnsafeUuidPrefix(absl::string_view host, absl::string_view proc_uptime,
                                             absl::Time now);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_UUID_H_
