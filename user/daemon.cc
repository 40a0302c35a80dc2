#include "user/daemon.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "spdlog/spdlog.h"
#include "user/base/clock.h"
#include "user/base/folders.h"
#include "user/base/named_thread.h"
#include "user/base/paced_log.h"
#include "user/base/scaled.h"
#include "user/capture/bpf_capture.h"
#include "user/capture/pcap_capture.h"
#include "user/config/go_values.h"
#include "user/config/host_and_port.h"
#include "user/flow_options.h"
#include "user/output/data_directory.h"
#include "user/service/books_report.h"
#include "user/service/memory_limit.h"
#include "user/service/metrics.h"
#include "user/service/privileges.h"
#include "user/service/status.h"
#include "user/service/stop_signals.h"

namespace packet_headers {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int64_t kRoundIntervalNs = 5'000'000'000;

// One part in so many of the main thread's time is for samples: they read the counters of all
// interfaces, of which there may be thousands.
constexpr int64_t kSampleShare = 100;

// A burst of rtnetlink notifications is one update.
constexpr absl::Duration kNotificationPause = absl::Milliseconds(20);

// How many times as long as the others the publisher may take: a disk may be slow.
constexpr int64_t kDiskPatience = 6;

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
          absl::StrCat("-interface: there is no \"", absl::CHexEscape(name),
                       "\" (`ip link` shows those that there are; without -interface all are "
                       "captured that are up)"));
    }
  }
  return absl::OkStatus();
}

// `asked` with as much of its memory as there is.
Config WithinMemory(const Config& asked) {
  const MemoryLimit limit = ReadMemoryLimit();
  const MemoryUse wanted = {asked.max_heap_bytes, asked.ring_size_bytes, ShardCount(asked)};
  const MemoryUse use = FitMemory(wanted, limit.bytes);
  Config config = asked;
  if (use == wanted) return config;
  config.max_heap_bytes = use.heap_bytes;
  config.ring_size_bytes = use.ring_bytes;
  config.shards = use.shards;
  std::vector<std::string> changes;
  const auto note = [&changes](const char* flag, const std::string& used,
                               const std::string& asked) {
    if (used != asked) changes.push_back(absl::StrCat(flag, "=", used, " instead of ", asked));
  };
  note("-maxheap", Scaled(use.heap_bytes) + "B", Scaled(wanted.heap_bytes) + "B");
  note("-shards", absl::StrCat(use.shards), absl::StrCat(wanted.shards));
  note("-capture.ringsize", Scaled(use.ring_bytes) + "B", Scaled(wanted.ring_bytes) + "B");
  if (!changes.empty()) {
    spdlog::warn("{} has {}B: {}", limit.whose, Scaled(limit.bytes), absl::StrJoin(changes, ", "));
  }
  return config;
}

bool UsesEventSocket(const Config& config) {
  return !config.tcpinfo_event_socket.empty() && config.uuid_source != UuidSource::kSocket;
}

