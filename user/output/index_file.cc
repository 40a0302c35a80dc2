#include "user/output/index_file.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "user/base/unique_fd.h"
#include "user/output/address_text.h"

namespace packet_headers {
namespace {

constexpr char kPrefix[] = "index-";
constexpr char kExtension[] = ".jsonl";

constexpr size_t kMostWaitingBytes = 512 * 1024;

constexpr size_t kTailBytes = 4096;  // more than a line

constexpr absl::string_view kEnds[] = {"fin",      "rst",    "idle",  "duration",
                                       "shutdown", "reused", "memory"};

uint64_t LinesIn(absl::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

std::string TimeText(int64_t time_ns) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", absl::FromUnixNanos(time_ns),
                          absl::UTCTimeZone());
}

// One object of JSON, field by field. Neither names nor texts hold what must be escaped.
class JsonLine {
 public:
  template <typename Value>
  void Add(absl::string_view prefix, absl::string_view name, const Value& value) {
    absl::StrAppend(&text_, text_.empty() ? "{\"" : ",\"", prefix, name, "\":");
    AddValue(value);
  }
  template <typename Value>
  void Add(absl::string_view name, const Value& value) {
    Add("", name, value);
  }
  // Fields as they are.
  void AddRaw(absl::string_view fields) { absl::StrAppend(&text_, ",", fields); }

  std::string Finish() && {
    text_ += "}\n";
    return std::move(text_);
  }

 private:
  void AddValue(bool value) { text_ += value ? "true" : "false"; }
  void AddValue(absl::string_view text) { absl::StrAppend(&text_, "\"", text, "\""); }
  template <typename Number, std::enable_if_t<std::is_integral_v<Number>, int> = 0>
  void AddValue(Number value) {
    absl::StrAppend(&text_, value);
  }
  template <typename Value>
  void AddValue(const std::optional<Value>& value) {
    if (value) {
      AddValue(*value);
    } else {
      text_ += "null";
    }
  }

  std::string text_;
};

void AddSent(absl::string_view prefix, uint64_t packets, const SentSummary& sent,
             const SentSummary& other, JsonLine& line) {
  line.Add(prefix, "packets", packets);
  line.Add(prefix, "bytes", sent.wire_bytes);
  line.Add(prefix, "payload_bytes", sent.payload_bytes);
  line.Add(prefix, "retransmitted", sent.retransmitted);
  line.Add(prefix, "repeated_bytes", sent.repeated_bytes);
  line.Add(prefix, "out_of_order", sent.out_of_order);
  line.Add(prefix, "unseen_bytes", sent.unseen_bytes);
  line.Add(prefix, "aggregates",
           other.mss == 0 ? std::nullopt : std::optional<uint32_t>(sent.aggregates));
}

void AddSyn(absl::string_view prefix, const SentSummary& sent, JsonLine& line) {
  const bool was_seen = sent.first_seq.has_value();
  line.Add(prefix, "mss", sent.mss == 0 ? std::nullopt : std::optional<uint16_t>(sent.mss));
  line.Add(prefix, "window_scale", sent.window_scale);
  line.Add(prefix, "sack", was_seen ? std::optional<bool>(sent.sack_permitted) : std::nullopt);
}

}  // namespace

IndexFile::IndexFile(absl::string_view host, int64_t start_ns, HooksOf hooks_of)
    : host_(host),
      name_(absl::StrCat(
          kPrefix, host, "-",
          absl::FormatTime("%Y%m%dT%H%M%E9SZ", absl::FromUnixNanos(start_ns), absl::UTCTimeZone()),
          kExtension)),
      hooks_of_(std::move(hooks_of)) {}

const std::string& IndexFile::HooksAsJson(uint32_t ifindex) {
  const auto [entry, is_new] = hooks_.try_emplace(ifindex);
  if (is_new) {
    nlohmann::ordered_json fields = {
        {"interface", nullptr}, {"ingress_hook", nullptr}, {"egress_hook", nullptr}};
    if (const std::optional<InterfaceHooks> hooks = hooks_of_(ifindex)) {
      fields["interface"] = hooks->interface;
      fields["ingress_hook"] = std::string(hooks->ingress);
      fields["egress_hook"] = std::string(hooks->egress);
    }
    // An interface's name may hold anything.
    std::string text = fields.dump(-1, ' ', /*ensure_ascii=*/true,
                                   nlohmann::ordered_json::error_handler_t::replace);
    entry->second = text.substr(1, text.size() - 2);
  }
  return entry->second;
}

