// What the operator asked for: read once at start from the command line and the environment, and
// from then on passed about as a const Config.

#ifndef PACKET_HEADERS_USER_CONFIG_CONFIG_H_
#define PACKET_HEADERS_USER_CONFIG_CONFIG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace packet_headers {

enum class AnonymizeIp { kNone, kNetblock, kCryptopan };
enum class CaptureEngineChoice { kAuto, kBpf, kPcap };
enum class CaptureHook { kAuto, kXdp, kTcx, kClsact };
enum class Compress { kNone, kGzip, kZstd };
enum class Durability { kSync, kRename };
enum class HttpExpose { kMetrics, kAll };
enum class LogFormat { kText, kJson };
enum class SandboxMode { kRequire, kAuto, kOff };
enum class UuidSource { kAuto, kTcpinfo, kSocket };

// The initial values are the flags' defaults; flags.cc says what each one means to the operator.
struct Config {
  AnonymizeIp anonymize_ip = AnonymizeIp::kNone;
  std::string anonymize_key_file;  // with kCryptopan
  absl::Duration capture_duration = absl::Seconds(30);
  CaptureEngineChoice capture_engine = CaptureEngineChoice::kAuto;
  CaptureHook capture_hook = CaptureHook::kAuto;
  Compress compress = Compress::kNone;
  std::string data_dir = ".";
  int64_t data_dir_mode = 0750;  // of folders; permission bits, whatever the umask
  Durability durability = Durability::kSync;
  int64_t event_socket_mode = 0660;  // of the socket served
  std::string event_socket_serve;    // empty = none
  int64_t file_mode = 0640;
  absl::Duration flow_timeout = absl::Seconds(30);
  HttpExpose http_expose = HttpExpose::kMetrics;
  bool index = true;
  std::vector<std::string> interfaces;  // each once; none = all that are up
  LogFormat log_format = LogFormat::kText;
  int64_t max_flows = 0;          // 0 = no limit
  int64_t max_header_size = 256;  // bytes of a packet, from its first header on
  int64_t max_heap_bytes = 8'000'000'000;
  int64_t max_idle_ram_bytes = 3'000'000'000;
  std::string metrics_address = ":9990";
  std::vector<std::string> read_files;   // in order; none = capture live
  int64_t ring_size_bytes = 32'000'000;  // as given: the capture rounds it to what a ring can have
  int64_t shards = 0;                    // 0 = chosen by the number of cores
  SandboxMode sandbox = SandboxMode::kAuto;
  bool sandbox_selftest = false;
  absl::Duration sigterm_wait = absl::Seconds(1);
  bool show_flows = false;  // of the daemon at metrics_address, instead of capturing
  bool stream = false;
  absl::Duration thread_patience = absl::Seconds(10);
  std::string tcpinfo_event_socket;  // empty = none
  std::string user;                  // name or number; empty = as started
  std::string uuid_prefix_file;      // empty = none
  UuidSource uuid_source = UuidSource::kAuto;
  std::string uuids_file;  // empty = none
  absl::Duration uuid_wait_duration = absl::Seconds(5);
  bool watch = false;  // goes on showing flows
  bool write_all = false;
};

struct CommandLine {
  Config config;
  bool help_requested = false;
  bool version_requested = false;
  std::vector<std::string> warnings;
};

// Reads `args` (without argv[0]) in the syntax of Go's flag package, then the environment for every
// flag that is not among them. `getenv` returns null for a variable that is not set; one that is
// set but empty is a value. -help and -version end the reading at
// once. What is no flag is one more file to read where -read was given before it. InvalidArgument
// with one line for the operator on an unknown flag or a bad value. A default of
// -uuidwaitduration that is longer than -captureduration becomes that.
absl::StatusOr<CommandLine> ParseCommandLine(absl::Span<const char* const> args,
                                             const std::function<const char*(const char*)>& getenv);

// What -help prints: every flag by purpose, with its default and its environment variable.
std::string Usage();

// Every flag but -help with its value, spelled as the flag would take it; for the log at start.
std::vector<std::pair<std::string, std::string>> FlagValues(const Config& config);

// Refuses values that are well formed but can't work, alone or together. InvalidArgument with one
// line for the operator.
absl::Status Validate(const Config& config);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CONFIG_CONFIG_H_
