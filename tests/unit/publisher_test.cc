#include "user/output/publisher.h"

#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"
#include "tests/support/captured_log.h"
#include "tests/support/catch.h"
#include "tests/support/decompress.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/pcap_reader.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

using Files = std::set<std::string>;

constexpr int64_t kPauseNs = 1'000'000;

constexpr absl::CivilDay kLeapDay(2024, 2, 29);
constexpr char kFolder[] = "2024/02/29";

std::string InFolder(const std::string& name) { return absl::StrCat(kFolder, "/", name); }

std::string Record(int64_t time_ns, const std::string& bytes = "headers") {
  std::string record(kPcapRecordHeaderBytes, '\0');
  PutPcapRecordHeader(time_ns, bytes.size(), 1500, record.data());
  return record + bytes;
}

// Bytes that don't compress.
std::string Noise(size_t size) {
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

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator descriptors("/proc/self/fd");
  return std::distance(begin(descriptors), end(descriptors));
}

// A publisher and the thread that gives it jobs.
class Output {
 public:
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

TEST_CASE("A job becomes a file in the folder of its date", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5) + Record(6));
  output.Submit(2, "flow_2", Record(5), true, kLeapDay - 1);
  output.Submit(3, "flow_3", Record(5), true, kLeapDay + 1);
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
  CHECK(output.Times(InFolder("flow_1.pcap")) == expected);
  CHECK(output.publisher->stats().times_raised == 0);
}

TEST_CASE("The end of a large part waits for what belongs between its records", "[publisher]") {
  Output output(GENERATE(Compression::kNone, Compression::kGzip), {}, /*most_tries=*/1'000'000);
  const bool fails = GENERATE(false, true);
  const auto submit = [&](const std::string& records, bool last) {
    if (!fails) {
      output.Submit(1, "flow_1", records, last);
      return;
    }
    // At first the file can't take all of it.
    const FileSizeLimit limit(output.publisher->stats().bytes_stored + 100);
    output.Submit(1, "flow_1", records, last);
    output.AwaitErrors(1);
  };
  constexpr int64_t kParts = 4;
  constexpr int64_t kRecords = 6000;
  std::vector<int64_t> expected;
  for (int64_t part = 0; part < kParts; ++part) {
    std::string records;
    for (int64_t i = part * kRecords; i < (part + 1) * kRecords; ++i) {
      expected.push_back(i + 1);
      // Each record is up to 300 places late, or as much early.
      records += Record(i / 300 * 300 + 300 - i % 300, std::string(90, 'x'));
    }
    submit(records, /*last=*/false);
    CHECK(output.Saved(1) == 0);
  }
  submit("", /*last=*/true);
  CHECK(output.Saved(1) == 1);
  const std::string file = absl::StrCat("flow_1", PcapExtension(output.compression));
  CHECK(output.Times(InFolder(file)) == expected);
  CHECK(output.publisher->stats().times_raised == 0);
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
  output.Submit(1, "flow_1", Record(4));
  output.Saved(1);
  output.scratch.Write(InFolder(".flow_2.pcap.part"), "of another program");
  output.Submit(2, "flow_2", Record(5));
  CHECK(output.Saved(1) == 1);
  CHECK(output.scratch.Read(InFolder(".flow_2.pcap.part")) == "of another program");
  CHECK(output.Times(InFolder("flow_2.pcap")).size() == 1);
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
    output.Submit(i, absl::StrCat("flow_", i), Record(5), true,
                  i % 2 == 0 ? kLeapDay : kLeapDay + 1);
  }
  CHECK(output.Saved(20) == 10);
  CHECK(output.Failed() == 10);
  CHECK(output.FailedAt(FileStage::kMkdir) == 10);
  CHECK(output.publisher->stats().files_published == 10);
  CHECK(output.scratch.Files().size() == 11);
}

TEST_CASE("A name that no file can have is not saved", "[publisher]") {
  Output output;
  output.Submit(1, std::string(300, 'a'), Record(5));
  CHECK(output.Saved(1) == 0);
  CHECK(output.Failed() == 1);
  CHECK(output.FailedAt(FileStage::kFileOpen) == 1);
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
  CHECK(output.Failed() == 1);
  CHECK(output.FailedAt(FileStage::kStreaming) == 1);
  output.Submit(2, "flow_2", Record(6));
  CHECK(output.Saved(1) == 1);
}

