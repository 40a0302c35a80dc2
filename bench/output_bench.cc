// What the publisher's work costs: order and sums of a large flow, compression, small files.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "bench/record_stream.h"
#include "user/base/clock.h"
#include "user/base/unique_fd.h"
#include "user/flow_options.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/flow_summary.h"
#include "user/output/pcap.h"
#include "user/output/publisher.h"

namespace packet_headers {
namespace {

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
constexpr size_t kLong = 64 << 10;
BENCHMARK_CAPTURE(CompressFiles, gzip_short, With(Compression::kGzip), 0, kTypicalBytes);
BENCHMARK_CAPTURE(CompressFiles, gzip_long, With(Compression::kGzip), kLong, SIZE_MAX);
BENCHMARK_CAPTURE(CompressFiles, zstd_short, With(Compression::kZstd), 0, kTypicalBytes);
BENCHMARK_CAPTURE(CompressFiles, zstd_long, With(Compression::kZstd), kLong, SIZE_MAX);
BENCHMARK_CAPTURE(CompressFiles, zlib1_short, WithZlib(), 0, kTypicalBytes);
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

}  // namespace
}  // namespace packet_headers
