// What is published.

#include "user/output/publisher.h"

#include <filesystem>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "tests/support/catch.h"
#include "tests/support/decompress.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/pcap_reader.h"
#include "tests/support/publisher_output.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator descriptors("/proc/self/fd");
  return std::distance(begin(descriptors), end(descriptors));
}

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

}  // namespace
}  // namespace packet_headers::testing
