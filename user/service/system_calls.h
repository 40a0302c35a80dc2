// Which system calls a process may make, by seccomp.

#ifndef PACKET_HEADERS_USER_SERVICE_SYSTEM_CALLS_H_
#define PACKET_HEADERS_USER_SERVICE_SYSTEM_CALLS_H_

#include "absl/status/status.h"

namespace packet_headers {

enum SystemCallUse : unsigned {
  kForFiles = 1 << 0,        // reading and writing files by several threads: always
  kForCapture = 1 << 1,      // sockets that are open, rtnetlink and sock_diag
  kForBpf = 1 << 2,          // maps, and attaching programs that are loaded
  kForPcap = 1 << 3,         // packet sockets
  kForEventClient = 1 << 4,  // Unix sockets
};

// From now on every thread of the process makes only the system calls for these uses; others fail
// with EPERM, or as the C library needs it to fall back. no_new_privs must be set.
absl::Status RestrictSystemCalls(unsigned uses);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_SYSTEM_CALLS_H_
