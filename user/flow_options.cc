#include "user/flow_options.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/time/clock.h"
#include "user/identity/uuid.h"

namespace packet_headers {
namespace {

// Of all shards together.
constexpr int64_t kMaxEmbryonicFlows = 1 << 18;
constexpr int64_t kMaxEmbryonicBytes = 32 << 20;
constexpr int64_t kMaxEndedFlows = 1 << 18;
constexpr int64_t kMaxRecentCookies = 1 << 20;
constexpr int64_t kMaxAnnouncements = 65'536;

}  // namespace

absl::StatusOr<ph_hash_seed> MakeHashSeed() {
  ph_hash_seed seed;
  if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
    return absl::ErrnoToStatus(errno, "get random bytes");
  }
  return seed;
}

int64_t Nanoseconds(absl::Duration duration) {
  return std::min(absl::ToInt64Nanoseconds(duration), std::numeric_limits<int64_t>::max() / 4);
}

Compression CompressionOf(const Config& config) {
  switch (config.compress) {
    case Compress::kGzip:
      return Compression::kGzip;
    case Compress::kZstd:
      return Compression::kZstd;
    default:
      return Compression::kNone;
  }
}

FileOptions FileOptionsOf(const Config& config) {
  FileOptions options;
  options.folder_mode = static_cast<mode_t>(config.data_dir_mode);
  options.file_mode = static_cast<mode_t>(config.file_mode);
  options.sync = config.durability == Durability::kSync;
  return options;
}

absl::StatusOr<std::shared_ptr<const Anonymizer>> MakeAnonymizer(const Config& config) {
  switch (config.anonymize_ip) {
    case AnonymizeIp::kNone:
      return nullptr;
    case AnonymizeIp::kNetblock:
      return std::make_shared<const Anonymizer>();
    case AnonymizeIp::kCryptopan:
      break;
  }
  absl::StatusOr<std::unique_ptr<const CryptoPan>> crypto_pan =
      CryptoPan::FromFile(config.anonymize_key_file);
  if (!crypto_pan.ok()) return crypto_pan.status();
  return std::make_shared<const Anonymizer>(*std::move(crypto_pan));
}

std::unique_ptr<IndexFile> MakeIndex(const Config& config, IndexFile::HooksOf hooks_of) {
  if (!config.index) return nullptr;
  return std::make_unique<IndexFile>(HostForFileNames(), absl::GetCurrentTimeNanos(),
                                     std::move(hooks_of));
}

FlowOptions MakeFlowOptions(const Config& config, uint32_t shards) {
  FlowOptions options;
  options.capture_duration_ns = Nanoseconds(config.capture_duration);
  options.flow_timeout_ns = Nanoseconds(config.flow_timeout);
  options.uuid_wait_ns = Nanoseconds(config.uuid_wait_duration);
  options.max_header_bytes = static_cast<uint32_t>(config.max_header_size);
  options.stream = config.stream;
  // What idles with one shard can't serve the others, so it must leave them room.
  options.max_idle_bytes = std::min(config.max_idle_ram_bytes, config.max_heap_bytes / 4) / shards;
  options.max_embryonic_flows = kMaxEmbryonicFlows / shards;
  options.max_embryonic_bytes = kMaxEmbryonicBytes / shards;
  options.max_ended_flows = kMaxEndedFlows / shards;
  options.max_recent_cookies = kMaxRecentCookies / shards;
  options.max_announcements = kMaxAnnouncements / shards;
  return options;
}

}  // namespace packet_headers
