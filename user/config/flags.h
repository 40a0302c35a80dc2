// The table of flags: parsing, the log of final values, the help and all other documents of the
// flags (flag_documents.cc) are read from it.

#ifndef PACKET_HEADERS_USER_CONFIG_FLAGS_H_
#define PACKET_HEADERS_USER_CONFIG_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "user/config/config.h"

namespace packet_headers {

// How a flag's text becomes a field of Config, and the way back.
struct FlagType {
  absl::string_view placeholder;  // what the help calls the value; empty = boolean
  // An error says what is wrong with the text and leaves it to the caller to say where it stood.
  absl::Status (*set)(absl::string_view text, Config& config);
  std::string (*get)(const Config& config);
  std::vector<absl::string_view> (*choices)() = nullptr;  // all values, where they are a few
};

struct Flag {
  absl::string_view name;
  absl::string_view group;  // heading in the help; flags of one group stand together
  FlagType type;
  absl::string_view help;  // its first sentence says it in short
  bool is_common = false;  // one of the few that the README tells

  // A boolean flag takes a value only after "=".
  bool is_boolean() const { return type.placeholder.empty(); }
  // "PATH", "auto|bpf|pcap"
  std::string value_name() const;
};

// How flags are written, for whoever reads a list of them.
inline constexpr absl::string_view kFlagSyntax =
    "A flag is written -flag=value, -flag value or --flag=value; a boolean one -flag or "
    "-flag=false. Each may instead be set by the environment variable named with it; the command "
    "line wins. A DURATION is a number with a unit (ns, us, ms, s, m or h), or several: 1m30s. "
    "BYTES may end in KB, MB or GB, which are powers of 1000.";

// All flags but -help, in the order of the help. A flag's default is `type.get(Config())`.
absl::Span<const Flag> Flags();

// Null when there is no such flag.
const Flag* FindFlag(absl::string_view name);

// "tcpinfo.eventsocket" -> "TCPINFO_EVENTSOCKET"; of -user it is PACKET_HEADERS_USER.
std::string EnvironmentName(absl::string_view flag_name);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CONFIG_FLAGS_H_