TEST_CASE("A stream whose hidden file is lost at its end is not saved", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Saved(1);
  std::filesystem::remove(output.scratch.Path(InFolder(".flow_1.pcap.part")));
  output.Submit(1, "flow_1", "");
  CHECK(output.Saved(1) == 0);
  CHECK(output.Failed() == 1);
  CHECK(output.FailedAt(FileStage::kWriteFinal) == 1);
}

TEST_CASE("A stream that failed is counted once, at its last part", "[publisher]") {
  Output output;
  output.scratch.Write(kFolder, "in the way");
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Saved(1);
  CHECK(output.Failed() == 0);
  // That it could be made by now doesn't matter: its first records are lost.
  std::filesystem::remove(output.scratch.Path(kFolder));
  output.Submit(1, "flow_1", Record(6), /*last=*/false);
  output.Submit(2, "flow_2", Record(6));
  CHECK(output.Saved(2) == 1);
  CHECK(output.Failed() == 0);
  output.Submit(1, "flow_1", Record(7));
  CHECK(output.Saved(1) == 0);
  CHECK(output.Failed() == 1);
  CHECK(output.FailedAt(FileStage::kMkdir) == 1);
  CHECK(output.scratch.Files() == Files{InFolder("flow_2.pcap")});
  // The next flow of the same id has nothing to do with it.
  output.Submit(1, "flow_3", Record(8), /*last=*/false);
  output.Submit(1, "flow_3", Record(9));
  CHECK(output.Saved(2) == 1);
  CHECK(output.Times(InFolder("flow_3.pcap")) == std::vector<int64_t>{8, 9});
  CHECK(output.Failed() == 1);
}

