// packet-headers: saves the packet headers of every TCP flow of this host, or of capture files.

#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "spdlog/spdlog.h"
#include "user/base/out_of_memory.h"
#include "user/config/config.h"
#include "user/daemon.h"
#include "user/service/log.h"
#include "user/show_flows.h"
#include "user/splitter.h"

namespace packet_headers {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

absl::StatusOr<int> Capture(const Config& config, Log& log) {
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(config);
  if (!daemon.ok()) return daemon.status();
  (*daemon)->RunUntilStopped(log);
  return (*daemon)->Finish() ? 0 : kExitFailure;
}

int Main(absl::Span<const char* const> arguments) {
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(
      arguments, [](const char* name) -> const char* { return std::getenv(name); });
  if (!command_line.ok()) {
    std::fprintf(stderr, "%s\n`packet-headers -help` lists all flags.\n",
                 std::string(command_line.status().message()).c_str());
    return kExitUsage;
  }
  if (command_line->help_requested) {
    std::fputs(Usage().c_str(), stdout);
    return 0;
  }
  if (command_line->version_requested) {
    std::puts("packet-headers " PACKET_HEADERS_VERSION);
    return 0;
  }
  const Config& config = command_line->config;
  absl::Status status = Validate(config);
  if (status.ok() && config.show_flows) {
    status = ShowFlows(config);
    if (status.ok()) return 0;
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return kExitFailure;
  }
  Log log(config.log_format);
  for (const std::string& warning : command_line->warnings) spdlog::warn("{}", warning);
  if (status.ok()) {
    for (const auto& [name, value] : FlagValues(config)) spdlog::info("-{}={}", name, value);
    const absl::StatusOr<int> exit_code =
        config.read_files.empty() ? Capture(config, log) : SplitFiles(config);
    if (exit_code.ok()) return *exit_code;
    status = exit_code.status();
  }
  spdlog::error("{}", std::string(status.message()));
  return kExitFailure;
}

}  // namespace
}  // namespace packet_headers

int main(int argc, char** argv) {
  umask(0);  // -filemode and -datadirmode say it all
  packet_headers::SurviveLackOfMemory();
  return packet_headers::Main(absl::MakeConstSpan(argv + 1, argc > 0 ? argc - 1 : 0));
}