absl::StatusOr<std::unique_ptr<CaptureEngine>> OpenEngine(const Config& config,
                                                          const ph_hash_seed& hash_seed) {
  absl::Status why_not_bpf;
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
  if (why_not_bpf.ok()) {
    if (pcap.ok()) spdlog::info("capture engine: libpcap, as -capture.engine says");
    return pcap;
  }
  if (!pcap.ok()) {
    return absl::Status(
        pcap.status().code(),
        absl::StrCat(pcap.status().message(), "; bpf was tried before: ", why_not_bpf.message()));
  }
  spdlog::info("capture engine: libpcap, since bpf can't: {}", std::string(why_not_bpf.message()));
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
      sandbox_(config.sandbox),
      engine_(std::move(engine)),
      watcher_(std::move(watcher)),
      interfaces_(*engine_, config.interfaces),
      uuid_prefix_(std::move(uuid_prefix)),
      budget_(config.max_heap_bytes),
      limit_(config.max_flows),
      host_(HostForFileNames()),
      started_ns_(MonotonicNow()),
      started_seconds_(static_cast<double>(absl::GetCurrentTimeNanos()) / 1e9) {}

Observed Daemon::observed() const {
  return {*engine_,
          interfaces_,
          shards_,
          *publisher_,
          budget_,
          announcer_.get(),
          event_client_.get(),
          event_server_.get(),
          *health_,
          sandbox_,
          started_seconds_};
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& asked) {
  const Config config = WithinMemory(asked);
  RaiseDescriptorLimit();
  BecomeUrgent();  // for the shards, which start when the right to it is gone
  absl::StatusOr<UniqueFd> signals = CatchStopSignals();
  if (!signals.ok()) return signals.status();
  absl::StatusOr<std::string> prefix = ReadOrMakeUuidPrefix(config);
  if (!prefix.ok()) return prefix.status();
  Opened opened;
  // It may be a port that only root can take.
  absl::StatusOr<std::unique_ptr<TcpListener>> http_listener =
      TcpListener::Listen(config.metrics_address, "metrics", "prometheusx.listen-address");
  if (!http_listener.ok()) return http_listener.status();
  opened.http_listener = *std::move(http_listener);
  // Likewise a key that only root can read.
  absl::StatusOr<std::shared_ptr<const Anonymizer>> anonymizer = MakeAnonymizer(config);
  if (!anonymizer.ok()) return anonymizer.status();
  opened.anonymizer = *std::move(anonymizer);
  // Before anything is made, so that it belongs to the user.
  absl::Status status = BecomeUser(config.user);
  if (status.ok() && config.sandbox != SandboxMode::kOff) status = KeepStartCapabilities();
  if (!status.ok()) return status;
  absl::StatusOr<std::unique_ptr<InterfaceWatcher>> watcher = InterfaceWatcher::Open();
  if (!watcher.ok()) return watcher.status();
  const absl::StatusOr<std::vector<NetworkInterface>> interfaces = (*watcher)->ListInterfaces();
  if (!interfaces.ok()) return interfaces.status();
  status = CheckNames(*interfaces, config.interfaces);
  if (!status.ok()) return status;
  absl::StatusOr<ph_hash_seed> hash_seed = MakeHashSeed();
  if (!hash_seed.ok()) return hash_seed.status();
  opened.hash_seed = *hash_seed;
  absl::StatusOr<std::unique_ptr<CaptureEngine>> engine = OpenEngine(config, *hash_seed);
  if (!engine.ok()) return engine.status();
  // What can't start for the reasons before leaves nothing behind.
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory =
      DataDirectory::Open(config.data_dir, FileOptionsOf(config));
  if (!directory.ok()) return DataDirectoryError(directory.status());
  opened.directory = *std::move(directory);
  if (!config.event_socket_serve.empty()) {
    if (opened.anonymizer != nullptr) {
      spdlog::warn("-eventsocket.serve tells true addresses, whatever -anonymize.ip says");
    }
    absl::StatusOr<std::unique_ptr<SocketEvents>> events = SocketEvents::Start();
    if (!events.ok()) return events.status();
    opened.socket_events = *std::move(events);
    absl::StatusOr<std::unique_ptr<UnixListener>> listener = UnixListener::Listen(
        config.event_socket_serve, static_cast<mode_t>(config.event_socket_mode));
    if (!listener.ok()) {
      return absl::Status(listener.status().code(),
                          absl::StrCat("-eventsocket.serve: ", listener.status().message()));
    }
    opened.event_listener = *std::move(listener);
  }
  absl::StatusOr<LocalAddresses> addresses = (*watcher)->ListAddresses();
  if (!addresses.ok()) return addresses.status();
  opened.local_addresses = std::make_shared<const LocalAddresses>(*std::move(addresses));

  std::unique_ptr<Daemon> daemon(new Daemon(config, *std::move(engine), *std::move(watcher),
                                            *std::move(signals), *std::move(prefix)));
  const absl::StatusOr<Capabilities> kept = daemon->StartCapturing();
  if (!kept.ok()) return kept.status();
  if (config.sandbox_selftest) {
    absl::StatusOr<std::unique_ptr<SandboxSelfTest>> test = SandboxSelfTest::Open(config.data_dir);
    if (!test.ok()) return test.status();
    opened.selftest = *std::move(test);
  }
  const bool is_bound = config.sandbox != SandboxMode::kOff;
  status = daemon->EnterSandbox(*kept, is_bound ? opened.directory->MakeSpare() : "");
  if (status.ok()) status = daemon->StartThreads(opened);
  if (status.ok() && opened.selftest != nullptr) status = daemon->sandbox_.Test(*opened.selftest);
  if (!status.ok()) return status;
  return daemon;
}

absl::Status Daemon::EnterSandbox(const Capabilities& kept, const std::string& spare) {
  SandboxPolicy policy = {.kept = kept, .files = {.write_beneath = {config_.data_dir}}};
  policy.system_calls = kForFiles | kForCapture | (engine_->uses_bpf() ? kForBpf : kForPcap);
  if (!spare.empty()) {
    policy.files.write_beneath.push_back(spare);
    policy.files.replace_beneath = {ParentOf(spare)};
  }
  if (UsesEventSocket(config_)) policy.system_calls |= kForEventClient;
  // libpcap looks whether a device is the port of a switch.
  if (!engine_->uses_bpf()) policy.files.read = {"/sys/devices"};
  if (!config_.event_socket_serve.empty()) {
    policy.system_calls |= kForBpf;
    // Root could remove what else is there. Then the socket stays, and the next start replaces it.
    const std::string folder = ParentOf(config_.event_socket_serve);
    if (geteuid() != 0 || HoldsOnly(folder, {config_.event_socket_serve.substr(
                                                config_.event_socket_serve.rfind('/') + 1)})) {
      policy.files.remove_beneath = {folder};
    }
  }
  return sandbox_.Enter(policy);
}

absl::Status Daemon::StartThreads(Opened& opened) {
  const uint32_t shards = engine_->shards();
  FlowOptions options = MakeFlowOptions(config_, shards);
  options.naming = NamingOf(config_);
  options.ownership = engine_->sees_cookies() ? Ownership::kSocket : Ownership::kAnnounced;
  options.anonymizer = std::move(opened.anonymizer);
  options.name_flow = [this](const Flow& flow) {
    return UuidFromCookie(uuid_prefix_.Get(), flow.cookie);
  };
  const auto hooks_of = [this](uint32_t ifindex) -> std::optional<InterfaceHooks> {
    const auto interface = interfaces_.Find(ifindex);
    if (!interface) return std::nullopt;
    return InterfaceHooks{interface->name, HookName(interface->ingress),
                          HookName(interface->egress)};
  };
  publisher_ = std::make_unique<Publisher>(std::move(opened.directory), options.max_header_bytes,
                                           CompressionOf(config_), RetryOptions(),
                                           MakeIndex(config_, hooks_of));
  for (uint32_t shard = 0; shard < shards; ++shard) {
    shards_.push_back(std::make_unique<Shard>(shard, options, engine_->source(shard), budget_,
                                              limit_, engine_->kernel_flows(), *publisher_,
                                              opened.local_addresses));
  }
  if (UsesEventSocket(config_)) {
    announcer_ =
        std::make_unique<Announcer>(opened.hash_seed, shards, uuid_prefix_,
                                    [this](uint32_t shard, KeyedAnnouncement announcement) {
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
  if (opened.event_listener != nullptr) {
    socket_events_ = std::move(opened.socket_events);
    absl::StatusOr<std::unique_ptr<EventServer>> server =
        EventServer::Start(std::move(opened.event_listener), uuid_prefix_, *socket_events_);
    if (!server.ok()) return server.status();
    event_server_ = *std::move(server);
  }
  health_ = std::make_unique<const Health>(WatchedThreads());
  absl::StatusOr<std::unique_ptr<HttpServer>> http =
      HttpServer::Start(std::move(opened.http_listener), Routes(), http_heartbeat_);
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  CeaseToBeUrgent();
  return absl::OkStatus();
}

std::vector<WatchedThread> Daemon::WatchedThreads() const {
  const int64_t patience_ns = Nanoseconds(config_.thread_patience);
  std::vector<WatchedThread> threads = {{&heartbeat_, patience_ns},
                                        {&http_heartbeat_, patience_ns},
                                        {&publisher_->heartbeat(), kDiskPatience * patience_ns}};
  for (const auto& shard : shards_) threads.push_back({&shard->heartbeat(), patience_ns});
  if (event_client_ != nullptr) threads.push_back({&event_client_->heartbeat(), patience_ns});
  if (event_server_ != nullptr) threads.push_back({&event_server_->heartbeat(), patience_ns});
  return threads;
}

HttpRoutes Daemon::Routes() {
  const bool exposes_all = config_.http_expose == HttpExpose::kAll;
  HttpRoutes routes = PageRoutes(exposes_all);
  const auto add = [&routes](const char* path, bool is_for_all, auto answer) {
    routes[path] = {[answer](const HttpArguments&) { return answer(); }, is_for_all};
  };
  add("/metrics", true, [this] {
    return HttpAnswer{MHD_HTTP_OK, MetricsText(observed()), kMetricsContentType};
  });
  add("/healthz", true, [this] { return Healthz(); });
  add("/readyz", true, [this] { return Readyz(); });
  add("/status", exposes_all, [this] {
    return HttpAnswer{
        MHD_HTTP_OK, StatusJson(host_, observed(), history_, Readyz(), started_ns_, MonotonicNow()),
        "application/json"};
  });
  routes["/flows"] = {[this](const HttpArguments& arguments) {
                        return flow_listing_.Answer(arguments, MonotonicNow());
                      },
                      exposes_all, /*takes_arguments=*/true};
  return routes;
}

HttpAnswer Daemon::Healthz() const {
  const std::string stopped = health_->Stopped(http_heartbeat_, MonotonicNow());
  if (stopped.empty()) return {MHD_HTTP_OK, "ok\n"};
  return {MHD_HTTP_SERVICE_UNAVAILABLE, absl::StrCat("stopped: ", stopped, "\n")};
}

HttpAnswer Daemon::Readyz() const {
  const HttpAnswer health = Healthz();
  if (health.status != MHD_HTTP_OK) return health;
  if (is_finishing_) return {MHD_HTTP_SERVICE_UNAVAILABLE, "stopping\n"};
  const size_t interfaces = interfaces_.Attached().size();
  if (interfaces == 0) return {MHD_HTTP_SERVICE_UNAVAILABLE, "capturing on no interface\n"};
  const size_t others = interfaces_.NotCaptured().size();
  return {MHD_HTTP_OK,
          absl::StrCat("capturing on ", interfaces, " interface(s)",
                       others == 0 ? "" : absl::StrCat(", not on ", others, " more"), "\n")};
}

absl::StatusOr<Capabilities> Daemon::StartCapturing() {
  absl::StatusOr<std::vector<NetworkInterface>> all = watcher_->ListInterfaces();
  if (!all.ok()) return all.status();
  TellWhoSharesHooks(SelectInterfaces(*all, config_.interfaces));
  absl::Status attached;
  const auto attach = [&](bool is_last) -> Attempt {
    attached = interfaces_.Update(*all, /*has_more_rights=*/!is_last);
    return {absl::IsPermissionDenied(attached), interfaces_.Attached().size()};
  };
  Capabilities kept;
  if (config_.sandbox == SandboxMode::kOff) {
    attach(/*is_last=*/true);
  } else {
    absl::StatusOr<Capabilities> least = KeepLeastCapabilities(attach);
    if (!least.ok()) return least.status();
    kept = *std::move(least);
  }
  // What was asked for by name must work; of all that are up it is enough that some do.
  if (!attached.ok() && !config_.interfaces.empty()) return attached;
  if (interfaces_.Attached().empty()) {
    return attached.ok() ? absl::NotFoundError(
                               "nothing to capture on: no interface is up (`ip -brief link`); in a "
                               "container those of the host are seen only with the host's network")
                         : absl::Status(attached.code(), absl::StrCat("nothing to capture on: ",
                                                                      attached.message()));
  }
  return kept;
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
  const auto with_books = std::make_shared<const Ifindexes>(interfaces_.WithBooks(*all));
  for (const auto& shard : shards_) shard->KeepBooksOf(with_books);
  engine_->KeepBooksOf(with_books);
  // What can't be attached has been logged.
  interfaces_.Update(*all).IgnoreError();
}

void Daemon::RunUntilStopped(Log& log) {
  spdlog::info("status page and metrics: {}",
               UrlOf(SplitHostAndPort(config_.metrics_address)->host, http_->port()));
  spdlog::info("files go to {}/YYYY/MM/DD/<uuid>{}", config_.data_dir,
               std::string(PcapExtension(CompressionOf(config_))));
  const std::string ready =
      absl::StrCat("capturing on ", interfaces_.Attached().size(), " interface(s)");
  spdlog::info("ready: {}", ready);
  service_manager_.Ready(ready);
  PacedLog health_log;
  int64_t stop_ns = kNever;
  int64_t next_round_ns = MonotonicNow() + kRoundIntervalNs;
  int64_t next_sample_ns = 0;
  while (true) {
    heartbeat_.Beat();
    const int64_t now_ns = MonotonicNow();
    if (now_ns >= stop_ns) {
      log.ClearStatus();
      return;
    }
    if (now_ns >= service_manager_.watchdog_due_ns()) {
      service_manager_.Watchdog(health_->Stopped(heartbeat_, now_ns).empty(), now_ns);
    }
    if (now_ns >= next_sample_ns) next_sample_ns = NoteSample(now_ns, log);
    if (now_ns >= next_round_ns) {
      next_round_ns = now_ns + kRoundIntervalNs;
      engine_->Sweep(now_ns, Nanoseconds(config_.flow_timeout));
      UpdateInterfaces();  // what failed or was missed
      const std::string stopped = health_->Stopped(heartbeat_, now_ns);
      if (!stopped.empty()) {
        health_log.Say(spdlog::level::err, absl::StrCat("stopped: ", stopped), now_ns);
      }
    }
    pollfd waiting[] = {{watcher_->fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    const int64_t wait_ns =
        std::min({stop_ns, next_round_ns, next_sample_ns, service_manager_.watchdog_due_ns()}) -
        now_ns;
    poll(waiting, 2, std::min(static_cast<int>(wait_ns / 1'000'000 + 1), kLongestTurnMs));
    if (waiting[0].revents != 0) {
      absl::SleepFor(kNotificationPause);
      watcher_->Acknowledge();
      UpdateInterfaces();
    }
    if (waiting[1].revents != 0) {
      const int signal = TakeStopSignal(signals_);
      // A second signal ends the wait of the first, a second Ctrl-C the process.
      if (stop_ns == kNever) service_manager_.Stopping();
      stop_ns = stop_ns == kNever ? MonotonicNow() + Nanoseconds(config_.sigterm_wait) : 0;
      if (signal == SIGINT) ExitOnInterrupt();
      if (stop_ns != 0) {
        spdlog::info("SIG{}: capturing for another {}, then saving every flow; a second {}",
                     sigabbrev_np(signal), FormatGoDuration(config_.sigterm_wait),
                     signal == SIGINT ? "Ctrl-C exits without saving" : "signal ends the wait");
      }
    }
  }
}

int64_t Daemon::NoteSample(int64_t now_ns, Log& log) {
  const int64_t before_ns = ThreadCpuTime();
  const Sample sample = TakeSample(observed(), now_ns);
  log.ShowStatus(FormatSample(history_.Add(sample), sample));
  return now_ns + std::max(kSampleIntervalNs, kSampleShare * (ThreadCpuTime() - before_ns));
}

Daemon::~Daemon() {
  interfaces_.DetachAll();
  if (publisher_ != nullptr) publisher_->StopRetryingSoon();
}

bool Daemon::Finish() {
  is_finishing_ = true;
  ExitOnInterrupt();
  interfaces_.DetachAll();
  publisher_->StopRetryingSoon();
  heartbeat_.Rest();
  spdlog::info("saving {} flows; SIGINT exits without the rest",
               static_cast<int64_t>(SumOf(shards_, &FlowStats::capturing)));
  for (const auto& shard : shards_) shard->BeginToFinish();
  for (const auto& shard : shards_) shard->Finish();
  publisher_->Finish();
  const BooksByName books = ReadBooks(observed());
  LogBooks(books);
  LogBalance(TotalOf(books));
  LogFiles(publisher_->stats());
  return publisher_->stats().files_failed == 0;
}

}  // namespace packet_headers
