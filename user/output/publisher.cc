#include "user/output/publisher.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace packet_headers {
namespace {

// Also how many descriptors of files are open at once.
constexpr size_t kMostInGroup = 256;

// From here on one syncfs() is cheaper than an fdatasync() for each file.
constexpr size_t kSyncWholeFileSystem = 8;

// A full disk must not fill the log as well.
constexpr std::chrono::seconds kReportInterval(10);

// Records are put in order and written in pieces of about this size.
constexpr size_t kPieceBytes = 1 << 20;

// Makes the files of one group and their names survive a power cut, each folder once.
class SyncedFolders {
 public:
  // With `whole_file_system` the first file's sync is that of all files.
  explicit SyncedFolders(bool whole_file_system) : whole_file_system_(whole_file_system) {}

  absl::Status SyncFile(HiddenFile& file) {
    // It also reports what went wrong with files of others.
    if (whole_file_system_ && Once(file.folder(), bytes_, syncfs).ok()) return absl::OkStatus();
    return file.Sync();
  }

  absl::Status SyncNames(const DateFolder& folder) { return Once(folder, names_, fsync); }

 private:
  using Results = absl::flat_hash_map<const DateFolder*, absl::Status>;

  static absl::Status Once(const DateFolder& folder, Results& results, int (*sync)(int)) {
    auto [result, is_new] = results.try_emplace(&folder);
    if (is_new && sync(folder.fd.get()) != 0) {
      result->second = absl::ErrnoToStatus(errno, absl::StrCat("sync ", folder.name));
    }
    return result->second;
  }

  const bool whole_file_system_;
  Results bytes_;
  Results names_;
};

}  // namespace

void FileJobQueue::Put(FileJob job) {
  absl::MutexLock lock(&mutex_);
  jobs_.push_back(std::move(job));
}

std::vector<FileJob> FileJobQueue::Take(size_t most) {
  absl::MutexLock lock(&mutex_);
  return TakeLocked(most);
}

std::vector<FileJob> FileJobQueue::WaitAndTake(size_t most) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]()
                         ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return closed_ || !jobs_.empty(); };
  mutex_.Await(absl::Condition(&ready));
  return TakeLocked(most);
}

std::vector<FileJob> FileJobQueue::TakeLocked(size_t most) {
  const auto end = jobs_.begin() + std::min(most, jobs_.size());
  std::vector<FileJob> taken(std::make_move_iterator(jobs_.begin()), std::make_move_iterator(end));
  jobs_.erase(jobs_.begin(), end);
  return taken;
}

void FileJobQueue::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
}

size_t FileJobQueue::size() const {
  absl::MutexLock lock(&mutex_);
  return jobs_.size();
}

Publisher::Publisher(std::unique_ptr<DataDirectory> directory, uint32_t snaplen,
                     Compression compression)
    : directory_(std::move(directory)),
      snaplen_(snaplen),
      extension_(PcapExtension(compression)),
      compressor_(Compressor::Make(compression)),
      thread_([this] { Run(); }) {}

Publisher::~Publisher() {
  jobs_.Close();
  thread_.join();
}

void Publisher::Run() {
  while (true) {
    std::vector<FileJob> group = jobs_.WaitAndTake(kMostInGroup);
    if (group.empty()) return;
    PublishGroup(std::move(group));
  }
}

Publisher::OpenFile Publisher::Begin(const FileJob& job) {
  OpenFile open;
  absl::StatusOr<std::shared_ptr<const DateFolder>> folder = directory_->FolderOf(job.date);
  if (!folder.ok()) {
    open.status = folder.status();
    return open;
  }
  open.stage = FileStage::kFileOpen;
  absl::StatusOr<std::unique_ptr<HiddenFile>> file =
      HiddenFile::Create(*std::move(folder), job.uuid, extension_);
  if (!file.ok()) {
    open.status = file.status();
    return open;
  }
  open.file = *std::move(file);
  open.stage = job.last ? FileStage::kWritePartial : FileStage::kStreaming;
  return open;
}

