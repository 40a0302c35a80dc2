#include "user/config/config.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "user/config/flags.h"
#include "user/config/go_values.h"
#include "user/config/host_and_port.h"

namespace packet_headers {
namespace {

constexpr size_t kUsageColumns = 80;

// The largest values that the two formats behind them can express.
constexpr int64_t kMaxPcapSnaplen = 262'144;
constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

// Enough for some slabs and some flows.
constexpr int64_t kMinHeapBytes = 4'000'000;
constexpr absl::Duration kMinPatience = absl::Seconds(2);  // some turns of a busy host's threads
constexpr int64_t kMaxRingBytes = int64_t{1} << 31;  // the largest power of two in max_entries

// Of a name that is taken for that of a flag.
constexpr size_t kLettersPerTypo = 3;

std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
}

// An argument that begins with "-", taken apart.
struct FlagArgument {
  absl::string_view name;
  std::optional<absl::string_view> value;  // what follows the first "="
};

absl::StatusOr<FlagArgument> SplitFlagArgument(absl::string_view argument) {
  absl::string_view name = argument;
  absl::ConsumePrefix(&name, "-");
  absl::ConsumePrefix(&name, "-");
  if (name.empty() || name.front() == '-' || name.front() == '=') {
    return absl::InvalidArgumentError(
        absl::StrCat("bad flag syntax: ", absl::Utf8SafeCEscape(argument)));
  }
  const size_t equals = name.find('=');
  if (equals == absl::string_view::npos) return FlagArgument{name, std::nullopt};
  return FlagArgument{name.substr(0, equals), name.substr(equals + 1)};
}

// How many letters to insert, delete or replace (Levenshtein).
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

absl::Status UnknownFlag(absl::string_view name) {
  const auto distance = [name](const Flag& flag) { return Distance(name, flag.name); };
  const auto nearest =
      std::min_element(Flags().begin(), Flags().end(),
                       [&](const Flag& a, const Flag& b) { return distance(a) < distance(b); });
  return absl::InvalidArgumentError(
      absl::StrCat("flag provided but not defined: -", absl::Utf8SafeCEscape(name),
                   distance(*nearest) * kLettersPerTypo <= name.size()
                       ? absl::StrCat(" (did you mean -", nearest->name, "?)")
                       : ""));
}

// Go's flag package stops at the first argument that is not a flag and leaves it to the program;
// the Go program then ignored it, and all that followed. That captures something else than was
// asked for, so here it is an error. `of_flag` is the boolean flag whose value it was meant to be,
// or null.
absl::Status UnexpectedArgument(absl::string_view argument, const Flag* of_flag,
                                const Config& config) {
  const std::string text = absl::Utf8SafeCEscape(argument);
  std::string message = absl::StrCat("unexpected argument '", text, "'");
  if (!argument.empty()) {
    const absl::string_view guess = of_flag != nullptr  ? of_flag->name
                                    : config.show_flows ? "prometheusx.listen-address"
                                    : absl::StrContains(text, ".pcap") ? "read"
                                                                       : "interface";
    const bool is_name =
        argument == "help" || argument == "version" || FindFlag(argument) != nullptr;
    absl::StrAppend(&message, " (did you mean -", is_name ? "" : absl::StrCat(guess, "="), text,
                    "?)");
  }
  return absl::InvalidArgumentError(message);
}

absl::Status BadValue(absl::string_view value, absl::string_view flag, const absl::Status& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid value ", Quote(value), " for flag -", flag, ": ", why.message()));
}

using FlagSet = std::set<const Flag*>;

// Applies the command line to `result`; the flags that it set are added to `given`.
absl::Status ApplyArguments(absl::Span<const char* const> args, CommandLine& result,
                            FlagSet& given) {
  const Flag* bare_boolean = nullptr;
  for (size_t i = 0; i < args.size(); ++i) {
    const absl::string_view argument = args[i];
    const bool ends_flags = argument == "--";
    if (ends_flags && ++i == args.size()) break;
    if (ends_flags || argument.size() < 2 || argument.front() != '-') {
      const bool is_value = bare_boolean != nullptr && ParseGoBool(argument).ok();
      if (result.config.read_files.empty() || is_value) {
        return UnexpectedArgument(args[i], is_value ? bare_boolean : nullptr, result.config);
      }
      for (const char* file : args.subspan(i, ends_flags ? args.npos : 1)) {
        result.config.read_files.emplace_back(file);
      }
      if (ends_flags) break;
      continue;
    }
    absl::StatusOr<FlagArgument> split = SplitFlagArgument(argument);
    if (!split.ok()) return split.status();
    if (split->name == "help" || split->name == "h") {
      result.help_requested = true;
      return absl::OkStatus();
    }
    if (split->name == "version") {
      const absl::StatusOr<bool> value = ParseGoBool(split->value.value_or("true"));
      if (!value.ok()) return BadValue(*split->value, split->name, value.status());
      bare_boolean = nullptr;
      if (!*value) continue;
      result.version_requested = true;
      return absl::OkStatus();
    }
    const Flag* flag = FindFlag(split->name);
    if (flag == nullptr) return UnknownFlag(split->name);
    bare_boolean = !split->value && flag->is_boolean() ? flag : nullptr;
    if (bare_boolean != nullptr) split->value = "true";
    if (!split->value) {
      if (++i == args.size()) {
        return absl::InvalidArgumentError(absl::StrCat("flag needs an argument: -", flag->name));
      }
      split->value = args[i];
    }
    const absl::Status set = flag->type.set(*split->value, result.config);
    if (!set.ok()) return BadValue(*split->value, flag->name, set);
    given.insert(flag);
  }
  return absl::OkStatus();
}

// Applies the environment to the flags that are not in `given`, adds them to it, and warns where it
// loses to those that are.
absl::Status ApplyEnvironment(const std::function<const char*(const char*)>& getenv,
                              CommandLine& result, FlagSet& given) {
  for (const Flag& flag : Flags()) {
    const std::string variable = EnvironmentName(flag.name);
    const char* const value = getenv(variable.c_str());
    if (value == nullptr) continue;
    if (!given.insert(&flag).second) {
      result.warnings.push_back(absl::StrCat(
          "-", flag.name, "=", Quote(flag.type.get(result.config)),
          " on the command line wins over ", variable, "=", Quote(value), " in the environment"));
      continue;
    }
    const absl::Status set = flag.type.set(value, result.config);
    if (!set.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("invalid value ", Quote(value),
                                                     " for environment variable ", variable,
                                                     " (flag -", flag.name, "): ", set.message()));
    }
  }
  return absl::OkStatus();
}