void IndexFile::Add(const HiddenFile& file, const FileJob& last_job, const FlowSummary& summary) {
  uint64_t packets[PH_DIRECTIONS] = {};
  uint64_t most = 0;
  uint32_t ifindex = 0;
  for (const PacketCounts::OfInterface& interface : last_job.packets.interfaces()) {
    uint64_t all = 0;
    for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
      packets[direction] += interface.packets[direction];
      all += interface.packets[direction];
    }
    if (all > most) ifindex = interface.ifindex;
    most = std::max(most, all);
  }
  const SentSummary& local = summary.sent(PH_EGRESS);
  const SentSummary& remote = summary.sent(PH_INGRESS);
  const std::optional<int> opener = summary.opener();

  JsonLine line;
  line.Add("host", host_);
  line.Add("uuid", last_job.uuid);
  line.Add("file", file.published_path());
  line.Add("first_time", TimeText(summary.first_ns()));
  line.Add("last_time", TimeText(summary.last_ns()));
  line.Add("duration_ns", summary.last_ns() - summary.first_ns());
  line.Add("local_ip", AddressText(last_job.key.local_addr));
  line.Add("local_port", ntohs(last_job.key.local_port_be));
  line.Add("remote_ip", AddressText(last_job.key.remote_addr));
  line.Add("remote_port", ntohs(last_job.key.remote_port_be));
  line.Add("opened_by",
           opener ? std::optional<absl::string_view>(*opener == PH_EGRESS ? "local" : "remote")
                  : std::nullopt);
  line.Add("ended_by", kEnds[static_cast<size_t>(last_job.end)]);
  AddSent("sent_", packets[PH_EGRESS], local, remote, line);
  AddSent("received_", packets[PH_INGRESS], remote, local, line);
  line.Add("syn_to_synack_ns", summary.syn_to_synack_ns());
  line.Add("handshake_ns", summary.handshake_ns());
  AddSyn("local_", local, line);
  AddSyn("remote_", remote, line);
  line.Add("ecn", summary.ecn());
  line.AddRaw(HooksAsJson(ifindex));

  auto lines = std::find_if(waiting_.begin(), waiting_.end(), [&file](const Lines& of_folder) {
    return of_folder.folder == file.folder();
  });
  if (lines == waiting_.end()) lines = waiting_.insert(lines, {file.folder(), ""});
  lines->text += std::move(line).Finish();
}

absl::Status IndexFile::Write(bool sync, bool is_last) {
  hooks_.clear();
  absl::Status status;
  size_t room = is_last ? 0 : kMostWaitingBytes;
  std::vector<Lines> kept;
  for (Lines& lines : std::exchange(waiting_, {})) {
    const absl::Status appended = Append(lines, sync);
    status.Update(appended);
    if (appended.ok()) {
      lines_written_ += LinesIn(lines.text);
    } else if (absl::IsNotFound(appended)) {
      // Of a folder that was removed there are no files any more.
      lines_lost_ += LinesIn(lines.text);
    } else {
      const absl::string_view text = lines.text;
      const size_t kept_bytes = text.substr(0, room).rfind('\n') + 1;  // 0 where there is no line
      lines_lost_ += LinesIn(text.substr(kept_bytes));
      lines.text.resize(kept_bytes);
      room -= kept_bytes;
      kept.push_back(std::move(lines));
    }
  }
  waiting_ = std::move(kept);
  return status;
}

absl::Status IndexFile::Append(Lines& lines, bool sync) const {
  const DateFolder& folder = *lines.folder;
  const auto error = [&](absl::string_view tried) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat(tried, " ", folder.name, "/", name_, " in the data directory"));
  };
  const UniqueFd fd(openat(folder.fd.get(), name_.c_str(),
                           O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                           folder.file_mode));
  struct stat before;
  if (!fd.valid() || fstat(fd.get(), &before) != 0) return error("open");
  const off_t whole_bytes = std::min(before.st_size, lines.whole_bytes);
  if (whole_bytes < before.st_size && ftruncate(fd.get(), whole_bytes) != 0) return error("cut");
  absl::Status status;
  absl::string_view text = lines.text;
  while (status.ok() && !text.empty()) {
    const ssize_t written = write(fd.get(), text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(written);
    } else if (errno != EINTR) {
      status = error("write");
    }
  }
  if (status.ok() && sync && fdatasync(fd.get()) != 0) status = error("sync");
  if (!status.ok() && ftruncate(fd.get(), whole_bytes) != 0) lines.whole_bytes = whole_bytes;
  return status;
}

bool IsIndexName(absl::string_view name) {
  return absl::StartsWith(name, kPrefix) && absl::EndsWith(name, kExtension);
}

absl::Status MendIndex(int folder_fd, const char* name) {
  const auto error = [name](absl::string_view tried) {
    return absl::ErrnoToStatus(errno, absl::StrCat(tried, " ", name));
  };
  const UniqueFd fd(openat(folder_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (!fd.valid() || fstat(fd.get(), &status) != 0) return error("open");
  if (!S_ISREG(status.st_mode)) return absl::OkStatus();
  char tail[kTailBytes];
  off_t whole = status.st_size;
  for (bool is_found = false; whole > 0 && !is_found;) {
    const off_t begin = std::max<off_t>(0, whole - static_cast<off_t>(kTailBytes));
    if (pread(fd.get(), tail, whole - begin, begin) != whole - begin) return error("read");
    const auto* const newline = static_cast<const char*>(memrchr(tail, '\n', whole - begin));
    is_found = newline != nullptr;
    whole = is_found ? begin + (newline - tail) + 1 : begin;
  }
  if (whole == status.st_size || ftruncate(fd.get(), whole) == 0) return absl::OkStatus();
  return error("cut");
}

}  // namespace packet_headers
