// Names of files that come from outside: UUIDs, their prefixes, and what prefixes are made of.
// Eight bytes of a cookie, then a text.

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "tests/fuzz/fuzz.h"
#include "user/identity/uuid.h"

namespace packet_headers::fuzz {
namespace {

bool MayBeFileName(absl::string_view text) {
  if (text.empty() || text.size() > 128 || text == "." || text == "..") return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

void CheckPrefix(const std::string& prefix, uint64_t cookie) {
  const std::string uuid = UuidFromCookie(prefix, cookie);
  FUZZ_CHECK(MayBeFileName(uuid));
  FUZZ_CHECK(PrefixOf(uuid, cookie) == prefix);
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers;
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const auto cookie = input.Number<uint64_t>();
  const absl::string_view text = input.Rest();

  FUZZ_CHECK(IsValidUuid(text) == MayBeFileName(text));
  const absl::string_view prefix_of_text = PrefixOf(text, cookie);
  if (!prefix_of_text.empty()) FUZZ_CHECK(UuidFromCookie(prefix_of_text, cookie) == text);

  const absl::StatusOr<std::string> from_file = ReadUuidPrefix(MemoryFile(text).path());
  if (from_file.ok()) CheckPrefix(*from_file, cookie);

  // A host name up to the first line's end, then what /proc/uptime says.
  const size_t end = std::min(text.find('\n'), text.size());
  const absl::StatusOr<std::string> made =
      UnsafeUuidPrefix(text.substr(0, end), text.substr(std::min(end + 1, text.size())),
                       absl::FromUnixSeconds(1'790'000'000));
  if (made.ok()) CheckPrefix(*made, cookie);

  ph_flow_key key = {};
  std::memcpy(&key, text.data(), std::min(text.size(), sizeof(key)));
  FUZZ_CHECK(MayBeFileName(UuidFromTuple(key, static_cast<int64_t>(cookie))));
  return 0;
}
