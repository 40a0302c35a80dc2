// What the flow table costs: a shard's work on each record, and the memory of open flows.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/record_stream.h"
#include "packet_headers/parse.h"
#include "user/flow/flow_table.h"
#include "user/flow/packet.h"
#include "user/flow_options.h"
#include "user/output/record_encoder.h"

namespace packet_headers {
namespace {

// A flow table with the daemon's defaults, whose files come back at once.
class Table {
 public:
  explicit Table(FlowOptions options = WithoutLimits())
      : budget_(Config().max_heap_bytes),
        limit_(0),
        table_(Named(std::move(options)), /*shard=*/0, kStreamStartNs, budget_, limit_, books_,
               stats_, kernel_, [this](FileJob job) { jobs_.push_back(std::move(job)); }) {}

  void OnRecords(absl::Span<const RecordBytes> records) { table_.OnRecords(records); }
  void Advance() { table_.Advance(table_.latest_ns()); }
  void OpenFlows(uint32_t flows) {
    Records records;
    for (uint32_t flow = 0; flow < flows; ++flow) {
      records.AddHandshake(flow);
      FeedAll(records);
      records.Clear();
    }
  }
  void FeedAll(Records& records) {
    records.Drain(SIZE_MAX, [this](absl::Span<const RecordBytes> some) { OnRecords(some); });
  }

  // Empties all flows, which stay open; the memory is used again. Bytes of pcap that they had.
  size_t Empty() {
    size_t bytes = 0;
    table_.FlushStreams();
    for (FileJob& job : jobs_) {
      job.records.ForEachPiece([&bytes](absl::string_view piece) { bytes += piece.size(); });
      job.saved = true;
      table_.OnJobDone(std::move(job));
    }
    jobs_.clear();
    return bytes;
  }

  const FlowStats& stats() const { return stats_; }
  int64_t budget_bytes() const { return budget_.used_bytes(); }

 private:
  struct NoKernel : KernelFlows {
    void Settle(const ph_flow_key&, bool) override {}
    void Unsettle(const ph_flow_key&) override {}
  };

  static FlowOptions Named(FlowOptions options) {
    options.name_flow = [](const Flow& flow) { return absl::StrCat("flow_", flow.cookie); };
    return options;
  }

  // To see what any number of attempts take.
  static FlowOptions WithoutLimits() {
    FlowOptions options = MakeFlowOptions(Config(), /*shards=*/1);
    options.max_embryonic_flows = int64_t{1} << 40;
    options.max_embryonic_bytes = int64_t{1} << 40;
    return options;
  }

