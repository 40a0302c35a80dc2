#include "user/identity/event_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "user/identity/line_splitter.h"
#include "user/identity/socket_event.h"

namespace packet_headers {

absl::StatusOr<std::vector<Announcement>> ReadEventFile(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("-uuids: open the events in ", path));
  }
  std::vector<Announcement> opens;
  size_t bad_lines = 0;
  const auto use = [&](absl::string_view line) {
    SocketEvent event = DecodeSocketEvent(line);
    if (auto* const open = std::get_if<Announcement>(&event)) opens.push_back(std::move(*open));
    bad_lines += std::holds_alternative<BadEvent>(event);
  };
  LineSplitter lines;
  std::array<char, 65'536> buffer;
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    bad_lines += lines.Feed(absl::string_view(buffer.data(), size), use);
  }
  if (std::ferror(file.get()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("read the events in ", path));
  }
  if (!lines.rest().empty()) use(lines.rest());
  std::stable_sort(opens.begin(), opens.end(), [](const Announcement& a, const Announcement& b) {
    return a.time_ns < b.time_ns;
  });
  if (bad_lines > 0) spdlog::warn("{}: {} lines are no events, skipped", path, bad_lines);
  spdlog::info("{}: {} sockets opened", path, opens.size());
  return opens;
}

}  // namespace packet_headers
