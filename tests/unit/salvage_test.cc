#include "user/output/salvage.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "tests/support/captured_log.h"
#include "tests/support/catch.h"
#include "tests/support/decompress.h"
#include "tests/support/pcap_reader.h"
#include "tests/support/scratch_directory.h"
#include "user/output/compressor.h"
#include "user/output/pcap.h"

namespace packet_headers::testing {
namespace {

using Files = std::set<std::string>;

constexpr char kFolder[] = "2024/02/29/";

std::string Record(int64_t time_ns, const std::string& bytes = "headers") {
  std::string record(kPcapRecordHeaderBytes, '\0');
  PutPcapRecordHeader(time_ns, bytes.size(), 1500, record.data());
  return record + bytes;
}

std::string Header() { return PcapFileHeader(LinkType::kEthernet, 256); }

std::string Member(Compression compression, const std::string& bytes) {
  std::string member;
  const auto status =
      Compressor::Make(compression)->Write(bytes, /*last=*/true, [&](absl::string_view packed) {
        absl::StrAppend(&member, packed);
        return absl::OkStatus();
      });
  REQUIRE(status.ok());
  return member;
}

// A data directory, and what a salvage makes of it.
class Wreck {
 public:
  // A hidden file of the day.
  void Leave(const std::string& name, const std::string& content) {
    scratch.Write(absl::StrCat(kFolder, ".", name, ".part"), content);
  }

  void Salvage() {
    auto directory = DataDirectory::Open(scratch.Path());
    REQUIRE(directory.ok());
    packet_headers::Salvage salvage(**directory);
    REQUIRE(salvage.WaitForList(std::chrono::seconds(10)));
    log.WaitFor("unfinished");
    files = salvage.stats().files;
    packets = salvage.stats().packets;
    removed = salvage.stats().removed;
    failed = salvage.stats().failed;
  }

  std::string Read(const std::string& name) const { return scratch.Read(kFolder + name); }

  std::vector<int64_t> Times(Compression compression, const std::string& name) const {
    const Decompressed file = Decompress(compression, Read(name));
    CHECK(file.is_whole);
    std::vector<int64_t> times;
    for (const PcapRecord& record : ReadPcapFile(file.bytes).records) {
      times.push_back(record.time_ns);
    }
    return times;
  }

