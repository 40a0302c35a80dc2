#include "user/output/chunk_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <new>

#include "user/base/out_of_memory.h"

namespace packet_headers {
namespace {

// A slab is aligned to its size, so that a chunk's address tells its slab.
constexpr size_t kSlabBytes = 256 * 1024;

// What is mapped at once. To change a mapping that holds memory takes a lock, which the kernel also
// takes to age, move or reclaim pages, and on a busy host holds for seconds.
constexpr size_t kMostRegionBytes = 64 * 1024 * 1024;
constexpr size_t kLeastRegionBytes = 4 * kSlabBytes;

// The place of the first chunk is the slab's own.
constexpr uint32_t ChunksPerSlab(uint32_t size_class) {
  return static_cast<uint32_t>(kSlabBytes / (kSmallestChunkBytes << size_class)) - 1;
}

// Half of what the list has, within the sizes that there are.
uint32_t NextSizeClass(int64_t chunk_bytes) {
  const auto smallest = static_cast<uint64_t>(chunk_bytes) / (2 * kSmallestChunkBytes);
  return std::min<uint32_t>(std::bit_width(smallest | 1) - 1, kChunkSizes - 1);
}

}  // namespace

struct ChunkPool::Slab {
  Slab* next;
  Slab* previous;
  Chunk* free;         // chunks given back
  uint32_t used;       // chunks in use
  uint32_t untouched;  // chunks at the end that were never handed out
  uint32_t size_class;

  // One that was never handed out.
  Chunk* TakeUntouched() {
    const uint32_t index = ChunksPerSlab(size_class) - --untouched;
    return reinterpret_cast<Chunk*>(reinterpret_cast<char*>(this) +
                                    index * (kSmallestChunkBytes << size_class));
  }

