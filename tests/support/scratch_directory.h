// A directory of its own for a test's files.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
#define PACKET_HEADERS_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace packet_headers::testing {

// Removed with all that is in it. Paths are relative to it.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(
      const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string path = (parent / "unit_tests.XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) std::abort();
    root_ = path;
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() { std::filesystem::remove_all(root_); }

  std::string Path(const std::string& path = "") const { return (root_ / path).string(); }

  // Makes the file, and the folders on the way to it; returns its path.
  std::string Write(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path, std::ios::binary) << content;
    return Path(path);
  }

  std::string Read(const std::string& path) const {
    std::ifstream file(root_ / path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  // Every file beneath it, hidden ones too.
  std::set<std::string> Files() const {
    std::set<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      if (!entry.is_directory()) files.insert(entry.path().lexically_relative(root_).string());
    }
    return files;
  }

 private:
  std::filesystem::path root_;
};

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
