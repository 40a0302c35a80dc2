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
#include <string>

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

// What answers GET and HEAD, by path.
using HttpRoutes = absl::flat_hash_map<std::string, std::function<HttpAnswer()>>;

// One thread. Nothing waits: what is ready is done in Step(). A connection serves one request.
class HttpConnections {
 public:
  // After this long a connection is closed, whatever it is at.
  static constexpr int64_t kDeadlineNs = 5'000'000'000;
  // Of request line and headers.
  static constexpr size_t kMostHeaderBytes = 8 * 1024;

  // `places` is how many connections there can be, at least 2. When few are left, the oldest ones
  // whose request is not in yet give way.
  static absl::StatusOr<std::unique_ptr<HttpConnections>> Make(HttpRoutes routes, size_t places);
  HttpConnections(const HttpConnections&) = delete;
  HttpConnections& operator=(const HttpConnections&) = delete;
  // Hangs up on all.
  ~HttpConnections();

  // How many more it takes before the next Step().
  size_t room() const { return places_ - connections_.size(); }

  // Takes a connected stream socket that doesn't block; there is room.
  void Adopt(UniqueFd socket, int64_t now_ns);

  // Hears and answers. Requests of one step share one answer of each route, made after Step() was
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
    int64_t deadline_ns;
    bool is_known = false;  // to libmicrohttpd
    bool is_asked = false;  // its request is in
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
  const Answer& AnswerTo(const std::string& path, absl::string_view method);
  static Answer MakeAnswer(HttpAnswer answer);
  static void Shut(Connection& connection);
  size_t open() const;

  const HttpRoutes routes_;
  const size_t places_;
  const Answer not_found_;
  const Answer not_allowed_;
  MHD_Daemon* daemon_ = nullptr;
  std::list<Connection> connections_;                 // oldest first
  absl::flat_hash_map<std::string, Answer> answers_;  // of this step
  int64_t due_ns_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HTTP_CONNECTIONS_H_