// Appends `text`, broken between words and indented, as whole lines.
void AppendWrapped(absl::string_view text, size_t indent, std::string& out) {
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > 0 && column + 1 + word.size() > kUsageColumns) {
      out += '\n';
      column = 0;
    }
    const size_t gap = column == 0 ? indent : 1;
    absl::StrAppend(&out, std::string(gap, ' '), word);
    column += gap + word.size();
  }
  out += '\n';
}

void AppendFlagUsage(const Flag& flag, std::string& out) {
  const std::string default_value = flag.type.get(Config());
  absl::StrAppend(&out, "\n  -", flag.name, flag.is_boolean() ? "" : "=", flag.value_name(), "\n");
  AppendWrapped(flag.help, 6, out);
  AppendWrapped(absl::StrCat("(default ", default_value.empty() ? "none" : default_value,
                             "; environment ", EnvironmentName(flag.name), ")"),
                6, out);
}

absl::Status RequireDuration(absl::string_view flag, absl::Duration value, bool zero_allowed) {
  if (value > absl::ZeroDuration() || (zero_allowed && value == absl::ZeroDuration())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("-", flag, "=", FormatGoDuration(value),
                   zero_allowed ? " is negative" : " must be more than 0"));
}

absl::Status RequireRange(absl::string_view flag, int64_t value, int64_t min, int64_t max,
                          std::string (*format)(int64_t)) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "-", flag, "=", format(value), value < min ? " must be at least " : " must be at most ",
      format(value < min ? min : max)));
}

std::string FormatCount(int64_t count) { return absl::StrCat(count); }

absl::Status ValidateLive(const Config& config) {
  if (!config.uuids_file.empty() || config.write_all) {
    return absl::InvalidArgumentError(absl::StrCat("-", config.write_all ? "write.all" : "uuids",
                                                   " is for capture files: name them with -read"));
  }
  if (const absl::Status status = SplitHostAndPort(config.metrics_address).status(); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("-prometheusx.listen-address=", absl::Utf8SafeCEscape(config.metrics_address),
                     ": ", status.message()));
  }
  if (config.uuid_source == UuidSource::kTcpinfo && config.tcpinfo_event_socket.empty()) {
    return absl::InvalidArgumentError(
        "-uuid.source=tcpinfo needs -tcpinfo.eventsocket: no flow would be saved without it");
  }
  return absl::OkStatus();
}

