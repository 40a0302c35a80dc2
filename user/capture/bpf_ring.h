// One BPF ring buffer, read in batches.

#ifndef PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_
#define PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"
#include "user/flow/record_source.h"

struct ring_buffer;

namespace packet_headers {

class BpfRing : public RecordSource {
 public:
  // Takes the descriptor of a BPF_MAP_TYPE_RINGBUF.
  static absl::StatusOr<std::unique_ptr<BpfRing>> Open(UniqueFd map);
  ~BpfRing() override;

  void Wait(absl::Duration most) override;
  size_t Drain(size_t most, absl::FunctionRef<void(const void*, size_t)> use) override;

  int map_fd() const { return map_.get(); }

  // Bytes that wait to be drained, those of unfinished records included. Any thread.
  int64_t used_bytes() const;

 private:
  struct Batch;

  explicit BpfRing(UniqueFd map) : map_(std::move(map)) {}

  static int OnRecord(void* ring, void* data, size_t size);

  UniqueFd map_;
  UniqueFd epoll_;
  ring_buffer* reader_ = nullptr;
  Batch* batch_ = nullptr;           // of the Drain() under way
  const char* positions_ = nullptr;  // two pages: the reader's position, the kernel's position
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_
