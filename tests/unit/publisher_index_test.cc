// The lines of the index that go with published files.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
#include "nlohmann/json.hpp"
#include "tests/support/catch.h"
#include "tests/support/publisher_output.h"
#include "user/output/index_file.h"
#include "user/output/publisher.h"

namespace packet_headers::testing {
namespace {

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

}  // namespace
}  // namespace packet_headers::testing
