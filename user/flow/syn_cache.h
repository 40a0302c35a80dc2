// Connection attempts that may never become one, as in a flood.

#ifndef PACKET_HEADERS_USER_FLOW_SYN_CACHE_H_
#define PACKET_HEADERS_USER_FLOW_SYN_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "packet_headers/header_record.h"
#include "user/flow/intrusive_list.h"
#include "user/flow/packet.h"
#include "user/output/chunk_pool.h"

namespace packet_headers {

// Keeps of each 4-tuple a SYN, and a SYN-ACK that answers it, until another packet comes. In a
// flood none does, so each is kept as its headers and what tells it from others of them, one behind
// the other in chunks of the pool, and takes little more. One thread.
class SynCache {
 public:
  enum class Part { kSyn, kSynAck };

  // What is known of a kept packet at a glance.
  struct About {
    int64_t time_ns;
    uint32_t ifindex;
    int direction;
    Part part;
  };

  explicit SynCache(ChunkPool& pool);
  SynCache(const SynCache&) = delete;
  SynCache& operator=(const SynCache&) = delete;
  ~SynCache();

  // Keeps the packet, which has the SYN flag and no cookie, and whose part of its tuple is not kept
  // yet. False: the pool has no memory. That a SYN is an aggregate is forgotten.
  bool Add(const Packet& packet);

  // Whether that part of the packet's tuple is kept.
  bool Contains(const Packet& packet, Part part) const {
    return index_.contains(PartOfTuple{packet, part});
  }

  // Removes and returns it, if it is kept. Valid until another one is decoded or taken.
  std::optional<Packet> Take(const Packet& packet, Part part);

  // The packet that was added first, if there is one.
  std::optional<About> Oldest();
  // The one that Oldest() told of just now. Valid until another one is decoded or taken.
  Packet DecodeOldest();
  // Removes it.
  void RemoveOldest();

  // Fetches what the others need first.
  void Prefetch(uint32_t flow_hash) const { index_.prefetch(Place{flow_hash, 0}); }

  size_t size() const { return index_.size(); }
  // That the chunks take.
  int64_t bytes() const {
    return static_cast<int64_t>((blocks_.size() - free_numbers_.size()) * kLargestChunkBytes);
  }

 private:
  struct Kept;
  struct Block;
  // A record of its own, for one that is kept.
  struct Record {
    alignas(ph_header_record) char bytes[sizeof(ph_header_record) + PH_MAX_HEADER_BYTES];
  };
  // Where a packet is. Tells its hash, too, so that most look-ups end in the index.
  struct Place {
    uint32_t flow_hash;
    uint32_t at;  // the number of a block and the place in its chunk, as one number
  };
  struct PartOfTuple {
    const Packet& packet;
    Part part;
  };
  struct PlaceHash {
    using is_transparent = void;
    size_t operator()(Place place) const { return place.flow_hash; }
    size_t operator()(PartOfTuple that) const { return that.packet.record->flow_hash; }
  };
  struct PlaceEqual {
    using is_transparent = void;
    bool operator()(Place a, Place b) const { return a.at == b.at; }
    bool operator()(Place place, PartOfTuple that) const;
    const SynCache* cache;
  };

  static Packet Decode(const Kept& kept, Record& record);
  const Kept& At(Place place) const;
  const Kept* FindOldest();
  bool AddBlock();
  void Remove(Place place);

  ChunkPool& pool_;
  std::vector<std::unique_ptr<Block>> blocks_;  // by number; null: that is free
  std::vector<uint32_t> free_numbers_;
  IntrusiveList<Block> order_;  // oldest first
  Block* newest_ = nullptr;     // which is being filled
  absl::flat_hash_set<Place, PlaceHash, PlaceEqual> index_;
  Record decoded_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_SYN_CACHE_H_