TEST_CASE("A file that outgrows the disk is not saved, and the next is", "[publisher]") {
  const Compression compression =
      GENERATE(Compression::kNone, Compression::kGzip, Compression::kZstd);
  Output output(compression);
  std::string records;
  for (int64_t time_ns = 0; time_ns < 20'000; ++time_ns) records += Record(time_ns, Noise(100));
  {
    const FileSizeLimit limit(300'000);
    output.Submit(1, "flow_1", records);
    output.Submit(2, "flow_2", Record(5));
    output.Submit(3, "flow_3", records, /*last=*/false);
    output.Submit(3, "flow_3", Record(5));
    CHECK(output.Saved(4) == 1);
  }
  const std::string name = absl::StrCat("flow_2", PcapExtension(compression));
  CHECK(output.scratch.Files() == Files{InFolder(name)});
  CHECK(output.Times(InFolder(name)) == std::vector<int64_t>{5});
  CHECK(output.Failed() == 2);
  CHECK(output.FailedAt(FileStage::kWritePartial) == 1);
  CHECK(output.FailedAt(FileStage::kStreaming) == 1);
}

TEST_CASE("A compressed file is one member, however long", "[publisher]") {
  const Compression compression = GENERATE(Compression::kGzip, Compression::kZstd);
  Output output(compression);
  std::string records;
  for (int64_t time_ns = 0; time_ns < 30'000; ++time_ns) records += Record(time_ns, Noise(100));
  output.Submit(1, "flow_1", Record(5));
  output.Submit(2, "flow_2", records);
  output.Submit(3, "flow_3", "");
  CHECK(output.Saved(3) == 3);
  const auto read = [&](const char* flow) {
    const std::string name = absl::StrCat(flow, PcapExtension(compression));
    const Decompressed file = Decompress(compression, output.scratch.Read(InFolder(name)));
    CHECK(file.is_whole);
    CHECK(file.members == 1);
    return file.bytes;
  };
  const std::string header = PcapFileHeader(LinkType::kEthernet, 256);
  CHECK((read("flow_1") == header + Record(5)));
  CHECK((read("flow_2") == header + records));
  CHECK((read("flow_3") == header));
}

TEST_CASE("What a stream has handed over can be read while it is hidden", "[publisher]") {
  const Compression compression = GENERATE(Compression::kGzip, Compression::kZstd);
  Output output(compression);
  const std::string extension(PcapExtension(compression));
  const auto read = [&](const std::string& name) {
    return Decompress(compression, output.scratch.Read(InFolder(name)));
  };
  std::string bytes = PcapFileHeader(LinkType::kEthernet, 256);
  for (int part = 1; part <= 3; ++part) {
    output.Submit(1, "flow_1", Record(part), /*last=*/false);
    // Another file by the same compressor.
    output.Submit(2, "flow_2", Record(part), /*last=*/false);
    output.Saved(2);
    bytes += Record(part);
    const Decompressed file = read(".flow_1" + extension + ".part");
    CHECK(file.is_whole);
    CHECK(file.members == part);
    CHECK(file.bytes == bytes);
  }
  output.Submit(1, "flow_1", "");
  CHECK(output.Saved(1) == 1);
  CHECK(read("flow_1" + extension).bytes == bytes);
  CHECK(read("flow_1" + extension).members == 3);
}

TEST_CASE("Bytes are counted before and after compression", "[publisher]") {
  const Compression compression =
      GENERATE(Compression::kNone, Compression::kGzip, Compression::kZstd);
  Output output(compression);
  const std::string record = Record(5, std::string(200, 'x'));
  output.Submit(1, "flow_1", record, /*last=*/false);
  output.Submit(1, "flow_1", record);
  CHECK(output.Saved(2) == 1);
  const std::string name = absl::StrCat("flow_1", PcapExtension(compression));
  CHECK(output.publisher->stats().bytes_written == 2 * record.size());
  CHECK(output.publisher->stats().bytes_stored == output.scratch.Read(InFolder(name)).size());
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

TEST_CASE("What can't be saved waits in memory until it can", "[publisher]") {
  Output output;
  const CapturedLog log;
  constexpr size_t kJobs = 700;  // more than are tried at once
  output.Submit(0, "flow_0", Record(5));
  CHECK(output.Saved(1) == 1);
  {
    const NoDescriptors limit;
    for (uint64_t i = 1; i <= kJobs; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(i));
    output.AwaitErrors(2000);
    CHECK(output.done.size() == 0);
    CHECK(output.publisher->waiting() == kJobs);
    CHECK(output.Failed() == 0);
  }
  CHECK(output.Saved(kJobs) == kJobs);
  CHECK(output.scratch.Files().size() == kJobs + 1);
  CHECK(output.publisher->waiting() == 0);
  CHECK(output.Failed() == 0);
  CHECK(output.publisher->stats().files_published == kJobs + 1);
  CHECK(output.Times(InFolder("flow_300.pcap")) == std::vector<int64_t>{300});
  const std::vector<std::string> lines = log.Lines();
  REQUIRE(lines.size() == 2);
  CHECK(absl::StrContains(lines[0], "Too many open files"));
  CHECK(absl::StrContains(lines[1], "saved again"));
}

TEST_CASE("A stream that could not be written goes on where it was", "[publisher]") {
  const Compression compression =
      GENERATE(Compression::kNone, Compression::kGzip, Compression::kZstd);
  Output output(compression);
  const std::string extension(PcapExtension(compression));
  output.Submit(1, "flow_1", Record(1), /*last=*/false);
  output.Saved(1);
  {
    const NoDescriptors limit;
    for (int part = 2; part <= 9; ++part) {
      output.Submit(1, "flow_1", Record(part), /*last=*/part == 9);
      output.Submit(2, "flow_2", Record(part), /*last=*/part == 9);
      output.AwaitErrors(2);
    }
    CHECK(output.done.size() == 0);
  }
  CHECK(output.Saved(16) == 2);
  CHECK(output.Times(InFolder("flow_1" + extension)) ==
        std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(output.Times(InFolder("flow_2" + extension)) ==
        std::vector<int64_t>{2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(output.Failed() == 0);
}

TEST_CASE("A part of a stream that was written half is taken back", "[publisher]") {
  const Compression compression =
      GENERATE(Compression::kNone, Compression::kGzip, Compression::kZstd);
  Output output(compression, {}, /*most_tries=*/1'000'000'000);
  const std::string extension(PcapExtension(compression));
  const std::string hidden = ".flow_1" + extension + ".part";
  std::string records;
  std::vector<int64_t> times = {1};
  for (int64_t time_ns = 2; time_ns < 20'000; ++time_ns) {
    records += Record(time_ns, Noise(100));
    times.push_back(time_ns);
  }
  output.Submit(1, "flow_1", Record(1), /*last=*/false);
  output.Saved(1);
  const std::string before = output.scratch.Read(InFolder(hidden));
  {
    const FileSizeLimit limit(300'000);
    output.Submit(1, "flow_1", records, /*last=*/false);
    output.Submit(2, "flow_2", records);
    output.AwaitErrors(6);
    // What the disk took of them it has back meanwhile, or soon.
    while (output.scratch.Read(InFolder(hidden)) != before) std::this_thread::yield();
    CHECK(output.done.size() == 0);
  }
  output.Submit(1, "flow_1", Record(20'000));
  CHECK(output.Saved(3) == 2);
  times.push_back(20'000);
  CHECK((output.Times(InFolder("flow_1" + extension)) == times));
  CHECK(output.Times(InFolder("flow_2" + extension)).size() == times.size() - 2);
  const std::string name = "flow_1" + extension;
  CHECK(output.scratch.Files() == Files{InFolder(name), InFolder("flow_2" + extension)});
  CHECK(output.publisher->stats().bytes_stored ==
        output.scratch.Read(InFolder(name)).size() +
            output.scratch.Read(InFolder("flow_2" + extension)).size());
}

TEST_CASE("At the end what can't be saved is given up and counted", "[publisher]") {
  Output output;
  output.Submit(1, "flow_1", Record(1), /*last=*/false);
  output.Saved(1);
  {
    const NoDescriptors limit;
    for (uint64_t i = 1; i <= 700; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(i));
    output.AwaitErrors(500);
    CHECK(output.done.size() == 0);
    output.publisher->StopRetrying();
    CHECK(output.Saved(700) == 0);
  }
  CHECK(output.Failed() == 700);
  CHECK(output.FailedAt(FileStage::kMkdir) + output.FailedAt(FileStage::kFileOpen) +
            output.FailedAt(FileStage::kStreaming) ==
        700);
  CHECK(output.scratch.Files().empty());
}

TEST_CASE("A file that fails alone does not hold up the others", "[publisher]") {
  Output output(Compression::kNone, {}, /*most_tries=*/1'000'000'000);
  output.Submit(1, std::string(300, 'a'), Record(5));
  output.AwaitErrors(3);
  for (uint64_t i = 2; i <= 20; ++i) {
    output.Submit(i, absl::StrCat("flow_", i), Record(5));
    CHECK(output.Saved(1) == 1);
  }
  CHECK(output.publisher->waiting() == 1);
  output.publisher->StopRetrying();
  CHECK(output.Saved(1) == 0);
}

TEST_CASE("Streams of several days share the descriptors of their folders", "[publisher]") {
  Output output;
  constexpr uint64_t kFlows = 100;
  const size_t before = OpenDescriptors();
  for (uint64_t i = 0; i < kFlows; ++i) {
    output.Submit(i, absl::StrCat("flow_", i), Record(5), /*last=*/false, kLeapDay + i % 3);
  }
  output.Saved(kFlows);
  CHECK(OpenDescriptors() <= before + 3 + 1);  // the last file may still be open
  for (uint64_t i = 0; i < kFlows; ++i) output.Submit(i, absl::StrCat("flow_", i), "");
  CHECK(output.Saved(kFlows) == kFlows);
}

TEST_CASE("Nothing is synced with -durability=rename, and all is there", "[publisher]") {
  Output output(Compression::kNone, {.sync = false});
  for (uint64_t i = 0; i < 20; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(i));
  CHECK(output.Saved(20) == 20);
  CHECK(output.scratch.Files().size() == 20);
}

constexpr char kIndex[] = "index-host-20231114T221320.000000000Z.jsonl";

std::unique_ptr<IndexFile> NewIndex() {
  return std::make_unique<IndexFile>("host", 1'700'000'000'000'000'000,
                                     [](uint32_t) { return std::nullopt; });
}

// The values of a field, line by line.
std::vector<nlohmann::json> Indexed(const Output& output, const std::string& field) {
  std::vector<nlohmann::json> values;
  const std::string text = output.scratch.Read(InFolder(kIndex));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    values.push_back(nlohmann::json::parse(line)[field]);
  }
  return values;
}

TEST_CASE("Each file has a line in the index of its folder once it is saved", "[publisher]") {
  const bool sync = GENERATE(true, false);
  Output output(Compression::kNone, {.sync = sync}, 3, NewIndex());
  for (uint64_t i = 0; i < 30; ++i) {
    output.Submit(i, i < 20 ? absl::StrCat("flow_", i) : "same", Record(i));
  }
  output.Submit(30, "yesterday", Record(1), true, kLeapDay - 1);
  CHECK(output.Saved(31) == 31);
  const std::vector<nlohmann::json> files = Indexed(output, "file");
  CHECK(files.size() == 30);
  Files named(files.begin(), files.end());
  named.insert(InFolder(kIndex));
  named.insert("2024/02/28/yesterday.pcap");
  named.insert(absl::StrCat("2024/02/28/", kIndex));
  CHECK(output.scratch.Files() == named);
  CHECK(output.publisher->stats().index_lines == 31);
  CHECK(output.publisher->stats().index_lines_lost == 0);
}

TEST_CASE("The line of a stream tells of all its parts, also of one that failed first",
          "[publisher]") {
  Output output(Compression::kNone, {}, 1'000'000'000, NewIndex());
  output.Submit(1, "flow_1", Record(5), /*last=*/false);
  output.Saved(1);
  CHECK(Indexed(output, "file").empty());
  {
    const NoDescriptors limit;
    output.Submit(1, "flow_1", Record(8));
    output.AwaitErrors(3);
  }
  CHECK(output.Saved(1) == 1);
  CHECK(Indexed(output, "duration_ns") == std::vector<nlohmann::json>{3});
}

TEST_CASE("An index that can't be written holds up no file, and is written later", "[publisher]") {
  Output output(Compression::kNone, {}, 3, NewIndex());
  output.scratch.Write(InFolder(kIndex) + "/folder", "in its place");
  output.Submit(1, "flow_1", Record(5));
  CHECK(output.Saved(1) == 1);
  // Nothing says that files could not be saved.
  const auto& errors = output.publisher->stats().errors_by_stage;
  CHECK(errors[static_cast<size_t>(FileStage::kIndex)] == 1);
  CHECK(errors[static_cast<size_t>(FileStage::kWriteFinal)] == 0);
  std::filesystem::remove_all(output.scratch.Path(InFolder(kIndex)));
  SECTION("with the next file") {
    output.Submit(2, "flow_2", Record(5));
    CHECK(output.Saved(1) == 1);
    CHECK(Indexed(output, "uuid") == std::vector<nlohmann::json>{"flow_1", "flow_2"});
  }
  SECTION("at the end") {
    output.publisher = nullptr;
    CHECK(Indexed(output, "uuid") == std::vector<nlohmann::json>{"flow_1"});
  }
}

TEST_CASE("Lines of the index that wait at the end are lost and counted", "[publisher]") {
  Output output(Compression::kNone, {}, 3, NewIndex());
  output.scratch.Write(InFolder(kIndex) + "/folder", "in its place");
  for (uint64_t i = 0; i < 3; ++i) output.Submit(i, absl::StrCat("flow_", i), Record(5));
  CHECK(output.Saved(3) == 3);
  CHECK(output.publisher->stats().index_lines_lost == 0);
  output.publisher->Finish();
  CHECK(output.publisher->stats().index_lines == 0);
  CHECK(output.publisher->stats().index_lines_lost == 3);
}

TEST_CASE("What a run left is salvaged while the next one saves", "[publisher]") {
  const ScratchDirectory scratch;
  const std::string good = PcapFileHeader(LinkType::kEthernet, 256) + Record(5);
  scratch.Write(InFolder(".flow_1.pcap.part"), good + "torn");
  auto directory = DataDirectory::Open(scratch.Path());
  REQUIRE(directory.ok());
  FileJobQueue done;
  {
    Publisher publisher(*std::move(directory), /*snaplen=*/256, Compression::kNone);
    FileJob job;
    job.flow_id = 1;
    job.uuid = "flow_1";
    job.date = kLeapDay;
    job.done = &done;
    publisher.Submit(std::move(job));
    CHECK(done.WaitAndTake(1).size() == 1);
    while (publisher.salvage_stats().files == 0) std::this_thread::yield();
    CHECK(publisher.salvage_stats().packets == 1);
  }
  CHECK(scratch.Files() == Files{InFolder("flow_1.pcap"), InFolder("flow_1.1.pcap")});
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
    while (!queue.is_over()) {
      for (const FileJob& job : queue.WaitAndTake(7)) sum += job.flow_id;
    }
  });
  for (uint64_t i = 1; i <= kJobs; ++i) queue.Put(JobOf(i));
  queue.Close();
  reader.join();
  CHECK(sum == kJobs * (kJobs + 1) / 2);
}

}  // namespace
}  // namespace packet_headers::testing
