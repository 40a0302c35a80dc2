#include "user/daemon.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "spdlog/spdlog.h"
#include "user/capture/bpf_capture.h"
#include "user/capture/pcap_capture.h"
#include "user/config/go_values.h"
#include "user/flow/clock.h"
#include "user/flow_options.h"
#include "user/output/data_directory.h"
#include "user/service/books_report.h"
#include "user/service/stop_signals.h"

namespace packet_headers {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int64_t kRoundIntervalNs = 5'000'000'000;

// A burst of rtnetlink notifications is one update.
constexpr absl::Duration kNotificationPause = absl::Milliseconds(20);

constexpr unsigned kMostDefaultShards = 16;

uint32_t ShardCount(const Config& config) {
  if (config.shards > 0) return static_cast<uint32_t>(config.shards);
  // The other half is for those who send the packets.
  return std::clamp((std::thread::hardware_concurrency() + 1) / 2, 1U, kMostDefaultShards);
}

absl::StatusOr<std::string> ReadOrMakeUuidPrefix(const Config& config) {
  return config.uuid_prefix_file.empty() ? DefaultUuidPrefix()
                                         : ReadUuidPrefix(config.uuid_prefix_file);
}

// Each interface takes two descriptors, and the soft limit is there for programs that use select().
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

absl::Status CheckNames(const std::vector<NetworkInterface>& all,
                        const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (std::none_of(all.begin(), all.end(),
                     [&name](const NetworkInterface& other) { return other.name == name; })) {
      return absl::NotFoundError(
          absl::StrCat("there is no interface ", name, " (`ip link` shows those that there are)"));
    }
  }
  return absl::OkStatus();
}

bool UsesEventSocket(const Config& config) {
  return !config.tcpinfo_event_socket.empty() && config.uuid_source != UuidSource::kSocket;
}

// Sets `why_not_bpf` where BPF was tried and another engine is taken.
absl::StatusOr<std::unique_ptr<CaptureEngine>> OpenEngine(const Config& config,
                                                          const ph_hash_seed& hash_seed,
                                                          absl::Status& why_not_bpf) {
  if (config.capture_engine != CaptureEngineChoice::kPcap) {
    absl::StatusOr<std::unique_ptr<BpfCapture>> bpf = BpfCapture::Load(
        ShardCount(config), config.ring_size_bytes, config.capture_hook, hash_seed);
    if (bpf.ok()) {
      spdlog::info("capture engine: bpf");
      return bpf;
    }
    if (config.capture_engine == CaptureEngineChoice::kBpf) return bpf.status();
    why_not_bpf = bpf.status();
  }
  absl::StatusOr<std::unique_ptr<SocketOwners>> owners = SocketOwners::Open();
  if (!owners.ok()) {
    if (!UsesEventSocket(config)) return owners.status();
    spdlog::warn("{}: only what tcp-info announces is named",
                 std::string(owners.status().message()));
    owners = nullptr;
  }
  absl::StatusOr<std::unique_ptr<PcapCapture>> pcap =
      PcapCapture::Open(hash_seed, config.ring_size_bytes, *std::move(owners));
  if (pcap.ok()) {
    spdlog::info("capture engine: libpcap, {}",
                 why_not_bpf.ok() ? "as -capture.engine says"
                                  : absl::StrCat("since bpf can't: ", why_not_bpf.message()));
  }
  return pcap;
}

Naming NamingOf(const Config& config) {
  if (config.uuid_source == UuidSource::kTcpinfo) return Naming::kAnnounced;
  return UsesEventSocket(config) ? Naming::kAnnouncedOrOwn : Naming::kOwn;
}

}  // namespace

Daemon::Daemon(const Config& config, std::unique_ptr<CaptureEngine> engine,
               std::unique_ptr<InterfaceWatcher> watcher, UniqueFd signals, std::string uuid_prefix)
    : config_(config),
      signals_(std::move(signals)),
      engine_(std::move(engine)),
      watcher_(std::move(watcher)),
      interfaces_(*engine_, config.interfaces),
      uuid_prefix_(std::move(uuid_prefix)),
      budget_(config.max_heap_bytes),
      limit_(config.max_flows) {}

