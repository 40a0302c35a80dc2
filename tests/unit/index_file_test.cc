#include "user/output/index_file.h"

#include <seccomp.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/packet.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

using nlohmann::json;

constexpr int64_t kStartNs = 1'700'000'000'123'456'789;
constexpr char kIndex[] = "2024/02/29/index-host-20231114T221320.123456789Z.jsonl";
constexpr absl::CivilDay kLeapDay(2024, 2, 29);

// A data directory and its index.
class Index {
 public:
  explicit Index(IndexFile::HooksOf hooks_of = [](uint32_t) { return std::nullopt; })
      : index("host", kStartNs, std::move(hooks_of)) {
    auto opened = DataDirectory::Open(scratch.Path());
    REQUIRE(opened.ok());
    directory = *std::move(opened);
  }

  std::unique_ptr<HiddenFile> Publish(const std::string& uuid, absl::CivilDay date) {
    auto folder = directory->FolderOf(date);
    REQUIRE(folder.ok());
    auto file = HiddenFile::Create(*folder, uuid, ".pcap");
    REQUIRE(file.ok());
    bool was_taken;
    REQUIRE((*file)->Publish(&was_taken).ok());
    return *std::move(file);
  }

  // A published file, and its line, so often.
  void Add(const FileJob& job, const FlowSummary& summary = FlowSummary(),
           absl::CivilDay date = kLeapDay, int times = 1) {
    const auto file = Publish(job.uuid, date);
    for (int i = 0; i < times; ++i) index.Add(*file, job, summary);
  }

  std::vector<json> Lines(const std::string& path = kIndex) const {
    std::vector<json> lines;
    std::string text = scratch.Read(path);
    if (text.empty()) return lines;
    REQUIRE(text.back() == '\n');
    text.pop_back();
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      lines.push_back(json::parse(line));
    }
    return lines;
  }

  ScratchDirectory scratch;
  std::unique_ptr<DataDirectory> directory;
  IndexFile index;
};

FileJob JobOf(const std::string& uuid) {
  FileJob job;
  job.uuid = uuid;
  job.key = FlowKey("192.0.2.1", 443, "198.51.100.7", 50000);
  return job;
}

TEST_CASE("A line tells of the flow", "[index]") {
  Index index([](uint32_t ifindex) {
    return InterfaceHooks{"eth" + std::to_string(ifindex), "xdp", "tcx"};
  });
  FileJob job = JobOf("flow_1");
  job.end = FlowEnd::kRst;
  job.packets.Add(2, PH_INGRESS, 1);
  job.packets.Add(3, PH_INGRESS, 2);
  job.packets.Add(3, PH_EGRESS, 3);
  const Bytes syn = Packet()
                        .Ethernet()
                        .Ipv4("192.0.2.1", "198.51.100.7")
                        .Tcp(443, 50000)
                        .Syn()
                        .RawTcpOptions({2, 4, 5, 180})
                        .bytes();
  std::string record(kPcapRecordHeaderBytes, '\0');
  PutPcapRecordHeader(kStartNs, syn.size(), syn.size(), record.data());
  record.append(reinterpret_cast<const char*>(syn.data()), syn.size());
  FlowSummary summary;
  summary.Add(record, LinkType::kEthernet, job.key);
  index.Add(job, summary);
  REQUIRE(index.index.Write(/*sync=*/true).ok());
  REQUIRE(index.Lines().size() == 1);
  const json line = index.Lines()[0];
  CHECK(line["host"] == "host");
  CHECK(line["uuid"] == "flow_1");
  CHECK(line["file"] == "2024/02/29/flow_1.pcap");
  CHECK(line["first_time"] == "2023-11-14T22:13:20.123456789Z");
  CHECK(line["duration_ns"] == 0);
  CHECK(line["local_ip"] == "192.0.2.1");
  CHECK(line["local_port"] == 443);
  CHECK(line["remote_ip"] == "198.51.100.7");
  CHECK(line["remote_port"] == 50000);
  CHECK(line["opened_by"] == "local");
  CHECK(line["ended_by"] == "rst");
  CHECK(line["sent_packets"] == 3);
  CHECK(line["received_packets"] == 3);
  CHECK(line["sent_bytes"] == syn.size());
  CHECK(line["local_mss"] == 1460);
  CHECK(line["local_sack"] == false);
  CHECK(line["remote_mss"].is_null());
  CHECK(line["remote_sack"].is_null());
  CHECK(line["sent_aggregates"].is_null());
  CHECK(line["received_aggregates"] == 0);
  CHECK(line["handshake_ns"].is_null());
  CHECK(line["interface"] == "eth3");  // of most packets
  CHECK(line["ingress_hook"] == "xdp");
  CHECK(line["egress_hook"] == "tcx");
}

TEST_CASE("Addresses are written as usual", "[index]") {
  Index index;
  FileJob job = JobOf("flow_1");
  job.key = FlowKey("2001:db8::1", 443, "2001:db8:0:0:7::", 50000);
  index.Add(job);
  REQUIRE(index.index.Write(false).ok());
  CHECK(index.Lines()[0]["local_ip"] == "2001:db8::1");
  CHECK(index.Lines()[0]["remote_ip"] == "2001:db8:0:0:7::");
  CHECK(index.Lines()[0]["interface"].is_null());
}

