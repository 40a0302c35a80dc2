#include "user/identity/unix_peer.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

constexpr uid_t kOverflowUid = 65'534;

// OK if nobody but root, `own_uid` and `owner` can put anything into `directory` or one above it.
// Even a sticky one that is open to all is too open: what is not there yet can be made by anybody.
absl::Status CheckDirectories(std::filesystem::path directory, uid_t owner, uid_t own_uid) {
  while (true) {
    struct stat found = {};
    if (stat(directory.c_str(), &found) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("look at ", directory.string()));
    }
    // The group's bits also stand for an ACL's.
    const bool is_group_writable = (found.st_mode & S_IWGRP) != 0 && found.st_gid != 0;
    if ((found.st_mode & S_IWOTH) != 0 || is_group_writable) {
      return absl::PermissionDeniedError(absl::StrCat(
          directory.string(), " is writable by ", is_group_writable ? "a group" : "every user"));
    }
    if (found.st_uid != 0 && found.st_uid != own_uid && found.st_uid != owner) {
      return absl::PermissionDeniedError(
          absl::StrCat(directory.string(), " belongs to uid ", found.st_uid));
    }
    if (!directory.has_relative_path()) return absl::OkStatus();
    directory = directory.parent_path();
  }
}

// OK if the socket `path` is a file of `peer`, which nobody could have put there for it.
absl::Status CheckFile(uid_t peer, const std::string& path, uid_t own_uid) {
  struct stat file = {};
  if (stat(path.c_str(), &file) != 0) return absl::ErrnoToStatus(errno, "look at it");
  if (file.st_uid != peer) {
    return absl::PermissionDeniedError(absl::StrCat("its file belongs to uid ", file.st_uid));
  }
  // As it is written, and where its links lead.
  std::error_code error;
  const std::filesystem::path written = std::filesystem::absolute(path, error);
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), "look at it");
  const absl::Status status = CheckDirectories(written.parent_path(), peer, own_uid);
  return status.ok() ? CheckDirectories(real.parent_path(), peer, own_uid) : status;
}

}  // namespace

std::string UnixPeer::Describe() const {
  return absl::StrCat("pid ", pid, ", uid ", uid, ", gid ", gid);
}

absl::StatusOr<UnixPeer> PeerOf(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return absl::ErrnoToStatus(errno, "ask who is at a socket's other end");
  }
  return UnixPeer{peer.pid, peer.uid, peer.gid};
}

absl::Status CheckServer(const UnixPeer& peer, const std::string& path, uid_t own_uid) {
  if (peer.uid == 0 || (peer.uid == own_uid && peer.uid != kOverflowUid)) return absl::OkStatus();
  const absl::Status why = CheckFile(peer.uid, path, own_uid);
  if (why.ok()) return why;
  return absl::PermissionDeniedError(absl::StrCat(
      "not believed, since anybody could serve it: ", peer.Describe(),
      " does, not known to be root or this user (uid ", own_uid, "), and ", why.message(),
      " (run tcp-info as root or as this user, or put the socket into a directory of its own)"));
}

}  // namespace packet_headers
