#include "user/flow/syn_cache.h"

#include <bitset>
#include <cstring>
#include <new>

namespace packet_headers {

// A packet as it is kept: of its record what tells a SYN from another, then its headers. Of
// hundreds of thousands in a flood each byte counts, so it may begin at any multiple of four.
struct __attribute__((packed, aligned(4))) SynCache::Kept {
  explicit Kept(const ph_header_record& record)
      : time_ns(record.time_ns),
        flow_hash(record.flow_hash),
        ifindex(record.ifindex),
        wire_len(record.wire_len),
        header_len(record.header_len),
        l3_offset(record.l3_offset),
        l4_offset(record.l4_offset),
        vlan_tci(record.vlan_tci),
        vlan_proto_be(record.vlan_proto_be),
        direction(record.direction),
        link_layer(record.link_layer) {
    std::memcpy(headers, record.headers, header_len);
  }

  void WriteTo(ph_header_record& record) const {
    record = {.time_ns = time_ns,
              .flow_hash = flow_hash,
              .ifindex = ifindex,
              .wire_len = wire_len,
              .header_len = header_len,
              .l3_offset = l3_offset,
              .l4_offset = l4_offset,
              .vlan_tci = vlan_tci,
              .vlan_proto_be = vlan_proto_be,
              .direction = direction,
              .link_layer = link_layer,
              .tcp_flags = tcp().flags};
    std::memcpy(record.headers, headers, header_len);
  }

  ph_tcp tcp() const {
    ph_tcp tcp;
    std::memcpy(&tcp, headers + l4_offset, sizeof(tcp));
    return tcp;
  }
  Part part() const { return (tcp().flags & PH_TCP_ACK) == 0 ? Part::kSyn : Part::kSynAck; }

  uint64_t time_ns;
  uint32_t flow_hash;
  uint32_t ifindex;
  uint32_t wire_len;
  uint16_t header_len;
  uint16_t l3_offset;
  uint16_t l4_offset;
  uint16_t vlan_tci;
  uint16_t vlan_proto_be;
  uint8_t direction;
  uint8_t link_layer;
  uint8_t headers[];
};

// A chunk and the packets in it, each at a multiple of a unit.
struct SynCache::Block : ListNode {
  static_assert(sizeof(Kept) == 32);
  static constexpr size_t kUnit = alignof(Kept);
  static constexpr uint32_t kUnits = kLargestChunkBytes / kUnit;
  static constexpr uint32_t kFirstUnit = (Chunk::kHeaderBytes + kUnit - 1) / kUnit;

  static uint32_t UnitsOf(uint16_t header_len) {
    return static_cast<uint32_t>((sizeof(Kept) + header_len + kUnit - 1) / kUnit);
  }

  Block(uint32_t its_number, Chunk& its_chunk) : number(its_number), chunk(its_chunk) {}

  char* BytesAt(uint32_t unit) { return reinterpret_cast<char*>(&chunk) + unit * kUnit; }
  Kept& At(uint32_t unit) { return *reinterpret_cast<Kept*>(BytesAt(unit)); }
  Place PlaceOf(uint32_t unit) { return {At(unit).flow_hash, number * kUnits + unit}; }
  uint32_t Behind(uint32_t unit) { return unit + UnitsOf(At(unit).header_len); }

  const uint32_t number;
  uint32_t begin = kFirstUnit;  // before it none is kept
  uint32_t end = kFirstUnit;    // where the next packet goes
  Chunk& chunk;
  std::bitset<kUnits> kept;  // where they begin
};

SynCache::SynCache(ChunkPool& pool) : pool_(pool), index_(0, PlaceHash(), PlaceEqual{this}) {}

SynCache::~SynCache() {
  order_.ForEach([this](Block& block) { pool_.Free(block.chunk); });
}

bool SynCache::PlaceEqual::operator()(Place place, PartOfTuple that) const {
  if (place.flow_hash != that.packet.record->flow_hash) return false;
  const Kept& kept = cache->At(place);
  if (kept.part() != that.part) return false;
  Record record;
  const Packet packet = Decode(kept, record);
  return std::memcmp(&packet.key, &that.packet.key, sizeof(packet.key)) == 0;
}

const SynCache::Kept& SynCache::At(Place place) const {
  return blocks_[place.at / Block::kUnits]->At(place.at % Block::kUnits);
}

Packet SynCache::Decode(const Kept& kept, Record& record) {
  kept.WriteTo(*reinterpret_cast<ph_header_record*>(record.bytes));
  return *DecodeRecord(record.bytes, sizeof(ph_header_record) + kept.header_len);
}

bool SynCache::AddBlock() {
  Chunk* const chunk = pool_.AllocateLargest();
  if (chunk == nullptr) return false;
  if (free_numbers_.empty()) {
    free_numbers_.push_back(static_cast<uint32_t>(blocks_.size()));
    blocks_.emplace_back();
    free_numbers_.reserve(blocks_.capacity());  // so that giving back needs no memory
  }
  const uint32_t number = free_numbers_.back();
  free_numbers_.pop_back();
  blocks_[number] = std::make_unique<Block>(number, *chunk);
  newest_ = blocks_[number].get();
  order_.PushBack(*newest_);
  return true;
}

bool SynCache::Add(const Packet& packet) {
  const uint32_t units = Block::UnitsOf(packet.record->header_len);
  const bool has_room = newest_ != nullptr && newest_->end + units <= Block::kUnits;
  if (!has_room && !AddBlock()) return false;
  new (newest_->BytesAt(newest_->end)) Kept(*packet.record);
  index_.insert(newest_->PlaceOf(newest_->end));
  newest_->kept.set(newest_->end);
  newest_->end += units;
  return true;
}

std::optional<Packet> SynCache::Take(const Packet& packet, Part part) {
  const auto found = index_.find(PartOfTuple{packet, part});
  if (found == index_.end()) return std::nullopt;
  const Packet taken = Decode(At(*found), decoded_);
  Remove(*found);
  return taken;
}

const SynCache::Kept* SynCache::FindOldest() {
  // Only a block that is being filled may hold none.
  Block* const block = order_.front();
  if (block == nullptr || block->begin == block->end) return nullptr;
  while (!block->kept[block->begin]) block->begin = block->Behind(block->begin);
  return &block->At(block->begin);
}

std::optional<SynCache::About> SynCache::Oldest() {
  const Kept* const oldest = FindOldest();
  if (oldest == nullptr) return std::nullopt;
  return About{static_cast<int64_t>(oldest->time_ns), oldest->ifindex, oldest->direction,
               oldest->part()};
}

Packet SynCache::DecodeOldest() { return Decode(*FindOldest(), decoded_); }

void SynCache::RemoveOldest() {
  Block& block = *order_.front();
  // In a flood the next one follows soon.
  const uint32_t next = block.Behind(block.begin);
  if (next < block.end) index_.prefetch(block.PlaceOf(next));
  Remove(block.PlaceOf(block.begin));
}

void SynCache::Remove(Place place) {
  index_.erase(place);
  Block& block = *blocks_[place.at / Block::kUnits];
  block.kept.reset(place.at % Block::kUnits);
  if (block.kept.any()) return;
  if (&block == newest_) {
    block.begin = block.end = Block::kFirstUnit;
    return;
  }
  pool_.Free(block.chunk);
  free_numbers_.push_back(block.number);
  blocks_[block.number] = nullptr;
}

}  // namespace packet_headers
