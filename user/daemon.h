// The live capture: its members are its rooms, in the order in which they are built.

#ifndef PACKET_HEADERS_USER_DAEMON_H_
#define PACKET_HEADERS_USER_DAEMON_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/capture/attached_interfaces.h"
#include "user/capture/capture_engine.h"
#include "user/capture/interface_watcher.h"
#include "user/capture/socket_events.h"
#include "user/config/config.h"
#include "user/flow/shard.h"
#include "user/identity/announcer.h"
#include "user/identity/event_client.h"
#include "user/identity/event_server.h"
#include "user/identity/uuid.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"
#include "user/output/unique_fd.h"
#include "user/service/metrics.h"

namespace packet_headers {

class Daemon {
 public:
  // Captures when it returns. No thread was started before.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config);

  // Nothing is captured any more before the shards finish.
  ~Daemon() { interfaces_.DetachAll(); }

  // Until a stop signal and -sigtermwait behind it.
  void RunUntilStopped();

  // Detaches, saves every flow and tells what became of the packets.
  void Finish();

 private:
  Daemon(const Config& config, std::unique_ptr<CaptureEngine> engine,
         std::unique_ptr<InterfaceWatcher> watcher, UniqueFd signals, std::string uuid_prefix);

  absl::Status StartCapturing();
  absl::Status StartThreads(const ph_hash_seed& hash_seed, std::unique_ptr<DataDirectory> directory,
                            std::unique_ptr<SocketEvents> socket_events);
  void UpdateInterfaces();
  Observed observed() const;

  const Config config_;
  const UniqueFd signals_;
  const std::unique_ptr<CaptureEngine> engine_;
  const std::unique_ptr<InterfaceWatcher> watcher_;
  AttachedInterfaces interfaces_;
  UuidPrefix uuid_prefix_;
  MemoryBudget budget_;
  FlowLimit limit_;
  std::unique_ptr<Publisher> publisher_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<Announcer> announcer_;         // with -tcpinfo.eventsocket
  std::unique_ptr<EventClient> event_client_;    // likewise
  std::unique_ptr<SocketEvents> socket_events_;  // with -eventsocket.serve
  std::unique_ptr<EventServer> event_server_;    // likewise
  std::unique_ptr<MetricsServer> metrics_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_DAEMON_H_