  static Slab* Of(Chunk* chunk) {
    return reinterpret_cast<Slab*>(reinterpret_cast<uintptr_t>(chunk) & ~(kSlabBytes - 1));
  }
};

void ChunkPool::SlabList::PushFront(Slab* slab) {
  slab->previous = nullptr;
  slab->next = first;
  if (first != nullptr) first->previous = slab;
  first = slab;
}

void ChunkPool::SlabList::Remove(Slab* slab) {
  (slab->previous != nullptr ? slab->previous->next : first) = slab->next;
  if (slab->next != nullptr) slab->next->previous = slab->previous;
}

void ChunkPool::AddIdle(int64_t bytes) {
  idle_bytes_ += bytes;
  budget_.AddIdle(bytes);
}

ChunkPool::~ChunkPool() {
  AddIdle(-idle_bytes_);
  budget_.Release(mapped_bytes_);
  for (const absl::Span<char> region : regions_) munmap(region.data(), region.size());
}

bool ChunkPool::MapRegion() {
  // Where address space is scarce or counted as memory, a smaller one.
  for (size_t bytes = kMostRegionBytes; bytes >= kLeastRegionBytes; bytes /= 2) {
    if (MapRegion(bytes)) return true;
    CountAllocationFailure();
  }
  return false;
}

bool ChunkPool::MapRegion(size_t bytes) {
  void* const region =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return false;
  // Between two places that stay closed, for beside open ones the mapping would become one with
  // theirs, which is a change of that.
  const auto begin = reinterpret_cast<uintptr_t>(region);
  const uintptr_t first = (begin + kSlabBytes) & ~(kSlabBytes - 1);
  const uintptr_t end = (begin + bytes - 1) & ~(kSlabBytes - 1);
  void* const slabs = reinterpret_cast<void*>(first);
  if (mprotect(slabs, end - first, PROT_READ | PROT_WRITE) != 0) {
    munmap(region, bytes);
    return false;
  }
  // A huge page would be more than the slab that is taken.
  madvise(slabs, end - first, MADV_NOHUGEPAGE);
  regions_.emplace_back(static_cast<char*>(region), bytes);
  // For all places that there are, so that giving back needs no memory.
  absent_.reserve(absent_.size() + (static_cast<size_t>(mapped_bytes_) + end - first) / kSlabBytes);
  // The first is to be taken first.
  for (uintptr_t slab = end; slab > first;) {
    absent_.push_back(reinterpret_cast<void*>(slab -= kSlabBytes));
  }
  return true;
}

ChunkPool::Slab* ChunkPool::MapSlab() {
  if (!budget_.TryReserve(kSlabBytes)) return nullptr;
  if (absent_.empty() && !MapRegion()) {
    budget_.Release(kSlabBytes);
    return nullptr;
  }
  void* const slab = absent_.back();
  absent_.pop_back();
  // All pages at once, for a fault each takes longer than the clearing; before Linux 5.14 so.
  madvise(slab, kSlabBytes, MADV_POPULATE_WRITE);
  mapped_bytes_ += kSlabBytes;
  return new (slab) Slab{};
}

void ChunkPool::UnmapSlab(Slab* slab) {
  madvise(slab, kSlabBytes, MADV_DONTNEED);
  absent_.push_back(slab);
  mapped_bytes_ -= kSlabBytes;
  budget_.Release(kSlabBytes);
}

ChunkPool::Slab* ChunkPool::SlabFor(uint32_t size_class) {
  if (Slab* slab = partial_[size_class].first) return slab;
  Slab* slab = idle_.first;
  if (slab != nullptr) {
    idle_.Remove(slab);
    AddIdle(-static_cast<int64_t>(kSlabBytes));
  } else {
    slab = MapSlab();
  }
  if (slab == nullptr) {
    for (SlabList& partial : partial_) {
      if (partial.first != nullptr) return partial.first;
    }
    return nullptr;
  }
  slab->free = nullptr;
  slab->untouched = ChunksPerSlab(size_class);
  slab->size_class = size_class;
  partial_[size_class].PushFront(slab);
  return slab;
}

Chunk* ChunkPool::Allocate(int64_t chunk_bytes) {
  Slab* slab = SlabFor(NextSizeClass(chunk_bytes));
  if (slab == nullptr) return nullptr;
  Chunk* chunk = slab->free;
  if (chunk != nullptr) {
    slab->free = chunk->next;
  } else {
    chunk = slab->TakeUntouched();
  }
  if (++slab->used == ChunksPerSlab(slab->size_class)) {
    partial_[slab->size_class].Remove(slab);
    full_.PushFront(slab);
  }
  *chunk = {chunk, 0, static_cast<uint16_t>(slab->size_class)};
  return chunk;
}

Chunk* ChunkPool::AllocateLargest() {
  Chunk* const chunk = Allocate(std::numeric_limits<int64_t>::max());
  if (chunk == nullptr || chunk->size() == kLargestChunkBytes) return chunk;
  Free(*chunk);
  return nullptr;
}

void ChunkPool::Free(ChunkList&& list) {
  if (list.empty()) return;
  Chunk* chunk = std::exchange(list.tail_->next, nullptr);
  list = ChunkList();
  while (chunk != nullptr) {
    Chunk* const next = chunk->next;
    Slab* slab = Slab::Of(chunk);
    chunk->next = slab->free;
    slab->free = chunk;
    SlabList& partial = partial_[slab->size_class];
    if (slab->used-- == ChunksPerSlab(slab->size_class)) {
      full_.Remove(slab);
      partial.PushFront(slab);
    }
    if (slab->used == 0) {
      partial.Remove(slab);
      if (idle_bytes_ + static_cast<int64_t>(kSlabBytes) > max_idle_bytes_) {
        UnmapSlab(slab);
      } else {
        idle_.PushFront(slab);
        AddIdle(kSlabBytes);
      }
    }
    chunk = next;
  }
}

bool ChunkList::Append(absl::string_view bytes, ChunkPool& pool) {
  if (bytes.empty()) return true;
  // Chunks first, so that a failure leaves nothing half done.
  size_t room = tail_ != nullptr ? tail_->room() : 0;
  ChunkList more;
  while (room < bytes.size()) {
    Chunk* chunk = pool.Allocate(chunk_bytes() + more.chunk_bytes());
    if (chunk == nullptr) {
      pool.Free(std::move(more));
      return false;
    }
    room += chunk->room();
    more.Splice(ChunkList(chunk));
  }
  Chunk* chunk = tail_;
  Splice(std::move(more));
  if (chunk == nullptr) chunk = tail_->next;
  while (true) {
    const size_t size = std::min(bytes.size(), chunk->room());
    std::memcpy(chunk->bytes() + chunk->used, bytes.data(), size);
    chunk->used += static_cast<uint16_t>(size);
    bytes.remove_prefix(size);
    if (bytes.empty()) break;
    chunk = chunk->next;
  }
  // Where the next bytes go: it was used long ago, or by another processor.
  PrefetchLines(tail_->bytes() + tail_->used + kCacheLineBytes, 2 * kCacheLineBytes);
  return true;
}

void ChunkList::Splice(ChunkList&& other) {
  if (other.empty()) return;
  if (tail_ != nullptr) std::swap(tail_->next, other.tail_->next);
  tail_ = std::exchange(other.tail_, nullptr);
  units_ += std::exchange(other.units_, 0);
}

void ChunkList::ForEachPiece(absl::FunctionRef<void(absl::string_view)> use) const {
  if (empty()) return;
  const Chunk* chunk = tail_;
  do {
    chunk = chunk->next;
    use(absl::string_view(chunk->bytes(), chunk->used));
  } while (chunk != tail_);
}

}  // namespace packet_headers
