#include "user/service/metrics.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "packet_headers/counters.h"
#include "prometheus/metric_family.h"
#include "spdlog/spdlog.h"
#include "user/output/unique_fd.h"

namespace packet_headers {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr const char* kDirectionNames[PH_DIRECTIONS] = {"ingress", "egress"};

struct Reason {
  ph_counter counter;
  const char* name;
};
#define PH_REASON(enumerator, name, meaning) {enumerator, #name},
constexpr Reason kReasons[] = {PH_KERNEL_REASONS(PH_REASON) PH_USER_REASONS(PH_REASON)};
#undef PH_REASON

// Packets seen that are neither saved nor counted under a reason. At rest they are none; while the
// daemon runs they are those that wait in rings, flows and files.
int64_t Unaccounted(const CounterArray& counters) {
  auto left = static_cast<int64_t>(counters[PH_SEEN]) - static_cast<int64_t>(counters[PH_SAVED]);
  for (const Reason& reason : kReasons) left -= static_cast<int64_t>(counters[reason.counter]);
  return left;
}

// The families of one scrape.
class Scrape {
 public:
  // Begins a family; Add() goes to the last one.
  Scrape& Family(const char* name, MetricType type, const char* help) {
    families_.push_back({name, help, type, {}});
    return *this;
  }

