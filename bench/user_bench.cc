// user_bench [Google Benchmark's flags]: what the daemon's parts cost in user space, one shard
// each.
//
//   BENCH_HEADERS    a folder of pcap files, which are compressed
//   BENCH_DIRECTORY  where files are published; else beside this program

#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/header_record.h"
#include "tests/support/packet.h"
#include "user/base/clock.h"
#include "user/base/heap.h"
#include "user/base/unique_fd.h"
#include "user/flow/flow_table.h"
#include "user/flow_options.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/flow_summary.h"
#include "user/output/pcap.h"
#include "user/output/publisher.h"
#include "user/output/record_encoder.h"

namespace packet_headers {
namespace {

using testing::Packet;

constexpr int64_t kStartNs = 5'000'000'000'000;
constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
constexpr uint8_t kAck = PH_TCP_ACK;
constexpr uint8_t kSynAck = PH_TCP_SYN | PH_TCP_ACK;

// Records one behind the other, as a ring has them: eight bytes before each tell its size.
class Records {
 public:
  struct Segment {
    uint32_t flow;
    ph_direction direction;
    uint8_t flags;
    uint32_t seq;
    uint32_t ack;
  };

  // As the kernel makes it of a segment with the options that Linux gives it; 100 ns after the one
  // before. What the host sends has the cookie of its flow.
  void Add(const Segment& segment) {
    const Template& made_of = TemplateOf(segment);
    const size_t at = bytes_.size();
    const uint64_t size = made_of.record.size();
    bytes_.resize(at + sizeof(size) + size);
    std::memcpy(&bytes_[at], &size, sizeof(size));
    char* const begin = &bytes_[at + sizeof(size)];
    std::memcpy(begin, made_of.record.data(), size);

    ph_flow_key key = made_of.key;
    const uint32_t address_be = htonl(0x0a000000 | segment.flow >> 8);
    const uint16_t port_be = htons(static_cast<uint16_t>(20'000 + (segment.flow & 0xff)));
    std::memcpy(key.remote_addr + 12, &address_be, sizeof(address_be));
    key.remote_port_be = port_be;
    auto& record = *reinterpret_cast<ph_header_record*>(begin);
    const bool is_out = segment.direction == PH_EGRESS;
    uint8_t* const ip = record.headers + record.l3_offset;
    uint8_t* const tcp = record.headers + record.l4_offset;
    const uint32_t seq_be = htonl(segment.seq);
    const uint32_t ack_be = htonl(segment.ack);
    std::memcpy(ip + (is_out ? 16 : 12), &address_be, sizeof(address_be));
    std::memcpy(tcp + (is_out ? 2 : 0), &port_be, sizeof(port_be));
    std::memcpy(tcp + 4, &seq_be, sizeof(seq_be));
    std::memcpy(tcp + 8, &ack_be, sizeof(ack_be));
    tcp[13] = record.tcp_flags = segment.flags;
    record.flow_hash = ph_flow_hash(&key, &kSeed);
    record.socket_cookie = is_out ? segment.flow + 1 : 0;
    record.time_ns = static_cast<uint64_t>(time_ns_ += 100);
  }

  void AddHandshake(uint32_t flow) {
    Add({flow, PH_INGRESS, PH_TCP_SYN, 100, 0});
    Add({flow, PH_EGRESS, kSynAck, 900, 101});
    Add({flow, PH_INGRESS, kAck, 101, 901});
  }

  // Uses the next records, at most so many, as a drain does; 0 at the end, from where it begins
  // anew.
  size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) {
    std::array<RecordBytes, 32> batch;
    size_t records = 0;
    while (records < most && next_ < bytes_.size()) {
      size_t some = 0;
      for (; some < std::min(batch.size(), most - records) && next_ < bytes_.size(); ++some) {
        uint64_t size;
        std::memcpy(&size, &bytes_[next_], sizeof(size));
        batch[some] = {&bytes_[next_ + sizeof(size)], size};
        next_ += sizeof(size) + size;
      }
      use({batch.data(), some});
      records += some;
    }
    if (records == 0) next_ = 0;
    return records;
  }

  // For other records, later ones.
  void Clear() {
    bytes_.clear();
    next_ = 0;
  }

  size_t bytes() const { return bytes_.size(); }

 private:
  struct Template {
    ph_flow_key key;
    std::vector<char> record;
  };

  static Template Make(ph_direction direction, bool is_syn) {
    const bool is_out = direction == PH_EGRESS;
    Packet packet = Packet().Ethernet();
    is_out ? packet.Ipv4("192.0.2.1", "10.0.0.0").Tcp(443, 1)
           : packet.Ipv4("10.0.0.0", "192.0.2.1").Tcp(1, 443);
    if (is_syn) {  // MSS, SACK, timestamps, window scale
      packet.RawTcpOptions({2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7});
    } else {
      packet.Timestamps().Payload(is_out ? 1448 : 0);
    }
    const testing::Bytes frame = packet.bytes();
    const size_t header_bytes = packet.header_length();
    const size_t room = header_bytes <= PH_HEADER_CLASS_0 ? PH_HEADER_CLASS_0 : PH_HEADER_CLASS_1;
    Template made = {packet.key(direction), std::vector<char>(sizeof(ph_header_record) + room)};
    auto& record = *reinterpret_cast<ph_header_record*>(made.record.data());
    record.ifindex = 2;
    record.wire_len = static_cast<uint32_t>(frame.size());
    record.header_len = static_cast<uint16_t>(header_bytes);
    record.l3_offset = static_cast<uint16_t>(packet.l3_offset());
    record.l4_offset = static_cast<uint16_t>(packet.l4_offset());
    record.direction = direction;
    record.link_layer = PH_LINK_ETHERNET;
    std::copy_n(frame.begin(), header_bytes, record.headers);
    return made;
  }

  static const Template& TemplateOf(const Segment& segment) {
    static const Template templates[PH_DIRECTIONS][2] = {
        {Make(PH_INGRESS, false), Make(PH_INGRESS, true)},
        {Make(PH_EGRESS, false), Make(PH_EGRESS, true)},
    };
    return templates[segment.direction][(segment.flags & PH_TCP_SYN) != 0];
  }

  std::vector<char> bytes_;
  size_t next_ = 0;
  int64_t time_ns_ = kStartNs;
};

// So many bytes go by before one comes again that no cache holds them until then.
constexpr size_t kStreamBytes = 32 << 20;

enum Order { kRoundRobin, kBursts, kRandom };
constexpr uint32_t kBurst = 32;

// Data of the host and what acknowledges it.
void FillStream(Records& records, uint32_t flows, Order order) {
  std::mt19937 random(1);
  for (uint32_t i = 0; records.bytes() < kStreamBytes; ++i) {
    const uint32_t flow = order == kRoundRobin ? i % flows
                          : order == kBursts   ? i / kBurst % flows
                                               : static_cast<uint32_t>(random() % flows);
    const ph_direction direction = random() % 2 == 0 ? PH_INGRESS : PH_EGRESS;
    const bool is_out = direction == PH_EGRESS;
    records.Add({flow, direction, kAck, is_out ? 901 + i : 101, is_out ? 101 : 901 + i});
  }
}

// A flow table with the daemon's defaults, whose files come back at once.
class Table {
 public:
  Table()
      : budget_(Config().max_heap_bytes),
        limit_(0),
        table_(Options(), /*shard=*/0, kStartNs, budget_, limit_, books_, stats_, kernel_,
               [this](FileJob job) { jobs_.push_back(std::move(job)); }) {}

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

