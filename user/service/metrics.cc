#include "user/service/metrics.h"

#include <utility>
#include <vector>

#include "packet_headers/counters.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"
#include "user/base/clock.h"
#include "user/base/out_of_memory.h"
#include "user/base/unique_fd.h"
#include "user/service/books_report.h"
#include "user/service/compatible_metrics.h"
#include "user/service/scrape.h"

namespace packet_headers {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

class Collector {
 public:
  explicit Collector(const Observed& observed) : observed_(observed) {}

  std::vector<MetricFamily> Collect() const {
    const auto books = ReadBooks(observed_);
    Scrape scrape;
    AddBooks(books, scrape);
    AddFlows(scrape);
    AddFiles(scrape);
    AddDistributions(scrape);
    AddKernel(scrape);
    AddEvents(scrape);
    AddThreads(scrape);
    AddSandbox(scrape);
    AddProcess(scrape);
    AddCompatibleMetrics(observed_, books, scrape);
    return scrape.Take();
  }

 private:
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
      for (const Reason& reason : Reasons()) {
        Labels with_reason = labels;
        with_reason.push_back({"reason", reason.name});
        scrape.Add(counters[reason.counter], std::move(with_reason));
      }
    });
  }

  void AddFlows(Scrape& scrape) const {
    scrape.Family("packet_headers_flows", MetricType::Gauge, "Flows in memory, by state.")
        .Add(SumOf(observed_.shards, &FlowStats::embryonic), {{"state", "embryonic"}})
        .Add(SumOf(observed_.shards, &FlowStats::capturing), {{"state", "capturing"}})
        .Add(SumOf(observed_.shards, &FlowStats::ended), {{"state", "ended"}});
    scrape
        .Family("packet_headers_settled_flows", MetricType::Gauge,
                "Flows whose packets the kernel counts without handing them on.")
        .Add(observed_.engine.settled_flows());
    scrape
        .Family("packet_headers_flows_refused_total", MetricType::Counter,
                "Flows that were not captured for lack of room, by the flag that sets it.")
        .Add(SumOf(observed_.shards, &FlowStats::refused_by_limit), {{"limit", "maxflows"}})
        .Add(SumOf(observed_.shards, &FlowStats::refused_by_memory), {{"limit", "maxheap"}});
    scrape
        .Family("packet_headers_flows_announced_total", MetricType::Counter,
                "Flows that tcp-info's announcement named.")
        .Add(SumOf(observed_.shards, &FlowStats::announced));
    scrape
        .Family("packet_headers_memory_bytes", MetricType::Gauge,
                "Memory of flows and their headers; limit is -maxheap.")
        .Add(observed_.budget.used_bytes(), {{"kind", "used"}})
        .Add(SumOf(observed_.shards, &FlowStats::mapped_bytes), {{"kind", "slabs"}})
        .Add(SumOf(observed_.shards, &FlowStats::idle_bytes), {{"kind", "idle"}})
        .Add(observed_.budget.limit_bytes(), {{"kind", "limit"}});
    scrape
        .Family("packet_headers_allocation_failures_total", MetricType::Counter,
                "How often the system refused memory, also where the next try got it.")
        .Add(AllocationFailures());
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
    scrape.Family("packet_headers_file_errors_total", MetricType::Counter,
                  "What failed in the making of files, also where the next try succeeded.");
    for (size_t stage = 0; stage < kFileStages; ++stage) {
      scrape.Add(stats.errors_by_stage[stage], {{"stage", std::string(kFileStageNames[stage])}});
    }
    const SalvageStats& salvaged = observed_.publisher.salvage_stats();
    scrape
        .Family("packet_headers_files_salvaged_total", MetricType::Counter,
                "Files that an earlier run left unfinished, by what became of them.")
        .Add(salvaged.files, {{"result", "saved"}})
        .Add(salvaged.removed, {{"result", "empty"}})
        .Add(salvaged.failed, {{"result", "failed"}});
    scrape
        .Family("packet_headers_packets_salvaged_total", MetricType::Counter,
                "Packets in the files that were saved of an earlier run.")
        .Add(salvaged.packets);
    scrape
        .Family("packet_headers_file_names_taken_total", MetricType::Counter,
                "Files that got a number in their name, since the name was there already.")
        .Add(stats.names_taken);
    scrape
        .Family("packet_headers_index_lines_total", MetricType::Counter,
                "Lines that the index has of files.")
        .Add(stats.index_lines);
    scrape
        .Family("packet_headers_index_lines_lost_total", MetricType::Counter,
                "Lines of the index that could not be written; their files are there.")
        .Add(stats.index_lines_lost);
    scrape
        .Family("packet_headers_times_raised_total", MetricType::Counter,
                "Records of long flows that came late and got the time of the record before.")
        .Add(stats.times_raised);
    scrape
        .Family("packet_headers_bytes_written_total", MetricType::Counter,
                "Bytes of records written to files.")
        .Add(stats.bytes_written);
    scrape
        .Family("packet_headers_bytes_stored_total", MetricType::Counter,
                "Bytes of files on the disk: with -compress fewer than were written to them.")
        .Add(stats.bytes_stored);
    scrape
        .Family("packet_headers_files_waiting", MetricType::Gauge,
                "Files, or parts of them, that wait to be written.")
        .Add(observed_.publisher.waiting());
  }

  void AddDistributions(Scrape& scrape) const {
    const Shards& shards = observed_.shards;
    scrape
        .Family("packet_headers_capture_delay_seconds", MetricType::Histogram,
                "From a packet's hook until its headers are buffered in user space.")
        .Add(EachOf(shards, &Shard::capture_delay), 1e9);
    scrape
        .Family("packet_headers_ring_fill_ratio", MetricType::Histogram,
                "How full a shard's ring is when it is drained.")
        .Add(EachOf(shards, &Shard::ring_fill), 1e6);
    scrape
        .Family("packet_headers_publish_latency_seconds", MetricType::Histogram,
                "From the end of a flow until its file has its name.")
        .Add({&observed_.publisher.stats().latency_ns}, 1e9);
    scrape
        .Family("packet_headers_flow_duration_seconds", MetricType::Histogram,
                "From the first to the last packet of flows whose capture is over.")
        .Add(EachOf(shards, &Shard::flow_duration), 1e9);
    scrape
        .Family("packet_headers_flow_packets", MetricType::Histogram,
                "Packets kept of flows whose capture is over.")
        .Add(EachOf(shards, &Shard::flow_packets), 1);
    scrape
        .Family("packet_headers_flow_bytes", MetricType::Histogram,
                "Bytes on the wire of the packets kept of flows whose capture is over.")
        .Add(EachOf(shards, &Shard::flow_bytes), 1);
  }

  void AddSandbox(Scrape& scrape) const {
    const Sandbox& sandbox = observed_.sandbox;
    scrape
        .Family(
            "packet_headers_sandbox", MetricType::Gauge,
            "1 for each part of the sandbox that is in force. Of capabilities: none is left but "
            "those of packet_headers_capability_kept.")
        .Add(sandbox.capabilities(), {{"part", "capabilities"}})
        .Add(sandbox.no_new_privs(), {{"part", "no_new_privs"}})
        .Add(sandbox.undumpable(), {{"part", "dumpable"}})
        .Add(sandbox.landlock(), {{"part", "landlock"}})
        .Add(sandbox.seccomp(), {{"part", "seccomp"}});
    scrape.Family("packet_headers_capability_kept", MetricType::Gauge,
                  "1 for each capability that the sandbox leaves, to attach to new interfaces.");
    for (const unsigned capability : sandbox.kept()) {
      scrape.Add(1, {{"capability", CapabilityName(capability)}});
    }
    scrape
        .Family("packet_headers_sandbox_breaches_total", MetricType::Counter,
                "What threads tried in -sandbox.selftest and was not refused.")
        .Add(static_cast<double>(sandbox.breaches()));
  }

  void AddEvents(Scrape& scrape) const {
    if (observed_.event_client != nullptr) {
      const EventClientStats& stats = observed_.event_client->stats();
      scrape
          .Family("packet_headers_tcpinfo_connected", MetricType::Gauge,
                  "1 while tcp-info's event socket is connected.")
          .Add(stats.connected);
      scrape
          .Family("packet_headers_tcpinfo_connects_total", MetricType::Counter,
                  "How often tcp-info's event socket was connected.")
          .Add(stats.connects);
      scrape
          .Family("packet_headers_tcpinfo_events_total", MetricType::Counter,
                  "Events from tcp-info.")
          .Add(stats.opens, {{"event", "open"}})
          .Add(stats.closes, {{"event", "close"}});
      scrape
          .Family("packet_headers_tcpinfo_uuids_disagreeing_total", MetricType::Counter,
                  "UUIDs from tcp-info that do not end in their socket's cookie.")
          .Add(observed_.announcer->disagreeing());
    }
    if (observed_.event_server != nullptr) {
      const EventServerStats& stats = observed_.event_server->stats();
      scrape
          .Family("packet_headers_eventserver_clients", MetricType::Gauge,
                  "Clients of -eventsocket.serve.")
          .Add(stats.clients);
      scrape
          .Family("packet_headers_eventserver_clients_dropped_total", MetricType::Counter,
                  "Clients that were dropped because they did not read, or were too many.")
          .Add(stats.clients_dropped);
      scrape
          .Family("packet_headers_eventserver_events_total", MetricType::Counter,
                  "Socket events that were announced, and those left out for a local address.")
          .Add(stats.opens, {{"event", "open"}})
          .Add(stats.closes, {{"event", "close"}})
          .Add(stats.left_out, {{"event", "left_out"}});
      scrape
          .Family("packet_headers_eventserver_events_lost_total", MetricType::Counter,
                  "Socket events that the kernel had no room for.")
          .Add(stats.lost);
    }
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
    scrape.Family("packet_headers_interface_not_captured", MetricType::Gauge,
                  "1 for each interface that is to be captured and is not; the log says why.");
    for (const std::string& name : observed_.interfaces.NotCaptured()) {
      scrape.Add(1, {{"interface", name}});
    }
    scrape.Family("packet_headers_ring_used_bytes", MetricType::Gauge,
                  "Bytes of records that wait in the ring of a shard.");
    for (uint32_t shard = 0; shard < observed_.shards.size(); ++shard) {
      scrape.Add(observed_.engine.BufferUsedBytes(shard), {{"shard", absl::StrCat(shard)}});
    }
    scrape.Family("packet_headers_ring_size_bytes", MetricType::Gauge, "Size of each shard's ring.")
        .Add(observed_.engine.buffer_bytes());
    scrape.Family("packet_headers_build_info", MetricType::Gauge, "1, with the version.")
        .Add(1, {{"version", PACKET_HEADERS_VERSION}});
  }

  void AddThreads(Scrape& scrape) const {
    const int64_t now_ns = MonotonicNow();
    scrape.Family("packet_headers_thread_heartbeat_age_seconds", MetricType::Gauge,
                  "How long ago each thread was last seen at work.");
    for (const WatchedThread& thread : observed_.health.threads()) {
      scrape.Add(static_cast<double>(thread.heartbeat->Age(now_ns)) / 1e9,
                 {{"thread", thread.heartbeat->thread()}});
    }
  }

  // As Prometheus' client libraries name them.
  void AddProcess(Scrape& scrape) const {
    scrape
        .Family("process_start_time_seconds", MetricType::Gauge,
                "Start time of the process since the Unix epoch in seconds.")
        .Add(observed_.started_seconds);
    scrape
        .Family("process_cpu_seconds_total", MetricType::Counter,
                "Total user and system CPU time spent in seconds.")
        .Add(static_cast<double>(ProcessCpuTime()) / 1e9);
  }

  const Observed& observed_;
};

}  // namespace

std::string MetricsText(const Observed& observed) {
  return prometheus::TextSerializer().Serialize(Collector(observed).Collect());
}

}  // namespace packet_headers
