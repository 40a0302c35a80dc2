#include "user/flow/syn_cache.h"

#include <bitset>
#include <cstring>

namespace packet_headers {
namespace {

// Records begin at multiples of it.
constexpr size_t kUnit = alignof(ph_header_record);
constexpr uint32_t kUnits = kLargestChunkBytes / kUnit;
// Of a chunk, where the first record is.
constexpr uint32_t kFirstUnit = (Chunk::kHeaderBytes + kUnit - 1) / kUnit;

size_t SizeOf(const ph_header_record& record) { return sizeof(record) + record.header_len; }

uint32_t UnitsOf(const ph_header_record& record) {
  return static_cast<uint32_t>((SizeOf(record) + kUnit - 1) / kUnit);
}

}  // namespace

// A chunk and the records in it.
struct SynCache::Block : ListNode {
  Block(uint32_t its_number, Chunk& its_chunk) : number(its_number), chunk(its_chunk) {}

  ph_header_record& At(uint32_t unit) {
    return *reinterpret_cast<ph_header_record*>(reinterpret_cast<char*>(&chunk) + unit * kUnit);
  }
  Place PlaceOf(uint32_t unit) { return {At(unit).flow_hash, number * kUnits + unit}; }

  const uint32_t number;
  uint32_t begin = kFirstUnit;  // before it none is kept
  uint32_t end = kFirstUnit;    // where the next record goes
  Chunk& chunk;
  std::bitset<kUnits> kept;  // where their records begin
};

SynCache::SynCache(ChunkPool& pool) : pool_(pool), index_(0, PlaceHash(), PlaceEqual{this}) {}

SynCache::~SynCache() {
  order_.ForEach([this](Block& block) { pool_.Free(block.chunk); });
}

SynCache::Part SynCache::PartOf(const ph_header_record& record) {
  ph_tcp tcp;
  std::memcpy(&tcp, record.headers + record.l4_offset, sizeof(tcp));
  return (tcp.flags & PH_TCP_ACK) == 0 ? Part::kSyn : Part::kSynAck;
}

bool SynCache::PlaceEqual::operator()(Place place, PartOfTuple that) const {
  const ph_header_record& kept = cache->At(place);
  return place.flow_hash == that.packet.record->flow_hash && PartOf(kept) == that.part &&
         std::memcmp(&DecodeRecord(&kept, SizeOf(kept))->key, &that.packet.key,
                     sizeof(that.packet.key)) == 0;
}

const ph_header_record& SynCache::At(Place place) const {
  return blocks_[place.at / kUnits]->At(place.at % kUnits);
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
  const uint32_t units = UnitsOf(*packet.record);
  const bool has_room = newest_ != nullptr && newest_->end + units <= kUnits;
  if (!has_room && !AddBlock()) return false;
  std::memcpy(&newest_->At(newest_->end), packet.record, SizeOf(*packet.record));
  index_.insert(newest_->PlaceOf(newest_->end));
  newest_->kept.set(newest_->end);
  newest_->end += units;
  return true;
}

std::optional<Packet> SynCache::Take(const Packet& packet, Part part) {
  const auto found = index_.find(PartOfTuple{packet, part});
  if (found == index_.end()) return std::nullopt;
  const ph_header_record& kept = At(*found);
  const size_t size = SizeOf(kept);
  std::memcpy(taken_, &kept, size);
  Remove(*found);
  return DecodeRecord(taken_, size);
}

const ph_header_record* SynCache::Oldest() {
  // Only a block that is being filled may hold none.
  Block* const block = order_.front();
  if (block == nullptr || block->begin == block->end) return nullptr;
  while (!block->kept[block->begin]) block->begin += UnitsOf(block->At(block->begin));
  return &block->At(block->begin);
}

void SynCache::RemoveOldest() {
  Block& block = *order_.front();
  // In a flood the next one follows soon.
  const uint32_t next = block.begin + UnitsOf(block.At(block.begin));
  if (next < block.end) index_.prefetch(block.PlaceOf(next));
  Remove(block.PlaceOf(block.begin));
}

void SynCache::Remove(Place place) {
  index_.erase(place);
  Block& block = *blocks_[place.at / kUnits];
  block.kept.reset(place.at % kUnits);
  if (block.kept.any()) return;
  if (&block == newest_) {
    block.begin = block.end = kFirstUnit;
    return;
  }
  pool_.Free(block.chunk);
  free_numbers_.push_back(block.number);
  blocks_[block.number] = nullptr;
}

}  // namespace packet_headers
