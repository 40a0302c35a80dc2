#include "user/capture/bpf_ring.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "packet_headers/kernel_config.h"
#include "user/base/prefetch.h"

namespace packet_headers {
namespace {

// What is used between two writes of the reader's position.
constexpr size_t kMostInBatch = 32;

// Where a record lies is known only once the one before it is there, and each has to come from
// another processor's cache: so what lies some records ahead is fetched, whatever it is.
constexpr size_t kFetchedAheadBytes = 512;

static_assert(sizeof(long) == sizeof(uint64_t), "the kernel's positions are longs");

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// Shared with the kernel.
template <typename Word>
std::atomic_ref<Word> Shared(Word* word) {
  return std::atomic_ref<Word>(*word);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BpfRing>> BpfRing::Open(UniqueFd map) {
  std::unique_ptr<BpfRing> ring(new BpfRing(std::move(map)));
  const int fd = ring->map_.get();
  bpf_map_info info = {};
  __u32 info_bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &info_bytes) != 0) {
    return absl::ErrnoToStatus(errno, "ask for the size of a ring buffer");
  }
  ring->bytes_ = info.max_entries;
  const auto map_pages = [fd](size_t bytes, int protection, size_t offset) -> uint64_t* {
    void* pages = mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
    return pages == MAP_FAILED ? nullptr : static_cast<uint64_t*>(pages);
  };
  ring->consumed_ = map_pages(PageBytes(), PROT_READ | PROT_WRITE, 0);
  ring->produced_ = map_pages(PageBytes() + 2 * ring->bytes_, PROT_READ, PageBytes());
  if (ring->consumed_ == nullptr || ring->produced_ == nullptr) {
    return absl::ErrnoToStatus(errno, "map a ring buffer");
  }

  // Edge-triggered: the kernel's own wake-up ends a wait, not that there is something to read.
  ring->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  if (!ring->epoll_.valid() || epoll_ctl(ring->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::ErrnoToStatus(errno, "poll a ring buffer");
  }
  return ring;
}

BpfRing::~BpfRing() {
  if (consumed_ != nullptr) munmap(consumed_, PageBytes());
  if (produced_ != nullptr) munmap(produced_, PageBytes() + 2 * bytes_);
}

int64_t BpfRing::used_bytes() const {
  const uint64_t consumed = Shared(consumed_).load(std::memory_order_acquire);
  return static_cast<int64_t>(produced_bytes() - consumed);
}

uint64_t BpfRing::produced_bytes() const {
  return Shared(produced_).load(std::memory_order_acquire);
}

void BpfRing::Touch(int program, uint32_t shard) {
  const std::array<char, ETH_HLEN> frame = {};
  __sk_buff skb = {};
  skb.cb[0] = shard;
  // A ring is never filled to the last byte, so the last page is for a second turn.
  for (const size_t pages : {bytes_ / PH_TOUCH_BYTES, size_t{1}}) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(),
                .ctx_in = &skb, .ctx_size_in = sizeof(skb), .repeat = static_cast<int>(pages));
    bpf_prog_test_run_opts(program, &options);
    Drain(1, [](auto) {});  // which are discarded records
  }
}

void BpfRing::Wait(absl::Duration most) {
  epoll_event event;
  epoll_wait(epoll_.get(), &event, 1, static_cast<int>(absl::ToInt64Milliseconds(most)));
}

size_t BpfRing::Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) {
  char* const ring = reinterpret_cast<char*>(produced_) + PageBytes();
  std::array<RecordBytes, kMostInBatch> batch;
  uint64_t consumed = Shared(consumed_).load(std::memory_order_relaxed);
  size_t used = 0;
  while (used < most) {
    const uint64_t produced = produced_bytes();
    const size_t wanted = std::min(most - used, batch.size());
    uint64_t next = consumed;
    size_t records = 0;
    while (records < wanted && next < produced) {
      char* const header = ring + (next & (bytes_ - 1));
      __builtin_prefetch(header + kFetchedAheadBytes);
      __builtin_prefetch(header + kFetchedAheadBytes + kCacheLineBytes);
      const uint32_t length =
          Shared(reinterpret_cast<uint32_t*>(header)).load(std::memory_order_acquire);
      if ((length & BPF_RINGBUF_BUSY_BIT) != 0) break;
      const uint32_t bytes = length & ~BPF_RINGBUF_DISCARD_BIT;
      if (bytes == length) batch[records++] = {header + BPF_RINGBUF_HDR_SZ, bytes};
      next += (bytes + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
    }
    if (next == consumed) break;
    if (records > 0) use(absl::MakeConstSpan(batch.data(), records));
    consumed = next;
    Shared(consumed_).store(consumed, std::memory_order_release);
    used += records;
  }
  return used;
}

}  // namespace packet_headers