  static FlowOptions Options() {
    FlowOptions options = MakeFlowOptions(Config(), /*shards=*/1);
    options.name_flow = [](const Flow& flow) { return absl::StrCat("flow_", flow.cookie); };
    // To see what any number of them take.
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
constexpr size_t kPcapBytes = kPcapRecordHeaderBytes + 66;  // of one record of the stream

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

// One flow.
struct EncodedFlow {
  ph_flow_key key;
  std::string records;  // in pcap format
};

EncodedFlow EncodeFlow(size_t packets) {
  EncodedFlow flow = {};
  Records stream;
  FillStream(stream, 1, kRoundRobin);
  RecordEncoder encoder(static_cast<uint32_t>(Config().max_header_size));
  stream.Drain(packets, [&](absl::Span<const RecordBytes> some) {
    for (const RecordBytes& bytes : some) {
      const std::optional<packet_headers::Packet> packet = DecodeRecord(bytes.data, bytes.size);
      flow.key = packet->key;
      const absl::string_view encoded = encoder.Encode(*packet->record, packet->time_ns(), nullptr);
      flow.records.append(encoded.data(), encoded.size());
    }
  });
  return flow;
}

// What the publisher does with the records of a large flow before it writes them: whole ones, in
// order. The key is that of their flow.
void OnPiece(benchmark::State& state,
             absl::FunctionRef<size_t(std::string& piece, const ph_flow_key& key)> use) {
  constexpr size_t kPieceBytes = 512 * 1024;
  auto [key, piece] = EncodeFlow(kPieceBytes / kPcapBytes);
  for (auto _ : state) benchmark::DoNotOptimize(use(piece, key));
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * (piece.size() / kPcapBytes)));
}

void PutInOrder(benchmark::State& state) {
  OnPiece(state, [](std::string& piece, const ph_flow_key&) {
    int64_t last_time_ns = 0;
    return OrderPcapRecords(absl::MakeSpan(piece), 0, &last_time_ns).bytes;
  });
}
BENCHMARK(PutInOrder);

void SumUp(benchmark::State& state) {
  OnPiece(state, [](std::string& piece, const ph_flow_key& key) {
    FlowSummary summary;
    summary.Add(piece, LinkType::kEthernet, key);
    return summary.sent(PH_EGRESS).wire_bytes;
  });
}
BENCHMARK(SumUp);

// Files of BENCH_HEADERS whose size is within these.
std::vector<std::string> HeaderFiles(size_t at_least, size_t less_than) {
  std::vector<std::string> files;
  const char* const folder = std::getenv("BENCH_HEADERS");
  if (folder == nullptr) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".pcap") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (bytes.size() >= at_least && bytes.size() < less_than) files.push_back(std::move(bytes));
  }
  return files;
}

using Compress = std::function<size_t(const std::string&)>;  // bytes of the compressed file

Compress With(Compression compression) {
  std::shared_ptr<Compressor> compressor = Compressor::Make(compression);
  return [compressor](const std::string& file) {
    size_t compressed_bytes = 0;
    const absl::Status status =
        compressor->Write(file, /*last=*/true, [&compressed_bytes](absl::string_view bytes) {
          compressed_bytes += bytes.size();
          return absl::OkStatus();
        });
    return status.ok() ? compressed_bytes : 0;
  };
}

// As `gzip -1` does.
Compress WithZlib() {
  constexpr int kGzipWindow = 15 + 16;
  auto stream = std::shared_ptr<z_stream>(new z_stream(), [](z_stream* ended) {
    deflateEnd(ended);
    delete ended;
  });
  deflateInit2(stream.get(), 1, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY);
  return [stream, out = std::vector<Bytef>()](const std::string& file) mutable {
    deflateReset(stream.get());
    out.resize(deflateBound(stream.get(), file.size()));
    stream->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.data()));
    stream->avail_in = static_cast<uInt>(file.size());
    stream->next_out = out.data();
    stream->avail_out = static_cast<uInt>(out.size());
    return deflate(stream.get(), Z_FINISH) == Z_STREAM_END ? stream->total_out : 0;
  };
}

