#include "user/service/compatible_metrics.h"

#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <utility>

#include "packet_headers/counters.h"

namespace packet_headers {
namespace {

using prometheus::MetricType;

// Packets under any of the counters, at all interfaces.
double Packets(const BooksByName& books, std::initializer_list<ph_counter> counters) {
  uint64_t packets = 0;
  for (const auto& [name, directions] : books) {
    for (const CounterArray& of_direction : directions) {
      for (const ph_counter counter : counters) packets += of_direction[counter];
    }
  }
  return static_cast<double>(packets);
}

void AddSavers(const Observed& observed, Scrape& scrape) {
  const Shards& shards = observed.shards;
  scrape
      .Family("pcap_saver_starts_total", MetricType::Counter,
              "How many flows have started to be saved.")
      .Add(SumOf(shards, &FlowStats::captures_started));
  scrape
      .Family("pcap_saver_stops_total", MetricType::Counter,
              "How many flows have been terminated and saved.")
      .Add(SumOf(shards, &FlowStats::captures_finished));
  scrape
      .Family("pcap_saver_skipped_total", MetricType::Counter,
              "How many flows were never saved due to configured memory limits.")
      .Add(SumOf(shards, &FlowStats::refused_by_memory));
  scrape
      .Family("pcap_saver_errors_total", MetricType::Counter,
              "How many flows have not been saved by a saver due to errors")
      .Add(SumOf(shards, &FlowStats::unannounced), {{"reason", "uuidtimedout"}});
  const PublisherStats& files = observed.publisher.stats();
  for (size_t stage = 0; stage < files.failed_by_stage.size(); ++stage) {
    scrape.Add(static_cast<double>(files.failed_by_stage[stage]),
               {{"reason", std::string(kFileStageNames[stage])}});
  }
  const double unnamed = SumOf(shards, &FlowStats::unnamed);
  scrape
      .Family("pcap_saver_states", MetricType::Gauge, "How many savers are currently in each state")
      .Add(SumOf(shards, &FlowStats::embryonic), {{"state", "readingcandidatepackets"}})
      .Add(unnamed, {{"state", "uuidwait"}})
      .Add(SumOf(shards, &FlowStats::capturing) - unnamed, {{"state", "uuidfound"}})
      .Add(static_cast<double>(observed.publisher.waiting()), {{"state", "writefinal"}})
      .Add(SumOf(shards, &FlowStats::ended), {{"state", "discardingpackets"}});
}

void AddDemuxer(const Observed& observed, const BooksByName& books, Scrape& scrape) {
  const Shards& shards = observed.shards;
  scrape
      .Family("pcap_demuxer_bad_packets_total", MetricType::Counter,
              "How many packets has the demuxer received that it could not process.  This should "
              "always be zero.")
      .Add(Packets(books, {PH_TRUNCATED, PH_MALFORMED_IP, PH_MALFORMED_TCP, PH_HEADER_TOO_LONG,
                           PH_BAD_RECORD}));
  scrape
      .Family("pcap_demuxer_gc_latency_seconds", MetricType::Histogram,
              "How long has each GC call taken, and how many GC calls have there been.")
      .Add(EachOf(shards, &Shard::timer_latency), 1e9);
  scrape
      .Family("pcap_demuxer_uuids_total", MetricType::Counter,
              "How many UUIDs has the demuxer been told about. Should match "
              "pcap_saver_starts_total very closely")
      .Add(observed.event_client != nullptr
               ? static_cast<double>(observed.event_client->stats().opens)
               : SumOf(shards, &FlowStats::captures_started));
  scrape
      .Family("pcap_demuxer_savers_garbage_collected_total", MetricType::Counter,
              "How many savers have been garbage collected.")
      .Add(SumOf(shards, &FlowStats::expired));
  scrape
      .Family("pcap_demuxer_savers_active", MetricType::Gauge,
              "How many savers were still active after the most recent garbage collection round")
      .Add(SumOf(shards, &FlowStats::capturing));
  scrape
      .Family("pcap_demuxer_ignored_total", MetricType::Counter,
              "How many packets or UUIDs were ignored due to the configured flow limit.")
      .Add(Packets(books, {PH_FLOW_LIMIT}));
}

}  // namespace

void AddCompatibleMetrics(const Observed& observed, const BooksByName& books, Scrape& scrape) {
  scrape
      .Family("pcap_missed_packets_total", MetricType::Counter,
              "How many packets were captured and thrown away.  This should always be zero.")
      .Add(Packets(books, {PH_SHED_SYN, PH_SHED_STRAY, PH_RING_FULL, PH_EVICTED}),
           {{"saverstate", "notstarted"}})
      .Add(Packets(books, {PH_MEMORY_LIMIT}), {{"saverstate", "skipped"}})
      .Add(Packets(books, {PH_WRITE_ERROR}), {{"saverstate", "writefinalerror"}});
  scrape
      .Family("pcap_missed_uuids_total", MetricType::Counter,
              "How many uuid notifications were ignored.  This should always be zero.")
      .Add(observed.announcer != nullptr ? static_cast<double>(observed.announcer->dropped()) : 0,
           {{"saverstate", "notstarted"}});
  AddSavers(observed, scrape);
  AddDemuxer(observed, books, scrape);
  scrape.Family("pcap_tcpinfohandler_bad_events_total", MetricType::Counter,
                "How many unparseable events have been sent from tcp-info. This should always be "
                "zero.");
  for (size_t reason = 0; reason < std::size(kBadEventNames); ++reason) {
    scrape.Add(observed.event_client != nullptr
                   ? static_cast<double>(observed.event_client->stats().bad_events[reason])
                   : 0,
               {{"reason", kBadEventNames[reason]}});
  }
  scrape
      .Family("pcap_muxer_interfaces_with_captures", MetricType::Gauge,
              "How many interfaces currently have a packet capture running on them, according to "
              "the muxer.")
      .Add(static_cast<double>(observed.interfaces.Attached().size()));
}

}  // namespace packet_headers