  ScratchDirectory scratch;
  CapturedLog log;
  uint64_t files = 0, packets = 0, removed = 0, failed = 0;
};

TEST_CASE("A plain file is salvaged up to its last whole record, wherever it is torn",
          "[salvage]") {
  const std::string whole = Header() + Record(5) + Record(5) + Record(6);
  Wreck wreck;
  for (size_t size = 0; size <= whole.size(); ++size) {
    wreck.Leave(absl::StrCat("flow_", size, ".pcap"), whole.substr(0, size));
  }
  wreck.Salvage();
  const size_t record = Record(5).size();
  uint64_t files = 0, packets = 0;
  for (size_t size = 0; size <= whole.size(); ++size) {
    const std::string name = absl::StrCat("flow_", size, ".pcap");
    const size_t records = size < Header().size() ? 0 : (size - Header().size()) / record;
    CHECK(std::filesystem::exists(wreck.scratch.Path(kFolder + name)) == (records > 0));
    files += records > 0;
    packets += records;
    if (records > 0) {
      CHECK((wreck.Read(name) == whole.substr(0, Header().size() + records * record)));
    }
  }
  CHECK(wreck.scratch.Files().size() == files);
  CHECK(wreck.files == files);
  CHECK(wreck.packets == packets);
  CHECK(wreck.removed == whole.size() + 1 - files);
  CHECK(wreck.failed == 0);
}

TEST_CASE("The index of a run that died is cut to its last whole line, and no other file is",
          "[salvage]") {
  const std::string line = std::string(3000, 'x') + "\n";
  Wreck wreck;
  wreck.Leave("flow.pcap", "");  // so that it says when it is done
  wreck.scratch.Write(absl::StrCat(kFolder, "index-host-1.jsonl"), line + line + "{\"torn");
  wreck.scratch.Write(absl::StrCat(kFolder, "index-host-2.jsonl"), line + line);
  wreck.scratch.Write(absl::StrCat(kFolder, "index-host-3.jsonl"), line + std::string(9000, '\0'));
  wreck.scratch.Write(absl::StrCat(kFolder, "index-host-4.jsonl"), std::string(5000, 'x'));
  wreck.scratch.Write(absl::StrCat(kFolder, "index-host-5.txt"), "not ours");
  wreck.Salvage();
  CHECK(wreck.Read("index-host-1.jsonl") == line + line);
  CHECK(wreck.Read("index-host-2.jsonl") == line + line);
  CHECK(wreck.Read("index-host-3.jsonl") == line);
  CHECK(wreck.Read("index-host-4.jsonl").empty());
  CHECK(wreck.Read("index-host-5.txt") == "not ours");
}

TEST_CASE("A compressed file is salvaged up to its last whole record, wherever it is torn",
          "[salvage]") {
  const Compression compression = GENERATE(Compression::kGzip, Compression::kZstd);
  const std::string extension(PcapExtension(compression));
  const std::string first = Member(compression, Header() + Record(1) + Record(2));
  const std::string second = Member(compression, Record(3) + Record(4));
  const std::string whole = first + second;
  Wreck wreck;
  for (size_t size = 0; size <= whole.size(); ++size) {
    wreck.Leave(absl::StrCat("flow_", size, extension), whole.substr(0, size));
  }
  wreck.Salvage();
  size_t last = 0;
  for (size_t size = 0; size <= whole.size(); ++size) {
    const std::string name = absl::StrCat("flow_", size, extension);
    size_t records = 0;
    if (std::filesystem::exists(wreck.scratch.Path(kFolder + name))) {
      const std::vector<int64_t> times = wreck.Times(compression, name);
      records = times.size();
      for (size_t i = 0; i < records; ++i) CHECK(times[i] == static_cast<int64_t>(i) + 1);
    }
    CHECK(records >= last);
    if (size >= first.size()) CHECK(records >= 2);
    last = records;
  }
  CHECK(last == 4);
  CHECK(wreck.failed == 0);
  // Nothing is left of the way there.
  CHECK(wreck.scratch.Files().size() == wreck.files);
}

TEST_CASE("Of a long torn member the records that can be unpacked are salvaged", "[salvage]") {
  const Compression compression = GENERATE(Compression::kGzip, Compression::kZstd);
  const std::string name = absl::StrCat("flow", PcapExtension(compression));
  std::string records;
  for (int64_t i = 0; i < 50'000; ++i) records += Record(i, absl::StrCat("headers ", i * i));
  const std::string whole = Member(compression, Header() + records);
  Wreck wreck;
  wreck.Leave(name, whole.substr(0, whole.size() / 2));
  wreck.Salvage();
  const std::vector<int64_t> times = wreck.Times(compression, name);
  CHECK(times.size() > 10'000);
  CHECK(times.size() == wreck.packets);
  CHECK(times.back() == static_cast<int64_t>(times.size()) - 1);
}

TEST_CASE("A salvage that was killed leaves no second copy", "[salvage]") {
  const std::string member = Member(Compression::kGzip, Header() + Record(5));
  Wreck wreck;
  wreck.Leave("flow.pcap.gz", member + member.substr(0, 12));
  wreck.Leave("flow~.pcap.gz", member);
  wreck.Salvage();
  CHECK(wreck.files == 1);
  CHECK(wreck.scratch.Files().size() == 1);
  CHECK(wreck.Times(Compression::kGzip, "flow.pcap.gz") == std::vector<int64_t>{5});
}

TEST_CASE("What a crash made of the end is no record", "[salvage]") {
  const std::string good = Header() + Record(5) + Record(6);
  const std::string bad =
      GENERATE(std::string(4096, '\0'),           // a block that was never written
               Record(4),                         // older than the one before
               Record(7, std::string(257, 'x')),  // more than the snaplen
               Record(7).substr(0, 8) + std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8));
  Wreck wreck;
  wreck.Leave("flow.pcap", good + bad + Record(8));
  wreck.Salvage();
  CHECK((wreck.Read("flow.pcap") == good));
}

TEST_CASE("What holds no record is removed", "[salvage]") {
  Wreck wreck;
  wreck.Leave("empty.pcap", "");
  wreck.Leave("header.pcap", Header());
  wreck.Leave("noise.pcap", std::string(1000, 'x'));
  wreck.Leave("plain.pcap.gz", Header() + Record(5));
  wreck.Leave("noise.pcap.zst", "\x28\xb5\x2f\xfd and then noise, noise, noise");
  wreck.Leave("empty.pcap.zst", "");
  wreck.Salvage();
  CHECK(wreck.scratch.Files().empty());
  CHECK(wreck.removed == 6);
  CHECK(wreck.files == 0);
}

TEST_CASE("A salvaged file overwrites nothing", "[salvage]") {
  Wreck wreck;
  wreck.scratch.Write(absl::StrCat(kFolder, "flow.pcap"), "of before");
  wreck.Leave("flow.pcap", Header() + Record(5));
  wreck.Leave("flow.1.pcap", Header() + Record(6));
  wreck.Salvage();
  CHECK(wreck.Read("flow.pcap") == "of before");
  Files contents;
  for (const std::string& file : wreck.scratch.Files()) contents.insert(wreck.scratch.Read(file));
  CHECK((contents == Files{"of before", Header() + Record(5), Header() + Record(6)}));
}

TEST_CASE("What is not a hidden file of ours is left alone", "[salvage]") {
  Wreck wreck;
  const std::string good = Header() + Record(5);
  const Files others = {"2024/02/29/flow.pcap.part", "2024/02/29/.flow.part",
                        "2024/.flow.pcap.part",      "2024/02/.flow.pcap.part",
                        ".flow.pcap.part",           "2024/2/29/.f.pcap.part",
                        "a/02/29/.flow.pcap.part",   "2024/02/29/.pcap.part"};
  for (const std::string& name : others) wreck.scratch.Write(name, good);
  const ScratchDirectory elsewhere;
  elsewhere.Write("02/29/.victim.pcap.part", good);
  std::filesystem::create_directory_symlink(elsewhere.Path(), wreck.scratch.Path("2025"));
  std::filesystem::create_symlink(elsewhere.Path("02/29/.victim.pcap.part"),
                                  wreck.scratch.Path("2024/02/29/.link.pcap.part"));
  REQUIRE(mkfifo(wreck.scratch.Path("2024/02/29/.pipe.pcap.part").c_str(), 0600) == 0);
  std::filesystem::create_directory(wreck.scratch.Path("2024/02/29/.folder.pcap.part"));
  wreck.Leave("real.pcap", good);
  wreck.Salvage();
  CHECK(wreck.files == 1);
  CHECK(wreck.removed == 0);
  CHECK(elsewhere.Files() == Files{"02/29/.victim.pcap.part"});
  for (const std::string& name : others) CHECK(wreck.scratch.Read(name) == good);
  CHECK(std::filesystem::is_symlink(wreck.scratch.Path("2024/02/29/.link.pcap.part")));
}

TEST_CASE("The hidden files of a run that lives are left alone", "[salvage]") {
  const ScratchDirectory scratch;
  auto first = DataDirectory::Open(scratch.Path());
  REQUIRE(first.ok());
  Salvage of_first(**first);
  REQUIRE(of_first.WaitForList(std::chrono::seconds(10)));
  scratch.Write("2024/02/29/.flow.pcap.part", Header() + Record(5));
  {
    auto second = DataDirectory::Open(scratch.Path());
    REQUIRE(second.ok());
    const CapturedLog log;
    Salvage of_second(**second);
    REQUIRE(of_second.WaitForList(std::chrono::seconds(10)));
    CHECK(log.Lines().size() == 1);
  }
  CHECK(scratch.Files() == Files{"2024/02/29/.flow.pcap.part"});
}

TEST_CASE("A thousand leftovers are salvaged with two lines of log at most", "[salvage]") {
  Wreck wreck;
  for (int i = 0; i < 1000; ++i) {
    wreck.Leave(absl::StrCat("flow_", i, ".pcap"), Header() + Record(i) + "torn");
  }
  wreck.Salvage();
  CHECK(wreck.files == 1000);
  CHECK(wreck.packets == 1000);
  CHECK(wreck.scratch.Files().size() == 1000);
  CHECK(wreck.log.Lines().size() == 1);
}

}  // namespace
}  // namespace packet_headers::testing
