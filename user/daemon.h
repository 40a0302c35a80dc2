// The live capture: its members are its rooms, in the order in which they are built.

#ifndef PACKET_HEADERS_USER_DAEMON_H_
#define PACKET_HEADERS_USER_DAEMON_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/base/heartbeat.h"
#include "user/base/unique_fd.h"
#include "user/capture/attached_interfaces.h"
#include "user/capture/capture_engine.h"
#include "user/capture/interface_watcher.h"
#include "user/capture/socket_events.h"
#include "user/config/config.h"
#include "user/flow/shard.h"
#include "user/identity/announcer.h"
#include "user/identity/event_client.h"
#include "user/identity/event_server.h"
#include "user/identity/unix_listener.h"
#include "user/identity/uuid.h"
#include "user/output/anonymize.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"
#include "user/service/flow_listing.h"
#include "user/service/health.h"
#include "user/service/history.h"
#include "user/service/http_server.h"
#include "user/service/log.h"
#include "user/service/observed.h"
#include "user/service/sandbox.h"
#include "user/service/sandbox_selftest.h"
#include "user/service/service_manager.h"
#include "user/service/tcp_listener.h"

namespace packet_headers {

class Daemon {
 public:
  // Captures when it returns, with less memory than asked for where there is less. No thread was
  // started before.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& asked);

  // Nothing is captured any more before the shards finish.
  ~Daemon();

  // Until a stop signal and -sigtermwait behind it.
  void RunUntilStopped(Log& log);

  // Detaches, saves every flow and tells what became of the packets. Whether every file that there
  // was to save is saved.
  bool Finish();

 private:
  // What is opened with the privileges of the start, for threads that have none.
  struct Opened {
    ph_hash_seed hash_seed;
    std::shared_ptr<const LocalAddresses> local_addresses;
    std::unique_ptr<DataDirectory> directory;
    std::unique_ptr<TcpListener> http_listener;
    std::shared_ptr<const Anonymizer> anonymizer;  // null: nothing is hidden
    std::unique_ptr<SocketEvents> socket_events;   // with -eventsocket.serve
    std::unique_ptr<UnixListener> event_listener;  // likewise
    std::unique_ptr<SandboxSelfTest> selftest;     // with -sandbox.selftest
  };

  Daemon(const Config& config, std::unique_ptr<CaptureEngine> engine,
         std::unique_ptr<InterfaceWatcher> watcher, UniqueFd signals, std::string uuid_prefix);

  // Without the capabilities that it does not need for good; returns those that it does.
  absl::StatusOr<Capabilities> StartCapturing();
  // `spare` is what may take the data directory's place.
  absl::Status EnterSandbox(const Capabilities& kept, const std::string& spare);
  absl::Status StartThreads(Opened& opened);
  void UpdateInterfaces();
  std::vector<WatchedThread> WatchedThreads() const;
  HttpRoutes Routes();
  HttpAnswer Healthz() const;
  HttpAnswer Readyz() const;
  // Returns when the next one is due.
  int64_t NoteSample(int64_t now_ns, Log& log);
  Observed observed() const;

  const Config config_;
  const UniqueFd signals_;
  Sandbox sandbox_;
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
  ServiceManager service_manager_;
  Heartbeat heartbeat_{"main"};
  Heartbeat http_heartbeat_{"http"};
  std::unique_ptr<const Health> health_;
  std::atomic<bool> is_finishing_{false};
  const std::string host_;
  const int64_t started_ns_;
  const double started_seconds_;  // Unix time
  History history_;
  FlowListing flow_listing_{shards_};  // HTTP's
  std::unique_ptr<HttpServer> http_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_DAEMON_H_
