// Who is at the other end of a Unix socket.

#ifndef PACKET_HEADERS_USER_IDENTITY_UNIX_PEER_H_
#define PACKET_HEADERS_USER_IDENTITY_UNIX_PEER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace packet_headers {

// As the kernel had it when the socket was connected, or began to listen.
struct UnixPeer {
  pid_t pid;
  uid_t uid;
  gid_t gid;

  // "pid 12, uid 0, gid 0".
  std::string Describe() const;
};

absl::StatusOr<UnixPeer> PeerOf(int socket);

// Whether what `peer`, who listens at the socket `path`, says may be believed: it is root or
// `own_uid`, or the socket file is its own and stands where nobody but root, `own_uid` and itself
// could have put it. PermissionDenied says what to change.
//
// The kernel's overflow uid, which stands for every user that has no number in our user namespace,
// is never taken for `own_uid`.
absl::Status CheckServer(const UnixPeer& peer, const std::string& path, uid_t own_uid);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_UNIX_PEER_H_
