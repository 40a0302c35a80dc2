// What the configuration says of flows and files, live and offline.

#ifndef PACKET_HEADERS_USER_FLOW_OPTIONS_H_
#define PACKET_HEADERS_USER_FLOW_OPTIONS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "packet_headers/flow_key.h"
#include "user/config/config.h"
#include "user/flow/flow_table.h"
#include "user/output/compressor.h"
#include "user/output/data_directory.h"
#include "user/output/index_file.h"

namespace packet_headers {

// So that nobody can aim at a shard or a bucket. The results do not depend on it.
absl::StatusOr<ph_hash_seed> MakeHashSeed();

// At most some decades, so that a time may be added.
int64_t Nanoseconds(absl::Duration duration);

Compression CompressionOf(const Config& config);

FileOptions FileOptionsOf(const Config& config);

// As -anonymize.ip says, null where it says none. Reads -anonymize.keyfile.
absl::StatusOr<std::shared_ptr<const Anonymizer>> MakeAnonymizer(const Config& config);

// Null where -index=false. Reads the environment: call it before there are other threads.
std::unique_ptr<IndexFile> MakeIndex(const Config& config, IndexFile::HooksOf hooks_of);

// Of each of so many shards. Ownership, names and the anonymizer are the caller's to choose.
FlowOptions MakeFlowOptions(const Config& config, uint32_t shards);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_OPTIONS_H_
