// Serves HTTP from one thread.

#ifndef PACKET_HEADERS_USER_SERVICE_HTTP_SERVER_H_
#define PACKET_HEADERS_USER_SERVICE_HTTP_SERVER_H_

#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "user/base/heartbeat.h"
#include "user/base/unique_fd.h"
#include "user/service/http_connections.h"
#include "user/service/tcp_listener.h"

namespace packet_headers {

// The routes are called by its thread.
class HttpServer {
 public:
  // Connections at one time, where there are descriptors enough.
  static constexpr size_t kMostPlaces = 128;

  // `heartbeat`, the thread's, outlives the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(std::unique_ptr<TcpListener> listener,
                                                           HttpRoutes routes, Heartbeat& heartbeat);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  // At once, whatever clients wait for.
  ~HttpServer();

  int port() const { return listener_->port(); }

 private:
  HttpServer(std::unique_ptr<TcpListener> listener, std::unique_ptr<HttpConnections> connections,
             UniqueFd stop, Heartbeat& heartbeat);

  void Run();
  void Accept(int64_t now_ns);

  const std::unique_ptr<TcpListener> listener_;
  const std::unique_ptr<HttpConnections> connections_;
  const UniqueFd stop_;  // an eventfd: readable when the thread is to end
  Heartbeat& heartbeat_;
  bool can_accept_ = true;  // there were descriptors when last tried
  std::thread thread_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HTTP_SERVER_H_
