// What an event socket sends. First byte: in pieces of how many bytes it comes.

#include <string>
#include <variant>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "user/identity/line_splitter.h"
#include "user/identity/socket_event.h"
#include "user/identity/uuid.h"

namespace packet_headers::fuzz {
namespace {

struct Split {
  std::vector<std::string> lines;
  size_t oversized = 0;
  std::string rest;
};

Split SplitInPieces(absl::string_view stream, size_t piece_bytes) {
  LineSplitter splitter;
  Split split;
  while (!stream.empty()) {
    split.oversized +=
        splitter.Feed(stream.substr(0, piece_bytes), [&split](absl::string_view line) {
          FUZZ_CHECK(line.size() <= LineSplitter::kMaxLineBytes);
          FUZZ_CHECK(line.find('\n') == absl::string_view::npos);
          split.lines.emplace_back(line);
        });
    stream.remove_prefix(std::min(piece_bytes, stream.size()));
    FUZZ_CHECK(splitter.rest().size() <= LineSplitter::kMaxLineBytes);
  }
  split.rest = std::string(splitter.rest());
  return split;
}

bool IsSame(const Announcement& a, const Announcement& b) {
  return std::memcmp(&a.key, &b.key, sizeof(a.key)) == 0 && a.cookie == b.cookie &&
         a.time_ns == b.time_ns && a.uuid == b.uuid;
}

void CheckLine(absl::string_view line) {
  const SocketEvent event = DecodeSocketEvent(line);
  const auto* const announcement = std::get_if<Announcement>(&event);
  if (announcement == nullptr) return;
  FUZZ_CHECK(IsValidUuid(announcement->uuid));
  // The day may be that of another time zone.
  const absl::CivilDay utc =
      absl::ToCivilDay(absl::FromUnixNanos(announcement->time_ns), absl::UTCTimeZone());
  FUZZ_CHECK(announcement->date >= utc - 1 && announcement->date <= utc + 1);

  const std::string written = EncodeOpen(*announcement, /*bound_ifindex=*/0);
  const SocketEvent again = DecodeSocketEvent(written);
  FUZZ_CHECK(std::holds_alternative<Announcement>(again));
  FUZZ_CHECK(IsSame(std::get<Announcement>(again), *announcement));
  FUZZ_CHECK(std::get<Announcement>(again).date == utc);
  const SocketEvent close =
      DecodeSocketEvent(EncodeClose(announcement->time_ns, announcement->uuid));
  FUZZ_CHECK(std::holds_alternative<ClosedSocket>(close));
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const size_t piece_bytes = input.Byte() + size_t{1};
  const absl::string_view stream = input.Rest();
  const Split split = SplitInPieces(stream, piece_bytes);
  const Split whole = SplitInPieces(stream, stream.size() + 1);
  FUZZ_CHECK(split.lines == whole.lines && split.rest == whole.rest);
  FUZZ_CHECK(split.oversized == whole.oversized);
  for (const std::string& line : split.lines) CheckLine(line);
  CheckLine(split.rest);
  return 0;
}
