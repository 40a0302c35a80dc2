#include "user/identity/event_server.h"

#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"
#include "user/base/clock.h"
#include "user/identity/socket_event.h"

namespace packet_headers {
namespace {

using testing::ScratchDirectory;

constexpr auto kPatience = std::chrono::seconds(30);

// Events as the test plays them.
class PlayedEvents : public SocketEventSource {
 public:
  // `just_before` is called in the server's thread when it comes to fetch the events.
  void Play(const std::vector<ph_socket_event>& events, std::function<void()> just_before = {}) {
    const std::lock_guard<std::mutex> lock(mutex_);
    just_before_ = std::move(just_before);
    waiting_.insert(waiting_.end(), events.begin(), events.end());
    eventfd_write(readable_.get(), 1);
  }
  void Lose(uint64_t events) { lost_ += events; }

  int fd() const override { return readable_.get(); }

  void Drain(size_t most, absl::FunctionRef<void(const ph_socket_event&)> use) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (just_before_) std::exchange(just_before_, {})();
    for (; most > 0 && !waiting_.empty(); --most) {
      use(waiting_.front());
      waiting_.pop_front();
    }
    eventfd_t ignored;
    if (waiting_.empty()) eventfd_read(readable_.get(), &ignored);
  }

  uint64_t lost() const override { return lost_; }

