// Where a shard's header records come from.

#ifndef PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_
#define PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "packet_headers/flow_key.h"

namespace packet_headers {

// Whose a flow is.
struct FlowOwner {
  ph_flow_key key;
  uint32_t flow_hash;  // of the key
  uint64_t cookie;     // of the socket
  int64_t until_ns;    // monotonic: what the tuple sends later is not the socket's
};

// A record's place; its bytes may hold anything.
struct RecordBytes {
  const void* data;
  size_t size;
};

// Used by the thread of its shard alone.
class RecordSource {
 public:
  virtual ~RecordSource() = default;

  // Sleeps for `most`, or less if the source can't wait that long to be drained.
  virtual void Wait(absl::Duration most) = 0;

  // Calls `use` with the waiting records, in order and some at once, until none is left or `most`
  // were used; returns how many. They are valid during the call.
  virtual size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) = 0;

  // How full its buffer is, or was at the last drain, in millionths.
  virtual int64_t FillPpm() const { return 0; }

  // Owners that became known since the last call, of flows whose records so far told none.
  virtual std::vector<FlowOwner> TakeOwners() { return {}; }
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_
