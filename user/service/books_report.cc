#include "user/service/books_report.h"

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace packet_headers {
namespace {

constexpr bool IsLoss(ph_counter counter) {
  switch (counter) {
    case PH_HEADER_TOO_LONG:
    case PH_RING_FULL:
    case PH_BAD_RECORD:
    case PH_LINK_MISMATCH:
    case PH_MEMORY_LIMIT:
    case PH_WRITE_ERROR:
      return true;
    default:
      return false;
  }
}

#define PH_REASON(enumerator, name, meaning) {enumerator, #name, meaning, IsLoss(enumerator)},
constexpr Reason kReasons[] = {PH_KERNEL_REASONS(PH_REASON) PH_USER_REASONS(PH_REASON)};
#undef PH_REASON

}  // namespace

absl::Span<const Reason> Reasons() { return kReasons; }

int64_t Unaccounted(const CounterArray& counters) {
  auto left = static_cast<int64_t>(counters[PH_SEEN]) - static_cast<int64_t>(counters[PH_SAVED]);
  for (const Reason& reason : kReasons) left -= static_cast<int64_t>(counters[reason.counter]);
  return left;
}

uint64_t Lost(const CounterArray& counters) {
  uint64_t lost = 0;
  for (const Reason& reason : kReasons) lost += reason.is_loss ? counters[reason.counter] : 0;
  return lost;
}

void LogBooks(const std::string& whose, const CounterArray& counters) {
  std::string line =
      absl::StrCat("books: ", whose, " seen=", counters[PH_SEEN], " saved=", counters[PH_SAVED]);
  for (const Reason& reason : kReasons) {
    if (counters[reason.counter] == 0) continue;
    absl::StrAppend(&line, " ", reason.name, "=", counters[reason.counter]);
  }
  const int64_t unaccounted = Unaccounted(counters);
  absl::StrAppend(&line, " unaccounted=", unaccounted);
  spdlog::log(unaccounted == 0 ? spdlog::level::info : spdlog::level::err, "{}", line);
}

void LogBalance(const CounterArray& total) {
  const uint64_t seen = total[PH_SEEN];
  const uint64_t saved = total[PH_SAVED];
  const int64_t unaccounted = Unaccounted(total);
  if (unaccounted == 0) {
    spdlog::info("the books close: {} packets seen = {} saved + {} not saved, of which {} are lost",
                 seen, saved, seen - saved, Lost(total));
  } else {
    spdlog::error("the books do not close: of {} packets seen {} are not accounted for", seen,
                  unaccounted);
  }
}

void LogFiles(const PublisherStats& stats) {
  uint64_t errors = 0;
  for (const std::atomic<uint64_t>& of_stage : stats.errors_by_stage) errors += of_stage;
  spdlog::log(stats.files_failed == 0 ? spdlog::level::info : spdlog::level::err,
              "saved {} files, {} failed{}", stats.files_published.load(),
              stats.files_failed.load(),
              errors == 0 ? "" : absl::StrCat(" (", errors, " errors, other tries included)"));
  if (stats.index_lines_lost > 0) {
    spdlog::error("{} lines of the index are lost", stats.index_lines_lost.load());
  }
  if (stats.names_taken > 0) {
    spdlog::warn("{} files got a number in their name, since the name was there already",
                 stats.names_taken.load());
  }
}

}  // namespace packet_headers
