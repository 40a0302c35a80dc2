#include "user/identity/unix_peer.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"
#include "user/base/unique_fd.h"

namespace packet_headers {
namespace {

using testing::ScratchDirectory;

constexpr uid_t kOverflowUid = 65'534;
constexpr uid_t kOwnUid = 1001;
constexpr uid_t kStranger = 1003;

UnixPeer Peer(uid_t uid) { return {7, uid, 8}; }

// A socket's file of tcp-info's user in its folder, in a directory of root's.
struct Fixture {
  // Others than root can't give files away, nor have a place that is not open to all.
  const bool is_root = geteuid() == 0;
  const uid_t tcpinfo = is_root ? 1002 : geteuid();
  const ScratchDirectory directory{is_root ? "/run" : std::filesystem::temp_directory_path()};
  const std::string path = directory.Write("folder/socket", "");
  const std::string folder = directory.Path("folder");

  Fixture() {
    Give(path, tcpinfo);
    Give(folder, tcpinfo);
    Mode(directory.Path(), 0755);
    Mode(folder, 0755);
  }

  void Give(const std::string& file, uid_t to) const {
    if (is_root) REQUIRE(chown(file.c_str(), to, 0) == 0);
  }

  static void Mode(const std::string& file, mode_t mode) {
    REQUIRE(chmod(file.c_str(), mode) == 0);
  }

  absl::Status Check(uid_t peer) const { return CheckServer(Peer(peer), path, kOwnUid); }
};

TEST_CASE("The kernel tells who is at the other end", "[unix_peer]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  const absl::StatusOr<UnixPeer> peer = PeerOf(one.get());
  REQUIRE(peer.ok());
  CHECK(peer->pid == getpid());
  CHECK(peer->uid == geteuid());
  CHECK(Peer(9).Describe() == "pid 7, uid 9, gid 8");
  CHECK_FALSE(PeerOf(-1).ok());
}

TEST_CASE_METHOD(Fixture, "Root and the own user are believed wherever they are", "[unix_peer]") {
  Mode(folder, 0777);
  CHECK(Check(0).ok());
  CHECK(Check(kOwnUid).ok());
  CHECK(CheckServer(Peer(0), "/nowhere/socket", kOwnUid).ok());
}

TEST_CASE_METHOD(Fixture, "Others are not, and why is said", "[unix_peer]") {
  const absl::Status status = Check(kStranger);
  CHECK(absl::IsPermissionDenied(status));
  CHECK(absl::StrContains(status.message(), "pid 7, uid 1003, gid 8"));
  CHECK(absl::StrContains(status.message(), "its file belongs to uid "));
  CHECK(absl::StrContains(status.message(), "run tcp-info as root"));
}

TEST_CASE_METHOD(Fixture, "In a folder of everybody's nobody but root is believed", "[unix_peer]") {
  // Sticky or not: anybody could have made the file.
  Mode(folder, GENERATE(0777, 01777, 0757));
  const absl::Status status = Check(tcpinfo);
  CHECK(absl::IsPermissionDenied(status));
  CHECK(absl::StrContains(status.message(), "/folder is writable by every user"));
}

TEST_CASE_METHOD(Fixture, "Nor is anybody below or behind one", "[unix_peer]") {
  const std::string open = directory.Path("open");
  std::filesystem::create_directory(open);
  Mode(open, 01777);
  std::filesystem::create_directory_symlink(folder, open + "/link");
  std::filesystem::create_symlink(path, open + "/socket");
  for (const char* const leads_there : {"/link/socket", "/socket"}) {
    CHECK(absl::IsPermissionDenied(CheckServer(Peer(tcpinfo), open + leads_there, kOwnUid)));
  }
  Mode(directory.Path(), 01777);
  CHECK(absl::IsPermissionDenied(Check(tcpinfo)));
}

TEST_CASE_METHOD(Fixture, "Who owns the socket's file in a safe folder is believed",
                 "[unix_peer]") {
  if (!is_root) {
    WARN("needs root");
    return;
  }
  CHECK(Check(tcpinfo).ok());
  Mode(folder, 0775);
  CHECK(Check(tcpinfo).ok());
  Give(folder, kStranger);
  const absl::Status status = Check(tcpinfo);
  CHECK(absl::IsPermissionDenied(status));
  CHECK(absl::StrContains(status.message(), "/folder belongs to uid 1003"));
  Give(folder, kOwnUid);
  CHECK(Check(tcpinfo).ok());
}

TEST_CASE_METHOD(Fixture, "The overflow uid is nobody's own", "[unix_peer]") {
  const auto check = [this] { return CheckServer(Peer(kOverflowUid), path, kOverflowUid); };
  CHECK(absl::IsPermissionDenied(check()));
  if (!is_root) {
    WARN("needs root");
    return;
  }
  // A user of a sibling container, who has no number here: the file is its own.
  Give(path, kOverflowUid);
  Give(folder, kOverflowUid);
  CHECK(check().ok());
  Mode(folder, 0777);
  CHECK(absl::IsPermissionDenied(check()));
}

}  // namespace
}  // namespace packet_headers
