// Where the bytes of a flow's file wait for the disk: chains of small chunks, cut from slabs.

#ifndef PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_
#define PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "user/output/memory_budget.h"

namespace packet_headers {

// Holds the handshake of most flows; a short connection takes four or five.
inline constexpr size_t kChunkBytes = 256;

struct Chunk {
  Chunk* next;
  uint32_t used;  // bytes
  char bytes[kChunkBytes - sizeof(Chunk*) - sizeof(uint32_t)];
};
static_assert(sizeof(Chunk) == kChunkBytes);

class ChunkPool;

// A byte string in chunks of one pool. Moves; must be given back to its pool when it is not empty.
class ChunkList {
 public:
  ChunkList() = default;
  ChunkList(ChunkList&& other) noexcept { *this = std::move(other); }
  ChunkList& operator=(ChunkList&& other) noexcept {
    head_ = std::exchange(other.head_, nullptr);
    tail_ = std::exchange(other.tail_, nullptr);
    chunks_ = std::exchange(other.chunks_, 0);
    return *this;
  }

  // Appends all of `bytes`, or nothing when the pool's budget is exhausted.
  bool Append(absl::string_view bytes, ChunkPool& pool);

  // Appends the bytes of `other`, which becomes empty. Both are of the same pool.
  void Splice(ChunkList&& other);

  // The bytes in order, piece by piece.
  void ForEachPiece(absl::FunctionRef<void(absl::string_view)> use) const;

  bool empty() const { return head_ == nullptr; }
  int64_t chunks() const { return chunks_; }

 private:
  friend class ChunkPool;

  Chunk* head_ = nullptr;
  Chunk* tail_ = nullptr;
  int64_t chunks_ = 0;
};

// Belongs to one thread. Slabs come from the operating system against the budget; free ones above
// `max_idle_bytes` go back.
class ChunkPool {
 public:
  ChunkPool(MemoryBudget& budget, int64_t max_idle_bytes)
      : budget_(budget), max_idle_bytes_(max_idle_bytes) {}
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  // Unmaps every slab: no list of this pool may be used afterwards.
  ~ChunkPool();

  // Null when the budget is exhausted.
  Chunk* Allocate();
  void Free(ChunkList&& list);

  int64_t mapped_bytes() const { return mapped_bytes_; }
  int64_t idle_bytes() const { return idle_bytes_; }  // in slabs of which no chunk is in use

 private:
  struct Slab;
  struct SlabList {
    Slab* first = nullptr;
    void PushFront(Slab* slab);
    void Remove(Slab* slab);
  };

  void AddIdle(int64_t bytes);
  Slab* MapSlab();
  void UnmapSlab(Slab* slab);

  MemoryBudget& budget_;
  const int64_t max_idle_bytes_;
  SlabList partial_;  // some chunks free, some in use
  SlabList idle_;     // all chunks free
  SlabList full_;     // no chunk free
  int64_t mapped_bytes_ = 0;
  int64_t idle_bytes_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_
