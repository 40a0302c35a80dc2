#include "user/show_flows.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "user/base/scaled.h"
#include "user/base/screen.h"
#include "user/service/http_client.h"

namespace packet_headers {
namespace {

using nlohmann::json;

constexpr size_t kMostTextBytes = 160;
constexpr absl::Duration kPause = absl::Seconds(2);
constexpr size_t kWatchedRows = 20;  // where there is no screen to fill
constexpr int kOtherLines = 3;       // of a screen: headings, what is not shown, the cursor's

constexpr size_t kColumns = 7;
using Row = std::array<std::string, kColumns>;

const Row kHeadings = {"State", "Packets", "Bytes", "Age", "Local", "Remote", "UUID"};
constexpr bool kIsNumber[kColumns] = {false, true, true, true, false, false, false};
// Which make room for the rest where the screen is too narrow, one after the other: State, Age,
// Packets, Local, Bytes, Remote.
constexpr size_t kDispensable[] = {0, 3, 1, 4, 2, 5};

// Whoever answers may not be who was asked for: nothing that a terminal would obey is shown.
std::string Text(const json& flow, const char* name) {
  const auto found = flow.find(name);
  if (found == flow.end() || !found->is_string()) return "-";
  std::string text = found->get<std::string>().substr(0, kMostTextBytes);
  absl::c_replace_if(
      text, [](char c) { return !absl::ascii_isgraph(c); }, '?');
  return text;
}

double Number(const json& flow, const char* name) {
  const auto found = flow.find(name);
  return found != flow.end() && found->is_number() ? found->get<double>() : 0;
}

std::string End(const json& flow, const char* address, const char* port) {
  const std::string text = Text(flow, address);
  const int number = static_cast<int>(std::clamp(Number(flow, port), 0.0, 65'535.0));
  return absl::StrFormat(absl::StrContains(text, ':') ? "[%s]:%d" : "%s:%d", text, number);
}

std::string Age(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 120 * 60) return absl::StrFormat("%.0f min", seconds / 60);
  return absl::StrFormat("%.1f h", seconds / 3600);
}

struct Listing {
  std::vector<Row> rows;
  int64_t flows = 0;  // that there are
  std::string next;   // empty: there are no more
};

absl::StatusOr<Listing> Ask(const std::string& address, const std::string& path) {
  const std::string tried = absl::StrCat(
      "ask the daemon at ", absl::StartsWith(address, ":") ? "localhost" : "", address, ": ");
  const auto error = [&](absl::string_view why) {
    return absl::UnavailableError(absl::StrCat(
        tried, why, " (is packet-headers running, and is that its -prometheusx.listen-address?)"));
  };
  const absl::StatusOr<std::string> body = HttpGet(address, path);
  if (absl::IsFailedPrecondition(body.status())) {
    return absl::FailedPreconditionError(absl::StrCat(tried, body.status().message()));
  }
  if (!body.ok()) return error(absl::StripPrefix(body.status().message(), ": "));
  const json answer = json::parse(*body, /*cb=*/nullptr, /*allow_exceptions=*/false);
  const bool is_object = answer.is_object() && answer.contains("flows");
  if (!is_object || !answer["flows"].is_array() ||
      !absl::c_all_of(answer["flows"], [](const json& flow) { return flow.is_object(); })) {
    return error("its answer is no list of flows");
  }
  Listing listing;
  for (const json& flow : answer["flows"]) {
    listing.rows.push_back({Text(flow, "state"), ScaledCount(Number(flow, "packets")),
                            absl::StrCat(Scaled(Number(flow, "bytes")), "B"),
                            Age(Number(flow, "age_seconds")), End(flow, "local", "local_port"),
                            End(flow, "remote", "remote_port"), Text(flow, "uuid")});
  }
  const std::string next = Text(answer, "next");
  if (next != "-") listing.next = next;
  listing.flows = static_cast<int64_t>(std::clamp(Number(answer, "capturing"), 0.0, 1e15));
  return listing;
}

// A table that grows: its columns never get narrower.
class Table {
 public:
  void Fit(const Row& row) {
    for (size_t i = 0; i < kColumns; ++i) widths_[i] = std::max(widths_[i], row[i].size());
  }

  std::string Line(const Row& row, size_t most_columns) const {
    size_t left_out = 0;
    while (left_out < std::size(kDispensable) && Width(left_out) > most_columns) ++left_out;
    std::string line;
    for (size_t i = 0; i < kColumns; ++i) {
      if (IsLeftOut(i, left_out)) continue;
      const std::string gap(widths_[i] - row[i].size(), ' ');
      absl::StrAppend(&line, line.empty() ? "" : "  ", kIsNumber[i] ? gap : "", row[i],
                      kIsNumber[i] || i + 1 == kColumns ? "" : gap);
    }
    return absl::StrCat(line.substr(0, most_columns), "\n");
  }

 private:
  static bool IsLeftOut(size_t column, size_t left_out) {
    return absl::c_linear_search(absl::MakeSpan(kDispensable, left_out), column);
  }

  size_t Width(size_t left_out) const {
    size_t width = 0;
    for (size_t i = 0; i < kColumns; ++i) {
      if (!IsLeftOut(i, left_out)) width += (width == 0 ? 0 : 2) + widths_[i];
    }
    return width;
  }

  std::array<size_t, kColumns> widths_ = {};
};

std::string Format(const std::vector<Row>& rows, bool with_headings, size_t most_columns,
                   Table& table) {
  if (with_headings) table.Fit(kHeadings);
  for (const Row& row : rows) table.Fit(row);
  std::string text = with_headings ? table.Line(kHeadings, most_columns) : "";
  for (const Row& row : rows) text += table.Line(row, most_columns);
  return text;
}

void Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

absl::Status Watch(const std::string& address) {
  while (std::ferror(stdout) == 0) {
    const winsize screen = SizeOfScreen(STDOUT_FILENO);
    const bool is_screen = IsScreen(STDOUT_FILENO) && screen.ws_row > 0 && screen.ws_col > 0;
    const size_t rows = is_screen ? std::clamp(screen.ws_row - kOtherLines, 1, 1000) : kWatchedRows;
    const absl::StatusOr<Listing> listing =
        Ask(address, absl::StrCat("/flows?sort=bytes&limit=", rows));
    if (!listing.ok()) return listing.status();
    Table table;
    // From the top, and away with what was below.
    std::string text = is_screen ? "\x1b[H\x1b[J" : "";
    text += Format(listing->rows, /*with_headings=*/true,
                   is_screen ? screen.ws_col : std::string::npos, table);
    const int64_t more = listing->flows - static_cast<int64_t>(listing->rows.size());
    if (more > 0) absl::StrAppend(&text, "and ", more, " more\n");
    Print(text);
    absl::SleepFor(kPause);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ShowFlows(const Config& config) {
  if (config.watch) return Watch(config.metrics_address);
  Table table;
  std::string after = "0";
  for (bool is_first = true; !after.empty(); is_first = false) {
    const absl::StatusOr<Listing> listing =
        Ask(config.metrics_address, absl::StrCat("/flows?limit=1000&after=", after));
    if (!listing.ok()) return listing.status();
    Print(Format(listing->rows, is_first, std::string::npos, table));
    after = listing->next;
  }
  return absl::OkStatus();
}

}  // namespace packet_headers
