// Where the bytes of a flow's file wait for the disk: chains of small chunks, cut from slabs.

#ifndef PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_
#define PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "user/base/prefetch.h"
#include "user/output/memory_budget.h"

namespace packet_headers {

// The first chunk of a list holds a handshake over IPv4 with all that Linux puts into its options,
// 262 bytes as pcap, and VLAN tags. Further ones are larger the more the list holds, so that at
// most half of it is unused, a third once it has some, and a fast flow seldom needs another.
inline constexpr size_t kSmallestChunkBytes = 288;
inline constexpr size_t kChunkSizes = 5;  // each twice the one before
inline constexpr size_t kLargestChunkBytes = kSmallestChunkBytes << (kChunkSizes - 1);

struct Chunk {
  static constexpr size_t kHeaderBytes = 12;

  char* bytes() { return reinterpret_cast<char*>(this) + kHeaderBytes; }
  const char* bytes() const { return reinterpret_cast<const char*>(this) + kHeaderBytes; }
  size_t size() const { return kSmallestChunkBytes << size_class; }
  size_t room() const { return size() - kHeaderBytes - used; }

  Chunk* next;          // in its list, behind the last the first
  uint16_t used;        // bytes behind it
  uint16_t size_class;  // from 0 on
};

class ChunkPool;

// A byte string in chunks of one pool. Moves; must be given back to its pool when it is not empty.
class ChunkList {
 public:
  ChunkList() = default;
  ChunkList(ChunkList&& other) noexcept { *this = std::move(other); }
  ChunkList& operator=(ChunkList&& other) noexcept {
    tail_ = std::exchange(other.tail_, nullptr);
    units_ = std::exchange(other.units_, 0);
    return *this;
  }

  // Appends all of `bytes`, or nothing when the pool's budget is exhausted.
  bool Append(absl::string_view bytes, ChunkPool& pool);

  // Appends the bytes of `other`, which becomes empty. Both are of the same pool.
  void Splice(ChunkList&& other);

  // Fetches what Append() needs: all of a small last chunk, the header of a large one.
  void PrefetchEnd() const {
    if (tail_ != nullptr) PrefetchLines(tail_, kSmallestChunkBytes);
  }

  // The bytes in order, piece by piece.
  void ForEachPiece(absl::FunctionRef<void(absl::string_view)> use) const;

  bool empty() const { return tail_ == nullptr; }
  // That its chunks take.
  int64_t chunk_bytes() const { return int64_t{units_} * kSmallestChunkBytes; }

 private:
  friend class ChunkPool;

  // Of a chunk that is its own next one.
  explicit ChunkList(Chunk* chunk) : tail_(chunk), units_(1u << chunk->size_class) {}

  // Small, for each flow has one.
  Chunk* tail_ = nullptr;  // its next one is the first
  uint32_t units_ = 0;     // of kSmallestChunkBytes
};

// Belongs to one thread. Slabs come from the operating system against the budget; free ones above
// `max_idle_bytes` go back. Address space stays.
class ChunkPool {
 public:
  ChunkPool(MemoryBudget& budget, int64_t max_idle_bytes)
      : budget_(budget), max_idle_bytes_(max_idle_bytes) {}
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  // Unmaps every slab: no list of this pool may be used afterwards.
  ~ChunkPool();

  // An empty chunk, its own next one, for a list whose chunks take `chunk_bytes`, of any size when
  // the budget is exhausted; null when no chunk is free either.
  Chunk* Allocate(int64_t chunk_bytes);
  void Free(ChunkList&& list);

  // One of kLargestChunkBytes that is in no list; null when the budget is exhausted.
  Chunk* AllocateLargest();
  void Free(Chunk& chunk) { Free(ChunkList(&chunk)); }

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
  // One with a free chunk, of that size if possible. Or null.
  Slab* SlabFor(uint32_t size_class);
  Slab* MapSlab();
  // Or return false.
  bool MapRegion();
  bool MapRegion(size_t bytes);
  void UnmapSlab(Slab* slab);

  MemoryBudget& budget_;
  const int64_t max_idle_bytes_;
  SlabList partial_[kChunkSizes];          // some chunks free, some in use
  SlabList idle_;                          // all chunks free, which may become of another size
  SlabList full_;                          // no chunk free
  std::vector<absl::Span<char>> regions_;  // of address space, with places for slabs
  std::vector<void*> absent_;              // places that hold no memory
  int64_t mapped_bytes_ = 0;
  int64_t idle_bytes_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_CHUNK_POOL_H_
