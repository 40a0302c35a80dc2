#include "user/service/http_client.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "user/base/clock.h"
#include "user/base/unique_fd.h"
#include "user/config/host_and_port.h"

namespace packet_headers {
namespace {

constexpr size_t kMostBytes = size_t{16} << 20;
constexpr size_t kMostShownBytes = 200;  // of a refusal
constexpr int64_t kPatienceNs = 10'000'000'000;
constexpr timeval kTurn = {5, 0};  // of one call

absl::StatusOr<UniqueFd> Connect(const HostAndPort& to) {
  // A server on all addresses is asked on loopback.
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure = getaddrinfo(IsAnyAddress(to.host) ? nullptr : to.host.c_str(),
                                  to.port.c_str(), &hints, &found);
  if (failure != 0) return absl::InvalidArgumentError(gai_strerror(failure));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  int why = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    UniqueFd connection(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!connection.valid()) {
      why = errno;
      continue;
    }
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
      setsockopt(connection.get(), SOL_SOCKET, option, &kTurn, sizeof(kTurn));
    }
    if (connect(connection.get(), at->ai_addr, at->ai_addrlen) == 0) return connection;
    why = errno;
  }
  return absl::ErrnoToStatus(why, "");
}

absl::StatusOr<std::string> Exchange(const UniqueFd& connection, const std::string& request) {
  const int64_t until_ns = MonotonicNow() + kPatienceNs;
  if (send(connection.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return absl::ErrnoToStatus(errno, "");
  }
  std::string answer;
  char bytes[1 << 16];
  while (true) {
    const ssize_t size = recv(connection.get(), bytes, sizeof(bytes), 0);
    if (size == 0) return answer;
    if (size < 0 && errno == EAGAIN) return absl::DeadlineExceededError("it does not answer");
    if (size < 0) return absl::ErrnoToStatus(errno, "");
    answer.append(bytes, static_cast<size_t>(size));
    if (answer.size() > kMostBytes || MonotonicNow() > until_ns) {
      return absl::ResourceExhaustedError("its answer does not end");
    }
  }
}

// Without what a terminal would obey: whoever answers may not be who was asked for.
std::string FirstLine(absl::string_view text) {
  std::string line(text.substr(0, std::min(text.find_first_of("\r\n"), kMostShownBytes)));
  absl::c_replace_if(
      line, [](char c) { return !absl::ascii_isprint(c); }, '?');
  return line;
}

// Of an answer to HTTP/1.0, which ends with its connection.
absl::StatusOr<std::string> BodyOf(absl::string_view answer) {
  const size_t end = answer.find("\r\n\r\n");
  if (!absl::StartsWith(answer, "HTTP/1.") || end == absl::string_view::npos) {
    return absl::InvalidArgumentError("its answer is no HTTP");
  }
  const absl::string_view status = answer.substr(sizeof("HTTP/1.1 ") - 1);
  const absl::string_view body = answer.substr(end + 4);
  if (absl::StartsWith(status, "200 ")) return std::string(body);
  std::string what = absl::StrCat("it answers ", FirstLine(status));
  // A page is for browsers.
  if (!body.empty() && body.front() != '<') absl::StrAppend(&what, ": ", FirstLine(body));
  return absl::StartsWith(status, "403 ") ? absl::FailedPreconditionError(what)
                                          : absl::InvalidArgumentError(what);
}

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path) {
  const absl::StatusOr<HostAndPort> server = SplitHostAndPort(address);
  if (!server.ok()) return server.status();
  const absl::StatusOr<UniqueFd> connection = Connect(*server);
  if (!connection.ok()) return connection.status();
  const absl::StatusOr<std::string> answer =
      Exchange(*connection, absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n"));
  if (!answer.ok()) return answer.status();
  return BodyOf(*answer);
}

}  // namespace packet_headers
