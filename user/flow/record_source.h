// Where a shard's header records come from.

#ifndef PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_
#define PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace packet_headers {

// Used by the thread of its shard alone.
class RecordSource {
 public:
  virtual ~RecordSource() = default;

  // Sleeps for `most`, or less if the source can't wait that long to be drained.
  virtual void Wait(absl::Duration most) = 0;

  // Calls `use` for the waiting records, in order, until none is left or `most` were used; returns
  // how many. The bytes may hold anything and are valid during the call.
  virtual size_t Drain(size_t most, absl::FunctionRef<void(const void* data, size_t size)> use) = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_RECORD_SOURCE_H_
