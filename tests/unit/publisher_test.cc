#include "user/output/publisher.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "tests/support/catch.h"
#include "tests/support/pcap_reader.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

using Files = std::set<std::string>;

constexpr int64_t kDay = int64_t{86'400} * 1'000'000'000;
constexpr int64_t kLeapDay = 1'709'164'800 * int64_t{1'000'000'000};  // 2024-02-29 00:00 UTC
constexpr char kFolder[] = "2024/02/29";

std::string InFolder(const std::string& name) { return absl::StrCat(kFolder, "/", name); }

std::string Record(int64_t time_ns, const std::string& bytes = "headers") {
  std::string record(kPcapRecordHeaderBytes, '\0');
  PutPcapRecordHeader(time_ns, bytes.size(), 1500, record.data());
  return record + bytes;
}

// A publisher and the thread that gives it jobs.
class Output {
 public:
  Output() {
    absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(scratch.Path());
    REQUIRE(directory.ok());
    publisher = std::make_unique<Publisher>(*std::move(directory), /*snaplen=*/256);
    spdlog::set_level(spdlog::level::off);  // failures are part of these tests
  }
  ~Output() {
    publisher = nullptr;
    spdlog::set_level(spdlog::level::info);
    for (FileJob& job : done.Take(1 << 20)) pool.Free(std::move(job.records));
  }

  void Submit(uint64_t flow_id, const std::string& uuid, const std::string& records,
              bool last = true, int64_t start_time_ns = kLeapDay) {
    FileJob job;
    job.flow_id = flow_id;
    job.uuid = uuid;
    job.start_time_ns = start_time_ns;
    job.last = last;
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
    for (const PcapRecord& record : ReadPcapFile(scratch.Read(path)).records) {
      times.push_back(record.time_ns);
    }
    return times;
  }

  ScratchDirectory scratch;
  MemoryBudget budget{int64_t{256} << 20};
  ChunkPool pool{budget, 0};
  FileJobQueue done;
  std::unique_ptr<Publisher> publisher;
};

TEST_CASE("A job becomes a file in the folder of its date", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5) + Record(6));
  output.Submit(2, "flow_2", Record(5), true, kLeapDay - 1);
  output.Submit(3, "flow_3", Record(5), true, kLeapDay + kDay);
  CHECK(output.Saved(3) == 3);
  CHECK(output.scratch.Files() ==
        Files{"2024/02/28/flow_2.pcap", "2024/02/29/flow_1.pcap", "2024/03/01/flow_3.pcap"});
  const PcapFile file = ReadPcapFile(output.scratch.Read(InFolder("flow_1.pcap")));
  CHECK(file.snaplen == 256);
  CHECK(file.link_type == 1);
  REQUIRE(file.records.size() == 2);
  CHECK(file.records[0].original_bytes == 1500);
  CHECK(std::string(file.records[0].bytes.begin(), file.records[0].bytes.end()) == "headers");
  CHECK(output.publisher->stats().files_published == 3);
}

TEST_CASE("A flow without records is a file without records", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", "");
  CHECK(output.Saved(1) == 1);
  CHECK(output.Times(InFolder("flow_1.pcap")).empty());
}

TEST_CASE("Records are in order in the file, also over several megabytes", "[publisher]") {
  Output output;
  std::string records;
  std::vector<int64_t> expected;
  for (int64_t time_ns = 1; time_ns <= 30'000; time_ns += 2) {
    records += Record(time_ns + 1, std::string(100, 'x')) + Record(time_ns, std::string(90, 'y'));
    expected.insert(expected.end(), {time_ns, time_ns + 1});
  }
  output.Submit(1, "flow_1", records);
  CHECK(output.Saved(1) == 1);
  std::vector<int64_t> times = output.Times(InFolder("flow_1.pcap"));
  CHECK(std::is_sorted(times.begin(), times.end()));
  CHECK(times.size() == expected.size());
  // Only where a piece ends can a time have been raised.
  CHECK(output.publisher->stats().times_raised <= 4);
}