// Each file becomes one member. `compressed` and `plain` are bytes of all files.
void CompressFiles(benchmark::State& state, Compress compress, size_t at_least, size_t less_than) {
  const std::vector<std::string> files = HeaderFiles(at_least, less_than);
  if (files.empty()) {
    state.SkipWithError("BENCH_HEADERS has no such files");
    return;
  }
  size_t plain = 0;
  for (const std::string& file : files) plain += file.size();
  size_t compressed = 0;
  for (auto _ : state) {
    compressed = 0;
    for (const std::string& file : files) compressed += compress(file);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * plain));
  state.counters["files"] = static_cast<double>(files.size());
  state.counters["plain"] = static_cast<double>(plain);
  state.counters["compressed"] = static_cast<double>(compressed);
}
constexpr size_t kShort = 16 << 10;
constexpr size_t kLong = 64 << 10;
BENCHMARK_CAPTURE(CompressFiles, gzip_short, With(Compression::kGzip), 0, kShort);
BENCHMARK_CAPTURE(CompressFiles, gzip_long, With(Compression::kGzip), kLong, SIZE_MAX);
BENCHMARK_CAPTURE(CompressFiles, zstd_short, With(Compression::kZstd), 0, kShort);
BENCHMARK_CAPTURE(CompressFiles, zstd_long, With(Compression::kZstd), kLong, SIZE_MAX);
BENCHMARK_CAPTURE(CompressFiles, zlib1_short, WithZlib(), 0, kShort);
BENCHMARK_CAPTURE(CompressFiles, zlib1_long, WithZlib(), kLong, SIZE_MAX);

