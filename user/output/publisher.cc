#include "user/output/publisher.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "user/base/clock.h"
#include "user/base/named_thread.h"
#include "user/output/file_group.h"

namespace packet_headers {
namespace {

constexpr size_t kMostInRound = 256;

// While nothing can be saved, new jobs are tried only to see whether it is the disk or the files
// that failed first, and not so many that they delay the others once it works again.
constexpr size_t kProbes = 8;
constexpr size_t kMostFailing = 2 * kMostInRound;

// For what is left at the end, if the disk takes nothing then.
constexpr int64_t kLastTriesNs = 5'000'000'000;

// Records are put in order and written in pieces of about this size, which the processor's cache
// holds. The end of a piece waits for the next one, as that of a large job does.
constexpr size_t kPieceBytes = 512 * 1024;

// Errors that come from the file's own name, folder or size, and won't go away.
bool IsOfTheFile(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

// A disk that is full for large files may take small ones.
bool IsLackOfSpace(const absl::Status& status) { return absl::IsResourceExhausted(status); }

}  // namespace

Publisher::Publisher(std::unique_ptr<DataDirectory> directory, uint32_t snaplen,
                     Compression compression, RetryOptions retry, std::unique_ptr<IndexFile> index)
    : directory_(std::move(directory)),
      snaplen_(snaplen),
      extension_(PcapExtension(compression)),
      retry_(retry),
      compressor_(Compressor::Make(compression)),
      index_(std::move(index)),
      salvage_(*directory_),
      thread_(StartThread(heartbeat_.thread(), [this] { Run(); })) {}

void Publisher::Finish() {
  if (!thread_.joinable()) return;
  StopRetryingSoon();
  jobs_.Close();
  thread_.join();
}

void Publisher::StopRetryingSoon() {
  const int64_t soon_ns = MonotonicNow() + kLastTriesNs;
  int64_t stop_ns = stop_retrying_ns_;
  while (stop_ns > soon_ns && !stop_retrying_ns_.compare_exchange_weak(stop_ns, soon_ns)) {
  }
}

void Publisher::Run() {
  while (!salvage_.WaitForList(std::chrono::milliseconds(kLongestTurnMs))) heartbeat_.Beat();
  while (!(jobs_.is_over() && failing_.empty())) {
    heartbeat_.Beat();
    const Round round = NextRound();
    if (!round.empty()) Work(round);
    log_.CatchUp(MonotonicNow());
  }
  WriteIndex(/*is_last=*/true);
  heartbeat_.Rest();
}

Publisher::Round Publisher::NextRound() {
  // At the end each failing file gets one more try, and no pause before it.
  if (MonotonicNow() >= stop_retrying_ns_) retry_ns_ = 0;
  std::vector<FileJob> jobs;
  if (down_since_ns_ == 0) {
    jobs = jobs_.WaitAndTake(kMostInRound, failing_.empty() ? log_.due_ns() : retry_ns_);
  }
  Round round;
  if (jobs.empty() && !failing_.empty()) {
    const int64_t turn_ns = kLongestTurnMs * int64_t{1'000'000};
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(std::min(retry_ns_ - MonotonicNow(), turn_ns)));
    if (MonotonicNow() < retry_ns_) return {};
    if (failing_.size() < kMostFailing) jobs = jobs_.Take(kProbes);
  }
  if (MonotonicNow() >= retry_ns_) {
    const auto end = failing_.begin() + std::min(kMostInRound, failing_.size());
    round.assign(failing_.begin(), end);
    failing_.erase(failing_.begin(), end);
  }
  for (FileJob& job : jobs) {
    std::unique_ptr<FlowFile>& file = files_[job.flow_id];
    if (file == nullptr) file = std::make_unique<FlowFile>(job.flow_id);
    file->jobs.push_back(std::move(job));
    ++held_jobs_;
    if (!std::exchange(file->is_queued, true)) round.push_back(file.get());
  }
  return round;
}

void Publisher::Work(const Round& round) {
  Round whole;
  for (FlowFile* file : round) {
    if (file->is_given_up) continue;
    heartbeat_.Beat();
    file->status = Write(*file);
    if (!file->status.ok()) {
      CountError(file->stage);
    } else if (!file->jobs.empty()) {
      whole.push_back(file);
    }
  }
  Complete(whole);
  Settle(round);
}

absl::Status Publisher::Begin(FlowFile& file) {
  const FileJob& job = file.jobs.front();
  file.stage = FileStage::kMkdir;
  absl::StatusOr<std::shared_ptr<const DateFolder>> folder = directory_->FolderOf(job.date);
  if (!folder.ok()) return folder.status();
  file.stage = FileStage::kFileOpen;
  absl::StatusOr<std::unique_ptr<HiddenFile>> hidden =
      HiddenFile::Create(*std::move(folder), job.uuid, extension_);
  if (!hidden.ok()) return hidden.status();
  file.hidden = *std::move(hidden);
  return absl::OkStatus();
}

// Writes the jobs there are, and hands back all but the last one of a file: that one's records are
// kept until they are safe.
absl::Status Publisher::Write(FlowFile& file) {
  absl::Status status;
  file.has_written = false;
  if (file.hidden == nullptr) {
    status = Begin(file);
  } else if (file.hidden->is_published()) {
    return absl::OkStatus();
  }
  if (!status.ok()) return status;
  file.stage =
      file.bytes == 0 && file.jobs.front().last ? FileStage::kWritePartial : FileStage::kStreaming;
  if (!file.status.ok()) status = file.hidden->CutTo(file.bytes);
  if (!status.ok()) return status;
  while (!file.jobs.empty()) {
    const absl::StatusOr<Written> written = WriteRecords(file.jobs.front(), file);
    if (!written.ok()) return written.status();
    file.last_job = *written;
    file.has_written |= written->stored_bytes > 0;
    if (file.jobs.front().last) break;
    file.bytes += written->stored_bytes;
    file.last_time_ns = written->last_time_ns;
    file.held = std::string(piece_);  // as large as accounted
    file.summary = written->summary;
    Return(file, /*saved=*/false);
  }
  file.hidden->CloseDescriptor();
  return absl::OkStatus();
}

absl::StatusOr<Publisher::Written> Publisher::WriteRecords(const FileJob& job, FlowFile& file) {
  Written written;
  written.last_time_ns = file.last_time_ns;
  written.summary = file.summary;
  const auto store = [&](absl::string_view bytes) {
    written.stored_bytes += static_cast<int64_t>(bytes.size());
    return file.hidden->Append(bytes);
  };
  // The header goes out together with the first records: small files take one write, in one
  // compressed block.
  piece_ = file.held;
  if (file.bytes == 0) piece_ += PcapFileHeader(job.link_type, snaplen_);
  size_t header_bytes = file.bytes == 0 ? piece_.size() : 0;
  absl::Status status;
  const auto write_piece = [&](bool last, int64_t held_bytes) {
    const OrderedPcapRecords ordered = OrderPcapRecords(
        absl::MakeSpan(piece_).subspan(header_bytes), held_bytes, &written.last_time_ns);
    written.times_raised += static_cast<int64_t>(ordered.raised_times);
    written.record_bytes += static_cast<int64_t>(ordered.bytes);
    if (index_ != nullptr) {
      written.summary.Add(absl::string_view(piece_).substr(header_bytes, ordered.bytes),
                          job.link_type, job.key);
    }
    const size_t bytes = std::exchange(header_bytes, 0) + ordered.bytes;
    status = compressor_->Write(absl::string_view(piece_).substr(0, bytes), last, store);
    piece_.erase(0, bytes);
  };
  job.records.ForEachPiece([&](absl::string_view bytes) {
    if (!status.ok()) return;
    absl::StrAppend(&piece_, bytes);
    if (piece_.size() >= kPieceBytes) write_piece(/*last=*/false, kHeldBytes);
  });
  const bool is_end_held = job.large && !job.last;
  if (status.ok()) write_piece(/*last=*/true, is_end_held ? kHeldBytes : 0);
  if (!status.ok()) return status;
  return written;
}

void Publisher::Complete(const Round& whole) {
  std::vector<FileOfGroup> group;
  group.reserve(whole.size());
  for (FlowFile* file : whole) {
    file->stage = FileStage::kWriteFinal;
    group.push_back({file->hidden.get(), absl::OkStatus()});
  }
  const auto index = [&] {
    if (index_ == nullptr) return;
    for (size_t i = 0; i < whole.size(); ++i) {
      FlowFile& file = *whole[i];
      if (!group[i].status.ok() || std::exchange(file.is_indexed, true)) continue;
      index_->Add(*file.hidden, file.jobs.back(), file.last_job.summary);
    }
    WriteIndex();
  };
  CountError(FileStage::kWriteFinal,
             PublishGroup(group, directory_->options().sync, &heartbeat_, index));
  for (size_t i = 0; i < whole.size(); ++i) {
    whole[i]->status = group[i].status;
    whole[i]->is_lost = group[i].sync_failed && whole[i]->bytes > 0;
    stats_.names_taken += group[i].name_was_taken;
  }
}

void Publisher::WriteIndex(bool is_last) {
  if (index_ == nullptr) return;
  const absl::Status status = index_->Write(directory_->options().sync, is_last);
  stats_.index_lines = index_->lines_written();
  stats_.index_lines_lost = index_->lines_lost();
  if (status.ok()) return;
  CountError(FileStage::kIndex);
  log_.Say(spdlog::level::err, absl::StrCat("the index could not be written: ", status.message()),
           MonotonicNow());
}

// Decides what becomes of the files of a round, by what came of all of them.
void Publisher::Settle(const Round& round) {
  const int64_t now_ns = MonotonicNow();
  bool some_written = false;
  bool some_saved = false;
  bool is_well = false;
  for (const FlowFile* file : round) {
    if (file->is_given_up) continue;
    const bool is_final = file->stage == FileStage::kWriteFinal;
    some_written |= file->has_written;
    some_saved |= is_final && file->status.ok();
    is_well |= file->status.ok();
  }
  absl::Status of_the_disk;
  for (FlowFile* file : round) {
    file->is_queued = false;
    if (!file->status.ok() && !file->is_given_up) {
      const bool is_alone = file->stage == FileStage::kWriteFinal ? some_saved : some_written;
      Fail(*file, is_alone, now_ns);
      if (!is_alone && !IsOfTheFile(file->status)) of_the_disk.Update(file->status);
    }
    if (file->is_queued) continue;
    bool is_over = false;
    while (!file->jobs.empty()) {
      is_over = file->jobs.front().last;
      Return(*file, /*saved=*/!file->is_given_up);
    }
    if (is_over) files_.erase(file->flow_id);
  }
  if (!failing_.empty() && now_ns >= retry_ns_) retry_ns_ = now_ns + retry_.pause_ns;
  NoteDisk(of_the_disk, is_well, now_ns);
}

void Publisher::Fail(FlowFile& file, bool is_alone, int64_t now_ns) {
  if (IsOfTheFile(file.status) || (is_alone && !IsLackOfSpace(file.status))) ++file.tries;
  file.is_lost |= file.bytes > 0 && absl::IsNotFound(file.status);
  file.is_given_up =
      file.is_lost || file.tries >= retry_.most_tries || now_ns >= stop_retrying_ns_.load();
  if (file.is_given_up) {
    log_.Say(spdlog::level::err, absl::StrCat("a file could not be saved: ", file.status.message()),
             now_ns);
    file.hidden = nullptr;
    return;
  }
  // Others may need the space.
  if (file.hidden != nullptr && !file.hidden->is_published()) {
    if (file.bytes > 0) {
      file.hidden->CutTo(file.bytes).IgnoreError();  // else before the next try
    } else if (file.hidden->Remove().ok()) {
      file.hidden = nullptr;
    }
  }
  if (file.hidden != nullptr) file.hidden->CloseDescriptor();
  file.is_queued = true;
  failing_.push_back(&file);
}

void Publisher::NoteDisk(const absl::Status& status, bool is_well, int64_t now_ns) {
  if (failing_.empty()) {
    const int64_t since_ns = std::exchange(down_since_ns_, 0);
    if (since_ns == 0 || !is_well) return;  // else what failed was given up
    const int64_t seconds = (now_ns - since_ns) / 1'000'000'000;
    log_.Say(spdlog::level::info, absl::StrCat("files are saved again, after ", seconds, "s"),
             now_ns);
  } else if (!status.ok() && down_since_ns_ == 0) {
    down_since_ns_ = now_ns;
    log_.Say(spdlog::level::err,
             absl::StrCat("no file can be saved in ", directory_->path(),
                          ", trying again (flows wait in memory): ", status.message()),
             now_ns);
  }
}

// Hands back the first job of the file.
void Publisher::Return(FlowFile& file, bool saved) {
  heartbeat_.Beat();
  FileJob job = std::move(file.jobs.front());
  file.jobs.pop_front();
  --held_jobs_;
  job.saved = saved;
  if (!file.is_given_up) {
    stats_.times_raised += file.last_job.times_raised;
    stats_.bytes_written += file.last_job.record_bytes;
    stats_.bytes_stored += file.last_job.stored_bytes;
  }
  if (job.last && saved) {
    ++stats_.files_published;
    const int64_t now_ns = MonotonicNow();
    stats_.latency_ns.Add(now_ns - job.ended_ns);
    recent_files_.Add({file.hidden->published_path(), file.bytes + file.last_job.stored_bytes,
                       job.packets.total(), now_ns});
  } else if (job.last) {
    ++stats_.files_failed;
    ++stats_.failed_by_stage[static_cast<size_t>(file.stage)];
  }
  FileJobQueue* done = job.done;
  done->Put(std::move(job));
}

}  // namespace packet_headers