 private:
  const UniqueFd readable_{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::atomic<uint64_t> lost_{0};
  std::mutex mutex_;
  std::deque<ph_socket_event> waiting_;
  std::function<void()> just_before_;
};

ph_socket_event Event(ph_socket_event_kind kind, uint64_t cookie, const char* local = "2001:db8::1",
                      const char* remote = "2001:db8::2") {
  ph_socket_event event = {};
  event.time_ns = static_cast<uint64_t>(MonotonicNow());
  event.socket_cookie = cookie;
  REQUIRE(inet_pton(AF_INET6, local, event.key.local_addr) == 1);
  REQUIRE(inet_pton(AF_INET6, remote, event.key.remote_addr) == 1);
  event.key.local_port_be = htons(443);
  event.key.remote_port_be = htons(50'000);
  event.kind = kind;
  return event;
}

ph_socket_event Open(uint64_t cookie) { return Event(PH_SOCKET_OPEN, cookie); }
ph_socket_event Close(uint64_t cookie) { return Event(PH_SOCKET_CLOSE, cookie); }

// A client whose reads fail at the latest when patience ends.
class Client {
 public:
  explicit Client(const std::string& path) : socket_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const timeval patience = {kPatience.count(), 0};
    setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    REQUIRE(connect(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  }

  int fd() const { return socket_.get(); }

  // The next line without its end; nothing behind the last one.
  std::optional<std::string> ReadLine() {
    while (true) {
      const size_t end = received_.find('\n', begin_);
      if (end != std::string::npos) {
        std::string line = received_.substr(begin_, end - begin_);
        begin_ = end + 1;
        return line;
      }
      received_.erase(0, begin_);
      begin_ = 0;
      char bytes[64 * 1024];
      const ssize_t size = recv(fd(), bytes, sizeof(bytes), 0);
      REQUIRE(size >= 0);
      if (size == 0) return std::nullopt;
      received_.append(bytes, static_cast<size_t>(size));
    }
  }

 private:
  UniqueFd socket_;
  std::string received_;
  size_t begin_ = 0;  // of the next line
};

// The cookie in the name of an open's or close's UUID, which stands before the ID.
std::optional<uint64_t> CookieOf(const std::optional<std::string>& line) {
  if (!line.has_value()) return std::nullopt;
  const size_t prefix = line->find("\"UUID\":\"host_1_");
  REQUIRE(prefix != std::string::npos);
  return std::stoull(line->substr(prefix + std::strlen("\"UUID\":\"host_1_"), 16), nullptr, 16);
}

template <typename T>
bool Becomes(const std::atomic<T>& value, std::type_identity_t<T> wanted) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (value != wanted) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

struct Fixture {
  ScratchDirectory directory;
  PlayedEvents events;
  const std::string path = directory.Path("socket");
  std::unique_ptr<EventServer> server = Start();

  UuidPrefix prefix{"host_1"};

  std::unique_ptr<EventServer> Start() {
    absl::StatusOr<std::unique_ptr<UnixListener>> listener = UnixListener::Listen(path, 0666);
    INFO(listener.status());
    REQUIRE(listener.ok());
    absl::StatusOr<std::unique_ptr<EventServer>> started =
        EventServer::Start(*std::move(listener), prefix, events);
    INFO(started.status());
    REQUIRE(started.ok());
    return *std::move(started);
  }
};

TEST_CASE_METHOD(Fixture, "All clients get the same lines in order", "[event_server]") {
  Client one(path);
  Client other(path);
  const int64_t not_before_ns = MonotonicNow() + WallOffset();
  events.Play({Open(0xA1), Open(0xA2), Close(0xA1)});
  events.Play({Close(0xA2)});
  for (Client* const client : {&one, &other}) {
    const std::optional<std::string> line = client->ReadLine();
    REQUIRE(line.has_value());
    const SocketEvent opened = DecodeSocketEvent(*line);
    REQUIRE(std::holds_alternative<Announcement>(opened));
    const auto& announcement = std::get<Announcement>(opened);
    const ph_flow_key key = Open(0xA1).key;
    CHECK(std::memcmp(&announcement.key, &key, sizeof(key)) == 0);
    CHECK(announcement.cookie == 0xA1);
    CHECK(announcement.uuid == "host_1_00000000000000A1");
    CHECK(std::abs(announcement.time_ns - not_before_ns) < 60'000'000'000);
    CHECK(CookieOf(client->ReadLine()) == 0xA2);
    const std::optional<std::string> closed = client->ReadLine();
    REQUIRE(closed.has_value());
    CHECK(std::holds_alternative<ClosedSocket>(DecodeSocketEvent(*closed)));
    CHECK(CookieOf(closed) == 0xA1);
    CHECK(CookieOf(client->ReadLine()) == 0xA2);
  }
  CHECK(server->stats().opens == 2);
  CHECK(server->stats().closes == 2);
  CHECK(Becomes(server->stats().clients, 2));
}

TEST_CASE_METHOD(Fixture, "A client hears nothing of what was before", "[event_server]") {
  Client early(path);
  events.Play({Open(1), Open(2)});
  CHECK(CookieOf(early.ReadLine()) == 1);
  CHECK(CookieOf(early.ReadLine()) == 2);
  Client late(path);
  events.Play({Open(3)});
  CHECK(CookieOf(early.ReadLine()) == 3);
  CHECK(CookieOf(late.ReadLine()) == 3);
}

TEST_CASE_METHOD(Fixture, "A client that connects just before an event hears of it",
                 "[event_server]") {
  std::optional<Client> client;
  std::promise<void> connected;
  events.Play({Open(1)}, [&] {
    client.emplace(path);
    connected.set_value();
  });
  connected.get_future().get();
  CHECK(CookieOf(client->ReadLine()) == 1);
}

TEST_CASE_METHOD(Fixture, "A client that does not read is dropped, and delays nobody",
                 "[event_server]") {
  constexpr uint64_t kEvents = 100'000;
  constexpr uint64_t kBatch = 1000;
  Client dead(path);
  Client alive(path);
  for (uint64_t cookie = 0; cookie < kEvents;) {
    std::vector<ph_socket_event> batch;
    while (batch.size() < kBatch) batch.push_back(Open(cookie + batch.size()));
    events.Play(batch);
    for (size_t i = 0; i < kBatch; ++i, ++cookie) REQUIRE(CookieOf(alive.ReadLine()) == cookie);
  }
  CHECK(Becomes(server->stats().clients, 1));
  CHECK(server->stats().clients_dropped == 1);
  CHECK(server->stats().clients_left == 0);
  // It can read what the kernel held for it, and then the end.
  uint64_t cookie = 0;
  for (std::optional<uint64_t> next; (next = CookieOf(dead.ReadLine())).has_value(); ++cookie) {
    REQUIRE(*next == cookie);
  }
  CHECK(cookie > 0);
  CHECK(cookie < kEvents);
}

TEST_CASE_METHOD(Fixture, "A client that was slow for a while misses nothing", "[event_server]") {
  constexpr uint64_t kEvents = 10'000;  // more than the kernel holds, less than is too much
  Client slow(path);
  Client fast(path);
  for (uint64_t cookie = 0; cookie < kEvents; ++cookie) events.Play({Open(cookie)});
  for (uint64_t cookie = 0; cookie < kEvents; ++cookie) {
    REQUIRE(CookieOf(fast.ReadLine()) == cookie);
  }
  for (uint64_t cookie = 0; cookie < kEvents; ++cookie) {
    REQUIRE(CookieOf(slow.ReadLine()) == cookie);
  }
}

TEST_CASE_METHOD(Fixture, "Clients come and go", "[event_server]") {
  Client stays(path);
  {
    Client leaves(path);
    events.Play({Open(1)});
    CHECK(CookieOf(leaves.ReadLine()) == 1);
  }
  CHECK(Becomes(server->stats().clients_left, 1));
  { Client leaves_without_reading(path); }
  CHECK(Becomes(server->stats().clients_left, 2));
  {
    Client leaves_what_it_got(path);
    events.Play({Open(2)});
    CHECK(CookieOf(stays.ReadLine()) == 1);
    CHECK(CookieOf(stays.ReadLine()) == 2);
  }
  CHECK(Becomes(server->stats().clients_left, 3));
  events.Play({Open(3)});
  CHECK(CookieOf(stays.ReadLine()) == 3);
  CHECK(Becomes(server->stats().clients, 1));
  CHECK(server->stats().clients_dropped == 0);
}

TEST_CASE_METHOD(Fixture, "What a client says does not matter", "[event_server]") {
  Client client(path);
  const std::string words(4 << 20, 'x');
  CHECK(send(client.fd(), words.data(), words.size(), MSG_NOSIGNAL) ==
        static_cast<ssize_t>(words.size()));
  shutdown(client.fd(), SHUT_WR);
  events.Play({Open(1)});
  CHECK(CookieOf(client.ReadLine()) == 1);
  events.Play({Open(2)});
  CHECK(CookieOf(client.ReadLine()) == 2);
  CHECK(server->stats().clients_left == 0);
}

TEST_CASE_METHOD(Fixture, "There are so many clients and no more", "[event_server]") {
  std::deque<Client> clients;
  while (clients.size() < EventServer::kMaxClients) clients.emplace_back(path);
  Client refused(path);
  CHECK(refused.ReadLine() == std::nullopt);
  CHECK(server->stats().clients_dropped == 1);
  clients.pop_front();
  CHECK(Becomes(server->stats().clients_left, 1));
  clients.emplace_back(path);
  events.Play({Open(1)});
  for (Client& client : clients) CHECK(CookieOf(client.ReadLine()) == 1);
  CHECK(Becomes(server->stats().clients, EventServer::kMaxClients));
}

TEST_CASE_METHOD(Fixture, "Users share the places, and some are kept for root", "[event_server]") {
  if (geteuid() != 0) {
    WARN("needs root");
    return;
  }
  REQUIRE(chmod(directory.Path().c_str(), 0777) == 0);
  constexpr size_t kOfUser = 16;
  std::deque<Client> clients;
  const auto connect_as = [&](uid_t uid) {
    REQUIRE(syscall(SYS_setresuid, -1, uid, -1) == 0);  // this thread's
    clients.emplace_back(path);
    REQUIRE(syscall(SYS_setresuid, -1, 0, -1) == 0);
  };
  uint64_t dropped = 0;
  const auto is_refused = [&](uid_t uid) {
    connect_as(uid);
    const bool refused = clients.back().ReadLine() == std::nullopt;
    clients.pop_back();
    return refused && server->stats().clients_dropped == ++dropped;
  };
  for (const uid_t uid : {1001, 1002, 1003}) {
    for (size_t i = 0; i < kOfUser; ++i) connect_as(uid);
    CHECK(is_refused(uid));
  }
  CHECK(is_refused(1004));
  for (size_t i = 0; i < kOfUser; ++i) connect_as(0);
  CHECK(is_refused(0));
  CHECK(Becomes(server->stats().clients, EventServer::kMaxClients));
  events.Play({Open(1)});
  for (Client& client : clients) CHECK(CookieOf(client.ReadLine()) == 1);
}

TEST_CASE_METHOD(Fixture, "Connections with a local address are left out", "[event_server]") {
  Client client(path);
  uint64_t left_out = 0;
  for (const char* const address :
       {"::1", "fe80::1", "febf::1", "ff02::1", "::", "::ffff:127.0.0.1", "::ffff:127.255.0.1",
        "::ffff:169.254.0.1", "::ffff:224.0.0.1", "::ffff:239.1.2.3", "::ffff:0.0.0.0"}) {
    for (const ph_socket_event_kind kind : {PH_SOCKET_OPEN, PH_SOCKET_CLOSE}) {
      events.Play({Event(kind, 1, address), Event(kind, 1, "2001:db8::1", address)});
      left_out += 2;
    }
  }
  uint64_t cookie = 100;
  for (const char* const address :
       {"fec0::1", "fd00::1", "::2", "::ffff:128.0.0.1", "::ffff:169.253.0.1", "::ffff:10.0.0.1",
        "::ffff:240.0.0.1", "::ffff:223.255.255.255"}) {
    ++cookie;
    events.Play({Event(PH_SOCKET_OPEN, cookie, address),
                 Event(PH_SOCKET_CLOSE, cookie, "2001:db8::1", address)});
    CHECK(CookieOf(client.ReadLine()) == cookie);
    CHECK(CookieOf(client.ReadLine()) == cookie);
  }
  CHECK(server->stats().left_out == left_out);
}

TEST_CASE_METHOD(Fixture, "It tells how many events the source lost", "[event_server]") {
  events.Lose(7);
  const Client wakes_it(path);
  CHECK(Becomes(server->stats().lost, 7));
}

TEST_CASE_METHOD(Fixture, "Its end hangs up on the clients and removes the socket",
                 "[event_server]") {
  Client reads(path);
  Client does_not_read(path);
  std::vector<ph_socket_event> many(5000, Open(1));
  events.Play(many);
  for (size_t i = 0; i < many.size(); ++i) REQUIRE(CookieOf(reads.ReadLine()) == 1);
  server.reset();
  CHECK(reads.ReadLine() == std::nullopt);
  CHECK(directory.Files().empty());
}

}  // namespace
}  // namespace packet_headers