TEST_CASE("A stream is hidden until its last part", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5) + Record(6), /*last=*/false);
  CHECK(output.Saved(1) == 0);
  CHECK(output.scratch.Files() == Files{InFolder(".flow_1.pcap.part")});
  output.Submit(1, "flow_1", Record(4) + Record(7), /*last=*/false);
  output.Submit(2, "flow_2", Record(1));
  output.Submit(1, "flow_1", "", /*last=*/false);
  CHECK(output.Saved(3) == 1);
  // A later part does not go back in time.
  output.Submit(1, "flow_1", Record(8), /*last=*/true);
  CHECK(output.Saved(1) == 1);
  CHECK(output.scratch.Files() == Files{InFolder("flow_1.pcap"), InFolder("flow_2.pcap")});
  CHECK(output.Times(InFolder("flow_1.pcap")) == std::vector<int64_t>{5, 6, 6, 7, 8});
  CHECK(output.publisher->stats().times_raised == 1);
}

TEST_CASE("A stream that does not end leaves nothing", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Saved(1);
  output.publisher = nullptr;
  CHECK(output.scratch.Files().empty());
}

TEST_CASE("A name that is taken gets a number, and nothing is overwritten", "[publisher]") {
  Output output;
  output.scratch.Write(InFolder("flow_1.pcap"), "of somebody else");
  output.scratch.Write(InFolder("flow_1.1.pcap"), "of another");
  output.Submit(1, "flow_1", Record(5));
  output.Submit(2, "flow_1", Record(6));
  CHECK(output.Saved(2) == 2);
  CHECK(output.scratch.Files() == Files{InFolder("flow_1.pcap"), InFolder("flow_1.1.pcap"),
                                        InFolder("flow_1.2.pcap"), InFolder("flow_1.3.pcap")});
  CHECK(output.scratch.Read(InFolder("flow_1.pcap")) == "of somebody else");
  CHECK(output.scratch.Read(InFolder("flow_1.1.pcap")) == "of another");
  CHECK(output.Times(InFolder("flow_1.2.pcap")) == std::vector<int64_t>{5});
  CHECK(output.Times(InFolder("flow_1.3.pcap")) == std::vector<int64_t>{6});
  CHECK(output.publisher->stats().names_taken == 2);
}

TEST_CASE("The hidden file of another program is left alone", "[publisher]") {
  Output output;
  output.scratch.Write(InFolder(".flow_1.pcap.part"), "of a crash");
  output.Submit(1, "flow_1", Record(5));
  CHECK(output.Saved(1) == 1);
  CHECK(output.scratch.Read(InFolder(".flow_1.pcap.part")) == "of a crash");
  CHECK(output.Times(InFolder("flow_1.pcap")).size() == 1);
}

TEST_CASE("Two streams of one name have two files", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Submit(2, "flow_1", Record(6), /*last=*/false);
  output.Submit(2, "flow_1", "");
  output.Submit(1, "flow_1", "");
  CHECK(output.Saved(4) == 2);
  CHECK(output.scratch.Files() == Files{InFolder("flow_1.pcap"), InFolder("flow_1.1.pcap")});
}

TEST_CASE("A file that can't be made is not saved, and the others are", "[publisher]") {
  Output output;
  output.scratch.Write(kFolder, "in the way");
  for (uint64_t i = 0; i < 20; ++i) {
    output.Submit(i, absl::StrCat("flow_", i), Record(5), true, i % 2 == 0 ? kLeapDay : 0);
  }
  CHECK(output.Saved(20) == 10);
  CHECK(output.publisher->stats().files_failed == 10);
  CHECK(output.publisher->stats().files_published == 10);
  CHECK(output.scratch.Files().size() == 11);
}

TEST_CASE("A name that no file can have is not saved", "[publisher]") {
  Output output;
  output.Submit(1, std::string(300, 'a'), Record(5));
  CHECK(output.Saved(1) == 0);
  CHECK(output.scratch.Files().empty());
}