Observed Daemon::observed() const {
  return {*engine_,
          interfaces_,
          shards_,
          *publisher_,
          budget_,
          announcer_.get(),
          event_client_.get(),
          event_server_.get()};
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config) {
  RaiseDescriptorLimit();
  const absl::Status address = CheckMetricsAddress(config.metrics_address);
  if (!address.ok()) return address;
  absl::StatusOr<UniqueFd> signals = CatchStopSignals();
  if (!signals.ok()) return signals.status();
  absl::StatusOr<std::string> prefix = ReadOrMakeUuidPrefix(config);
  if (!prefix.ok()) return prefix.status();
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(config.data_dir);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<std::unique_ptr<InterfaceWatcher>> watcher = InterfaceWatcher::Open();
  if (!watcher.ok()) return watcher.status();
  absl::StatusOr<ph_hash_seed> hash_seed = MakeHashSeed();
  if (!hash_seed.ok()) return hash_seed.status();
  absl::Status why_not_bpf;
  absl::StatusOr<std::unique_ptr<CaptureEngine>> engine =
      OpenEngine(config, *hash_seed, why_not_bpf);
  if (!engine.ok()) return engine.status();
  std::unique_ptr<SocketEvents> socket_events;
  if (!config.event_socket_serve.empty()) {
    absl::StatusOr<std::unique_ptr<SocketEvents>> started = SocketEvents::Start();
    if (!started.ok()) return started.status();
    socket_events = *std::move(started);
  }

  std::unique_ptr<Daemon> daemon(new Daemon(config, *std::move(engine), *std::move(watcher),
                                            *std::move(signals), *std::move(prefix)));
  absl::Status status = daemon->StartCapturing();
  if (!status.ok() && !why_not_bpf.ok()) {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), "; bpf was tried before: ", why_not_bpf.message()));
  }
  if (status.ok()) {
    status = daemon->StartThreads(*hash_seed, *std::move(directory), std::move(socket_events));
  }
  if (!status.ok()) return status;
  return daemon;
}

absl::Status Daemon::StartThreads(const ph_hash_seed& hash_seed,
                                  std::unique_ptr<DataDirectory> directory,
                                  std::unique_ptr<SocketEvents> socket_events) {
  absl::StatusOr<LocalAddresses> addresses = watcher_->ListAddresses();
  if (!addresses.ok()) return addresses.status();
  const auto local_addresses = std::make_shared<const LocalAddresses>(*std::move(addresses));

  const uint32_t shards = engine_->shards();
  FlowOptions options = MakeFlowOptions(config_, shards);
  options.naming = NamingOf(config_);
  options.ownership = engine_->sees_cookies() ? Ownership::kSocket : Ownership::kAnnounced;
  options.hidden =
      config_.anonymize_ip == AnonymizeIp::kNetblock ? HiddenEnds::kRemote : HiddenEnds::kNone;
  options.name_flow = [this](const Flow& flow) {
    return UuidFromCookie(uuid_prefix_.Get(), flow.cookie);
  };
  publisher_ = std::make_unique<Publisher>(std::move(directory), options.max_header_bytes,
                                           CompressionOf(config_));
  for (uint32_t shard = 0; shard < shards; ++shard) {
    shards_.push_back(std::make_unique<Shard>(shard, options, engine_->source(shard), budget_,
                                              limit_, engine_->kernel_flows(), *publisher_,
                                              local_addresses));
  }
  if (UsesEventSocket(config_)) {
    announcer_ = std::make_unique<Announcer>(
        hash_seed, shards, uuid_prefix_, [this](uint32_t shard, KeyedAnnouncement announcement) {
          return shards_[shard]->Announce(std::move(announcement));
        });
    absl::StatusOr<std::unique_ptr<EventClient>> client = EventClient::Start(
        config_.tcpinfo_event_socket,
        [this](Announcement announcement) { announcer_->Announce(std::move(announcement)); });
    if (!client.ok()) return client.status();
    event_client_ = *std::move(client);
  } else if (!config_.tcpinfo_event_socket.empty()) {
    spdlog::warn("-tcpinfo.eventsocket={} is not used: -uuid.source=socket",
                 config_.tcpinfo_event_socket);
  }
  if (socket_events != nullptr) {
    socket_events_ = std::move(socket_events);
    absl::StatusOr<std::unique_ptr<EventServer>> server =
        EventServer::Start(config_.event_socket_serve, uuid_prefix_, *socket_events_);
    if (!server.ok()) return server.status();
    event_server_ = *std::move(server);
  }
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(config_.metrics_address, observed());
  if (!metrics.ok()) return metrics.status();
  metrics_ = *std::move(metrics);
  return absl::OkStatus();
}

