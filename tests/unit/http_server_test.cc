#include "user/service/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/catch.h"
#include "user/base/clock.h"
#include "user/base/descriptors.h"

namespace packet_headers {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr char kGet[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

void SendAll(int fd, absl::string_view bytes) {
  // What is refused half way takes no more.
  [[maybe_unused]] const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

// All that comes until the other end hangs up; reads fail the test when they take too long.
std::string ReadAll(int fd) {
  const timeval patience = {30, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  std::string all;
  char bytes[64 * 1024];
  while (true) {
    const ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
    if (size < 0) REQUIRE(errno == ECONNRESET);
    if (size <= 0) return all;
    all.append(bytes, static_cast<size_t>(size));
  }
}

bool IsClosed(int fd) {
  char byte;
  const ssize_t size = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return size == 0 || (size < 0 && errno != EAGAIN);
}

// Connections without a network and without a clock.
struct Steps {
  int readings = 0;
  std::string body = "body\n";
  int questions = 0;
  bool is_ready = true;
  std::unique_ptr<HttpConnections> connections = Make(8);
  int64_t now_ns = 1000 * kSecond;

  std::unique_ptr<HttpConnections> Make(size_t places) {
    absl::StatusOr<std::unique_ptr<HttpConnections>> made = HttpConnections::Make(
        {{"/metrics",
          {[this](const HttpArguments&) {
             ++readings;
             return HttpAnswer{MHD_HTTP_OK, body};
           },
           /*is_for_all=*/true}},
         {"/broken",
          {[](const HttpArguments&) {
             return HttpAnswer{MHD_HTTP_SERVICE_UNAVAILABLE, "no\n"};
           },
           /*is_for_all=*/true}},
         {"/flows",
          {[this](const HttpArguments& arguments) { return Flows(arguments); },
           /*is_for_all=*/false,
           /*takes_arguments=*/true}}},
        places);
    REQUIRE(made.ok());
    return *std::move(made);
  }

  // Takes a while, and tells what it was asked.
  std::optional<HttpAnswer> Flows(const HttpArguments& arguments) {
    ++questions;
    if (!is_ready) return std::nullopt;
    HttpAnswer answer;
    for (const auto& [name, value] : arguments) {
      absl::StrAppend(&answer.body, name, "=", value, ";");
    }
    return answer;
  }

  // The client's end.
  UniqueFd Connect(bool is_of_host = true) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    connections->Adopt(UniqueFd(ends[1]), is_of_host, now_ns);
    fcntl(ends[0], F_SETFL, 0);
    return UniqueFd(ends[0]);
  }

  void Step() {
    do {
      connections->Step(now_ns);
    } while (connections->due_ns() <= now_ns);
  }

  std::string Exchange(absl::string_view request) {
    const UniqueFd client = Connect();
    SendAll(client.get(), request);
    Step();
    return ReadAll(client.get());
  }
};

TEST_CASE_METHOD(Steps, "A request is answered, and the connection is over", "[http]") {
  const std::string answer = Exchange(kGet);
  CHECK(absl::StartsWith(answer, "HTTP/1.1 200 OK\r\n"));
  CHECK(absl::StrContains(answer, "Connection: close\r\n"));
  CHECK(absl::StrContains(answer, "Content-Type: text/plain; charset=utf-8\r\n"));
  CHECK(absl::EndsWith(answer, "\r\n\r\nbody\n"));
  CHECK(connections->room() == 8);
}

TEST_CASE_METHOD(Steps, "HEAD is answered without a body", "[http]") {
  const std::string answer = Exchange("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(absl::StartsWith(answer, "HTTP/1.1 200 OK\r\n"));
  CHECK(absl::StrContains(answer, "Content-Length: 5\r\n"));
  CHECK(absl::EndsWith(answer, "\r\n\r\n"));
}

TEST_CASE_METHOD(Steps, "What is not served is refused", "[http]") {
  const auto status = [this](const std::string& line) {
    const std::string answer = Exchange(absl::StrCat(line, "\r\nHost: x\r\n\r\n"));
    return answer.substr(0, answer.find("\r\n"));
  };
  CHECK(status("GET / HTTP/1.1") == "HTTP/1.1 404 Not Found");
  CHECK(status("POST / HTTP/1.1") == "HTTP/1.1 404 Not Found");
  CHECK(status("GET /metrics/ HTTP/1.1") == "HTTP/1.1 404 Not Found");
  CHECK(status("POST /metrics HTTP/1.1") == "HTTP/1.1 405 Method Not Allowed");
  CHECK(status("GET /broken HTTP/1.1") == "HTTP/1.1 503 Service Unavailable");
  CHECK(status("GET /metrics?x=y HTTP/1.0") == "HTTP/1.1 200 OK");
  CHECK(absl::StrContains(Exchange("PUT /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"),
                          "Allow: GET, HEAD\r\n"));
  CHECK(readings == 1);
}

TEST_CASE_METHOD(Steps, "A request may come in pieces, and others behind it", "[http]") {
  const UniqueFd client = Connect();
  for (const char* byte = kGet; *byte != '\0'; ++byte) {
    SendAll(client.get(), {byte, 1});
    Step();
  }
  CHECK(absl::EndsWith(ReadAll(client.get()), "body\n"));

  const std::string answer = Exchange(absl::StrCat(kGet, kGet, kGet));
  CHECK(absl::EndsWith(answer, "body\n"));
  CHECK(answer.find("HTTP/1.1") == answer.rfind("HTTP/1.1"));
}

TEST_CASE_METHOD(Steps, "A client that has shut down its side gets its answer", "[http]") {
  const UniqueFd client = Connect();
  SendAll(client.get(), kGet);
  shutdown(client.get(), SHUT_WR);
  Step();
  CHECK(absl::EndsWith(ReadAll(client.get()), "body\n"));
}

TEST_CASE_METHOD(Steps, "What is no HTTP, or too long, ends its connection", "[http]") {
  const std::string huge(3 * HttpConnections::kMostHeaderBytes, 'x');
  for (const std::string& words :
       {std::string("\x16\x03\x01\x02\n\n"), std::string("GET\r\n\r\n"),
        absl::StrCat("GET /", huge, " HTTP/1.1\r\n\r\n"),
        absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nX: ", huge, "\r\n\r\n"),
        absl::StrCat("GET / HTTP/1.1\r\n", huge), huge}) {
    INFO(words.substr(0, 40));
    const UniqueFd client = Connect();
    SendAll(client.get(), words);
    shutdown(client.get(), SHUT_WR);
    Step();
    REQUIRE(connections->room() == 8);
    CHECK_FALSE(absl::StrContains(ReadAll(client.get()), "200 OK"));
  }
}

TEST_CASE_METHOD(Steps, "Blank lines are no request", "[http]") {
  for (const std::string& words : {std::string("\r\n\r\n\r\n\r\n \r\n\r\n"),
                                   std::string("\0\0\0\0\r\n\r\n", 8), std::string()}) {
    const UniqueFd client = Connect();
    SendAll(client.get(), words);
    shutdown(client.get(), SHUT_WR);
    Step();
    now_ns += HttpConnections::kDeadlineNs;
    Step();
    CHECK(connections->room() == 8);
    CHECK(ReadAll(client.get()).empty());
  }
}

TEST_CASE_METHOD(Steps, "A client that drips is closed at its deadline", "[http]") {
  const UniqueFd drips = Connect();
  SendAll(drips.get(), "GET /metrics HTTP/1.1\r\n");
  Step();
  CHECK(connections->due_ns() == now_ns + HttpConnections::kDeadlineNs);
  const int64_t begin_ns = now_ns;
  for (; now_ns < begin_ns + HttpConnections::kDeadlineNs; now_ns += kSecond / 10) {
    SendAll(drips.get(), "X: y\r\n");
    Step();
    REQUIRE_FALSE(IsClosed(drips.get()));
  }
  Step();
  CHECK(IsClosed(drips.get()));
  CHECK(connections->room() == 8);
}

TEST_CASE_METHOD(Steps, "A client that does not read is closed at its deadline", "[http]") {
  body.assign(4 << 20, 'x');
  const UniqueFd deaf = Connect();
  SendAll(deaf.get(), kGet);
  Step();
  CHECK(connections->room() == 7);
  now_ns += HttpConnections::kDeadlineNs;
  Step();
  CHECK(connections->room() == 8);
}

TEST_CASE_METHOD(Steps, "The oldest without a request give way to others", "[http]") {
  body.assign(4 << 20, 'x');
  const UniqueFd busy = Connect();
  SendAll(busy.get(), kGet);
  Step();
  std::deque<UniqueFd> silent;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(connections->room() > 0);
    silent.push_back(Connect());
    Step();
    REQUIRE(connections->room() >= 2);
  }
  CHECK(std::all_of(silent.begin(), silent.end() - 5,
                    [](const UniqueFd& each) { return IsClosed(each.get()); }));
  CHECK(std::none_of(silent.end() - 5, silent.end(),
                     [](const UniqueFd& each) { return IsClosed(each.get()); }));

  const UniqueFd good = Connect();
  SendAll(good.get(), "GET /broken HTTP/1.1\r\nHost: x\r\n\r\n");
  Step();
  CHECK(absl::EndsWith(ReadAll(good.get()), "no\n"));
  // Whose request was in before is still served.
  std::thread steps([this] {
    while (connections->room() < 3) Step();
  });
  CHECK(absl::EndsWith(ReadAll(busy.get()), "xxx"));
  steps.join();
}

TEST_CASE_METHOD(Steps, "When all are being answered the oldest gives way", "[http]") {
  body.assign(4 << 20, 'x');
  std::deque<UniqueFd> deaf;
  for (int i = 0; i < 20; ++i) {
    deaf.push_back(Connect());
    SendAll(deaf.back().get(), kGet);
    Step();
    REQUIRE(connections->room() >= 2);
  }
}

TEST_CASE_METHOD(Steps, "Requests that come together share one reading", "[http]") {
  std::deque<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(Connect());
    // What nobody asked to be told makes no difference.
    SendAll(clients.back().get(),
            absl::StrCat("GET /metrics?x=", i, " HTTP/1.1\r\nHost: x\r\n\r\n"));
  }
  connections->Step(now_ns);
  CHECK(readings == 1);
  body = "newer\n";
  CHECK(absl::EndsWith(Exchange(kGet), "newer\n"));
  for (const UniqueFd& client : clients) CHECK(absl::EndsWith(ReadAll(client.get()), "body\n"));
}

constexpr char kGetFlows[] = "GET /flows?limit=3&sort=a%20b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

TEST_CASE_METHOD(Steps, "Arguments are told, by name", "[http]") {
  CHECK(absl::EndsWith(Exchange(kGetFlows), "\r\n\r\nlimit=3;sort=a b;"));
  CHECK(absl::EndsWith(Exchange("GET /flows?a&a=1&b= HTTP/1.1\r\n\r\n"), "a=1;b=;"));
}

TEST_CASE_METHOD(Steps, "Nobody gets the answer to other arguments", "[http]") {
  const UniqueFd one = Connect();
  const UniqueFd other = Connect();
  SendAll(one.get(), "GET /flows?limit=5%0asort%0aage HTTP/1.1\r\n\r\n");
  SendAll(other.get(), "GET /flows?limit=5&sort=age HTTP/1.1\r\n\r\n");
  Step();
  CHECK(absl::EndsWith(ReadAll(one.get()), "\r\n\r\nlimit=5\nsort\nage;"));
  CHECK(absl::EndsWith(ReadAll(other.get()), "\r\n\r\nlimit=5;sort=age;"));
}

TEST_CASE_METHOD(Steps, "An answer may be awaited, and others don't wait behind", "[http]") {
  is_ready = false;
  const UniqueFd one = Connect();
  const UniqueFd other = Connect();
  SendAll(one.get(), kGetFlows);
  SendAll(other.get(), kGetFlows);
  Step();
  CHECK(connections->due_ns() <= now_ns + HttpConnections::kAskAgainNs);
  CHECK(absl::EndsWith(Exchange(kGet), "body\n"));
  const int before = questions;
  now_ns += HttpConnections::kAskAgainNs;
  Step();
  CHECK(questions > before);
  CHECK(connections->room() == 6);
  is_ready = true;
  now_ns += HttpConnections::kAskAgainNs;
  Step();
  CHECK(absl::EndsWith(ReadAll(one.get()), "limit=3;sort=a b;"));
  CHECK(absl::EndsWith(ReadAll(other.get()), "limit=3;sort=a b;"));
  CHECK(connections->room() == 8);
}

TEST_CASE_METHOD(Steps, "Who awaits an answer for too long is closed", "[http]") {
  is_ready = false;
  const UniqueFd client = Connect();
  SendAll(client.get(), kGetFlows);
  Step();
  CHECK(connections->room() == 7);
  now_ns += HttpConnections::kDeadlineNs;
  Step();
  CHECK(connections->room() == 8);
  CHECK(ReadAll(client.get()).empty());
}

TEST_CASE_METHOD(Steps, "The end does not wait for answers", "[http]") {
  is_ready = false;
  const UniqueFd client = Connect();
  SendAll(client.get(), kGetFlows);
  Step();
  connections = nullptr;
  CHECK(ReadAll(client.get()).empty());
}

TEST_CASE_METHOD(Steps, "Other hosts, and pages of other names, are not told of flows", "[http]") {
  const auto status = [this](bool is_of_host, absl::string_view path, absl::string_view host) {
    const UniqueFd client = Connect(is_of_host);
    SendAll(client.get(), absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ", host, "\r\n\r\n"));
    Step();
    return ReadAll(client.get()).substr(9, 3);
  };
  for (const absl::string_view host :
       {"localhost", "LocalHost:80", "127.0.0.1", "10.0.0.1:9990", "[::1]", "[::1]:9990"}) {
    CHECK(status(true, "/flows", host) == "200");
    CHECK(status(false, "/flows", host) == "403");
    CHECK(status(false, "/metrics", host) == "200");
  }
  for (const absl::string_view host : {"", "example.com", "localhost.example.com", "1.2.3",
                                       "127.0.0.1.example.com:80", "[::1", "::1", "[localhost]"}) {
    INFO(host);
    CHECK(status(true, "/flows", host) == "403");
    CHECK(status(true, "/metrics", host) == "200");
  }
  CHECK(questions == 6);
}

TEST_CASE_METHOD(Steps, "Browsers are told to take an answer for nothing else", "[http]") {
  const std::string answer = Exchange(kGet);
  for (const absl::string_view header :
       {"X-Content-Type-Options: nosniff\r\n", "Cache-Control: no-store\r\n",
        "Content-Security-Policy: default-src 'none'; ", "frame-ancestors 'none'"}) {
    CHECK(absl::StrContains(answer, header));
  }
  CHECK_FALSE(absl::StrContains(answer, "Access-Control"));
}

// The whole server, on loopback.
struct Served {
  Heartbeat heartbeat{"http"};
  std::unique_ptr<HttpServer> server = Start("127.0.0.1:0");

  std::unique_ptr<HttpServer> Start(const std::string& address) {
    absl::StatusOr<std::unique_ptr<TcpListener>> listener =
        TcpListener::Listen(address, "metrics", "address");
    INFO(listener.status());
    REQUIRE(listener.ok());
    absl::StatusOr<std::unique_ptr<HttpServer>> started =
        HttpServer::Start(*std::move(listener),
                          {{"/metrics",
                            {[](const HttpArguments&) {
                               return HttpAnswer{MHD_HTTP_OK, "body\n"};
                             },
                             /*is_for_all=*/true}}},
                          heartbeat);
    REQUIRE(started.ok());
    return *std::move(started);
  }

  UniqueFd Connect(int family = AF_INET) const {
    UniqueFd client(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in ipv4 = {};
    ipv4.sin_family = AF_INET;
    ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ipv4.sin_port = htons(static_cast<uint16_t>(server->port()));
    sockaddr_in6 ipv6 = {};
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_addr = in6addr_loopback;
    ipv6.sin6_port = ipv4.sin_port;
    const bool is_ipv4 = family == AF_INET;
    REQUIRE(connect(client.get(),
                    is_ipv4 ? reinterpret_cast<const sockaddr*>(&ipv4)
                            : reinterpret_cast<const sockaddr*>(&ipv6),
                    is_ipv4 ? sizeof(ipv4) : sizeof(ipv6)) == 0);
    return client;
  }

  bool Works(int family = AF_INET) const {
    const UniqueFd client = Connect(family);
    SendAll(client.get(), kGet);
    return absl::EndsWith(ReadAll(client.get()), "\r\n\r\nbody\n");
  }
};

TEST_CASE_METHOD(Served, "A thousand silent clients do not keep out another", "[http]") {
  std::deque<UniqueFd> silent;
  for (int i = 0; i < 1000; ++i) {
    silent.push_back(Connect());
    SendAll(silent.back().get(), "GET ");
  }
  CHECK(Works());
}

TEST_CASE_METHOD(Served, "It ends at once, and its port is free", "[http]") {
  const UniqueFd waits = Connect();
  SendAll(waits.get(), "GET ");
  CHECK(Works());
  const std::string address = absl::StrCat("127.0.0.1:", server->port());
  const int64_t begin_ns = MonotonicNow();
  server.reset();
  CHECK(MonotonicNow() - begin_ns < kSecond);
  server = Start(address);
  CHECK(Works());
}

TEST_CASE_METHOD(Served, "It beats while nothing comes", "[http]") {
  const int64_t begin_ns = MonotonicNow();
  // A beat that is newer than this moment.
  while (heartbeat.Age(MonotonicNow()) >= MonotonicNow() - begin_ns) std::this_thread::yield();
  SUCCEED();
}

TEST_CASE_METHOD(Served, "Few descriptors are enough", "[http]") {
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit few = {64, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  CHECK(DescriptorsForClients(HttpServer::kMostPlaces) == 8);
  server = Start("127.0.0.1:0");
  std::deque<UniqueFd> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(Connect());
    SendAll(silent.back().get(), "GET ");
  }
  CHECK(Works());
  setrlimit(RLIMIT_NOFILE, &before);
  CHECK(DescriptorsForClients(HttpServer::kMostPlaces) == HttpServer::kMostPlaces);
}

TEST_CASE_METHOD(Served, "Without a host it listens on IPv6 and IPv4", "[http]") {
  server = Start(":0");
  CHECK(Works());
  CHECK(Works(AF_INET6));
  server = Start("[::1]:0");
  CHECK(Works(AF_INET6));
  server = Start("localhost:0");
}

TEST_CASE("An address that can't be had is refused, and why is said", "[http]") {
  const auto error = [](const std::string& address) {
    return std::string(TcpListener::Listen(address, "metrics", "flag").status().message());
  };
  CHECK(error("9990") ==
        "serve metrics on 9990: no port in it (did you mean :9990?) (-flag sets where)");
  CHECK(absl::StrContains(error(":x"), "its port is no number from 0 to 65535"));
  CHECK(absl::StrContains(error(":65536"), "its port is no number from 0 to 65535"));
  CHECK(absl::StrContains(error("192.0.2.1:0"), "Cannot assign requested address"));
  absl::StatusOr<std::unique_ptr<TcpListener>> taken =
      TcpListener::Listen("127.0.0.1:0", "metrics", "flag");
  REQUIRE(taken.ok());
  const std::string port = absl::StrCat((*taken)->port());
  CHECK(error("127.0.0.1:" + port) == absl::StrCat("serve metrics on 127.0.0.1:", port,
                                                   ": Address already in use (-flag sets where)"));
  CHECK(absl::StrContains(error(":" + port), "Address already in use"));
}

}  // namespace
}  // namespace packet_headers