TEST_CASE("A stream whose hidden file was lost is not saved", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Saved(1);
  std::filesystem::remove(output.scratch.Path(InFolder(".flow_1.pcap.part")));
  output.Submit(1, "flow_1", Record(6), /*last=*/false);
  output.Submit(1, "flow_1", Record(7));
  CHECK(output.Saved(2) == 0);
  CHECK(output.scratch.Files().empty());
  output.Submit(2, "flow_2", Record(6));
  CHECK(output.Saved(1) == 1);
}

TEST_CASE("A date folder that was deleted is made again", "[publisher]") {
  // As programs do that carry finished files away.
  Output output;
  output.Submit(1, "flow_1", Record(5));
  CHECK(output.Saved(1) == 1);
  std::filesystem::remove_all(output.scratch.Path("2024"));
  output.Submit(2, "flow_2", Record(5));
  CHECK(output.Saved(1) == 1);
  CHECK(output.scratch.Files() == Files{InFolder("flow_2.pcap")});
}

TEST_CASE("A data directory that was deleted is made again", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5));
  CHECK(output.Saved(1) == 1);
  std::filesystem::remove_all(output.scratch.Path(""));
  output.Submit(2, "flow_2", Record(5));
  CHECK(output.Saved(1) == 1);
  CHECK(output.scratch.Files() == Files{InFolder("flow_2.pcap")});
}

TEST_CASE("A thousand jobs become a thousand files", "[publisher]") {
  Output output;
  for (uint64_t i = 0; i < 1000; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(i));
  CHECK(output.Saved(1000) == 1000);
  CHECK(output.publisher->waiting() == 0);
  CHECK(output.scratch.Files().size() == 1000);
  for (int64_t i = 0; i < 1000; ++i) {
    if (output.Times(InFolder(absl::StrCat("flow_", i, ".pcap"))) != std::vector<int64_t>{i}) {
      FAIL("file " << i << " is not what was handed over");
    }
  }
}

TEST_CASE("The end of the publisher waits for its jobs", "[publisher]") {
  Output output;
  for (uint64_t i = 0; i < 300; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(i));
  output.publisher = nullptr;
  CHECK(output.done.size() == 300);
  CHECK(output.scratch.Files().size() == 300);
}

FileJob JobOf(uint64_t flow_id) {
  FileJob job;
  job.flow_id = flow_id;
  return job;
}

TEST_CASE("A job queue gives back in order what was put in", "[publisher]") {
  FileJobQueue queue;
  CHECK(queue.Take(10).empty());
  for (uint64_t i = 0; i < 5; ++i) queue.Put(JobOf(i));
  CHECK(queue.size() == 5);
  const std::vector<FileJob> first = queue.Take(3);
  REQUIRE(first.size() == 3);
  CHECK(first[0].flow_id == 0);
  CHECK(first[2].flow_id == 2);
  queue.Close();
  const std::vector<FileJob> rest = queue.WaitAndTake(3);
  REQUIRE(rest.size() == 2);
  CHECK(rest[1].flow_id == 4);
  CHECK(queue.WaitAndTake(3).empty());
}

TEST_CASE("A job queue carries jobs between threads and wakes who waits", "[publisher]") {
  constexpr uint64_t kJobs = 10'000;
  FileJobQueue queue;
  uint64_t sum = 0;
  std::thread reader([&] {
    while (true) {
      const std::vector<FileJob> jobs = queue.WaitAndTake(7);
      if (jobs.empty()) return;
      for (const FileJob& job : jobs) sum += job.flow_id;
    }
  });
  for (uint64_t i = 1; i <= kJobs; ++i) queue.Put(JobOf(i));
  queue.Close();
  reader.join();
  CHECK(sum == kJobs * (kJobs + 1) / 2);
}

}  // namespace
}  // namespace packet_headers::testing
