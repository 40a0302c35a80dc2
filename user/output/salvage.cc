#include "user/output/salvage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "spdlog/spdlog.h"
#include "user/base/clock.h"
#include "user/base/named_thread.h"
#include "user/output/index_file.h"
#include "user/output/pcap.h"

namespace packet_headers {
namespace {

constexpr size_t kMostInGroup = 256;
constexpr int64_t kLastChanceNs = 5'000'000'000;

// In the name of a file that is written anew; no UUID holds it.
constexpr char kAnew[] = "~";

// Digits in the names of the folders of a year, a month and a day.
constexpr size_t kDigits[] = {4, 2, 2};

constexpr Compression kCompressions[] = {Compression::kNone, Compression::kGzip,
                                         Compression::kZstd};

// Which of them made a file with this extension.
Compression CompressionOf(absl::string_view extension) {
  return *absl::c_find_if(kCompressions,
                          [extension](Compression c) { return PcapExtension(c) == extension; });
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

UniqueFd OpenBeneath(int parent, const char* name) {
  return UniqueFd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

absl::StatusOr<std::unique_ptr<UnpackedFile>> Unpack(const HiddenFile& file) {
  absl::StatusOr<UniqueFd> fd = file.OpenToRead();
  if (!fd.ok()) return fd.status();
  return UnpackedFile::Open(*std::move(fd));
}

// Hands the next bytes of a file on, as many at a time as are asked for.
class Reader {
 public:
  explicit Reader(UnpackedFile& file) : file_(file) {}

  // Null if the file ends or is damaged before.
  absl::StatusOr<const char*> Take(size_t bytes) {
    while (buffer_.size() - begin_ < bytes) {
      buffer_.erase(0, std::exchange(begin_, 0));
      const size_t before = buffer_.size();
      buffer_.resize(before + UnpackedFile::kReadBytes);
      const absl::StatusOr<size_t> got = file_.Read(&buffer_[before], UnpackedFile::kReadBytes);
      buffer_.resize(before + (got.ok() ? *got : 0));
      if (absl::IsDataLoss(got.status())) return nullptr;
      if (!got.ok()) return got.status();
      if (*got == 0) {
        is_at_end_ = buffer_.empty();
        return nullptr;
      }
    }
    return buffer_.data() + std::exchange(begin_, begin_ + bytes);
  }

  // After Take() gave null: whether the file ended there, and was not torn.
  bool is_at_end() const { return is_at_end_; }

 private:
  UnpackedFile& file_;
  std::string buffer_;
  size_t begin_ = 0;  // of what was not taken
  bool is_at_end_ = false;
};

}  // namespace

absl::StatusOr<WholeRecords> FindWholeRecords(UnpackedFile& file) {
  WholeRecords whole;
  Reader reader(file);
  const absl::StatusOr<const char*> header = reader.Take(kPcapFileHeaderBytes);
  if (!header.ok()) return header.status();
  const std::optional<uint32_t> snaplen =
      *header == nullptr ? std::nullopt : SnaplenOfPcapFile(*header);
  if (!snaplen) return whole;
  int64_t bytes = kPcapFileHeaderBytes;
  int64_t last_time_ns = std::numeric_limits<int64_t>::min();
  while (true) {
    const absl::StatusOr<const char*> in = reader.Take(kPcapRecordHeaderBytes);
    if (!in.ok()) return in.status();
    if (*in == nullptr) {
      whole.is_all = reader.is_at_end();
      break;
    }
    const std::optional<PcapRecordHeader> record = GetPcapRecordHeader(*in, *snaplen);
    if (!record || record->time_ns < last_time_ns) break;
    const absl::StatusOr<const char*> packet = reader.Take(record->captured_bytes);
    if (!packet.ok()) return packet.status();
    if (*packet == nullptr) break;
    last_time_ns = record->time_ns;
    bytes += kPcapRecordHeaderBytes + record->captured_bytes;
    whole = {bytes, whole.packets + 1, false};
  }
  return whole;
}

Salvage::Salvage(const DataDirectory& directory)
    : options_(directory.options()),
      root_(directory.Duplicate()),
      stop_ns_(std::numeric_limits<int64_t>::max()),
      thread_(StartThread("salvage", [this] { Run(); })) {}

Salvage::~Salvage() {
  stop_ns_ = MonotonicNow() + kLastChanceNs;
  thread_.join();
}

void Salvage::Run() {
  const Leftovers leftovers = TakeList();
  list_is_done_.set_value();
  if (leftovers.empty()) return;

  Mended mended;
  for (const Leftover& leftover : leftovers) {
    if (MonotonicNow() >= stop_ns_) break;
    int64_t packets = 0;
    absl::StatusOr<std::unique_ptr<HiddenFile>> file = Mend(leftover, &packets);
    if (!file.ok()) {
      Fail(file.status());
    } else if (packets > 0) {
      mended.emplace_back(*std::move(file), packets);
    }
    if (mended.size() == kMostInGroup) Publish(std::exchange(mended, {}));
  }
  Publish(std::move(mended));
  spdlog::log(stats_.failed == 0 ? spdlog::level::info : spdlog::level::warn,
              "of {} files that an earlier run left unfinished, {} were saved with {} packets, {} "
              "held nothing whole and were removed, {} wait for the next start{}",
              leftovers.size(), stats_.files.load(), stats_.packets.load(), stats_.removed.load(),
              leftovers.size() - stats_.files - stats_.removed,
              status_.ok() ? "" : absl::StrCat(": ", status_.message()));
}

Salvage::Leftovers Salvage::TakeList() {
  Leftovers leftovers;
  if (!root_.ok()) {
    Fail(root_.status());
  } else if (flock(root_->get(), LOCK_EX | LOCK_NB) == 0) {
    ListFolder(OpenBeneath(root_->get(), "."), "", leftovers);
  } else if (errno == EWOULDBLOCK) {
    spdlog::info("another program saves files there, too: what earlier runs left is not touched");
  } else {
    Fail(absl::ErrnoToStatus(errno, "lock the data directory"));
  }
  if (root_.ok()) LockWithOthers();
  if (!status_.ok()) {
    spdlog::warn("what earlier runs left unfinished is not touched: {}",
                 std::string(status_.message()));
  }
  return leftovers;
}

// Others of ours hold it alone only while they make their list; a stranger may for ever.
void Salvage::LockWithOthers() {
  const int64_t end_ns = MonotonicNow() + kLastChanceNs;
  while (flock(root_->get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK || MonotonicNow() >= end_ns) {
      spdlog::warn(
          "the data directory can't be locked ({}): another start may take what is being written "
          "for left behind",
          std::strerror(errno));
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// `path` is that of the folder from the root on.
void Salvage::ListFolder(UniqueFd fd, const std::string& path, Leftovers& leftovers) {
  const Directory directory(fd.valid() ? fdopendir(fd.get()) : nullptr, closedir);
  if (directory == nullptr) {
    if (errno == ENOTDIR || errno == ELOOP) return;  // a file, or a link: not ours
    Fail(absl::ErrnoToStatus(errno, absl::StrCat("list the data directory's ", path)));
    return;
  }
  const int parent = fd.Release();
  if (MonotonicNow() >= stop_ns_) {
    Fail(absl::CancelledError("stopped while the data directory was listed"));
    return;
  }
  const size_t depth = path.empty() ? 0 : 1 + absl::c_count(path, '/');
  const auto folder = std::make_shared<const std::string>(path);
  while (const dirent* entry = readdir(directory.get())) {
    absl::string_view name = entry->d_name;
    if (depth < std::size(kDigits)) {
      if (name.size() != kDigits[depth] || !absl::c_all_of(name, absl::ascii_isdigit)) continue;
      ListFolder(OpenBeneath(parent, entry->d_name),
                 path.empty() ? std::string(name) : absl::StrCat(path, "/", name), leftovers);
      continue;
    }
    if (IsIndexName(name)) {
      const absl::Status mended = MendIndex(parent, entry->d_name);
      if (!mended.ok()) {
        spdlog::warn("the last line of {}/{} may be torn: {}", path, entry->d_name,
                     std::string(mended.message()));
      }
    }
    if (!absl::ConsumePrefix(&name, ".") || !absl::ConsumeSuffix(&name, ".part")) continue;
    for (const Compression compression : kCompressions) {
      const absl::string_view extension = PcapExtension(compression);
      absl::string_view stem = name;
      if (!absl::ConsumeSuffix(&stem, extension) || stem.empty()) continue;
      // The torn one, which is still there, holds the same.
      if (absl::StrContains(stem, kAnew)) {
        unlinkat(parent, entry->d_name, 0);
        continue;
      }
      leftovers.push_back({folder, std::string(stem), extension});
    }
  }
}

absl::StatusOr<std::shared_ptr<const DateFolder>> Salvage::OpenFolder(const std::string& name) {
  if (latest_ != nullptr && latest_->name == name) return latest_;
  auto folder = std::make_shared<DateFolder>();
  folder->name = name;
  folder->file_mode = options_.file_mode;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(name, '/'))) {
    const int parent = folder->fd.valid() ? folder->fd.get() : root_->get();
    UniqueFd fd = OpenBeneath(parent, part.c_str());
    if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", name));
    folder->fd = std::move(fd);
  }
  latest_ = std::move(folder);
  return latest_;
}

// Makes the file whole; sets `*packets` to what it then holds, or removes it and leaves 0.
absl::StatusOr<std::unique_ptr<HiddenFile>> Salvage::Mend(const Leftover& leftover,
                                                          int64_t* packets) {
  absl::StatusOr<std::shared_ptr<const DateFolder>> folder = OpenFolder(*leftover.folder);
  if (!folder.ok()) return folder.status();
  absl::StatusOr<std::unique_ptr<HiddenFile>> file =
      HiddenFile::Adopt(*std::move(folder), leftover.name, leftover.extension);
  if (!file.ok()) return file.status();

  absl::StatusOr<std::unique_ptr<UnpackedFile>> unpacked = Unpack(**file);
  if (!unpacked.ok()) return unpacked.status();
  const Compression compression = CompressionOf(leftover.extension);
  WholeRecords whole;
  if ((*unpacked)->is_compressed() == (compression != Compression::kNone)) {
    const absl::StatusOr<WholeRecords> found = FindWholeRecords(**unpacked);
    if (!found.ok()) return found.status();
    whole = *found;
  }
  absl::Status status;
  if (whole.packets == 0) {
    status = (*file)->Remove();
    stats_.removed += status.ok();
  } else if (!whole.is_all && compression == Compression::kNone) {
    status = (*file)->CutTo(whole.bytes);
  } else if (!whole.is_all) {
    status = Rewrite(**file, leftover, whole.bytes);
  }
  if (!status.ok()) return status;
  (*file)->CloseDescriptor();
  *packets = whole.packets;
  return file;
}

// Compresses what is whole anew, so that the file ends with a whole member.
absl::Status Salvage::Rewrite(HiddenFile& torn, const Leftover& leftover, int64_t bytes) {
  absl::StatusOr<std::unique_ptr<UnpackedFile>> from = Unpack(torn);
  if (!from.ok()) return from.status();
  absl::StatusOr<std::unique_ptr<HiddenFile>> to =
      HiddenFile::Create(torn.folder(), leftover.name + kAnew, leftover.extension);
  if (!to.ok()) return to.status();
  const std::unique_ptr<Compressor> compressor =
      Compressor::Make(CompressionOf(leftover.extension));
  std::string piece(UnpackedFile::kReadBytes, '\0');
  while (bytes > 0) {
    const absl::StatusOr<size_t> got = (*from)->Read(piece.data(), piece.size());
    if (!got.ok()) return got.status();
    if (*got == 0) return absl::DataLossError(absl::StrCat("somebody changed ", leftover.name));
    const size_t size = std::min<size_t>(*got, bytes);
    bytes -= static_cast<int64_t>(size);
    const absl::Status written =
        compressor->Write(absl::string_view(piece.data(), size), /*last=*/bytes == 0,
                          [&to](absl::string_view packed) { return (*to)->Append(packed); });
    if (!written.ok()) return written;
  }
  // Before the torn file gives way to it.
  const absl::Status synced = options_.sync ? (*to)->Sync() : absl::OkStatus();
  return synced.ok() ? (*to)->ReplaceHidden(torn) : synced;
}

void Salvage::Publish(Mended mended) {
  std::vector<FileOfGroup> group;
  group.reserve(mended.size());
  for (const auto& [file, packets] : mended) group.push_back({file.get(), absl::OkStatus()});
  PublishGroup(group, options_.sync, /*heartbeat=*/nullptr);
  for (size_t i = 0; i < group.size(); ++i) {
    if (!group[i].status.ok()) {
      Fail(group[i].status);
      continue;
    }
    stats_.packets += mended[i].second;
    ++stats_.files;  // last: who reads it then reads all its packets
  }
}

void Salvage::Fail(const absl::Status& status) {
  ++stats_.failed;
  status_.Update(status);
}

}  // namespace packet_headers