  Scrape& Add(double value, Labels labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (families_.back().type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    families_.back().metric.push_back(std::move(metric));
    return *this;
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  std::vector<MetricFamily> families_;
};

// One number of all shards.
template <typename Number>
double Sum(const Observed& observed, std::atomic<Number> FlowStats::*number) {
  Number sum = 0;
  for (const auto& shard : observed.shards) {
    sum += (shard->stats().*number).load(std::memory_order_relaxed);
  }
  return static_cast<double>(sum);
}

class Collector : public prometheus::Collectable {
 public:
  explicit Collector(const Observed& observed) : observed_(observed) {}

  std::vector<MetricFamily> Collect() const override {
    const auto books = ReadBooks(observed_);
    Scrape scrape;
    AddBooks(books, scrape);
    AddFlows(scrape);
    AddFiles(scrape);
    AddKernel(scrape);
    AddCompatible(books, scrape);
    return scrape.Take();
  }

 private:
  using BooksByName = absl::btree_map<std::string, CountersByDirection>;

  static void AddBooks(const BooksByName& books, Scrape& scrape) {
    const auto each = [&books](auto use) {
      for (const auto& [name, counters] : books) {
        for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
          use(Labels{{"interface", name}, {"direction", kDirectionNames[direction]}},
              counters[direction]);
        }
      }
    };
    scrape.Family("packet_headers_packets_seen_total", MetricType::Counter,
                  "Packets that passed the hooks.");
    each([&](Labels labels, const CounterArray& counters) {
      scrape.Add(counters[PH_SEEN], std::move(labels));
    });
    scrape.Family("packet_headers_packets_saved_total", MetricType::Counter,
                  "Packets whose headers are in a published file.");
    each([&](Labels labels, const CounterArray& counters) {
      scrape.Add(counters[PH_SAVED], std::move(labels));
    });
    scrape.Family("packet_headers_packets_pending", MetricType::Gauge,
                  "Packets seen, neither saved nor given up yet.");
    each([&](Labels labels, const CounterArray& counters) {
      scrape.Add(Unaccounted(counters), std::move(labels));
    });
    scrape.Family("packet_headers_packets_not_saved_total", MetricType::Counter,
                  "Packets that were not saved, by the reason why.");
    each([&](const Labels& labels, const CounterArray& counters) {
      for (const Reason& reason : kReasons) {
        Labels with_reason = labels;
        with_reason.push_back({"reason", reason.name});
        scrape.Add(counters[reason.counter], std::move(with_reason));
      }
    });
  }

  void AddFlows(Scrape& scrape) const {
    scrape.Family("packet_headers_flows", MetricType::Gauge, "Flows in memory, by state.")
        .Add(Sum(observed_, &FlowStats::embryonic), {{"state", "embryonic"}})
        .Add(Sum(observed_, &FlowStats::capturing), {{"state", "capturing"}})
        .Add(Sum(observed_, &FlowStats::ended), {{"state", "ended"}});
    scrape
        .Family("packet_headers_settled_flows", MetricType::Gauge,
                "Flows whose packets the kernel counts without handing them on.")
        .Add(observed_.capture.settled_flows().count());
    scrape
        .Family("packet_headers_flows_refused_total", MetricType::Counter,
                "Flows that were not captured for lack of room, by the flag that sets it.")
        .Add(Sum(observed_, &FlowStats::refused_by_limit), {{"limit", "maxflows"}})
        .Add(Sum(observed_, &FlowStats::refused_by_memory), {{"limit", "maxheap"}});
    scrape
        .Family("packet_headers_memory_bytes", MetricType::Gauge,
                "Memory of flows and their headers; limit is -maxheap.")
        .Add(observed_.budget.used_bytes(), {{"kind", "used"}})
        .Add(Sum(observed_, &FlowStats::mapped_bytes), {{"kind", "slabs"}})
        .Add(Sum(observed_, &FlowStats::idle_bytes), {{"kind", "idle"}})
        .Add(observed_.budget.limit_bytes(), {{"kind", "limit"}});
  }

  void AddFiles(Scrape& scrape) const {
    const PublisherStats& stats = observed_.publisher.stats();
    scrape
        .Family("packet_headers_files_published_total", MetricType::Counter,
                "Files that are safe under their names.")
        .Add(stats.files_published);
    scrape
        .Family("packet_headers_files_failed_total", MetricType::Counter,
                "Files that could not be saved.")
        .Add(stats.files_failed);
    scrape
        .Family("packet_headers_file_names_taken_total", MetricType::Counter,
                "Files that got a number in their name, since the name was there already.")
        .Add(stats.names_taken);
    scrape
        .Family("packet_headers_times_raised_total", MetricType::Counter,
                "Records of long flows that came late and got the time of the record before.")
        .Add(stats.times_raised);
    scrape
        .Family("packet_headers_bytes_written_total", MetricType::Counter,
                "Bytes of records written to files.")
        .Add(stats.bytes_written);
    scrape
        .Family("packet_headers_files_waiting", MetricType::Gauge,
                "Files, or parts of them, that wait to be written.")
        .Add(observed_.publisher.waiting());
  }

  void AddKernel(Scrape& scrape) const {
    scrape.Family("packet_headers_interface_attached", MetricType::Gauge,
                  "1 where our program is attached, by its hook.");
    for (const AttachedInterfaces::Status& interface : observed_.interfaces.Attached()) {
      scrape.Add(1, {{"interface", interface.name},
                     {"direction", kDirectionNames[PH_INGRESS]},
                     {"hook", HookName(interface.ingress)}});
      scrape.Add(1, {{"interface", interface.name},
                     {"direction", kDirectionNames[PH_EGRESS]},
                     {"hook", HookName(interface.egress)}});
    }
    scrape.Family("packet_headers_ring_used_bytes", MetricType::Gauge,
                  "Bytes of records that wait in the ring of a shard.");
    for (uint32_t shard = 0; shard < observed_.shards.size(); ++shard) {
      scrape.Add(observed_.capture.RingUsed(shard), {{"shard", absl::StrCat(shard)}});
    }
    scrape.Family("packet_headers_ring_size_bytes", MetricType::Gauge, "Size of each shard's ring.")
        .Add(observed_.capture.ring_bytes());
    scrape.Family("packet_headers_build_info", MetricType::Gauge, "1, with the version.")
        .Add(1, {{"version", PACKET_HEADERS_VERSION}});
  }

  // Those of m-lab/packet-headers that have a true value here.
  void AddCompatible(const BooksByName& books, Scrape& scrape) const {
    uint64_t bad = 0;
    uint64_t ignored = 0;
    for (const auto& [name, directions] : books) {
      for (const CounterArray& counters : directions) {
        for (const ph_counter counter :
             {PH_TRUNCATED, PH_MALFORMED_IP, PH_MALFORMED_TCP, PH_HEADER_TOO_LONG, PH_BAD_RECORD}) {
          bad += counters[counter];
        }
        ignored += counters[PH_FLOW_LIMIT];
      }
    }
    scrape
        .Family("pcap_saver_starts_total", MetricType::Counter,
                "How many flows have started to be saved.")
        .Add(Sum(observed_, &FlowStats::captures_started));
    scrape
        .Family("pcap_saver_stops_total", MetricType::Counter,
                "How many flows have been terminated and saved.")
        .Add(Sum(observed_, &FlowStats::captures_finished));
    scrape
        .Family("pcap_saver_skipped_total", MetricType::Counter,
                "How many flows were never saved due to configured memory limits.")
        .Add(Sum(observed_, &FlowStats::refused_by_memory));
    scrape
        .Family("pcap_demuxer_bad_packets_total", MetricType::Counter,
                "How many packets has the demuxer received that it could not process.  This "
                "should always be zero.")
        .Add(bad);
    scrape
        .Family("pcap_demuxer_ignored_total", MetricType::Counter,
                "How many packets or UUIDs were ignored due to the configured flow limit.")
        .Add(ignored);
    scrape
        .Family("pcap_demuxer_savers_garbage_collected_total", MetricType::Counter,
                "How many savers have been garbage collected.")
        .Add(Sum(observed_, &FlowStats::expired));
    scrape
        .Family("pcap_demuxer_savers_active", MetricType::Gauge,
                "How many savers were still active after the most recent garbage collection round")
        .Add(Sum(observed_, &FlowStats::capturing));
    scrape
        .Family("pcap_muxer_interfaces_with_captures", MetricType::Gauge,
                "How many interfaces currently have a packet capture running on them, according "
                "to the muxer.")
        .Add(observed_.interfaces.Attached().size());
  }

  const Observed observed_;
};

// Go's form of an address as civetweb wants it, after a try to bind that says why it can't be had.
absl::StatusOr<std::string> ListenAddress(const std::string& address) {
  const auto error = [&address](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("serve metrics on ", address, ": ", why,
                                                   " (-prometheusx.listen-address sets where)"));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return error("no port in it");
  std::string host = address.substr(0, colon);
  const std::string port = address.substr(colon + 1);
  int number = 0;
  if (!absl::SimpleAtoi(port, &number) || number < 0 || number > 65'535) {
    return error("its port is no number from 0 to 65535");
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  if (host.empty()) hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  const int failure =
      getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  if (failure != 0) return error(gai_strerror(failure));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);

  const UniqueFd probe(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (!probe.valid() || bind(probe.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      listen(probe.get(), 1) != 0) {
    return error(std::strerror(errno));
  }
  if (host.empty()) return port;
  char numeric[NI_MAXHOST];
  char numeric_port[NI_MAXSERV];
  getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), numeric_port,
              sizeof(numeric_port), NI_NUMERICHOST | NI_NUMERICSERV);
  return found->ai_family == AF_INET6 ? absl::StrCat("[", numeric, "]:", numeric_port)
                                      : absl::StrCat(numeric, ":", numeric_port);
}

}  // namespace

absl::Status CheckMetricsAddress(const std::string& address) {
  return ListenAddress(address).status();
}

absl::btree_map<std::string, CountersByDirection> ReadBooks(const Observed& observed) {
  absl::flat_hash_map<uint32_t, CountersByDirection> user;
  for (const auto& shard : observed.shards) shard->books().AddTo(user);
  return observed.interfaces.Join(user);
}

void LogBooks(const absl::btree_map<std::string, CountersByDirection>& books) {
  for (const auto& [name, directions] : books) {
    for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
      const CounterArray& counters = directions[direction];
      std::string line =
          absl::StrCat("books: interface=", name, " direction=", kDirectionNames[direction],
                       " seen=", counters[PH_SEEN], " saved=", counters[PH_SAVED]);
      for (const Reason& reason : kReasons) {
        if (counters[reason.counter] == 0) continue;
        absl::StrAppend(&line, " ", reason.name, "=", counters[reason.counter]);
      }
      const int64_t unaccounted = Unaccounted(counters);
      absl::StrAppend(&line, " unaccounted=", unaccounted);
      spdlog::log(unaccounted == 0 ? spdlog::level::info : spdlog::level::err, "{}", line);
    }
  }
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    const Observed& observed) {
  absl::StatusOr<std::string> where = ListenAddress(address);
  if (!where.ok()) return where.status();
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->collector_ = std::make_shared<Collector>(observed);
  try {
    server->exposer_ = std::make_unique<prometheus::Exposer>(*where, /*num_threads=*/2);
  } catch (const std::exception& failure) {
    return absl::InternalError(absl::StrCat("serve metrics on ", address, ": ", failure.what()));
  }
  server->exposer_->RegisterCollectable(server->collector_);
  return server;
}

int MetricsServer::port() const { return exposer_->GetListeningPorts().front(); }

}  // namespace packet_headers
