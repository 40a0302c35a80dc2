// One BPF ring buffer, read in batches.

#ifndef PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_
#define PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"
#include "user/flow/record_source.h"

namespace packet_headers {

// Read by hand, as the kernel documents it (Documentation/bpf/ringbuf.rst), not with libbpf: that
// writes the reader's position after each record, and the kernel reads it before each, so that the
// cache line goes to and fro; and it shows one record at a time.
class BpfRing : public RecordSource {
 public:
  // Takes the descriptor of a BPF_MAP_TYPE_RINGBUF.
  static absl::StatusOr<std::unique_ptr<BpfRing>> Open(UniqueFd map);
  ~BpfRing() override;

  // Touches each page of the ring, which is empty, with the program ph_touch_ring. What can't be
  // touched now is by the packets.
  void Touch(int program, uint32_t shard);

  void Wait(absl::Duration most) override;
  size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) override;

  int64_t FillPpm() const override {
    return used_bytes() * 1'000'000 / static_cast<int64_t>(bytes_);
  }

  int map_fd() const { return map_.get(); }

  // Bytes that wait to be drained, those of unfinished records included. Any thread.
  int64_t used_bytes() const;

  // Bytes that were ever reserved. Any thread.
  uint64_t produced_bytes() const;

 private:
  explicit BpfRing(UniqueFd map) : map_(std::move(map)) {}

  UniqueFd map_;
  UniqueFd epoll_;
  uint64_t bytes_ = 0;            // of the ring: a power of two
  uint64_t* consumed_ = nullptr;  // the reader's position, in a page of its own
  uint64_t* produced_ = nullptr;  // the kernel's, in a page; behind it the ring, twice
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_BPF_RING_H_
