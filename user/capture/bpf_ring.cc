#include "user/capture/bpf_ring.h"

#include <bpf/libbpf.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

namespace packet_headers {
namespace {

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

struct BpfRing::Batch {
  const size_t most;
  size_t used;
  absl::FunctionRef<void(const void*, size_t)> use;
};

absl::StatusOr<std::unique_ptr<BpfRing>> BpfRing::Open(UniqueFd map) {
  std::unique_ptr<BpfRing> ring(new BpfRing(std::move(map)));
  ring->reader_ = ring_buffer__new(ring->map_.get(), OnRecord, ring.get(), nullptr);
  if (ring->reader_ == nullptr) return absl::ErrnoToStatus(errno, "map a ring buffer");

  // Edge-triggered: the kernel's own wake-up ends a wait, not that there is something to read.
  ring->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  if (!ring->epoll_.valid() ||
      epoll_ctl(ring->epoll_.get(), EPOLL_CTL_ADD, ring->map_.get(), &event) != 0) {
    return absl::ErrnoToStatus(errno, "poll a ring buffer");
  }
  void* positions = mmap(nullptr, 2 * PageBytes(), PROT_READ, MAP_SHARED, ring->map_.get(), 0);
  if (positions == MAP_FAILED) return absl::ErrnoToStatus(errno, "map a ring buffer's positions");
  ring->positions_ = static_cast<const char*>(positions);
  return ring;
}

BpfRing::~BpfRing() {
  ring_buffer__free(reader_);
  if (positions_ != nullptr) munmap(const_cast<char*>(positions_), 2 * PageBytes());
}

int64_t BpfRing::used_bytes() const {
  const auto read = [](const char* position) {
    return std::atomic_ref(*reinterpret_cast<uint64_t*>(const_cast<char*>(position)))
        .load(std::memory_order_acquire);
  };
  const uint64_t consumed = read(positions_);
  return static_cast<int64_t>(read(positions_ + PageBytes()) - consumed);
}

void BpfRing::Wait(absl::Duration most) {
  epoll_event event;
  epoll_wait(epoll_.get(), &event, 1, static_cast<int>(absl::ToInt64Milliseconds(most)));
}

int BpfRing::OnRecord(void* ring, void* data, size_t size) {
  Batch& batch = *static_cast<BpfRing*>(ring)->batch_;
  batch.use(data, size);
  ++batch.used;
  // A negative value ends the drain behind this record.
  return batch.used < batch.most ? 0 : -ECANCELED;
}

size_t BpfRing::Drain(size_t most, absl::FunctionRef<void(const void*, size_t)> use) {
  Batch batch = {most, 0, use};
  batch_ = &batch;
  ring_buffer__consume(reader_);
  batch_ = nullptr;
  return batch.used;
}

}  // namespace packet_headers
