// HTTP with clients who may be hostile. GNU libmicrohttpd speaks it; what a client may take of
// places, memory and time is decided here.

#ifndef PACKET_HEADERS_USER_SERVICE_HTTP_CONNECTIONS_H_
#define PACKET_HEADERS_USER_SERVICE_HTTP_CONNECTIONS_H_

#include <microhttpd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

struct HttpAnswer {
  unsigned status = MHD_HTTP_OK;
  std::string body;
  const char* content_type = "text/plain; charset=utf-8";
};

// What follows the "?", by name.
using HttpArguments = absl::btree_map<std::string, std::string>;

struct HttpRoute {
  // Nothing: there is no answer yet. It is asked again soon, until the connection's deadline.
  std::function<std::optional<HttpAnswer>(const HttpArguments&)> answer;
  // Else only clients on this host are, who ask for it by an address or as "localhost": a page of
  // others that has its own name lead here (DNS rebinding) gets nothing.
  bool is_for_all = false;
  // Else it is asked without, and one answer serves all.
  bool takes_arguments = false;
};

// What answers GET and HEAD, by path.
using HttpRoutes = absl::flat_hash_map<std::string, HttpRoute>;

// One thread. Nothing waits: what is ready is done in Step(). A connection serves one request.
class HttpConnections {
 public:
  // After this long a connection is closed, whatever it is at.
  static constexpr int64_t kDeadlineNs = 5'000'000'000;
  // Of request line and headers.
  static constexpr size_t kMostHeaderBytes = 8 * 1024;
  // Between two questions for an answer that was not there yet.
  static constexpr int64_t kAskAgainNs = 5'000'000;

  // `places` is how many connections there can be, at least 2. When few are left, the oldest ones
  // whose request is not in yet give way.
  static absl::StatusOr<std::unique_ptr<HttpConnections>> Make(HttpRoutes routes, size_t places);
  HttpConnections(const HttpConnections&) = delete;
  HttpConnections& operator=(const HttpConnections&) = delete;
  // Hangs up on all.
  ~HttpConnections();

  // How many more it takes before the next Step().
  size_t room() const { return places_ - connections_.size(); }

  // Takes a connected stream socket that doesn't block; there is room. `is_of_host`: the client is
  // on this host.
  void Adopt(UniqueFd socket, bool is_of_host, int64_t now_ns);

  // Hears and answers. Requests of one step that are alike share one answer, made after Step() was
  // called.
  void Step(int64_t now_ns);

  // The next Step() is due when this is readable, or at due_ns().
  int fd() const;
  int64_t due_ns() const { return due_ns_; }

  // Closes the oldest connection whose request is not in yet, else the oldest.
  void CloseOldest();

 private:
  struct Connection {
    int socket;  // libmicrohttpd's
    bool is_of_host;
    int64_t deadline_ns;
    MHD_Connection* waiting = nullptr;  // suspended until there is an answer
    bool is_known = false;              // to libmicrohttpd
    bool is_asked = false;              // its request is in
    bool is_shut = false;
  };
  struct Destroy {
    void operator()(MHD_Response* response) const { MHD_destroy_response(response); }
  };
  struct Answer {
    unsigned status;
    std::unique_ptr<MHD_Response, Destroy> response;
  };

  HttpConnections(HttpRoutes routes, size_t places);

  static void OnConnection(void* self, MHD_Connection* connection, void** context,
                           MHD_ConnectionNotificationCode what);
  static MHD_Result OnRequest(void* self, MHD_Connection* connection, const char* path,
                              const char* method, const char* version, const char* upload,
                              size_t* upload_bytes, void** context);
  // Null: not yet.
  const Answer* AnswerTo(MHD_Connection* connection, bool is_of_host, const std::string& path,
                         absl::string_view method);
  // Has libmicrohttpd ask again for those that wait.
  void Resume();
  static Answer MakeAnswer(HttpAnswer answer);
  static void Shut(Connection& connection);
  size_t open() const;

  const HttpRoutes routes_;
  const size_t places_;
  const Answer not_found_;
  const Answer not_allowed_;
  const Answer not_for_others_;
  const Answer not_for_names_;
  MHD_Daemon* daemon_ = nullptr;
  std::list<Connection> connections_;  // oldest first
  // Of this step, by path and arguments.
  absl::btree_map<std::pair<std::string, HttpArguments>, Answer> answers_;
  int64_t due_ns_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HTTP_CONNECTIONS_H_
