#include "user/service/http_connections.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "user/base/out_of_memory.h"

namespace packet_headers {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

HttpConnections::HttpConnections(HttpRoutes routes, size_t places)
    : routes_(std::move(routes)),
      places_(places),
      not_found_(MakeAnswer({MHD_HTTP_NOT_FOUND, "not found\n"})),
      not_allowed_(MakeAnswer({MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n"})),
      due_ns_(kNever) {
  MHD_add_response_header(not_allowed_.response.get(), MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
}

absl::StatusOr<std::unique_ptr<HttpConnections>> HttpConnections::Make(HttpRoutes routes,
                                                                       size_t places) {
  std::unique_ptr<HttpConnections> made(new HttpConnections(std::move(routes), places));
  made->daemon_ = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, /*port=*/0, nullptr,
                                   nullptr, OnRequest, made.get(), MHD_OPTION_NOTIFY_CONNECTION,
                                   OnConnection, made.get(),                                    //
                                   MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(places),  //
                                   MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMostHeaderBytes,        //
                                   MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
  if (made->daemon_ == nullptr) return absl::ErrnoToStatus(errno, "start libmicrohttpd");
  return made;
}

HttpConnections::~HttpConnections() {
  if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
}

int HttpConnections::fd() const {
  return MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

void HttpConnections::Adopt(UniqueFd socket, int64_t now_ns) {
  connections_.push_back({socket.get(), now_ns + kDeadlineNs});
  due_ns_ = now_ns;
  // Who it is makes no difference, but has to be said.
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
  static_cast<Connection*>(info->socket_context)->is_asked = true;
  // At the first call of a request, so no body is read.
  const Answer& answer = static_cast<HttpConnections*>(self)->AnswerTo(path, method);
  return MHD_queue_response(connection, answer.status, answer.response.get());
}

const HttpConnections::Answer& HttpConnections::AnswerTo(const std::string& path,
                                                         absl::string_view method) {
  const auto route = routes_.find(path);
  if (route == routes_.end()) return not_found_;
  if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) return not_allowed_;
  auto answer = answers_.find(path);
  if (answer == answers_.end()) answer = answers_.emplace(path, MakeAnswer(route->second())).first;
  return answer->second;
}

HttpConnections::Answer HttpConnections::MakeAnswer(HttpAnswer answer) {
  MHD_Response* const response = InsistOnMemory([&answer] {
    return MHD_create_response_from_buffer(answer.body.size(), answer.body.data(),
                                           MHD_RESPMEM_MUST_COPY);
  });
  // Without memory for these the answer is still one; the deadline ends the connection.
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  return {answer.status, std::unique_ptr<MHD_Response, Destroy>(response)};
}

void HttpConnections::Step(int64_t now_ns) {
  answers_.clear();
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
  connection.is_shut = true;
}

}  // namespace packet_headers
