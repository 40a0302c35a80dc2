#include "user/service/status.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "nlohmann/json.hpp"
#include "user/base/scaled.h"
#include "user/service/books_report.h"

namespace packet_headers {
namespace {

using nlohmann::ordered_json;

// A host may have thousands, of which most see nothing.
constexpr size_t kMostInterfaces = 50;

int64_t Whole(double number) { return static_cast<int64_t>(number); }

ordered_json BooksJson(const CounterArray& total) {
  ordered_json books = {{"seen", total[PH_SEEN]},
                        {"saved", total[PH_SAVED]},
                        {"pending", Unaccounted(total)},
                        {"lost", Lost(total)},
                        {"not_saved", ordered_json::array()}};
  for (const Reason& reason : Reasons()) {
    books["not_saved"].push_back({{"reason", reason.name},
                                  {"meaning", reason.meaning},
                                  {"is_loss", reason.is_loss},
                                  {"packets", total[reason.counter]}});
  }
  return books;
}

// Those that have seen the most first.
ordered_json InterfacesJson(const Observed& observed, const BooksByName& books) {
  struct Row {
    AttachedInterfaces::Status status;
    CountersByDirection counters;
    uint64_t seen;
  };
  std::vector<Row> rows;
  for (AttachedInterfaces::Status& status : observed.interfaces.Attached()) {
    const auto found = books.find(status.name);
    const CountersByDirection counters =
        found == books.end() ? CountersByDirection() : found->second;
    rows.push_back({std::move(status), counters,
                    counters[PH_INGRESS][PH_SEEN] + counters[PH_EGRESS][PH_SEEN]});
  }
  absl::c_stable_sort(rows, [](const Row& a, const Row& b) { return a.seen > b.seen; });
  if (rows.size() > kMostInterfaces) rows.resize(kMostInterfaces);
  ordered_json interfaces = ordered_json::array();
  for (const Row& row : rows) {
    ordered_json interface = {{"name", row.status.name}};
    for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
      const CounterArray& counters = row.counters[direction];
      const Hook hook = direction == PH_INGRESS ? row.status.ingress : row.status.egress;
      interface[kDirectionNames[direction]] = {{"hook", HookName(hook)},
                                               {"seen", counters[PH_SEEN]},
                                               {"saved", counters[PH_SAVED]},
                                               {"lost", Lost(counters)}};
    }
    interfaces.push_back(std::move(interface));
  }
  return interfaces;
}

ordered_json FilesJson(const Publisher& publisher, int64_t now_ns) {
  const PublisherStats& stats = publisher.stats();
  ordered_json files = {{"published", stats.files_published.load()},
                        {"failed", stats.files_failed.load()},
                        {"waiting", publisher.waiting()},
                        {"stored_bytes", stats.bytes_stored.load()},
                        {"latest", ordered_json::array()}};
  for (const RecentFile& file : publisher.recent_files().Get()) {
    files["latest"].push_back({{"path", file.path},
                               {"bytes", file.bytes},
                               {"packets", file.packets},
                               {"age_seconds", Seconds(now_ns - file.published_ns)}});
  }
  return files;
}

ordered_json RingsJson(const Observed& observed) {
  ordered_json rings = ordered_json::array();
  for (uint32_t shard = 0; shard < observed.shards.size(); ++shard) {
    rings.push_back({{"used_bytes", observed.engine.BufferUsedBytes(shard)},
                     {"size_bytes", observed.engine.buffer_bytes()}});
  }
  return rings;
}

ordered_json SandboxJson(const Sandbox& sandbox) {
  return {{"capabilities", sandbox.capabilities()},
          {"no_new_privs", sandbox.no_new_privs()},
          {"dumpable", sandbox.undumpable()},
          {"landlock", sandbox.landlock()},
          {"seccomp", sandbox.seccomp()}};
}

}  // namespace

Sample TakeSample(const Observed& observed, int64_t now_ns) {
  const CounterArray total = TotalOf(ReadBooks(observed));
  return {
      .time_ns = now_ns,
      .packets_seen = total[PH_SEEN],
      .packets_saved = total[PH_SAVED],
      .packets_lost = Lost(total),
      .flows_begun = static_cast<uint64_t>(SumOf(observed.shards, &FlowStats::captures_started)),
      .flows_open = Whole(SumOf(observed.shards, &FlowStats::capturing)),
      .memory_bytes = observed.budget.used_bytes()};
}

std::string StatusJson(const std::string& host, const Observed& observed, const History& history,
                       const HttpAnswer& readiness, int64_t started_ns, int64_t now_ns) {
  const BooksByName books = ReadBooks(observed);
  ordered_json status = {
      {"host", host},
      {"version", PACKET_HEADERS_VERSION},
      {"is_ready", readiness.status == MHD_HTTP_OK},
      {"state", std::string(absl::StripAsciiWhitespace(readiness.body))},
      {"uptime_seconds", Seconds(now_ns - started_ns)},
      {"engine", observed.engine.uses_bpf() ? "bpf" : "libpcap"},
      {"interfaces_attached", observed.interfaces.Attached().size()},
      {"interfaces", InterfacesJson(observed, books)},
      {"books", BooksJson(TotalOf(books))},
      {"flows",
       {{"embryonic", Whole(SumOf(observed.shards, &FlowStats::embryonic))},
        {"capturing", Whole(SumOf(observed.shards, &FlowStats::capturing))},
        {"ended", Whole(SumOf(observed.shards, &FlowStats::ended))},
        {"settled", observed.engine.settled_flows()}}},
      {"memory",
       {{"used_bytes", observed.budget.used_bytes()},
        {"idle_bytes", Whole(SumOf(observed.shards, &FlowStats::idle_bytes))},
        {"limit_bytes", observed.budget.limit_bytes()}}},
      {"rings", RingsJson(observed)},
      {"files", FilesJson(observed.publisher, now_ns)},
      {"sandbox", SandboxJson(observed.sandbox)},
  };
  ordered_json& samples = status["history"] = ordered_json::array();
  for (const Sample& sample : history.Get()) {
    samples.push_back({{"age_seconds", Seconds(now_ns - sample.time_ns)},
                       {"seen", sample.packets_seen},
                       {"saved", sample.packets_saved},
                       {"lost", sample.packets_lost},
                       {"flows_begun", sample.flows_begun},
                       {"flows_open", sample.flows_open}});
  }
  // Without a handler what is no UTF-8 would be an exception.
  return status.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

}  // namespace packet_headers
