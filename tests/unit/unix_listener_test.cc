#include "user/identity/unix_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers {
namespace {

using testing::ScratchDirectory;

// 0, or an errno.
int Connect(const std::string& path, UniqueFd* socket_out = nullptr) {
  UniqueFd connection(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const bool connected =
      connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  if (socket_out != nullptr) *socket_out = std::move(connection);
  return connected ? 0 : error;
}

std::unique_ptr<UnixListener> Listen(const std::string& path, mode_t mode = 0600) {
  absl::StatusOr<std::unique_ptr<UnixListener>> listener = UnixListener::Listen(path, mode);
  INFO(listener.status());
  REQUIRE(listener.ok());
  return *std::move(listener);
}

// Leaves a socket that nobody listens at, as a program does that was killed.
void LeaveStale(const std::string& path) {
  std::unique_ptr<UnixListener> killed = Listen(path);
  REQUIRE(rename(path.c_str(), (path + ".kept").c_str()) == 0);
  killed.reset();
  REQUIRE(rename((path + ".kept").c_str(), path.c_str()) == 0);
  REQUIRE(Connect(path) == ECONNREFUSED);
}

TEST_CASE("The permissions are those asked for, whatever the umask", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Path("socket");
  const auto [mask, mode] = GENERATE(std::pair<mode_t, mode_t>(077, 0666),
                                     std::pair<mode_t, mode_t>(0, 0600), std::pair(0777, 0660));
  const mode_t umask_before = umask(mask);
  const std::unique_ptr<UnixListener> listener = Listen(path, mode);
  umask(umask_before);
  struct stat file = {};
  REQUIRE(lstat(path.c_str(), &file) == 0);
  CHECK(file.st_mode == (S_IFSOCK | mode));
}

TEST_CASE("Nobody has to wait", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Path("socket");
  const std::unique_ptr<UnixListener> listener = Listen(path);
  errno = 0;
  CHECK_FALSE(listener->Accept().valid());
  CHECK(errno == EAGAIN);
  CHECK(Connect(path) == 0);
  const UniqueFd accepted = listener->Accept();
  REQUIRE(accepted.valid());
  char byte;
  CHECK(read(accepted.get(), &byte, 1) == 0);
}

TEST_CASE("The file goes with the listener", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Path("socket");
  std::unique_ptr<UnixListener> listener = Listen(path);
  CHECK(directory.Files().contains("socket"));
  SECTION("if it is there") {
    listener.reset();
    CHECK(directory.Files().empty());
  }
  SECTION("but not that of another listener at the path") {
    REQUIRE(unlink(path.c_str()) == 0);
    const std::unique_ptr<UnixListener> other = Listen(path);
    listener.reset();
    CHECK(Connect(path) == 0);
  }
}

TEST_CASE("A socket that nobody listens at is replaced", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Path("socket");
  LeaveStale(path);
  const std::unique_ptr<UnixListener> listener = Listen(path);
  CHECK(Connect(path) == 0);
}

TEST_CASE("A socket that somebody listens at is left alone", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Path("socket");
  const std::unique_ptr<UnixListener> listener = Listen(path);
  CHECK(absl::IsAlreadyExists(UnixListener::Listen(path, 0600).status()));
  CHECK(Connect(path) == 0);
}

TEST_CASE("Other files are left alone", "[unix_listener]") {
  const ScratchDirectory directory;
  const std::string path = directory.Write("file", "content");
  CHECK(absl::IsAlreadyExists(UnixListener::Listen(path, 0600).status()));
  CHECK(directory.Read("file") == "content");

  LeaveStale(directory.Path("stale"));
  const std::string link = directory.Path("link");
  REQUIRE(symlink("stale", link.c_str()) == 0);
  CHECK(absl::IsAlreadyExists(UnixListener::Listen(link, 0600).status()));
  CHECK(directory.Files() == std::set<std::string>{"file", "link", "stale"});

  CHECK(absl::IsAlreadyExists(UnixListener::Listen(directory.Path(), 0600).status()));
}

TEST_CASE("A path has so many bytes and no more", "[unix_listener]") {
  const ScratchDirectory directory;
  std::string path = directory.Path("");
  path.resize(sizeof(sockaddr_un::sun_path) - 1, 'x');
  CHECK(UnixListener::Listen(path, 0600).ok());
  CHECK(absl::IsInvalidArgument(UnixListener::Listen(path + "x", 0600).status()));
  CHECK(absl::IsInvalidArgument(UnixListener::Listen("", 0600).status()));
  CHECK(absl::IsNotFound(UnixListener::Listen(directory.Path("folder/socket"), 0600).status()));
}

}  // namespace
}  // namespace packet_headers
