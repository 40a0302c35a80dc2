#include "user/output/chunk_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "user/base/out_of_memory.h"

namespace packet_headers {
namespace {

// A slab is aligned to its size, so that a chunk's address tells its slab.
constexpr size_t kSlabBytes = 256 * 1024;
constexpr uint32_t kChunksPerSlab = kSlabBytes / kChunkBytes - 1;  // the first holds the Slab

}  // namespace

struct ChunkPool::Slab {
  Slab* next;
  Slab* previous;
  Chunk* free;         // chunks given back
  uint32_t used;       // chunks in use
  uint32_t untouched;  // chunks at the end that were never handed out

  Chunk* chunk(uint32_t index) { return reinterpret_cast<Chunk*>(this) + 1 + index; }

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
  for (SlabList* list : {&partial_, &idle_, &full_}) {
    while (Slab* slab = list->first) {
      list->Remove(slab);
      UnmapSlab(slab);
    }
  }
}

ChunkPool::Slab* ChunkPool::MapSlab() {
  if (!budget_.TryReserve(kSlabBytes)) return nullptr;
  // Twice the size always holds an aligned slab; the rest goes back at once.
  void* mapping = mmap(nullptr, 2 * kSlabBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    CountAllocationFailure();
    budget_.Release(kSlabBytes);
    return nullptr;
  }
  char* begin = static_cast<char*>(mapping);
  const size_t before = -reinterpret_cast<uintptr_t>(begin) & (kSlabBytes - 1);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + kSlabBytes, kSlabBytes - before);
  mapped_bytes_ += kSlabBytes;
  return new (begin + before) Slab{nullptr, nullptr, nullptr, 0, kChunksPerSlab};
}

void ChunkPool::UnmapSlab(Slab* slab) {
  munmap(slab, kSlabBytes);
  mapped_bytes_ -= kSlabBytes;
  budget_.Release(kSlabBytes);
}

Chunk* ChunkPool::Allocate() {
  Slab* slab = partial_.first;
  if (slab == nullptr) {
    slab = idle_.first;
    if (slab != nullptr) {
      idle_.Remove(slab);
      AddIdle(-static_cast<int64_t>(kSlabBytes));
    } else {
      slab = MapSlab();
      if (slab == nullptr) return nullptr;
    }
    partial_.PushFront(slab);
  }
  Chunk* chunk = slab->free;
  if (chunk != nullptr) {
    slab->free = chunk->next;
  } else {
    chunk = slab->chunk(kChunksPerSlab - slab->untouched--);
  }
  if (++slab->used == kChunksPerSlab) {
    partial_.Remove(slab);
    full_.PushFront(slab);
  }
  chunk->next = nullptr;
  chunk->used = 0;
  return chunk;
}

void ChunkPool::Free(ChunkList&& list) {
  for (Chunk* chunk = list.head_; chunk != nullptr;) {
    Chunk* next = chunk->next;
    Slab* slab = Slab::Of(chunk);
    chunk->next = slab->free;
    slab->free = chunk;
    if (slab->used-- == kChunksPerSlab) {
      full_.Remove(slab);
      partial_.PushFront(slab);
    }
    if (slab->used == 0) {
      partial_.Remove(slab);
      if (idle_bytes_ + static_cast<int64_t>(kSlabBytes) > max_idle_bytes_) {
        UnmapSlab(slab);
      } else {
        idle_.PushFront(slab);
        AddIdle(kSlabBytes);
      }
    }
    chunk = next;
  }
  list = ChunkList();
}

bool ChunkList::Append(absl::string_view bytes, ChunkPool& pool) {
  // Chunks first, so that a failure leaves nothing half done.
  const size_t room = tail_ != nullptr ? sizeof(tail_->bytes) - tail_->used : 0;
  ChunkList more;
  for (size_t covered = room; covered < bytes.size(); covered += sizeof(Chunk::bytes)) {
    Chunk* chunk = pool.Allocate();
    if (chunk == nullptr) {
      pool.Free(std::move(more));
      return false;
    }
    (more.tail_ != nullptr ? more.tail_->next : more.head_) = chunk;
    more.tail_ = chunk;
    ++more.chunks_;
  }
  const auto fill = [&bytes](Chunk* chunk) {
    const size_t size = std::min(bytes.size(), sizeof(chunk->bytes) - chunk->used);
    std::memcpy(chunk->bytes + chunk->used, bytes.data(), size);
    chunk->used += size;
    bytes.remove_prefix(size);
  };
  if (tail_ != nullptr) fill(tail_);
  for (Chunk* chunk = more.head_; chunk != nullptr; chunk = chunk->next) fill(chunk);
  Splice(std::move(more));
  return true;
}

void ChunkList::Splice(ChunkList&& other) {
  if (other.empty()) return;
  (tail_ != nullptr ? tail_->next : head_) = other.head_;
  tail_ = other.tail_;
  chunks_ += other.chunks_;
  other = ChunkList();
}

void ChunkList::ForEachPiece(absl::FunctionRef<void(absl::string_view)> use) const {
  for (const Chunk* chunk = head_; chunk != nullptr; chunk = chunk->next) {
    use(absl::string_view(chunk->bytes, chunk->used));
  }
}

}  // namespace packet_headers