absl::Status ValidateOffline(const Config& config) {
  const Config defaults;
  const std::pair<bool, absl::string_view> live_only[] = {
      {!config.interfaces.empty(), "interface"},
      {config.capture_engine != defaults.capture_engine, "capture.engine"},
      {config.capture_hook != defaults.capture_hook, "capture.hook"},
      {!config.tcpinfo_event_socket.empty(), "tcpinfo.eventsocket"},
      {!config.event_socket_serve.empty(), "eventsocket.serve"},
  };
  for (const auto& [is_set, flag] : live_only) {
    if (!is_set) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("-", flag, " and -read exclude each other: files are not captured live (",
                     EnvironmentName(flag), " in the environment sets the flag, too)"));
  }
  if (config.uuid_source == UuidSource::kSocket) {
    return absl::InvalidArgumentError("-uuid.source=socket: a capture file has no sockets");
  }
  if (config.uuid_source == UuidSource::kTcpinfo && config.uuids_file.empty()) {
    return absl::InvalidArgumentError(
        "-uuid.source=tcpinfo needs -uuids: no flow would be saved without it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(
    absl::Span<const char* const> args, const std::function<const char*(const char*)>& getenv) {
  CommandLine result;
  FlagSet given;
  absl::Status status = ApplyArguments(args, result, given);
  if (status.ok() && !result.help_requested && !result.version_requested) {
    status = ApplyEnvironment(getenv, result, given);
  }
  if (!status.ok()) return status;
  // Its default contradicts nobody.
  if (given.count(FindFlag("uuidwaitduration")) == 0) {
    result.config.uuid_wait_duration =
        std::min(result.config.uuid_wait_duration, result.config.capture_duration);
  }
  return result;
}

std::string Usage() {
  std::string out =
      "Usage: packet-headers [-flag=value ...]\n"
      "       packet-headers -read FILE... [-flag=value ...]\n"
      "       packet-headers -flows [-watch]\n\n";
  AppendWrapped(
      "Saves the headers of every TCP packet of this host, or of capture files, one pcap file for "
      "each flow.",
      0, out);
  out += '\n';
  AppendWrapped(kFlagSyntax, 0, out);
  absl::string_view group;
  for (const Flag& flag : Flags()) {
    if (flag.group != group) absl::StrAppend(&out, "\n", flag.group, ":\n");
    group = flag.group;
    AppendFlagUsage(flag, out);
  }
  out += "\n  -help, -h\n";
  AppendWrapped("Print this and exit.", 6, out);
  out += "\n  -version\n";
  AppendWrapped("Print the version and exit.", 6, out);
  return out;
}

std::vector<std::pair<std::string, std::string>> FlagValues(const Config& config) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Flag& flag : Flags()) {
    values.emplace_back(flag.name, flag.type.get(config));
  }
  return values;
}

absl::Status Validate(const Config& config) {
  for (const absl::Status& status : {
           RequireDuration("captureduration", config.capture_duration, /*zero_allowed=*/false),
           RequireDuration("flowtimeout", config.flow_timeout, /*zero_allowed=*/false),
           RequireDuration("sigtermwait", config.sigterm_wait, /*zero_allowed=*/true),
           RequireDuration("uuidwaitduration", config.uuid_wait_duration, /*zero_allowed=*/true),
           config.thread_patience >= kMinPatience
               ? absl::OkStatus()
               : absl::InvalidArgumentError(
                     absl::StrCat("-health.patience=", FormatGoDuration(config.thread_patience),
                                  " must be at least ", FormatGoDuration(kMinPatience))),
           RequireRange("maxflows", config.max_flows, 0, kUnbounded, FormatCount),
           RequireRange("maxheap", config.max_heap_bytes, kMinHeapBytes, kUnbounded,
                        FormatByteCount),
           RequireRange("maxheadersize", config.max_header_size, 1, kMaxPcapSnaplen, FormatCount),
           RequireRange("capture.ringsize", config.ring_size_bytes, 0, kMaxRingBytes,
                        FormatByteCount),
       }) {
    if (!status.ok()) return status;
  }
  if (config.uuid_wait_duration > config.capture_duration) {
    return absl::InvalidArgumentError(
        absl::StrCat("-uuidwaitduration=", FormatGoDuration(config.uuid_wait_duration),
                     " is longer than -captureduration=", FormatGoDuration(config.capture_duration),
                     "; it must be at most that"));
  }
  if (config.data_dir.empty()) {
    return absl::InvalidArgumentError("-datadir is empty; \".\" is the current directory");
  }
  if ((config.file_mode & 0600) != 0600 || (config.data_dir_mode & 0700) != 0700) {
    return absl::InvalidArgumentError(
        "-filemode must let the owner read and write (0600), -datadirmode also enter (0700): the "
        "daemon does");
  }
  if ((config.anonymize_ip == AnonymizeIp::kCryptopan) == config.anonymize_key_file.empty()) {
    return absl::InvalidArgumentError(
        "-anonymize.ip=cryptopan and -anonymize.keyfile need each other");
  }
  if (config.watch && !config.show_flows) {
    return absl::InvalidArgumentError("-watch is for -flows");
  }
  if (config.show_flows && !config.read_files.empty()) {
    return absl::InvalidArgumentError("-flows and -read exclude each other: a daemon is asked");
  }
  return config.read_files.empty() ? ValidateLive(config) : ValidateOffline(config);
}

}  // namespace packet_headers
