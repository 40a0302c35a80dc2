#include "user/identity/event_client.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/captured_log.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"
#include "user/identity/line_splitter.h"
#include "user/identity/uuid.h"

namespace packet_headers::testing {
namespace {

constexpr RetryWaits kShortWaits = {.first = absl::Milliseconds(1),
                                    .longest = absl::Milliseconds(20)};
// A test that waits for another try does not end.
constexpr RetryWaits kEndlessWaits = {.first = absl::Hours(10), .longest = absl::Hours(10)};

std::string Uuid(uint64_t cookie) { return UuidFromCookie("host_1", cookie); }

std::string OpenLine(uint64_t cookie) {
  Announcement announcement;
  announcement.cookie = cookie;
  announcement.uuid = Uuid(cookie);
  return EncodeOpen(announcement, 0);
}

// What was announced.
class Inbox {
 public:
  EventClient::OnOpen Slot() {
    return [this](Announcement announcement) {
      {
        const std::scoped_lock lock(mutex_);
        cookies_.push_back(announcement.cookie);
      }
      added_.notify_all();
    };
  }

  std::vector<uint64_t> WaitFor(size_t count) {
    std::unique_lock lock(mutex_);
    added_.wait(lock, [this, count] { return cookies_.size() >= count; });
    return cookies_;
  }

 private:
  std::mutex mutex_;  // guards cookies_
  std::condition_variable added_;
  std::vector<uint64_t> cookies_;
};

// A connection to a client, as tcp-info has it.
class Connection {
 public:
  explicit Connection(int fd) : fd_(fd) { REQUIRE(fd_.valid()); }

  // How many bytes come; 0 when the client hangs up.
  ssize_t Hears() const {
    char byte;
    return recv(fd_.get(), &byte, 1, 0);
  }

  // False when the client is gone.
  bool Send(absl::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t size = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size < 0) return false;
      bytes.remove_prefix(static_cast<size_t>(size));
    }
    return true;
  }

 private:
  UniqueFd fd_;
};

// A listening socket whose path goes with it.
class Server {
 public:
  explicit Server(const std::string& path, int backlog = 8)
      : path_(path), fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = Address();
    REQUIRE(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(fd_.get(), backlog) == 0);
  }
  ~Server() { unlink(path_.c_str()); }

  Connection Accept() const {
    return Connection(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  // Connects until there is no more room, so that a client finds none.
  void FillBacklog() {
    const sockaddr_un address = Address();
    do {
      in_backlog_.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    } while (connect(in_backlog_.back().get(), reinterpret_cast<const sockaddr*>(&address),
                     sizeof(address)) == 0);
    REQUIRE(errno == EAGAIN);
  }

 private:
  sockaddr_un Address() const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
  }

  const std::string path_;
  const UniqueFd fd_;
  std::vector<UniqueFd> in_backlog_;
};

// A client of a socket that may be there or not.
struct Fixture {
  void Start(RetryWaits waits = kShortWaits) {
    absl::StatusOr<std::unique_ptr<EventClient>> started =
        EventClient::Start(path, inbox.Slot(), waits);
    REQUIRE(started.ok());
    client = *std::move(started);
  }

  uint64_t BadEvents(BadEvent reason) const {
    return client->stats().bad_events[static_cast<size_t>(reason)];
  }

  const CapturedLog log;
  const ScratchDirectory directory;
  const std::string path = directory.Path("events.sock");
  Inbox inbox;
  std::unique_ptr<EventClient> client;
};

using Cookies = std::vector<uint64_t>;

TEST_CASE("Opens are announced, closes counted, the peer logged", "[client]") {
  Fixture fixture;
  const Server server(fixture.path);
  fixture.Start();
  const Connection connection = server.Accept();
  REQUIRE(connection.Send(absl::StrCat(OpenLine(1), EncodeClose(0, Uuid(1)), "\n", OpenLine(2))));
  CHECK(fixture.inbox.WaitFor(2) == Cookies{1, 2});
  const EventClientStats& stats = fixture.client->stats();
  CHECK(stats.opens == 2);
  CHECK(stats.closes == 1);
  CHECK(stats.connects == 1);
  CHECK(stats.connected);
  for (const auto& bad_events : stats.bad_events) CHECK(bad_events == 0);
  REQUIRE(fixture.log.Lines().size() == 1);
  CHECK(absl::StrContains(fixture.log.Lines()[0], fixture.path));
  CHECK(absl::StrContains(fixture.log.Lines()[0],
                          absl::StrCat("pid ", getpid(), ", uid ", getuid(), ", gid ", getgid())));
}

