// A publisher to which a test hands records, and what becomes of them.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_PUBLISHER_OUTPUT_H_
#define PACKET_HEADERS_TESTS_SUPPORT_PUBLISHER_OUTPUT_H_

#include <sys/resource.h>

#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "spdlog/spdlog.h"
#include "tests/support/catch.h"
#include "tests/support/decompress.h"
#include "tests/support/pcap_reader.h"
#include "tests/support/scratch_directory.h"
#include "user/output/publisher.h"

namespace packet_headers::testing {

using Files = std::set<std::string>;

inline constexpr absl::CivilDay kLeapDay(2024, 2, 29);
inline constexpr char kFolder[] = "2024/02/29";

inline std::string InFolder(const std::string& name) { return absl::StrCat(kFolder, "/", name); }

inline std::string Record(int64_t time_ns, const std::string& bytes = "headers") {
  std::string record(kPcapRecordHeaderBytes, '\0');
  PutPcapRecordHeader(time_ns, bytes.size(), 1500, record.data());
  return record + bytes;
}

// Bytes that don't compress.
inline std::string Noise(size_t size) {
  static std::mt19937 random;
  std::string noise(size, '\0');
  for (char& byte : noise) byte = static_cast<char>(random());
  return noise;
}

// While it lives, nobody in this process gets a descriptor: nothing can be saved, and nothing says
// that it is the fault of a file.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit limit = {0, before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

// A publisher and the thread that gives it jobs.
class Output {
 public:
  static constexpr int64_t kPauseNs = 1'000'000;  // between two tries

  explicit Output(Compression compression = Compression::kNone, FileOptions options = {},
                  int most_tries = 3, std::unique_ptr<IndexFile> index = nullptr)
      : compression(compression) {
    absl::StatusOr<std::unique_ptr<DataDirectory>> directory =
        DataDirectory::Open(scratch.Path(), options);
    REQUIRE(directory.ok());
    publisher = std::make_unique<Publisher>(*std::move(directory), /*snaplen=*/256, compression,
                                            RetryOptions{kPauseNs, most_tries}, std::move(index));
    spdlog::set_level(spdlog::level::off);  // failures are part of these tests
  }
  ~Output() {
    publisher = nullptr;
    spdlog::set_level(spdlog::level::info);
    for (FileJob& job : done.Take(1 << 20)) pool.Free(std::move(job.records));
  }

  void Submit(uint64_t flow_id, const std::string& uuid, const std::string& records,
              bool last = true, absl::CivilDay date = kLeapDay) {
    FileJob job;
    job.flow_id = flow_id;
    job.uuid = uuid;
    job.date = date;
    job.last = last;
    job.large = records.size() >= size_t{kHeldBytes};
    job.done = &done;
    REQUIRE(job.records.Append(records, pool));
    publisher->Submit(std::move(job));
  }

  // Waits for the next jobs to come back; those that are saved.
  int Saved(size_t jobs) {
    int saved = 0;
    while (jobs > 0) {
      for (FileJob& job : done.WaitAndTake(jobs)) {
        saved += job.saved;
        pool.Free(std::move(job.records));
        --jobs;
      }
    }
    return saved;
  }

  std::vector<int64_t> Times(const std::string& path) const {
    std::vector<int64_t> times;
    const std::string bytes = Decompress(compression, scratch.Read(path)).bytes;
    for (const PcapRecord& record : ReadPcapFile(bytes).records) {
      times.push_back(record.time_ns);
    }
    return times;
  }

  // How often making a file failed.
  uint64_t Failed() const { return publisher->stats().files_failed; }
  uint64_t FailedAt(FileStage stage) const {
    return publisher->stats().failed_by_stage[static_cast<size_t>(stage)];
  }

  uint64_t Errors() const {
    uint64_t errors = 0;
    for (const auto& of_stage : publisher->stats().errors_by_stage) errors += of_stage;
    return errors;
  }
  // Waits until that many things more have failed.
  void AwaitErrors(uint64_t errors) const {
    for (errors += Errors(); Errors() < errors;) std::this_thread::yield();
  }

  const Compression compression;
  ScratchDirectory scratch;
  MemoryBudget budget{int64_t{256} << 20};
  ChunkPool pool{budget, 0};
  FileJobQueue done;
  std::unique_ptr<Publisher> publisher;
};

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_PUBLISHER_OUTPUT_H_
