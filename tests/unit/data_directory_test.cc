#include "user/output/data_directory.h"

#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/civil_time.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

using Files = std::set<std::string>;

// The folder of the 29th of February 2024.
std::shared_ptr<const DateFolder> LeapDay(const ScratchDirectory& scratch) {
  auto directory = DataDirectory::Open(scratch.Path());
  REQUIRE(directory.ok());
  auto folder = (*directory)->FolderOf(absl::CivilDay(2024, 2, 29));
  REQUIRE(folder.ok());
  return *folder;
}

TEST_CASE("A data directory is made with its parents", "[data_directory]") {
  const ScratchDirectory scratch;
  for (const char* path : {"a/b/c", "a/b/c", "d/", "e//f"}) {
    CHECK(DataDirectory::Open(scratch.Path(path)).ok());
    CHECK(std::filesystem::is_directory(scratch.Path(path)));
  }
  CHECK(scratch.Files().empty());
}

TEST_CASE("A data directory may be a link to one", "[data_directory]") {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch.Path("real"));
  std::filesystem::create_directory_symlink("real", scratch.Path("link"));
  CHECK(DataDirectory::Open(scratch.Path("link")).ok());
}

TEST_CASE("What can't hold files is no data directory, and the error says which",
          "[data_directory]") {
  const ScratchDirectory scratch;
  scratch.Write("file", "");
  for (const std::string& path : {scratch.Path("file"), scratch.Path("file/below"),
                                  std::string("/proc/self"), std::string("/proc/self/none")}) {
    const absl::Status status = DataDirectory::Open(path).status();
    CHECK_FALSE(status.ok());
    CHECK(absl::StrContains(status.message(), path));
  }
  CHECK_FALSE(DataDirectory::Open("").ok());
}

TEST_CASE("A date's folder is named by year, month and day", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto directory = DataDirectory::Open(scratch.Path());
  REQUIRE(directory.ok());
  const auto name = [&](absl::CivilDay date) {
    const auto folder = (*directory)->FolderOf(date);
    REQUIRE(folder.ok());
    CHECK(std::filesystem::is_directory(scratch.Path((*folder)->name)));
    return (*folder)->name;
  };
  CHECK(name(absl::CivilDay(1970, 1, 1)) == "1970/01/01");
  CHECK(name(absl::CivilDay(2024, 2, 29)) == "2024/02/29");
  CHECK(name(absl::CivilDay(2024, 12, 31)) == "2024/12/31");
  CHECK(name(absl::CivilDay(2024, 2, 29)) == "2024/02/29");
  CHECK(name(absl::CivilDay(987, 6, 5)) == "0987/06/05");
}

TEST_CASE("A date folder that is a link or a file is refused", "[data_directory]") {
  const ScratchDirectory scratch;
  const ScratchDirectory elsewhere;
  const auto directory = DataDirectory::Open(scratch.Path());
  REQUIRE(directory.ok());
  SECTION("link") {
    std::filesystem::create_directory_symlink(elsewhere.Path(), scratch.Path("1970"));
  }
  SECTION("file") { scratch.Write("1970/01", ""); }
  CHECK_FALSE((*directory)->FolderOf(absl::CivilDay()).ok());
  CHECK(std::filesystem::is_empty(elsewhere.Path()));
}

TEST_CASE("Files and folders have the modes that were asked for", "[data_directory]") {
  const mode_t umask_before = umask(0);
  const ScratchDirectory scratch;
  const auto [folder_mode, file_mode] =
      GENERATE(table<mode_t, mode_t>({{0750, 0640}, {0777, 0664}, {0700, 0600}, {0770, 0444}}));
  auto directory = DataDirectory::Open(scratch.Path("new/data"), {folder_mode, file_mode});
  REQUIRE(directory.ok());
  auto folder = (*directory)->FolderOf(absl::CivilDay(2024, 2, 29));
  REQUIRE(folder.ok());
  auto file = HiddenFile::Create(*folder, "uuid", ".pcap");
  umask(umask_before);
  REQUIRE(file.ok());
  bool name_was_taken = false;
  CHECK((*file)->Append("x").ok());
  CHECK((*file)->Publish(&name_was_taken).ok());
  const auto mode = [&](const char* path) {
    struct stat status;
    REQUIRE(stat(scratch.Path(path).c_str(), &status) == 0);
    return status.st_mode & 07777;
  };
  for (const char* path : {"new", "new/data", "new/data/2024", "new/data/2024/02/29"}) {
    CHECK(mode(path) == folder_mode);
  }
  CHECK(mode("new/data/2024/02/29/uuid.pcap") == file_mode);
}