  MemoryBudget budget_;
  FlowLimit limit_;
  Books books_;
  FlowStats stats_;
  NoKernel kernel_;
  std::vector<FileJob> jobs_;
  FlowTable table_;
};

constexpr size_t kRecordsInDrain = 16'384;
constexpr size_t kRecordsBetweenEmpties = 1 << 20;

// From records to buffered headers of open flows. Emptying the flows is not measured, nor is the
// first time, when the memory is new.
void OnRecords(benchmark::State& state, uint32_t flows, Order order) {
  Table table;
  table.OpenFlows(flows);
  Records stream;
  FillStream(stream, flows, order);
  const auto drain = [&table, &stream] {
    size_t records = 0;
    while (records == 0) {
      records = stream.Drain(
          kRecordsInDrain, [&table](absl::Span<const RecordBytes> some) { table.OnRecords(some); });
    }
    table.Advance();
    return records;
  };
  for (size_t fed = 0; fed < kRecordsBetweenEmpties;) fed += drain();
  table.Empty();

  size_t fed = 0;
  size_t fed_since = 0;
  size_t buffered_bytes = 0;
  for (auto _ : state) {
    const size_t records = drain();
    fed += records;
    fed_since += records;
    if (fed_since < kRecordsBetweenEmpties) continue;
    state.PauseTiming();
    buffered_bytes += table.Empty();
    fed_since = 0;
    state.ResumeTiming();
  }
  buffered_bytes += table.Empty();
  if (buffered_bytes != fed * kPcapBytes || table.stats().capturing != flows) {
    state.SkipWithError("not every record was buffered");
  }
  state.SetItemsProcessed(static_cast<int64_t>(fed));
}
BENCHMARK_CAPTURE(OnRecords, 64_round_robin, 64, kRoundRobin);
BENCHMARK_CAPTURE(OnRecords, 64_bursts, 64, kBursts);
BENCHMARK_CAPTURE(OnRecords, 10000_random, 10'000, kRandom);
BENCHMARK_CAPTURE(OnRecords, 100000_random, 100'000, kRandom);

// A flood of SYNs, each of another tuple: more than are kept, so that each pushes out another one.
void OnSyns(benchmark::State& state) {
  constexpr uint32_t kSyns = 1 << 19;
  Table table(MakeFlowOptions(Config(), /*shards=*/1));
  Records stream;
  for (uint32_t flow = 0; flow < kSyns; ++flow) stream.Add({flow, PH_INGRESS, PH_TCP_SYN, 100, 0});
  table.FeedAll(stream);
  size_t fed = 0;
  for (auto _ : state) {
    fed += stream.Drain(kRecordsInDrain,
                        [&table](absl::Span<const RecordBytes> some) { table.OnRecords(some); });
    table.Advance();
  }
  state.SetItemsProcessed(static_cast<int64_t>(fed));
}
BENCHMARK(OnSyns);

// What OnRecords consists of, each alone on the same stream.
template <typename Use>
void OnStream(benchmark::State& state, Use use) {
  Records stream;
  FillStream(stream, 64, kRoundRobin);
  size_t used = 0;
  for (auto _ : state) {
    used += stream.Drain(kRecordsInDrain, [&use](absl::Span<const RecordBytes> some) {
      for (const RecordBytes& record : some) use(record.data, record.size);
    });
  }
  state.SetItemsProcessed(static_cast<int64_t>(used));
}

void Decode(benchmark::State& state) {
  OnStream(state, [](const void* data, size_t size) {
    benchmark::DoNotOptimize(DecodeRecord(data, size));
  });
}
BENCHMARK(Decode);

void Encode(benchmark::State& state) {
  RecordEncoder encoder(static_cast<uint32_t>(Config().max_header_size));
  OnStream(state, [&encoder](const void* data, size_t) {
    const auto& record = *static_cast<const ph_header_record*>(data);
    benchmark::DoNotOptimize(
        encoder.Encode(record, static_cast<int64_t>(record.time_ns), nullptr).data());
    benchmark::ClobberMemory();
  });
}
BENCHMARK(Encode);

int64_t ResidentBytes() {
  int64_t pages = 0;
  int64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

// What open flows take. The resident bytes are right only if nothing ran before in the process:
// what that left would be used again.
void Memory(benchmark::State& state, bool whole_handshake) {
  const auto flows = static_cast<uint32_t>(state.range(0));
  for (auto _ : state) {
    Table table;
    Records records;
    const int64_t budget_before = table.budget_bytes();
    const int64_t resident_before = ResidentBytes();
    for (uint32_t flow = 0; flow < flows; ++flow) {
      if (whole_handshake) {
        records.AddHandshake(flow);
      } else {
        records.Add({flow, PH_INGRESS, PH_TCP_SYN, 100, 0});
      }
      table.FeedAll(records);
      records.Clear();
    }
    if ((whole_handshake ? table.stats().capturing : table.stats().embryonic) != flows) {
      state.SkipWithError("not every flow is there");
    }
    const auto per_flow = [flows](int64_t bytes) { return static_cast<double>(bytes) / flows; };
    state.counters["budget"] = per_flow(table.budget_bytes() - budget_before);
    state.counters["resident"] = per_flow(ResidentBytes() - resident_before);
    state.counters["headers"] =
        whole_handshake ? per_flow(static_cast<int64_t>(table.Empty())) : kSynPcapBytes;
  }
}
BENCHMARK_CAPTURE(Memory, three_packets, true)
    ->Arg(10'000)
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Iterations(1);
BENCHMARK_CAPTURE(Memory, embryonic, false)
    ->Arg(10'000)
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Iterations(1);

}  // namespace
}  // namespace packet_headers
