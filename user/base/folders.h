// Folders of files that are given by a path.

#ifndef PACKET_HEADERS_USER_BASE_FOLDERS_H_
#define PACKET_HEADERS_USER_BASE_FOLDERS_H_

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace packet_headers {

// The folder that holds the file: "." for a bare name.
inline std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// Whether nothing but these is in the folder.
inline bool HoldsOnly(const std::string& folder, const std::vector<std::string>& names) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (std::find(names.begin(), names.end(), entry.path().filename().string()) == names.end()) {
      return false;
    }
  }
  return !error;
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_FOLDERS_H_
