// Command line and environment: an argument a line, then an empty line, then a NAME=value a line.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/fuzz/fuzz.h"
#include "user/config/config.h"

namespace packet_headers::fuzz {
namespace {

using Environment = std::map<std::string, std::string>;

absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& arguments,
                                  const Environment& environment) {
  std::vector<const char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
  return ParseCommandLine(pointers, [&environment](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

void CheckMessage(absl::string_view message) {
  FUZZ_CHECK(!message.empty());
  FUZZ_CHECK(message.find('\n') == absl::string_view::npos);
}

// What the log says at start must mean the same as what was given.
void CheckWayBack(const CommandLine& given) {
  const auto values = FlagValues(given.config);
  std::vector<std::string> arguments;
  for (const auto& [name, value] : values) {
    // What is empty was not set. Several files stand together, as people read them.
    if (value.empty() || name == "read") continue;
    arguments.push_back(absl::StrCat("-", name, "=", value));
  }
  for (const std::string& file : given.config.read_files) {
    arguments.push_back(absl::StrCat("-read=", file));
  }
  const absl::StatusOr<CommandLine> again = Parse(arguments, {});
  FUZZ_CHECK(again.ok());
  // The same but for paths that were set to nothing, whose defaults are another.
  const auto values_again = FlagValues(again->config);
  FUZZ_CHECK(values_again.size() == values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    FUZZ_CHECK(values_again[i] == values[i] || values[i].second.empty());
  }
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers;
  using namespace packet_headers::fuzz;
  std::vector<std::string> arguments;
  Environment environment;
  bool is_environment = false;
  // Neither can hold a null byte.
  std::string text(reinterpret_cast<const char*>(data), size);
  text.erase(std::remove(text.begin(), text.end(), '\0'), text.end());
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    is_environment |= line.empty();
    if (is_environment) {
      const std::pair<std::string, std::string> variable =
          absl::StrSplit(line, absl::MaxSplits('=', 1));
      environment.insert(variable);
    } else {
      arguments.emplace_back(line);
    }
  }
  const absl::StatusOr<CommandLine> given = Parse(arguments, environment);
  if (!given.ok()) {
    CheckMessage(given.status().message());
    return 0;
  }
  if (given->help_requested || given->version_requested) return 0;
  for (const std::string& warning : given->warnings) CheckMessage(warning);
  const absl::Status valid = Validate(given->config);
  if (!valid.ok()) CheckMessage(valid.message());
  CheckWayBack(*given);
  return 0;
}
