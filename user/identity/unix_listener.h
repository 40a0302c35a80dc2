// A Unix stream socket that listens at a path.

#ifndef PACKET_HEADERS_USER_IDENTITY_UNIX_LISTENER_H_
#define PACKET_HEADERS_USER_IDENTITY_UNIX_LISTENER_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

// The socket's file goes with this object, unless another file has its path by then.
class UnixListener {
 public:
  // The file has the permissions `mode`, whatever the umask, before anybody can connect. A socket
  // at `path` that nobody listens to any more is replaced; AlreadyExists when somebody does, or
  // when another kind of file is there. InvalidArgument when the path is too long.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Listen(const std::string& path, mode_t mode);
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;
  ~UnixListener();

  // Doesn't block, nor do the sockets that Accept() returns. Becomes readable when somebody
  // connects.
  int fd() const { return socket_.get(); }

  const std::string& path() const { return path_; }

  // The next of those who have connected. Invalid with errno set: EAGAIN when there is none.
  UniqueFd Accept();

 private:
  UnixListener(std::string path, UniqueFd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}

  const std::string path_;
  const UniqueFd socket_;
  dev_t device_ = 0;  // of the socket's file
  ino_t inode_ = 0;   // once bound; 0: there is no file of ours
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_UNIX_LISTENER_H_
