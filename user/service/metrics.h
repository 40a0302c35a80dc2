// What Prometheus and the log say of the running daemon.

#ifndef PACKET_HEADERS_USER_SERVICE_METRICS_H_
#define PACKET_HEADERS_USER_SERVICE_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"
#include "user/capture/attached_interfaces.h"
#include "user/capture/bpf_capture.h"
#include "user/flow/shard.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"

namespace packet_headers {

// What there is to look at. All of it outlives whoever looks, and may be read by any thread.
struct Observed {
  const BpfCapture& capture;
  const AttachedInterfaces& interfaces;
  const std::vector<std::unique_ptr<Shard>>& shards;
  const Publisher& publisher;
  const MemoryBudget& budget;
};

// The books of every interface, kernel and user space joined, by interface name.
absl::btree_map<std::string, CountersByDirection> ReadBooks(const Observed& observed);

// Logs a line for each interface and direction: what its hooks saw, and where that went. What is
// not accounted for is an error.
void LogBooks(const absl::btree_map<std::string, CountersByDirection>& books);

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
