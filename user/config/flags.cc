#include "user/config/flags.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "packet_headers/kernel_config.h"
#include "user/config/go_values.h"

namespace packet_headers {
namespace {

template <typename Enum>
struct EnumValue {
  absl::string_view name;
  Enum value;
};

constexpr EnumValue<AnonymizeIp> kAnonymizeIpValues[] = {
    {"none", AnonymizeIp::kNone},
    {"netblock", AnonymizeIp::kNetblock},
    {"cryptopan", AnonymizeIp::kCryptopan},
};

constexpr EnumValue<CaptureEngineChoice> kCaptureEngineValues[] = {
    {"auto", CaptureEngineChoice::kAuto},
    {"bpf", CaptureEngineChoice::kBpf},
    {"pcap", CaptureEngineChoice::kPcap},
};

constexpr EnumValue<Compress> kCompressValues[] = {
    {"none", Compress::kNone},
    {"gzip", Compress::kGzip},
    {"zstd", Compress::kZstd},
};

constexpr EnumValue<Durability> kDurabilityValues[] = {
    {"sync", Durability::kSync},
    {"rename", Durability::kRename},
};

constexpr EnumValue<HttpExpose> kHttpExposeValues[] = {
    {"metrics", HttpExpose::kMetrics},
    {"all", HttpExpose::kAll},
};

constexpr EnumValue<LogFormat> kLogFormatValues[] = {
    {"text", LogFormat::kText},
    {"json", LogFormat::kJson},
};

constexpr EnumValue<SandboxMode> kSandboxValues[] = {
    {"require", SandboxMode::kRequire},
    {"auto", SandboxMode::kAuto},
    {"off", SandboxMode::kOff},
};

constexpr EnumValue<UuidSource> kUuidSourceValues[] = {
    {"auto", UuidSource::kAuto},
    {"tcpinfo", UuidSource::kTcpinfo},
    {"socket", UuidSource::kSocket},
};

constexpr EnumValue<CaptureHook> kCaptureHookValues[] = {
    {"auto", CaptureHook::kAuto},
    {"xdp", CaptureHook::kXdp},
    {"tcx", CaptureHook::kTcx},
    {"clsact", CaptureHook::kClsact},
};

template <auto kField, auto kParse>
absl::Status Set(absl::string_view text, Config& config) {
  auto value = kParse(text);
  if (!value.ok()) return value.status();
  config.*kField = *std::move(value);
  return absl::OkStatus();
}

template <const auto& kValues>
std::vector<absl::string_view> Choices() {
  std::vector<absl::string_view> names;
  for (const auto& candidate : kValues) names.push_back(candidate.name);
  return names;
}

template <auto kField, const auto& kValues>
absl::Status SetEnum(absl::string_view text, Config& config) {
  for (const auto& candidate : kValues) {
    if (candidate.name == text) {
      config.*kField = candidate.value;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must be one of ", absl::StrJoin(Choices<kValues>(), ", ")));
}

// Appends, for the flag may be repeated. An empty name is refused and not taken for "all": it is
// what is left of -interface=$NAME when the variable is missing.
absl::Status AddInterfaces(absl::string_view text, Config& config) {
  for (absl::string_view name : absl::StrSplit(text, ',')) {
    if (name.empty()) {
      return absl::InvalidArgumentError(
          "empty interface name (to capture on all that are up, leave it out)");
    }
    if (absl::c_linear_search(config.interfaces, name)) continue;
    config.interfaces.emplace_back(name);
  }
  return absl::OkStatus();
}

// Appends, for the flag may be repeated. An empty name would be left of -read=$FILE.
absl::Status AddReadFile(absl::string_view text, Config& config) {
  if (text.empty()) return absl::InvalidArgumentError("empty file name");
  config.read_files.emplace_back(text);
  return absl::OkStatus();
}

std::string GetReadFiles(const Config& config) { return absl::StrJoin(config.read_files, " "); }

absl::StatusOr<std::string> ParseText(absl::string_view text) { return std::string(text); }

// An empty name would quietly mean the default prefix, and so other names than were asked for.
absl::StatusOr<std::string> ParseFileName(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("empty file name");
  return std::string(text);
}

absl::StatusOr<int64_t> ParseShards(absl::string_view text) {
  const absl::StatusOr<int64_t> shards = ParseGoInt(text);
  if (!shards.ok()) return shards;
  if (*shards < 0 || *shards > PH_MAX_SHARDS) {
    return absl::InvalidArgumentError(absl::StrCat("must be 0 to ", PH_MAX_SHARDS));
  }
  return shards;
}

absl::StatusOr<int64_t> ParseMode(absl::string_view text) {
  int64_t mode = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '7' || mode > 0777) mode = 01000;
    mode = mode * 8 + (digit - '0');
  }
  if (text.empty() || mode > 0777) {
    return absl::InvalidArgumentError("must be permission bits in octal, like 0640");
  }
  return mode;
}

std::string GetInterfaces(const Config& config) { return absl::StrJoin(config.interfaces, ","); }

template <bool Config::*kField>
std::string GetBool(const Config& config) {
  return config.*kField ? "true" : "false";
}

template <auto kField>
std::string GetPlain(const Config& config) {
  return absl::StrCat(config.*kField);
}

template <absl::Duration Config::*kField>
std::string GetDuration(const Config& config) {
  return FormatGoDuration(config.*kField);
}

template <int64_t Config::*kField>
std::string GetMode(const Config& config) {
  return absl::StrFormat("%04o", config.*kField);
}

template <int64_t Config::*kField>
std::string GetByteCount(const Config& config) {
  return FormatByteCount(config.*kField);
}

template <auto kField, const auto& kValues>
std::string GetEnum(const Config& config) {
  for (const auto& candidate : kValues) {
    if (candidate.value == config.*kField) return std::string(candidate.name);
  }
  return "";
}

template <bool Config::*kField>
constexpr FlagType kBool = {"", Set<kField, ParseGoBool>, GetBool<kField>};
template <int64_t Config::*kField, auto kParse = ParseGoInt>
constexpr FlagType kInt = {"NUMBER", Set<kField, kParse>, GetPlain<kField>};
template <int64_t Config::*kField>
constexpr FlagType kByteCount = {"BYTES", Set<kField, ParseByteCount>, GetByteCount<kField>};
template <absl::Duration Config::*kField>
constexpr FlagType kDuration = {"DURATION", Set<kField, ParseGoDuration>, GetDuration<kField>};
template <auto kField, const auto& kValues>
constexpr FlagType kEnum = {"CHOICE", SetEnum<kField, kValues>, GetEnum<kField, kValues>,
                            Choices<kValues>};
template <std::string Config::*kField, auto kParse = ParseText>
constexpr FlagType kPath = {"PATH", Set<kField, kParse>, GetPlain<kField>};
template <int64_t Config::*kField>
constexpr FlagType kMode = {"OCTAL", Set<kField, ParseMode>, GetMode<kField>};
template <std::string Config::*kField>
constexpr FlagType kUser = {"USER", Set<kField, ParseText>, GetPlain<kField>};
template <std::string Config::*kField>
constexpr FlagType kAddress = {"HOST:PORT", Set<kField, ParseText>, GetPlain<kField>};
constexpr FlagType kReadFiles = {"FILE", AddReadFile, GetReadFiles};
constexpr FlagType kInterfaces = {"NAME[,NAME...]", AddInterfaces, GetInterfaces};

constexpr absl::string_view kCapture = "What is captured";
constexpr absl::string_view kOffline = "Capture files";
constexpr absl::string_view kFiles = "What is written";
constexpr absl::string_view kNames = "How flows are named";
constexpr absl::string_view kLimits = "Limits and sizes";
constexpr absl::string_view kService = "The service";
constexpr absl::string_view kLook = "Looking at a running daemon";

constexpr bool kCommon = true;

constexpr Flag kFlags[] = {
    {"interface", kCapture, kInterfaces,
     "Network interface to capture on; without it, all that are up. May be repeated, or be a "
     "comma-separated list.",
     kCommon},
    {"captureduration", kCapture, kDuration<&Config::capture_duration>,
     "Save only the first part of each flow, this long, so that long-lived flows don't fill the "
     "disk.",
     kCommon},
    {"flowtimeout", kCapture, kDuration<&Config::flow_timeout>,
     "A flow without packets for this long is taken to be closed.", kCommon},
    {"maxheadersize", kCapture, kInt<&Config::max_header_size>,
     "The most bytes of headers to save of a packet. Longer headers are truncated. Ethernet, IPv4 "
     "and TCP take at least 54 (IPv6: 74); with less the index does not sum up the packet."},
    {"capture.engine", kCapture, kEnum<&Config::capture_engine, kCaptureEngineValues>,
     "What reads the packets: programs in the kernel (bpf), or libpcap, which needs CAP_NET_RAW "
     "alone. auto takes bpf where it loads."},
    {"capture.hook", kCapture, kEnum<&Config::capture_hook, kCaptureHookValues>,
     "Which kernel hook reads the packets for the bpf engine. auto chooses by interface."},

    {"read", kOffline, kReadFiles,
     "Capture file to split into flows instead of capturing: pcap or pcapng, also .gz or .zst; - "
     "is standard input. May be repeated; further names may follow without a flag. Needs no "
     "privilege."},
    {"uuids", kOffline, kPath<&Config::uuids_file, ParseFileName>,
     "File with the events of tcp-info that were recorded beside the capture, one JSON object a "
     "line, to name flows by."},
    {"write.all", kOffline, kBool<&Config::write_all>,
     "Also keep flows whose handshake is not in the capture."},

    {"datadir", kFiles, kPath<&Config::data_dir>,
     "The directory to which data is written. It is created if need be, with its parents.",
     kCommon},
    {"stream", kFiles, kBool<&Config::stream>,
     "Write to disk while a flow is captured, not only at its end."},
    {"compress", kFiles, kEnum<&Config::compress, kCompressValues>,
     "How files are compressed: not at all (.pcap), by gzip (.pcap.gz) or zstd (.pcap.zst).",
     kCommon},
    {"index", kFiles, kBool<&Config::index>,
     "Write a line of JSON for each file to index-<host>-<start>.jsonl beside it: who talked with "
     "whom, when, how much, and how it went."},
    {"durability", kFiles, kEnum<&Config::durability, kDurabilityValues>,
     "What a file survives once it has its name: sync, a power cut; rename, a crash of the daemon "
     "only, which costs less."},
    {"filemode", kFiles, kMode<&Config::file_mode>, "Permissions of files, whatever the umask."},
    {"datadirmode", kFiles, kMode<&Config::data_dir_mode>,
     "Permissions of the folders that are made for them."},
    {"anonymize.ip", kFiles, kEnum<&Config::anonymize_ip, kAnonymizeIpValues>,
     "How to anonymize IP addresses that are not the host's own: none, netblock or cryptopan. "
     "netblock keeps the first three "
     "bytes of an IPv4 address (/24) and the first six of an IPv6 address (/48); cryptopan "
     "replaces addresses by others that share a prefix where they did (Crypto-PAn). In capture "
     "files no address is the host's own.",
     kCommon},
    {"anonymize.keyfile", kFiles, kPath<&Config::anonymize_key_file, ParseFileName>,
     "File with the key of cryptopan: 32 bytes, or 64 hexadecimal digits. Only its owner may be "
     "able to read it."},

    {"uuid-prefix-file", kNames, kPath<&Config::uuid_prefix_file, ParseFileName>,
     "File that holds the UUID prefix. Without one, the prefix is made of the host name and the "
     "boot time and marked \"unsafe\".",
     kCommon},
    {"uuid.source", kNames, kEnum<&Config::uuid_source, kUuidSourceValues>,
     "Where UUIDs come from: tcpinfo, its events, and flows without one are not saved; socket, the "
     "kernel's socket cookies; auto, tcp-info where there is an event socket, and the cookie for "
     "what it does not announce."},
    {"uuidwaitduration", kNames, kDuration<&Config::uuid_wait_duration>,
     "How long a flow waits for its UUID. At most captureduration, to which the default is "
     "lowered."},
    {"tcpinfo.eventsocket", kNames, kPath<&Config::tcpinfo_event_socket>,
     "The event socket of tcp-info, from which UUIDs are learned.", kCommon},
    {"eventsocket.serve", kNames, kPath<&Config::event_socket_serve>,
     "Path of a socket on which to serve the events of tcp-info to other programs of this host."},
    {"eventsocket.mode", kNames, kMode<&Config::event_socket_mode>,
     "Permissions of that socket: who may write to it may connect."},

    {"maxflows", kLimits, kInt<&Config::max_flows>,
     "The most flows at one time; when there are that many, new ones are ignored. 0 is no limit."},
    {"maxheap", kLimits, kByteCount<&Config::max_heap_bytes>,
     "Above this much memory no new flows are taken. At least 4MB.", kCommon},
    {"maxidleram", kLimits, kByteCount<&Config::max_idle_ram_bytes>,
     "Idle memory above this goes back to the operating system."},
    {"capture.ringsize", kLimits, kByteCount<&Config::ring_size_bytes>,
     "Size of the buffer between the kernel and each shard, rounded up to a power of two and at "
     "least one page. With libpcap every interface has one for each direction; the n-th gets an "
     "n-th of this, and 2 MiB at least."},
    {"shards", kLimits, kInt<&Config::shards, ParseShards>,
     "How many threads share the flows among them, 0 to 64. 0 chooses by the number of cores; "
     "libpcap has one."},

    {"prometheusx.listen-address", kService, kAddress<&Config::metrics_address>,
     "Where to serve a status page (/), /flows, /metrics, /healthz and /readyz over HTTP.",
     kCommon},
    {"http.expose", kService, kEnum<&Config::http_expose, kHttpExposeValues>,
     "What other hosts are served there: metrics, which are /metrics, /healthz and /readyz; or "
     "all, which shows the addresses of all flows to everybody who can connect. This host is "
     "always served all."},
    {"log.format", kService, kEnum<&Config::log_format, kLogFormatValues>,
     "How log lines are written to stderr: text, or json, one object a line. With text a terminal "
     "also shows a line of what is going on."},
    {"health.patience", kService, kDuration<&Config::thread_patience>,
     "A thread that shows no sign of life for this long has stopped: /healthz says so, and "
     "systemd's watchdog restarts the service. The thread that writes files has six times as long, "
     "for disks may be slow. At least 2s."},
    {"user", kService, kUser<&Config::user>,
     "The user to become at start, by name or number, when started as root. Its primary group and "
     "no other is taken."},
    {"sandbox", kService, kEnum<&Config::sandbox, kSandboxValues>,
     "Whether to give up all rights that are not needed once capturing: require fails where the "
     "kernel can't do all of it, auto takes what there is, off keeps them."},
    {"sandbox.selftest", kService, kBool<&Config::sandbox_selftest>,
     "Let each thread try what the sandbox forbids, log whether it was refused, and go on."},
    {"sigtermwait", kService, kDuration<&Config::sigterm_wait>,
     "How long to go on capturing after SIGTERM or Ctrl-C before the flows are saved."},

    {"flows", kLook, kBool<&Config::show_flows>,
     "Print the flows that a running daemon is capturing, instead of capturing. It is asked at "
     "-prometheusx.listen-address. Needs no privilege."},
    {"watch", kLook, kBool<&Config::watch>,
     "Go on printing, every two seconds, the flows with the most bytes."},
};

}  // namespace

absl::Span<const Flag> Flags() { return kFlags; }

const Flag* FindFlag(absl::string_view name) {
  for (const Flag& flag : kFlags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

std::string Flag::value_name() const {
  return type.choices == nullptr ? std::string(type.placeholder)
                                 : absl::StrJoin(type.choices(), "|");
}

std::string EnvironmentName(absl::string_view flag_name) {
  if (flag_name == "user") return "PACKET_HEADERS_USER";  // USER is whoever logged in
  std::string name = absl::AsciiStrToUpper(flag_name);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !absl::ascii_isalnum(c); }, '_');
  return name;
}

}  // namespace packet_headers
