// What Prometheus and the log say of the running daemon.

#ifndef PACKET_HEADERS_USER_SERVICE_METRICS_H_
#define PACKET_HEADERS_USER_SERVICE_METRICS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"
#include "user/service/observed.h"

namespace packet_headers {

// Whether metrics can be served at `address`, in Go's form as below.
absl::Status CheckMetricsAddress(const std::string& address);

// Serves /metrics from threads of its own until it is destroyed. Everything is read when it is
// asked for.
class MetricsServer {
 public:
  // `address` in Go's form: "host:port", ":port", "[v6]:port". Port 0 lets the system choose.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              const Observed& observed);

  int port() const;

 private:
  MetricsServer() = default;

  std::shared_ptr<prometheus::Collectable> collector_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_METRICS_H_
