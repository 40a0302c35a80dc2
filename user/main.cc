// packet-headers: saves the packet headers of every TCP flow of this host, or of capture files.

#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "spdlog/spdlog.h"
#include "user/base/heap.h"
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

int Refuse(const absl::Status& usage) {
  std::fprintf(stderr, "%s\n`packet-headers -help` lists all flags.\n",
               std::string(usage.message()).c_str());
  return kExitUsage;
}

// A full disk is told, as of every file.
int ExitPrinted() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  std::perror("print to standard output");
  return kExitFailure;
}

// What was asked for stands apart from what goes without saying.
void LogFlags(const Config& config) {
  const auto defaults = FlagValues(Config());
  std::string unchanged;
  std::string changed;
  size_t i = 0;
  for (const auto& [name, value] : FlagValues(config)) {
    absl::StrAppend(value == defaults[i++].second ? &unchanged : &changed, " -", name, "=", value);
  }
  spdlog::info("defaults:{}", unchanged);
  spdlog::info("packet-headers {}{}", PACKET_HEADERS_VERSION, changed);
}

int Main(absl::Span<const char* const> arguments) {
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(
      arguments, [](const char* name) -> const char* { return std::getenv(name); });
  if (!command_line.ok()) return Refuse(command_line.status());
  if (command_line->help_requested) {
    std::fputs(Usage().c_str(), stdout);
    return ExitPrinted();
  }
  if (command_line->version_requested) {
    std::puts("packet-headers " PACKET_HEADERS_VERSION);
    return ExitPrinted();
  }
  const Config& config = command_line->config;
  const absl::Status usable = Validate(config);
  if (!usable.ok()) return Refuse(usable);
  if (config.show_flows) {
    const absl::Status shown = ShowFlows(config);
    if (shown.ok()) return ExitPrinted();
    std::fprintf(stderr, "%s\n", std::string(shown.message()).c_str());
    return kExitFailure;
  }
  Log log(config.log_format);
  for (const std::string& warning : command_line->warnings) spdlog::warn("{}", warning);
  LogFlags(config);
  const absl::StatusOr<int> exit_code =
      config.read_files.empty() ? Capture(config, log) : SplitFiles(config);
  if (exit_code.ok()) return *exit_code;
  spdlog::error("{}", std::string(exit_code.status().message()));
  return kExitFailure;
}

}  // namespace
}  // namespace packet_headers

int main(int argc, char** argv) {
  umask(0);  // -filemode and -datadirmode say it all
  packet_headers::GrowHeapInLargeSteps();
  packet_headers::SurviveLackOfMemory();
  return packet_headers::Main(absl::MakeConstSpan(argv + 1, argc > 0 ? argc - 1 : 0));
}
