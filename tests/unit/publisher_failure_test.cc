// What can't be written, and what is tried again.

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/captured_log.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/publisher_output.h"
#include "user/output/publisher.h"

namespace packet_headers::testing {
namespace {

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

}  // namespace
}  // namespace packet_headers::testing