TEST_CASE("No interface's name breaks a line", "[index]") {
  const std::string name = GENERATE("a\"b", "a\\b", "a\x01z", "\xff\xfe", "\xc3\xa4");
  Index index([&name](uint32_t) { return InterfaceHooks{name, "clsact", "clsact"}; });
  index.Add(JobOf("flow_1"));
  REQUIRE(index.index.Write(false).ok());
  CHECK(index.Lines().size() == 1);
}

TEST_CASE("Lines go to the folder of their file, behind those that are there", "[index]") {
  Index index;
  for (int i = 0; i < 4; ++i) {
    index.Add(JobOf("flow_" + std::to_string(i)), {}, kLeapDay - i % 2);
    if (i == 1) REQUIRE(index.index.Write(true).ok());
  }
  REQUIRE(index.index.Write(true).ok());
  REQUIRE(index.index.Write(true).ok());
  const std::string other = "2024/02/28/index-host-20231114T221320.123456789Z.jsonl";
  REQUIRE(index.Lines().size() == 2);
  REQUIRE(index.Lines(other).size() == 2);
  CHECK(index.Lines()[1]["uuid"] == "flow_2");
  CHECK(index.Lines(other)[1]["uuid"] == "flow_3");
  CHECK(index.index.lines_written() == 4);
}

TEST_CASE("The index has the mode of the files", "[index]") {
  Index index;
  index.Add(JobOf("flow_1"));
  REQUIRE(index.index.Write(true).ok());
  CHECK(std::filesystem::status(index.scratch.Path(kIndex)).permissions() ==
        std::filesystem::perms(0640));
}

TEST_CASE("Of lines that can't be written some are kept, and the others counted", "[index]") {
  Index index;
  index.scratch.Write(std::string(kIndex) + "/folder", "in its place");
  index.Add(JobOf("flow_1"));
  uint64_t added = 1;
  CHECK_FALSE(index.index.Write(true).ok());
  SECTION("and written later") { CHECK(index.index.lines_lost() == 0); }
  SECTION("and the newest lost above a bound") {
    added += 2001;
    index.Add(JobOf("many"), {}, kLeapDay, 2000);
    CHECK_FALSE(index.index.Write(true).ok());
    index.Add(JobOf("newest"));
    CHECK_FALSE(index.index.Write(true).ok());
    CHECK(index.index.lines_lost() > 1000);
  }
  std::filesystem::remove_all(index.scratch.Path(kIndex));
  REQUIRE(index.index.Write(true).ok());
  const std::vector<json> lines = index.Lines();
  CHECK(lines.front()["uuid"] == "flow_1");
  CHECK(lines.back()["uuid"] != "newest");
  CHECK(lines.size() == index.index.lines_written());
  CHECK(lines.size() + index.index.lines_lost() == added);
}

// Calls it in a thread whose system calls `failing` fail with EIO.
absl::Status WithFailing(const std::vector<int>& failing,
                         const std::function<absl::Status()>& function) {
  absl::Status status;
  bool is_armed = false;
  std::thread([&] {
    const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    for (const int call : failing) seccomp_rule_add(filter, SCMP_ACT_ERRNO(EIO), call, 0);
    is_armed = seccomp_load(filter) == 0;
    seccomp_release(filter);
    status = function();
  }).join();
  REQUIRE(is_armed);
  return status;
}

TEST_CASE("What could not be cut off is no part of the index later", "[index]") {
  Index index;
  index.Add(JobOf("flow_1"));
  REQUIRE(index.index.Write(true).ok());
  const size_t whole_bytes = index.scratch.Read(kIndex).size();
  const auto write = [&index] { return index.index.Write(true); };
  index.Add(JobOf("flow_2"));
  SECTION("a torn line") {
    const FileSizeLimit limit(whole_bytes + 10);
    const absl::Status status = WithFailing({SCMP_SYS(ftruncate)}, write);
    CHECK(absl::StartsWith(status.message(), "write "));
  }
  SECTION("a line that may not be on the disk") {
    const absl::Status status = WithFailing({SCMP_SYS(fdatasync), SCMP_SYS(ftruncate)}, write);
    CHECK(absl::StartsWith(status.message(), "sync "));
  }
  REQUIRE(index.scratch.Read(kIndex).size() > whole_bytes);
  CHECK_FALSE(WithFailing({SCMP_SYS(ftruncate)}, write).ok());
  index.Add(JobOf("flow_3"));
  REQUIRE(index.index.Write(true).ok());
  const std::vector<json> lines = index.Lines();
  REQUIRE(lines.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(lines[i]["uuid"] == "flow_" + std::to_string(i + 1));
}

TEST_CASE("Lines of a folder that was removed go with it", "[index]") {
  Index index;
  index.Add(JobOf("flow_1"));
  std::filesystem::remove_all(index.scratch.Path("2024"));
  CHECK_FALSE(index.index.Write(true).ok());
  CHECK(index.index.lines_lost() == 1);
  CHECK(index.index.Write(true).ok());
}

}  // namespace
}  // namespace packet_headers::testing