TEST_CASE("A file is hidden until it is published", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  auto file = HiddenFile::Create(folder, "uuid", ".pcap");
  REQUIRE(file.ok());
  CHECK((*file)->Append("one ").ok());
  CHECK(scratch.Files() == Files{"2024/02/29/.uuid.pcap.part"});
  (*file)->CloseDescriptor();
  CHECK((*file)->Append("two").ok());
  (*file)->CloseDescriptor();
  CHECK((*file)->Sync().ok());
  bool name_was_taken = true;
  CHECK((*file)->Publish(&name_was_taken).ok());
  CHECK_FALSE(name_was_taken);
  file->reset();
  CHECK(scratch.Files() == Files{"2024/02/29/uuid.pcap"});
  CHECK(scratch.Read("2024/02/29/uuid.pcap") == "one two");
}

TEST_CASE("A file that is not published is removed", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  auto file = HiddenFile::Create(folder, "uuid", ".pcap");
  REQUIRE(file.ok());
  CHECK((*file)->Append("one").ok());
  file->reset();
  CHECK(scratch.Files().empty());
}

TEST_CASE("Files of one name get numbers, hidden and published", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  std::unique_ptr<HiddenFile> files[3];
  for (auto& file : files) file = *HiddenFile::Create(folder, "uuid", ".pcap");
  CHECK(scratch.Files() == Files{"2024/02/29/.uuid.pcap.part", "2024/02/29/.uuid.1.pcap.part",
                                 "2024/02/29/.uuid.2.pcap.part"});
  bool taken[3] = {};
  for (int i = 0; i < 3; ++i) {
    CHECK(files[i]->Append(std::to_string(i)).ok());
    CHECK(files[i]->Publish(&taken[i]).ok());
  }
  CHECK_FALSE(taken[0]);
  CHECK(taken[1]);
  CHECK(taken[2]);
  CHECK(scratch.Read("2024/02/29/uuid.pcap") == "0");
  CHECK(scratch.Read("2024/02/29/uuid.1.pcap") == "1");
  CHECK(scratch.Read("2024/02/29/uuid.2.pcap") == "2");
}

TEST_CASE("A number goes before the extension, and each extension has its own",
          "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  scratch.Write("2024/02/29/uuid.pcap", "");
  std::unique_ptr<HiddenFile> files[2];
  for (auto& file : files) file = *HiddenFile::Create(folder, "uuid", ".pcap.gz");
  CHECK(scratch.Files() == Files{"2024/02/29/.uuid.pcap.gz.part", "2024/02/29/.uuid.1.pcap.gz.part",
                                 "2024/02/29/uuid.pcap"});
  bool taken[2] = {};
  for (int i = 0; i < 2; ++i) CHECK(files[i]->Publish(&taken[i]).ok());
  CHECK_FALSE(taken[0]);
  CHECK(taken[1]);
  CHECK(scratch.Files() ==
        Files{"2024/02/29/uuid.1.pcap.gz", "2024/02/29/uuid.pcap", "2024/02/29/uuid.pcap.gz"});
}

TEST_CASE("A link in the place of a file is not followed", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  scratch.Write("victim", "untouched");
  for (const char* name : {".uuid.pcap.part", "uuid.pcap"}) {
    std::filesystem::create_symlink(scratch.Path("victim"), scratch.Path("2024/02/29/") + name);
  }
  auto file = HiddenFile::Create(folder, "uuid", ".pcap");
  REQUIRE(file.ok());
  CHECK((*file)->Append("x").ok());
  bool name_was_taken = false;
  CHECK((*file)->Publish(&name_was_taken).ok());
  CHECK(name_was_taken);
  CHECK(scratch.Read("victim") == "untouched");
}

TEST_CASE("The longest UUID has a file", "[data_directory]") {
  const ScratchDirectory scratch;
  const auto folder = LeapDay(scratch);
  auto file = HiddenFile::Create(folder, std::string(128, 'a'), ".pcap.zst");
  REQUIRE(file.ok());
  bool name_was_taken;
  CHECK((*file)->Publish(&name_was_taken).ok());
}

}  // namespace
}  // namespace packet_headers::testing