// A new folder in BENCH_DIRECTORY, which goes with all that is in it. Nothing of what went before
// waits for the disk any more.
class Folder {
 public:
  Folder() {
    const char* const parent = std::getenv("BENCH_DIRECTORY");
    path_ = (parent != nullptr ? std::filesystem::path(parent)
                               : std::filesystem::canonical("/proc/self/exe").parent_path()) /
            absl::StrCat("published.", getpid());
    std::filesystem::create_directory(path_);
    Sync();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string path() const { return path_.string(); }

  // Waits until the disk has all of its file system.
  void Sync() const { syncfs(UniqueFd(open(path_.c_str(), O_RDONLY | O_DIRECTORY)).get()); }

 private:
  std::filesystem::path path_;
};

std::string UuidOf(int64_t flow) {
  return absl::StrCat("host_1795293231_unsafe_", absl::Hex(flow, absl::kZeroPad16));
}

// In pcap format.
std::string SmallFlow() { return EncodeFlow(12).records; }

// Small flows that end together: until the last is saved.
void Publish(benchmark::State& state, bool sync) {
  const int64_t files = state.range(0);
  const std::string records = SmallFlow();
  for (auto _ : state) {
    const Folder folder;
    MemoryBudget budget(Config().max_heap_bytes);
    ChunkPool pool(budget, 0);
    FileJobQueue done;
    FileOptions options;
    options.sync = sync;
    absl::StatusOr<std::unique_ptr<DataDirectory>> directory =
        DataDirectory::Open(folder.path(), options);
    if (!directory.ok()) {
      state.SkipWithError(directory.status().ToString().c_str());
      return;
    }
    Publisher publisher(*std::move(directory), 256, Compression::kNone);
    std::vector<FileJob> jobs(files);
    for (int64_t i = 0; i < files; ++i) {
      FileJob& job = jobs[i];
      job.flow_id = static_cast<uint64_t>(i);
      job.uuid = UuidOf(i);
      job.date = absl::CivilDay(2026, 11, 21);
      job.done = &done;
      job.records.Append(records, pool);
    }
    const int64_t start_ns = MonotonicNow();
    for (FileJob& job : jobs) publisher.Submit(std::move(job));
    int64_t saved = 0;
    for (int64_t back = 0; back < files;) {
      for (FileJob& job : done.WaitAndTake(files)) {
        saved += job.saved;
        ++back;
        pool.Free(std::move(job.records));
      }
    }
    state.SetIterationTime(static_cast<double>(MonotonicNow() - start_ns) / 1e9);
    if (saved != files) state.SkipWithError("not every file was saved");
  }
  state.SetItemsProcessed(state.iterations() * files);
}
// The same files without a publisher: written under a hidden name and renamed, at the end one sync.
void PublishBare(benchmark::State& state, bool sync) {
  const int64_t files = state.range(0);
  const std::string bytes = PcapFileHeader(LinkType::kEthernet, 256) + SmallFlow();
  for (auto _ : state) {
    const Folder folder;
    const UniqueFd fd(open(folder.path().c_str(), O_RDONLY | O_DIRECTORY));
    const int64_t start_ns = MonotonicNow();
    for (int64_t i = 0; i < files; ++i) {
      const std::string name = UuidOf(i) + ".pcap";
      const std::string hidden = "." + name + ".part";
      const UniqueFd file(openat(fd.get(), hidden.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0640));
      if (write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
          renameat(fd.get(), hidden.c_str(), fd.get(), name.c_str()) != 0) {
        state.SkipWithError("a file can't be made");
      }
    }
    if (sync) folder.Sync();
    state.SetIterationTime(static_cast<double>(MonotonicNow() - start_ns) / 1e9);
  }
  state.SetItemsProcessed(state.iterations() * files);
}
BENCHMARK_CAPTURE(PublishBare, rename, false)->Arg(1000)->Arg(20'000)->UseManualTime();
BENCHMARK_CAPTURE(PublishBare, sync, true)->Arg(1000)->Arg(20'000)->UseManualTime();

BENCHMARK_CAPTURE(Publish, rename, false)->Arg(1000)->Arg(20'000)->UseManualTime();
BENCHMARK_CAPTURE(Publish, sync, true)->Arg(1000)->Arg(20'000)->UseManualTime();

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
    state.counters["headers"] = per_flow(static_cast<int64_t>(table.Empty()));
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

int main(int argc, char** argv) {
  packet_headers::GrowHeapInLargeSteps();  // as the program does
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