TEST_CASE("A server that comes late is found", "[client]") {
  Fixture fixture;
  SECTION("there is no socket") {
    fixture.Start();
    fixture.log.WaitFor("No such file or directory");
  }
  SECTION("nobody listens at the socket") {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    fixture.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    REQUIRE(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    fixture.Start();
    fixture.log.WaitFor("Connection refused");
    unlink(fixture.path.c_str());
  }
  SECTION("it is no socket") {
    fixture.directory.Write("events.sock", "text");
    fixture.Start();
    fixture.log.WaitFor("Connection refused");
    unlink(fixture.path.c_str());
  }
  CHECK_FALSE(fixture.client->stats().connected);
  const Server server(fixture.path);
  REQUIRE(server.Accept().Send(OpenLine(1)));
  CHECK(fixture.inbox.WaitFor(1) == Cookies{1});
}

TEST_CASE("A server that restarts a hundred times is found each time", "[client]") {
  Fixture fixture;
  // Without beginning anew after each event the waits would grow without end.
  fixture.Start({.first = absl::Milliseconds(1), .longest = absl::InfiniteDuration()});
  Cookies expected;
  for (uint64_t restart = 1; restart <= 100; ++restart) {
    auto server = std::make_unique<Server>(fixture.path);
    const Connection connection = server->Accept();
    REQUIRE(connection.Send(OpenLine(restart)));
    expected.push_back(restart);
    REQUIRE(fixture.inbox.WaitFor(restart) == expected);
    server = nullptr;  // before the connection: it is not to be found again
  }
  CHECK(fixture.client->stats().connects == 100);
  CHECK(fixture.log.Lines().size() < 20);
}

TEST_CASE("A last line without newline counts if it is whole", "[client]") {
  Fixture fixture;
  const Server server(fixture.path);
  fixture.Start();
  const std::string line = OpenLine(1);
  REQUIRE(server.Accept().Send(line.substr(0, line.size() - 1)));
  CHECK(fixture.inbox.WaitFor(1) == Cookies{1});
  CHECK(fixture.BadEvents(BadEvent::kMalformed) == 0);

  REQUIRE(server.Accept().Send(OpenLine(2).substr(0, 80)));
  REQUIRE(server.Accept().Send(OpenLine(3)));
  CHECK(fixture.inbox.WaitFor(2) == Cookies{1, 3});
  CHECK(fixture.BadEvents(BadEvent::kMalformed) == 1);
}

TEST_CASE("Bad lines are skipped and counted by reason", "[client]") {
  Fixture fixture;
  const Server server(fixture.path);
  fixture.Start();
  const Connection connection = server.Accept();
  const std::string oversized(LineSplitter::kMaxLineBytes + 1, ' ');
  REQUIRE(connection.Send(absl::StrCat(
      "garbage\n\xff\xfe\n", OpenLine(1), "{\"Event\":7}\n{}\n", R"({"ID":{"SrcIP":"x"}})", "\n",
      R"({"ID":{"SrcIP":"::1","DstIP":"::2"},"UUID":"../x"})", "\n", oversized, "\n", oversized,
      oversized, "\n", OpenLine(2))));
  CHECK(fixture.inbox.WaitFor(2) == Cookies{1, 2});
  CHECK(fixture.BadEvents(BadEvent::kMalformed) == 2);
  CHECK(fixture.BadEvents(BadEvent::kUnknownEvent) == 1);
  CHECK(fixture.BadEvents(BadEvent::kNilId) == 1);
  CHECK(fixture.BadEvents(BadEvent::kBadIp) == 1);
  CHECK(fixture.BadEvents(BadEvent::kBadUuid) == 1);
  CHECK(fixture.BadEvents(BadEvent::kOversized) == 2);
}

TEST_CASE("A burst of 50,000 opens arrives whole and in order", "[client]") {
  constexpr uint64_t kOpens = 50'000;
  Fixture fixture;
  const Server server(fixture.path);
  fixture.Start();
  const Connection connection = server.Accept();
  Cookies expected;
  std::string burst;
  for (uint64_t cookie = 1; cookie <= kOpens; ++cookie) {
    expected.push_back(cookie);
    burst += OpenLine(cookie);
  }
  REQUIRE(connection.Send(burst));
  CHECK(fixture.inbox.WaitFor(kOpens) == expected);
}

TEST_CASE("A server that another user runs in an open folder is not believed", "[client]") {
  if (geteuid() != 0) {
    WARN("needs root");
    return;
  }
  Fixture fixture;
  REQUIRE(chmod(fixture.directory.Path().c_str(), 01777) == 0);
  std::optional<Server> forged;
  // What counts is who listened.
  REQUIRE(syscall(SYS_setresuid, -1, 1003, -1) == 0);  // this thread's
  forged.emplace(fixture.path);
  REQUIRE(syscall(SYS_setresuid, -1, 0, -1) == 0);
  fixture.Start(kShortWaits);
  CHECK(forged->Accept().Hears() == 0);
  fixture.log.WaitFor("not believed, since anybody could serve it");
  CHECK(fixture.client->stats().connects == 0);
  forged.reset();
  const Server server(fixture.path);
  REQUIRE(server.Accept().Send(OpenLine(1)));
  CHECK(fixture.inbox.WaitFor(1) == Cookies{1});
}

// None of these ends if the destructor waits for what the thread waits for.
TEST_CASE("A client stops at once", "[client]") {
  Fixture fixture;
  SECTION("while it waits to try again") {
    fixture.Start(kEndlessWaits);
    fixture.log.WaitFor("No such file or directory");
  }
  SECTION("while the server does not accept") {
    Server server(fixture.path, /*backlog=*/1);
    server.FillBacklog();
    fixture.Start(kEndlessWaits);
    fixture.log.WaitFor("trying again");
  }
  SECTION("before it has begun") { fixture.Start(kEndlessWaits); }
  SECTION("while nothing comes") {
    const Server server(fixture.path);
    fixture.Start(kEndlessWaits);
    const Connection connection = server.Accept();
    REQUIRE(connection.Send(OpenLine(1)));
    fixture.inbox.WaitFor(1);
    fixture.client = nullptr;
    CHECK_FALSE(connection.Send(OpenLine(2)));
  }
  SECTION("in the middle of a line") {
    const Server server(fixture.path);
    fixture.Start(kEndlessWaits);
    const Connection connection = server.Accept();
    REQUIRE(connection.Send(absl::StrCat(OpenLine(1), OpenLine(2).substr(0, 80))));
    fixture.inbox.WaitFor(1);
    fixture.client = nullptr;
  }
  SECTION("while more comes all the time") {
    const Server server(fixture.path);
    fixture.Start(kEndlessWaits);
    std::string lines;  // so many that there is always more to read
    for (uint64_t cookie = 1; cookie <= 10'000; ++cookie) lines += OpenLine(cookie);
    std::thread flood([connection = server.Accept(), &lines] {
      while (connection.Send(lines)) {
      }
    });
    fixture.inbox.WaitFor(1000);
    fixture.client = nullptr;
    flood.join();
  }
  fixture.client = nullptr;
}

TEST_CASE("A path that can't be a socket's is refused, and why is said", "[client]") {
  const CapturedLog log;
  const auto start = [](const std::string& path) {
    return EventClient::Start(
               path, [](Announcement) {}, kEndlessWaits)
        .status();
  };
  CHECK(start(std::string(107, 'x')).ok());
  for (const std::string& path : {std::string(), std::string(108, 'x'), std::string(5000, 'x')}) {
    const absl::Status status = start(path);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StrContains(status.message(), absl::StrCat("\"", path, "\"")));
    CHECK(absl::StrContains(status.message(), "107"));
  }
}

}  // namespace
}  // namespace packet_headers::testing
