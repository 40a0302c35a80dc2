#include "user/identity/unix_listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

constexpr int kBacklog = 64;

absl::Status Error(int error, const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("listen on ", path));
}

UniqueFd MakeSocket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Makes room at the path, if what is there is a socket that refuses to be connected to.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat file = {};
  if (lstat(path.c_str(), &file) != 0) {
    return errno == ENOENT ? absl::OkStatus() : Error(errno, path);
  }
  if (!S_ISSOCK(file.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat("listen on ", path,
                     ": there is a file that is no socket; remove it, or name another path"));
  }
  const UniqueFd probe = MakeSocket();
  if (!probe.valid()) return Error(errno, path);
  const bool connected =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  // EAGAIN: so many wait to be accepted that there is no room for one more.
  if (connected || errno == EAGAIN) {
    return absl::AlreadyExistsError(
        absl::StrCat("listen on ", path, ": another program serves it"));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) return Error(errno, path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return Error(errno, path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Listen(const std::string& path,
                                                                   mode_t mode) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // An empty one would be a name chosen by the kernel.
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("listen on \"", path, "\": the path has 1 to ",
                                                   sizeof(address.sun_path) - 1, " bytes"));
  }
  path.copy(address.sun_path, path.size());
  const absl::Status status = RemoveStale(path, address);
  if (!status.ok()) return status;

  UniqueFd socket = MakeSocket();
  if (!socket.valid()) return Error(errno, path);
  std::unique_ptr<UnixListener> listener(new UnixListener(path, std::move(socket)));
  // Nobody can connect before listen(). Whoever may write to the directory can put a link in the
  // file's place meanwhile; it isn't followed.
  struct stat file = {};
  if (bind(listener->fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      lstat(path.c_str(), &file) != 0) {
    return Error(errno, path);
  }
  listener->device_ = file.st_dev;
  listener->inode_ = file.st_ino;
  if (fchmodat(AT_FDCWD, path.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0 ||
      listen(listener->fd(), kBacklog) != 0) {
    return Error(errno, path);
  }
  return listener;
}

UnixListener::~UnixListener() {
  struct stat file = {};
  if (lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

UniqueFd UnixListener::Accept() {
  return UniqueFd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace packet_headers
