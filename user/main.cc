// packet-headers: saves the packet headers of every TCP flow of this host. Builds the rooms in
// order, waits, and takes them down in reverse.

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"
#include "user/capture/attached_interfaces.h"
#include "user/capture/bpf_capture.h"
#include "user/capture/interface_watcher.h"
#include "user/config/config.h"
#include "user/config/go_values.h"
#include "user/flow/clock.h"
#include "user/flow/shard.h"
#include "user/identity/uuid.h"
#include "user/output/data_directory.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"
#include "user/service/metrics.h"
#include "user/service/stop_signals.h"

namespace packet_headers {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int64_t kRoundIntervalNs = 5'000'000'000;

// A burst of rtnetlink notifications is one update.
constexpr absl::Duration kNotificationPause = absl::Milliseconds(20);

// Of all shards together.
constexpr int64_t kMaxEmbryonicFlows = 65'536;
constexpr int64_t kMaxEmbryonicBytes = 32 << 20;
constexpr int64_t kMaxEndedFlows = 1 << 18;
constexpr int64_t kMaxRecentCookies = 1 << 20;

constexpr unsigned kMostDefaultShards = 16;

uint32_t ShardCount(const Config& config) {
  if (config.shards > 0) return static_cast<uint32_t>(config.shards);
  // The other half is for those who send the packets.
  return std::clamp((std::thread::hardware_concurrency() + 1) / 2, 1U, kMostDefaultShards);
}

// At most some decades, so that a time may be added.
int64_t Nanoseconds(absl::Duration duration) {
  return std::min(absl::ToInt64Nanoseconds(duration), kNever / 4);
}

absl::StatusOr<std::string> UuidPrefix(const Config& config) {
  return config.uuid_prefix_file.empty() ? DefaultUuidPrefix()
                                         : ReadUuidPrefix(config.uuid_prefix_file);
}

FlowOptions MakeFlowOptions(const Config& config, std::string uuid_prefix, uint32_t shards) {
  FlowOptions options;
  options.capture_duration_ns = Nanoseconds(config.capture_duration);
  options.flow_timeout_ns = Nanoseconds(config.flow_timeout);
  options.uuid_wait_ns = Nanoseconds(config.uuid_wait_duration);
  options.max_header_bytes = static_cast<uint32_t>(config.max_header_size);
  options.hide_remote = config.anonymize_ip == AnonymizeIp::kNetblock;
  options.stream = config.stream;
  // What idles with one shard can't serve the others, so it must leave them room.
  options.max_idle_bytes = std::min(config.max_idle_ram_bytes, config.max_heap_bytes / 4) / shards;
  options.max_embryonic_flows = kMaxEmbryonicFlows / shards;
  options.max_embryonic_bytes = kMaxEmbryonicBytes / shards;
  options.max_ended_flows = kMaxEndedFlows / shards;
  options.max_recent_cookies = kMaxRecentCookies / shards;
  options.name_flow = [prefix = std::move(uuid_prefix)](uint64_t cookie) {
    return UuidFromCookie(prefix, cookie);
  };
  return options;
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

// The daemon: its members are its rooms, in the order in which they are built.
class Daemon {
 public:
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config);

  // Until a stop signal and -sigtermwait behind it.
  void RunUntilStopped();

  // Detaches, saves every flow and tells what became of the packets.
  void Finish();

 private:
  Daemon(const Config& config, std::unique_ptr<BpfCapture> capture,
         std::unique_ptr<InterfaceWatcher> watcher, UniqueFd signals)
      : config_(config),
        signals_(std::move(signals)),
        capture_(std::move(capture)),
        watcher_(std::move(watcher)),
        interfaces_(*capture_, config.capture_hook, config.interfaces),
        budget_(config.max_heap_bytes),
        limit_(config.max_flows) {}

  absl::Status StartCapturing();
  void UpdateInterfaces();
  Observed observed() const { return {*capture_, interfaces_, shards_, *publisher_, budget_}; }

  const Config config_;
  const UniqueFd signals_;
  const std::unique_ptr<BpfCapture> capture_;
  const std::unique_ptr<InterfaceWatcher> watcher_;
  AttachedInterfaces interfaces_;
  MemoryBudget budget_;
  FlowLimit limit_;
  std::unique_ptr<Publisher> publisher_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<MetricsServer> metrics_;
};

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config) {
  RaiseDescriptorLimit();
  const absl::Status address = CheckMetricsAddress(config.metrics_address);
  if (!address.ok()) return address;
  absl::StatusOr<UniqueFd> signals = CatchStopSignals();
  if (!signals.ok()) return signals.status();
  absl::StatusOr<std::string> prefix = UuidPrefix(config);
  if (!prefix.ok()) return prefix.status();
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(config.data_dir);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<std::unique_ptr<InterfaceWatcher>> watcher = InterfaceWatcher::Open();
  if (!watcher.ok()) return watcher.status();
  const uint32_t shards = ShardCount(config);
  absl::StatusOr<std::unique_ptr<BpfCapture>> capture =
      BpfCapture::Load(shards, config.ring_size_bytes);
  if (!capture.ok()) return capture.status();

  std::unique_ptr<Daemon> daemon(
      new Daemon(config, *std::move(capture), *std::move(watcher), *std::move(signals)));
  const absl::Status status = daemon->StartCapturing();
  if (!status.ok()) return status;
  absl::StatusOr<LocalAddresses> addresses = daemon->watcher_->ListAddresses();
  if (!addresses.ok()) return addresses.status();
  const auto local_addresses = std::make_shared<const LocalAddresses>(*std::move(addresses));

  // From here on there are threads.
  const FlowOptions options = MakeFlowOptions(config, *std::move(prefix), shards);
  daemon->publisher_ = std::make_unique<Publisher>(*std::move(directory), options.max_header_bytes);
  for (uint32_t shard = 0; shard < shards; ++shard) {
    daemon->shards_.push_back(std::make_unique<Shard>(
        shard, options, daemon->capture_->source(shard), daemon->budget_, daemon->limit_,
        daemon->capture_->settled_flows(), *daemon->publisher_, local_addresses));
  }
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(config.metrics_address, daemon->observed());
  if (!metrics.ok()) return metrics.status();
  daemon->metrics_ = *std::move(metrics);
  return daemon;
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
  spdlog::info("files go to {}/YYYY/MM/DD/<uuid>.pcap", config_.data_dir);
  spdlog::info("ready: capturing on {} interface(s)", interfaces_.Attached().size());
  int64_t stop_ns = kNever;
  int64_t next_round_ns = MonotonicNow() + kRoundIntervalNs;
  while (true) {
    const int64_t now_ns = MonotonicNow();
    if (now_ns >= stop_ns) return;
    if (now_ns >= next_round_ns) {
      next_round_ns = now_ns + kRoundIntervalNs;
      capture_->settled_flows().Sweep(now_ns, Nanoseconds(config_.flow_timeout));
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
  const PublisherStats& stats = publisher_->stats();
  spdlog::log(stats.files_failed == 0 ? spdlog::level::info : spdlog::level::err,
              "saved {} files, {} failed", stats.files_published.load(), stats.files_failed.load());
}

int Main(absl::Span<const char* const> arguments) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("packet-headers"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");

  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(
      arguments, [](const char* name) -> const char* { return std::getenv(name); });
  if (!command_line.ok()) {
    std::fprintf(stderr, "%s\n%s", std::string(command_line.status().message()).c_str(),
                 Usage().c_str());
    return kExitUsage;
  }
  if (command_line->help_requested) {
    std::fputs(Usage().c_str(), stdout);
    return 0;
  }
  for (const std::string& warning : command_line->warnings) spdlog::warn("{}", warning);
  const Config& config = command_line->config;
  absl::Status status = Validate(config);
  if (status.ok()) {
    for (const auto& [name, value] : FlagValues(config)) spdlog::info("-{}={}", name, value);
    absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(config);
    if (daemon.ok()) {
      (*daemon)->RunUntilStopped();
      (*daemon)->Finish();
      return 0;
    }
    status = daemon.status();
  }
  spdlog::error("{}", std::string(status.message()));
  return kExitFailure;
}

}  // namespace
}  // namespace packet_headers

int main(int argc, char** argv) {
  return packet_headers::Main(absl::MakeConstSpan(argv + 1, argc > 0 ? argc - 1 : 0));
}
