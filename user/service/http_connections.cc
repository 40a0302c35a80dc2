#include "user/service/http_connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "user/base/out_of_memory.h"

namespace packet_headers {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// For browsers: the page takes nothing from elsewhere, and elsewhere nothing is made of answers.
constexpr const char* kHeaders[][2] = {
    {MHD_HTTP_HEADER_CONNECTION, "close"},
    {MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"},
    {"X-Content-Type-Options", "nosniff"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
};

// Whether a Host header names this host in a way that nobody else can give a meaning to.
bool IsAddressOrLocalhost(absl::string_view host) {
  const size_t end_of_ipv6 = host.find(']');
  const bool is_ipv6 = absl::StartsWith(host, "[") && end_of_ipv6 != absl::string_view::npos;
  const std::string name(is_ipv6 ? host.substr(1, end_of_ipv6 - 1)
                                 : host.substr(0, host.find(':')));
  in6_addr address;
  return is_ipv6 ? inet_pton(AF_INET6, name.c_str(), &address) == 1
                 : absl::EqualsIgnoreCase(name, "localhost") ||
                       inet_pton(AF_INET, name.c_str(), &address) == 1;
}

HttpArguments ArgumentsOf(MHD_Connection* connection) {
  HttpArguments arguments;
  MHD_get_connection_values(
      connection, MHD_GET_ARGUMENT_KIND,
      [](void* to, MHD_ValueKind, const char* name, const char* value) {
        (*static_cast<HttpArguments*>(to))[name] = value == nullptr ? "" : value;
        return MHD_YES;
      },
      &arguments);
  return arguments;
}

}  // namespace

HttpConnections::HttpConnections(HttpRoutes routes, size_t places)
    : routes_(std::move(routes)),
      places_(places),
      not_found_(MakeAnswer({MHD_HTTP_NOT_FOUND, "not found\n"})),
      not_allowed_(MakeAnswer({MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n"})),
      not_for_others_(MakeAnswer(
          {MHD_HTTP_FORBIDDEN,
           "this is shown to clients on the same host alone (from localhost, or from the "
           "address that they ask); -http.expose=all shows it to all\n"})),
      not_for_names_(
          MakeAnswer({MHD_HTTP_FORBIDDEN,
                      "the Host header is a name: ask for localhost or an address, so that no page "
                      "of others can\n"})),
      due_ns_(kNever) {
  MHD_add_response_header(not_allowed_.response.get(), MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
}

absl::StatusOr<std::unique_ptr<HttpConnections>> HttpConnections::Make(HttpRoutes routes,
                                                                       size_t places) {
  std::unique_ptr<HttpConnections> made(new HttpConnections(std::move(routes), places));
  made->daemon_ =
      MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME,
                       /*port=*/0, nullptr, nullptr, OnRequest, made.get(),
                       MHD_OPTION_NOTIFY_CONNECTION, OnConnection, made.get(),      //
                       MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(places),  //
                       MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMostHeaderBytes,        //
                       MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
  if (made->daemon_ == nullptr) return absl::ErrnoToStatus(errno, "start libmicrohttpd");
  return made;
}

HttpConnections::~HttpConnections() {
  if (daemon_ == nullptr) return;
  Resume();  // which libmicrohttpd insists on
  MHD_stop_daemon(daemon_);
}

int HttpConnections::fd() const {
  return MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

void HttpConnections::Adopt(UniqueFd socket, bool is_of_host, int64_t now_ns) {
  connections_.push_back({socket.get(), is_of_host, now_ns + kDeadlineNs});
  due_ns_ = now_ns;
  // Who it is has to be said, but makes no difference there.
  const sockaddr_in nobody = {.sin_family = AF_INET};
  const bool is_taken =
      MHD_add_connection(daemon_, socket.Release(), reinterpret_cast<const sockaddr*>(&nobody),
                         sizeof(nobody)) == MHD_YES;
  if (!is_taken) connections_.remove_if([](const Connection& each) { return !each.is_known; });
}

void HttpConnections::OnConnection(void* self, MHD_Connection*, void** context,
                                   MHD_ConnectionNotificationCode what) {
  std::list<Connection>& connections = static_cast<HttpConnections*>(self)->connections_;
  if (what == MHD_CONNECTION_NOTIFY_STARTED) {
    connections.back().is_known = true;
    *context = &connections.back();
  } else {
    connections.remove_if([context](const Connection& each) { return &each == *context; });
  }
}

MHD_Result HttpConnections::OnRequest(void* self, MHD_Connection* connection, const char* path,
                                      const char* method, const char*, const char*, size_t*,
                                      void**) {
  const MHD_ConnectionInfo* info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  Connection& asking = *static_cast<Connection*>(info->socket_context);
  if (asking.is_shut) return MHD_NO;
  asking.is_asked = true;
  // At the first call of a request, so no body is read.
  const Answer* answer =
      static_cast<HttpConnections*>(self)->AnswerTo(connection, asking.is_of_host, path, method);
  if (answer == nullptr) {
    asking.waiting = connection;
    MHD_suspend_connection(connection);
    return MHD_YES;
  }
  return MHD_queue_response(connection, answer->status, answer->response.get());
}

const HttpConnections::Answer* HttpConnections::AnswerTo(MHD_Connection* connection,
                                                         bool is_of_host, const std::string& path,
                                                         absl::string_view method) {
  const auto found = routes_.find(path);
  if (found == routes_.end()) return &not_found_;
  const HttpRoute& route = found->second;
  if (!route.is_for_all && !is_of_host) return &not_for_others_;
  // Of old programs there is none, but of each browser.
  const char* const host =
      MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
  if (!route.is_for_all && host != nullptr && !IsAddressOrLocalhost(host)) return &not_for_names_;
  if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) return &not_allowed_;
  std::pair asked(path, route.takes_arguments ? ArgumentsOf(connection) : HttpArguments());
  const auto known = answers_.find(asked);
  if (known != answers_.end()) return &known->second;
  std::optional<HttpAnswer> answer = route.answer(asked.second);
  if (!answer) return nullptr;
  return &answers_.emplace(std::move(asked), MakeAnswer(*std::move(answer))).first->second;
}

void HttpConnections::Resume() {
  for (Connection& connection : connections_) {
    if (connection.waiting == nullptr) continue;
    MHD_resume_connection(std::exchange(connection.waiting, nullptr));
  }
}

HttpConnections::Answer HttpConnections::MakeAnswer(HttpAnswer answer) {
  MHD_Response* const response = InsistOnMemory([&answer] {
    return MHD_create_response_from_buffer(answer.body.size(), answer.body.data(),
                                           MHD_RESPMEM_MUST_COPY);
  });
  // Without memory for these the answer is still one; the deadline ends the connection.
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type);
  for (const auto& [name, value] : kHeaders) MHD_add_response_header(response, name, value);
  return {answer.status, std::unique_ptr<MHD_Response, Destroy>(response)};
}

void HttpConnections::Step(int64_t now_ns) {
  answers_.clear();
  Resume();
  MHD_run(daemon_);
  // Behind it, so that nobody gives way whose request has come.
  const size_t kept_free = std::max<size_t>(places_ / 4, 1);
  bool is_any_shut = false;
  for (Connection& connection : connections_) {
    if (now_ns < connection.deadline_ns) break;
    Shut(connection);
    is_any_shut = true;
  }
  for (size_t open = this->open(); open > places_ - kept_free; --open) {
    CloseOldest();
    is_any_shut = true;
  }
  if (is_any_shut) MHD_run(daemon_);
  MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
  if (MHD_get_timeout(daemon_, &timeout_ms) == MHD_YES) {
    due_ns_ = now_ns + static_cast<int64_t>(timeout_ms) * 1'000'000;
  } else {
    due_ns_ = connections_.empty() ? kNever : connections_.front().deadline_ns;
  }
  if (absl::c_any_of(connections_,
                     [](const Connection& each) { return each.waiting != nullptr; })) {
    due_ns_ = std::min(due_ns_, now_ns + kAskAgainNs);
  }
}

size_t HttpConnections::open() const {
  return static_cast<size_t>(
      std::count_if(connections_.begin(), connections_.end(),
                    [](const Connection& connection) { return !connection.is_shut; }));
}

void HttpConnections::CloseOldest() {
  const auto find = [this](bool also_asked) {
    return std::find_if(connections_.begin(), connections_.end(), [=](const Connection& each) {
      return !each.is_shut && (also_asked || !each.is_asked);
    });
  };
  auto oldest = find(/*also_asked=*/false);
  if (oldest == connections_.end()) oldest = find(/*also_asked=*/true);
  if (oldest != connections_.end()) Shut(*oldest);
}

// libmicrohttpd hears of it as of an end that the client made, and closes it in its next run.
void HttpConnections::Shut(Connection& connection) {
  // What the client has not read does not stay behind.
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(connection.socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  shutdown(connection.socket, SHUT_RDWR);
  if (connection.waiting != nullptr) {
    MHD_resume_connection(std::exchange(connection.waiting, nullptr));
  }
  connection.is_shut = true;
}

}  // namespace packet_headers