absl::Status Publisher::WriteRecords(const FileJob& job, bool is_new, OpenFile& open) {
  const auto store = [&](absl::string_view bytes) {
    const absl::Status status = open.file->Append(bytes);
    if (status.ok()) stats_.bytes_stored += bytes.size();
    return status;
  };
  // Goes out together with the first piece: small files take one write, in one compressed block.
  std::string file_header;
  if (is_new) file_header = PcapFileHeader(job.link_type, snaplen_);
  std::string piece;
  absl::Status status;
  const auto write_piece = [&](bool last) {
    const OrderedPcapRecords ordered = OrderPcapRecords(piece, &open.last_time_ns);
    stats_.times_raised += ordered.raised_times;
    const size_t bytes = file_header.size() + ordered.bytes;
    piece.insert(0, std::exchange(file_header, {}));
    status = compressor_->Write(absl::string_view(piece).substr(0, bytes), last, store);
    if (status.ok()) stats_.bytes_written += ordered.bytes;
    piece.erase(0, bytes);
  };
  job.records.ForEachPiece([&](absl::string_view bytes) {
    if (!status.ok()) return;
    absl::StrAppend(&piece, bytes);
    if (piece.size() >= kPieceBytes) write_piece(/*last=*/false);
  });
  if (status.ok()) write_piece(/*last=*/true);
  return status;
}

Publisher::OpenFile Publisher::Write(const FileJob& job) {
  auto stream = streams_.extract(job.flow_id);
  const bool is_new = stream.empty();
  OpenFile open = is_new ? Begin(job) : std::move(stream.mapped());
  if (open.status.ok()) open.status = WriteRecords(job, is_new, open);
  if (!open.status.ok()) open.file = nullptr;  // gives its space back
  return open;
}

void Publisher::PublishGroup(std::vector<FileJob> group) {
  std::vector<std::pair<FileJob*, OpenFile>> complete;
  for (FileJob& job : group) {
    OpenFile open = Write(job);
    if (job.last) {
      complete.emplace_back(&job, std::move(open));
    } else {
      if (open.file != nullptr) open.file->CloseDescriptor();
      streams_.emplace(job.flow_id, std::move(open));
    }
  }

  // The bytes before the names.
  SyncedFolders folders(complete.size() >= kSyncWholeFileSystem);
  for (auto& [job, open] : complete) {
    if (!open.status.ok()) continue;
    open.stage = FileStage::kWriteFinal;
    open.status = folders.SyncFile(*open.file);
  }
  for (auto& [job, open] : complete) {
    bool name_was_taken = false;
    if (open.status.ok()) open.status = open.file->Publish(&name_was_taken);
    stats_.names_taken += name_was_taken;
  }
  for (auto& [job, open] : complete) {
    if (open.status.ok()) open.status = folders.SyncNames(open.file->folder());
  }

  size_t failed = 0;
  absl::Status why;
  for (auto& [job, open] : complete) {
    job->saved = open.status.ok();
    if (job->saved) continue;
    ++failed;
    ++stats_.failed_by_stage[static_cast<size_t>(open.stage)];
    why.Update(open.status);
  }
  stats_.files_published += complete.size() - failed;
  stats_.files_failed += failed;
  if (failed > 0) ReportFailure(failed, why);

  complete.clear();
  for (FileJob& job : group) {
    FileJobQueue* done = job.done;
    done->Put(std::move(job));
  }
}

void Publisher::ReportFailure(size_t files, const absl::Status& why) {
  const auto now = std::chrono::steady_clock::now();
  unreported_failures_ += files;
  if (now - last_report_ < kReportInterval) return;
  spdlog::error("{} files could not be saved: {}", unreported_failures_,
                std::string(why.message()));
  unreported_failures_ = 0;
  last_report_ = now;
}

}  // namespace packet_headers