absl::Status Daemon::StartCapturing() {
  absl::StatusOr<std::vector<NetworkInterface>> all = watcher_->ListInterfaces();
  if (!all.ok()) return all.status();
  const absl::Status names = CheckNames(*all, config_.interfaces);
  if (!names.ok()) return names;
  const absl::Status attached = interfaces_.Update(*all);
  // What was asked for by name must work; of all that are up it is enough that some do.
  if (!attached.ok() && !config_.interfaces.empty()) return attached;
  if (interfaces_.Attached().empty()) {
    return attached.ok() ? absl::NotFoundError("nothing to capture on: no interface is up")
                         : absl::Status(attached.code(), absl::StrCat("nothing to capture on: ",
                                                                      attached.message()));
  }
  return absl::OkStatus();
}

void Daemon::UpdateInterfaces() {
  absl::StatusOr<std::vector<NetworkInterface>> all = watcher_->ListInterfaces();
  absl::StatusOr<LocalAddresses> addresses = watcher_->ListAddresses();
  if (!all.ok() || !addresses.ok()) {
    const absl::Status status = all.ok() ? addresses.status() : all.status();
    spdlog::error("{}; trying again", std::string(status.message()));
    return;
  }
  const auto shared = std::make_shared<const LocalAddresses>(*std::move(addresses));
  for (const auto& shard : shards_) shard->set_local_addresses(shared);
  // What can't be attached has been logged.
  interfaces_.Update(*all).IgnoreError();
}

void Daemon::RunUntilStopped() {
  spdlog::info("metrics on {} (port {})", config_.metrics_address, metrics_->port());
  spdlog::info("files go to {}/YYYY/MM/DD/<uuid>{}", config_.data_dir,
               std::string(PcapExtension(CompressionOf(config_))));
  spdlog::info("ready: capturing on {} interface(s)", interfaces_.Attached().size());
  int64_t stop_ns = kNever;
  int64_t next_round_ns = MonotonicNow() + kRoundIntervalNs;
  while (true) {
    const int64_t now_ns = MonotonicNow();
    if (now_ns >= stop_ns) return;
    if (now_ns >= next_round_ns) {
      next_round_ns = now_ns + kRoundIntervalNs;
      engine_->Sweep(now_ns, Nanoseconds(config_.flow_timeout));
      UpdateInterfaces();  // what failed or was missed
    }
    pollfd waiting[] = {{watcher_->fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    const int64_t wait_ns = std::min(stop_ns, next_round_ns) - now_ns;
    poll(waiting, 2, static_cast<int>(wait_ns / 1'000'000 + 1));
    if (waiting[0].revents != 0) {
      absl::SleepFor(kNotificationPause);
      watcher_->Acknowledge();
      UpdateInterfaces();
    }
    if (waiting[1].revents != 0) {
      const int signal = TakeStopSignal(signals_);
      // A second signal ends the wait of the first, a second Ctrl-C the process.
      stop_ns = stop_ns == kNever ? MonotonicNow() + Nanoseconds(config_.sigterm_wait) : 0;
      if (signal == SIGINT) ExitOnInterrupt();
      spdlog::info("SIG{}: capturing for another {}, then saving every flow", sigabbrev_np(signal),
                   FormatGoDuration(stop_ns == 0 ? absl::ZeroDuration() : config_.sigterm_wait));
    }
  }
}

void Daemon::Finish() {
  ExitOnInterrupt();
  interfaces_.DetachAll();
  for (const auto& shard : shards_) shard->BeginToFinish();
  for (const auto& shard : shards_) shard->Finish();
  LogBooks(ReadBooks(observed()));
  LogFiles(publisher_->stats());
}

}  // namespace packet_headers
