#include "user/flow/flow_table.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/time/time.h"
#include "user/base/prefetch.h"

namespace packet_headers {
namespace {

// Written by one thread only.
template <typename T>
void Bump(std::atomic<T>& value, T by = 1) {
  value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

std::atomic<int64_t>& CountOf(FlowStats& stats, FlowState state) {
  switch (state) {
    case FlowState::kEmbryonic:
      return stats.embryonic;
    case FlowState::kCapturing:
      return stats.capturing;
    default:
      return stats.ended;
  }
}

// A named flow's records go to its file once they take so many bytes, with -stream and without:
// the memory is used again while the processor's cache has it, and a flow needs no more of it,
// however long.
constexpr int64_t kStreamBytes = 16 * 1024;
constexpr int64_t kLargeJobBytes = 512 * 1024;

// With its UUID. While the disk takes nothing many of them wait.
constexpr int64_t kFileJobBytes = sizeof(FileJob) + 64;

// Up to so many flows are in a processor's cache anyway.
constexpr size_t kMostCachedFlows = 1024;

// An answer of the socket before comes soon, so of these fewer are remembered than of open sockets.
constexpr int64_t kReplacedPart = 16;

// Records whose memory is fetched at once; more than the processor has fetches under way at a time.
constexpr size_t kPrefetched = 16;

// A record is no younger than so: one that is tells no time, and holds up nobody.
constexpr int64_t kLeastAgeNs = -10'000'000'000;

// Smaller differences are those between two readings.
constexpr int64_t kSmallestStepNs = 10'000'000;

LinkType LinkTypeOf(const ph_header_record& record) {
  return record.link_layer == PH_LINK_ETHERNET ? LinkType::kEthernet : LinkType::kRawIp;
}

}  // namespace

bool FlowTable::EntryEqual::operator()(const FlowEntry* a, const Packet& b) const {
  return std::memcmp(&a->key, &b.key, sizeof(a->key)) == 0;
}

bool FlowTable::EntryEqual::operator()(const FlowEntry* a, const Tuple& b) const {
  return std::memcmp(&a->key, &b.key, sizeof(a->key)) == 0;
}

FlowTable::FlowTable(const FlowOptions& options, uint32_t shard, int64_t now_ns,
                     MemoryBudget& budget, FlowLimit& limit, Books& books, FlowStats& stats,
                     KernelFlows& kernel, std::function<void(FileJob)> submit)
    : options_(options),
      rules_(options_),
      flow_bytes_(sizeof(Flow) + (options.anonymizer == nullptr ? 0 : sizeof(FlowExtras))),
      most_waiting_bytes_(options.stream ? kStreamBytes : kLargeJobBytes),
      budget_(budget),
      limit_(limit),
      books_(books),
      stats_(stats),
      kernel_(kernel),
      submit_(std::move(submit)),
      pool_(budget, options.max_idle_bytes),
      encoder_(options.max_header_bytes),
      timers_(now_ns),
      finished_(options.max_recent_cookies),
      replaced_(options.max_recent_cookies / kReplacedPart),
      announcements_(options.max_announcements),
      syns_(pool_),
      next_id_(static_cast<uint64_t>(shard) << 48) {}

FlowTable::~FlowTable() {
  FinishAll();
  ended_.Splice(ended_timed_);
  ended_.Splice(ended_strays_);
  while (AgeNode* oldest = ended_.front()) Remove(*static_cast<EndedFlow*>(oldest));
}

void FlowTable::set_wall_offset_ns(int64_t offset_ns) {
  if (std::abs(offset_ns - wall_offset_ns_) >= kSmallestStepNs) RecallAll();
  wall_offset_ns_ = offset_ns;
}

void FlowTable::set_suspended_ns(int64_t suspended_ns) {
  if (std::abs(suspended_ns - suspended_ns_) < kSmallestStepNs) return;
  RecallAll();
  suspended_ns_ = suspended_ns;
}

void FlowTable::OnRecords(absl::Span<const RecordBytes> records) {
  if (records.size() > 1 && entries_.size() + syns_.size() > kMostCachedFlows) {
    for (size_t begin = 0; begin < records.size(); begin += kPrefetched) {
      const auto some = records.subspan(begin, kPrefetched);
      Prefetch(some);
      for (const RecordBytes& bytes : some) OnRecord(bytes);
    }
  } else {
    for (const RecordBytes& bytes : records) OnRecord(bytes);
  }
}

// Fetches what the records need from memory, for all of them at once: the slots of the table, then
// the flows, then where their next headers go.
void FlowTable::Prefetch(absl::Span<const RecordBytes> records) const {
  std::array<Hint, kPrefetched> hints;
  std::array<const FlowEntry*, kPrefetched> entries;
  size_t found = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    hints[i].flow_hash = records[i].size >= sizeof(ph_header_record)
                             ? static_cast<const ph_header_record*>(records[i].data)->flow_hash
                             : 0;
    entries_.prefetch(hints[i]);
    syns_.Prefetch(hints[i].flow_hash);
  }
  for (size_t i = 0; i < records.size(); ++i) {
    const auto entry = entries_.find(hints[i]);
    if (entry == entries_.end()) continue;
    entries[found++] = *entry;
    PrefetchLines(*entry, sizeof(Flow));
  }
  for (size_t i = 0; i < found; ++i) {
    if (entries[i]->state == FlowState::kEnded) continue;
    static_cast<const Flow*>(entries[i])->records.PrefetchEnd();
  }
}

void FlowTable::OnRecord(const RecordBytes& bytes) {
  if (const std::optional<Packet> packet = DecodeRecord(bytes.data, bytes.size)) {
    latest_ns_ = std::max(latest_ns_, packet->time_ns());
    Dispatch(*packet);
  } else {
    const auto* record = static_cast<const ph_header_record*>(bytes.data);
    const bool readable = bytes.size >= sizeof(*record) && record->direction <= PH_EGRESS;
    books_.Count(readable ? record->ifindex : 0, readable ? record->direction : 0, PH_BAD_RECORD);
  }
}

Flow* FlowTable::FindFlow(const ph_flow_key& key, uint32_t flow_hash) {
  const auto found = entries_.find(Tuple{key, flow_hash});
  if (found == entries_.end() || (*found)->state == FlowState::kEnded) return nullptr;
  return static_cast<Flow*>(*found);
}

void FlowTable::OnAnnouncement(KeyedAnnouncement keyed) {
  Flow* const flow = FindFlow(keyed.key, keyed.flow_hash);
  announcements_.Add(std::move(keyed));
  if (flow == nullptr) return;
  if (flow->state == FlowState::kCapturing) {
    TakeName(*flow);
  } else if (const Announcement* owner = OwnerOf(*flow)) {
    Promote(*flow, owner->cookie);
  }
}

void FlowTable::OnOwner(const FlowOwner& owner) {
  Flow* const flow = FindFlow(owner.key, owner.flow_hash);
  if (flow == nullptr || flow->state != FlowState::kEmbryonic || flow->cookie != 0) return;
  if (flow->first_ns > owner.until_ns || finished_.Contains(owner.cookie)) return;
  Promote(*flow, owner.cookie);
}

void FlowTable::Dispatch(const Packet& packet) {
  const auto found = entries_.find(packet);
  if (found == entries_.end()) {
    OnUnknown(packet);
    return;
  }
  switch ((*found)->state) {
    case FlowState::kEmbryonic:
      OnEmbryonic(static_cast<Flow&>(**found), packet);
      break;
    case FlowState::kCapturing:
      OnCapturing(static_cast<Flow&>(**found), packet);
      break;
    case FlowState::kEnded:
      OnEnded(static_cast<EndedFlow&>(**found), packet);
      break;
  }
}

// A packet of a tuple of which there is no flow.
void FlowTable::OnUnknown(const Packet& packet) {
  if (rules_.IsSynCookie(packet) && syns_.Contains(packet, SynCache::Part::kSyn) &&
      !syns_.Contains(packet, SynCache::Part::kSynAck)) {
    KeepAttempt(packet);
  } else if (Recall(packet)) {
    Dispatch(packet);
  } else {
    Begin(packet);
  }
}

// Makes a flow of what is kept of the packet's tuple, if anything is.
bool FlowTable::Recall(const Packet& packet) {
  const std::optional<Packet> syn = syns_.Take(packet, SynCache::Part::kSyn);
  if (syn) {
    Bump(stats_.embryonic, int64_t{-1});
    BeginFlow(*syn);
  }
  // The packet may have been where the SYN was decoded to.
  const std::optional<Packet> syn_ack = syns_.Take(syn ? *syn : packet, SynCache::Part::kSynAck);
  if (syn_ack) Dispatch(*syn_ack);
  return syn || syn_ack;
}

// What is in the SYN cache has no clock of its own: makes flows of it while that of before is
// known.
void FlowTable::RecallAll() {
  while (syns_.size() > 0) Recall(syns_.DecodeOldest());
}

void FlowTable::KeepAttempt(const Packet& packet) {
  if (budget_.nearly_exhausted() || !syns_.Add(packet)) {
    books_.Count(packet.record->ifindex, packet.direction(), PH_MEMORY_LIMIT);
    return;
  }
  if (packet.IsSyn()) Bump(stats_.embryonic);
  EvictEmbryonic();
}

void FlowTable::Begin(const Packet& packet) {
  // An answer to nobody, or to somebody who is gone: it begins nothing.
  if (packet.Is(PH_TCP_RST) && packet.cookie() == 0 && options_.ownership != Ownership::kNone) {
    books_.Count(packet.record->ifindex, packet.direction(), rules_.UnownedReason());
    return;
  }
  rules_.IsAttempt(packet) ? KeepAttempt(packet) : BeginFlow(packet);
}

void FlowTable::BeginFlow(const Packet& packet) {
  std::unique_ptr<Flow> flow = NewFlow(packet);
  if (flow == nullptr) {
    books_.Count(packet.record->ifindex, packet.direction(), PH_MEMORY_LIMIT);
    RefuseForGood(packet);
    return;
  }
  Flow& inserted = *flow;
  InsertEmbryonic(std::move(flow));
  OnEmbryonic(inserted, packet);
}

// What a local socket sent is remembered, so that it is not captured from the middle once there is
// memory again; what strangers send must not take the memory that is left.
void FlowTable::RefuseForGood(const Packet& packet) {
  if (packet.cookie() == 0 || packet.IsSynAck()) return;
  Bump(stats_.refused_by_memory);
  finished_.Add(packet.cookie());
  auto refused = std::make_unique<EndedFlow>(packet.key, packet.record->flow_hash, PH_MEMORY_LIMIT);
  refused->cookie = packet.cookie();
  refused->syns.Note(packet);
  InsertEnded(std::move(refused));
}

void FlowTable::OnEmbryonic(Flow& flow, const Packet& packet) {
  if (rules_.IsNewAttempt(flow, packet)) {
    Drop(flow, rules_.ReasonToDrop(flow), Afterwards::kForget);
    Begin(packet);
    return;
  }
  if (rules_.ShowsOwner(flow, packet)) {
    PromoteWith(flow, flow.cookie, packet);
    return;
  }
  if (packet.IsSynAck() && packet.egress()) {
    flow.cookie = packet.cookie();
    if (flow.cookie != 0) requested_.PushBack(flow);
  } else if (packet.cookie() != 0 && !packet.IsSyn() && finished_.Contains(packet.cookie())) {
    // The socket of a flow that ended goes on, and a SYN that came between began nothing yet; sent
    // again, another socket may take it.
    flow.cookie = packet.cookie();
    flow.syns = {};
    Drop(flow, PH_LATE, Afterwards::kRemember);
    Dispatch(packet);
    return;
  } else if (packet.cookie() != 0 && (packet.IsSyn() || !replaced_.Contains(packet.cookie()))) {
    PromoteWith(flow, packet.cookie(), packet);
    return;
  } else if (const Announcement* owner = OwnerOf(flow)) {
    PromoteWith(flow, owner->cookie, packet);
    return;
  }

  if (flow.packets.total() >= kMaxUnnamedPackets) {
    Drop(flow, rules_.ReasonToDrop(flow), Afterwards::kSettle);
    Dispatch(packet);
    return;
  }
  if (packet.Is(PH_TCP_SYN)) flow.Reopen();
  const int64_t bytes_before = flow.records.chunk_bytes();
  const bool was_closed = flow.closed();
  if (Append(flow, packet) != Kept::kYes) return;
  embryonic_bytes_ += flow.records.chunk_bytes() - bytes_before;
  if (flow.closed() && !was_closed) timers_.Schedule(flow, rules_.DeadlineOf(flow));
  // Last, since it may be this flow that gives way.
  EvictEmbryonic();
}

void FlowTable::OnCapturing(Flow& flow, const Packet& packet) {
  if (FlowRules::IsNewSyn(flow, packet)) {
    OnNewSyn(flow, packet);
    return;
  }
  if (rules_.IsOfOtherSocket(flow, packet)) {
    OnOtherSocket(flow, packet);
    return;
  }
  if (packet.time_ns() - flow.first_ns > options_.capture_duration_ns) {
    Finish(flow, FlowEnd::kDuration, Afterwards::kSettle);
    Dispatch(packet);
    return;
  }
  if (rules_.IsOfSameSocket(flow, packet)) MergeSuccessor(flow);

  const bool was_closed = flow.closed();
  const Kept kept = Append(flow, packet);
  if (kept == Kept::kNoMemory) {
    Finish(flow, FlowEnd::kMemory, Afterwards::kSettle, PH_MEMORY_LIMIT);
    return;
  }
  if (kept != Kept::kYes) return;
  if (flow.reset && rules_.DisprovesReset(packet)) flow.reset = flow.reset_by_host = false;
  if (flow.closed() && !was_closed) timers_.Schedule(flow, rules_.DeadlineOf(flow));
  if (flow.records.chunk_bytes() >= most_waiting_bytes_ && !rules_.IsWaitingForName(flow)) {
    Submit(flow, std::nullopt);
  }
}

// A socket in TIME-WAIT or LAST-ACK may answer the SYN of another: that is of the new connection.
void FlowTable::NoteReplaced(const FlowEntry& flow, const Packet& syn) {
  if (flow.cookie != 0 && flow.cookie != syn.cookie()) replaced_.Add(flow.cookie);
}

// A SYN on the tuple of a capturing flow, with a sequence number of its own.
void FlowTable::OnNewSyn(Flow& flow, const Packet& packet) {
  if (flow.closed() || (packet.egress() && rules_.knows_sockets())) {
    NoteReplaced(flow, packet);
    Finish(flow, FlowEnd::kReused, Afterwards::kForget);
    Begin(packet);
    return;
  }
  if (flow.successor() == nullptr ||
      !flow.successor()->syns.Include(packet.direction(), packet.seq)) {
    MergeSuccessor(flow);
    std::unique_ptr<Flow> successor = NewFlow(packet);
    if (successor == nullptr) {
      books_.Count(packet.record->ifindex, packet.direction(), PH_MEMORY_LIMIT);
      return;
    }
    // Its record may become one of the flow's.
    successor->wall_offset_ns = flow.wall_offset_ns;
    successor->link_type = flow.link_type;
    flow.MutableExtras().successor = std::move(successor);
  }
  if (Append(*flow.successor(), packet) == Kept::kYes || !flow.successor()->packets.empty()) return;
  flow.TakeSuccessor();
  budget_.Release(flow_bytes_);
}

// The tuple of a capturing flow is answered on by a socket that is not the flow's.
void FlowTable::OnOtherSocket(Flow& flow, const Packet& packet) {
  std::unique_ptr<Flow> successor = packet.IsSynAck() || options_.ownership != Ownership::kSocket
                                        ? flow.TakeSuccessor()
                                        : nullptr;
  Finish(flow, FlowEnd::kReused, Afterwards::kForget);
  if (successor != nullptr) InsertEmbryonic(std::move(successor));
  Dispatch(packet);
}

void FlowTable::OnEnded(EndedFlow& flow, const Packet& packet) {
  const bool is_new = packet.IsSyn() ? !flow.syns.Include(packet.direction(), packet.seq)
                                     : rules_.IsFromOtherSocket(flow.cookie, packet);
  if (is_new) {
    // When it was settled, the SYN may have passed the hook already.
    if (flow.settled_ns != 0) kernel_.Unsettle(flow.key);
    NoteReplaced(flow, packet);
    Remove(flow);
    Begin(packet);
    return;
  }
  books_.Count(packet.record->ifindex, packet.direction(), flow.reason);
  if (packet.Is(PH_TCP_FIN | PH_TCP_RST)) {
    SetDeadline(flow, packet.time_ns() + kTimeWaitNs);
  }
  if (++flow.later_packets >= kLaterPacketsToSettle) Settle(flow, packet.time_ns());
}

std::unique_ptr<Flow> FlowTable::NewFlow(const Packet& packet) {
  if (budget_.nearly_exhausted() || !budget_.TryReserve(flow_bytes_)) return nullptr;
  auto flow = std::make_unique<Flow>(packet.key, packet.record->flow_hash, FlowState::kEmbryonic);
  flow->first_ns = flow->last_ns = packet.time_ns();
  flow->first_wall_ns = flow->first_ns + wall_offset_ns_;
  flow->wall_offset_ns = wall_offset_ns_ - suspended_ns_;
  flow->link_type = LinkTypeOf(*packet.record);
  if (options_.anonymizer != nullptr) {
    const std::optional<Disguise> disguise = options_.anonymizer->DisguiseOf(
        packet.key, !IsLocal(packet.key.local_addr), !IsLocal(packet.key.remote_addr));
    if (disguise) flow->MutableExtras().disguise = disguise;
  }
  return flow;
}

bool FlowTable::IsLocal(const uint8_t* address) const {
  if (local_addresses_ == nullptr) return false;
  MappedAddress mapped;
  std::memcpy(mapped.data(), address, mapped.size());
  return local_addresses_->contains(mapped);
}

void FlowTable::InsertEmbryonic(std::unique_ptr<Flow> flow) {
  embryonic_.PushBack(*flow);
  embryonic_bytes_ += BytesOf(*flow);
  Bump(stats_.embryonic);
  timers_.Schedule(*flow, rules_.DeadlineOf(*flow));
  entries_.insert(flow.release());
}

void FlowTable::InsertEnded(std::unique_ptr<EndedFlow> flow) {
  if (!budget_.TryReserve(sizeof(EndedFlow))) return;
  // What strangers can make any number of is the first to be pushed out, then what will go anyway.
  const bool is_stray =
      flow->reason == rules_.UnownedReason() || flow->reason == PH_INCOMPLETE_HANDSHAKE;
  const bool is_timed = flow->deadline_ns != 0;
  (is_stray ? ended_strays_ : is_timed ? ended_timed_ : ended_).PushBack(*flow);
  Bump(stats_.ended);
  entries_.insert(flow.release());
  if (stats_.ended.load(std::memory_order_relaxed) > options_.max_ended_flows) {
    for (const auto* list : {&ended_strays_, &ended_timed_, &ended_}) {
      if (list->empty()) continue;
      Remove(*static_cast<EndedFlow*>(list->front()));
      break;
    }
  }
}

bool FlowTable::Promote(Flow& flow, uint64_t cookie) {
  flow.cookie = cookie;
  if (!limit_.TryEnter()) {
    Bump(stats_.refused_by_limit);
    if (cookie != 0) finished_.Add(cookie);
    Drop(flow, PH_FLOW_LIMIT, Afterwards::kRemember);
    return false;
  }
  embryonic_bytes_ -= BytesOf(flow);
  Bump(stats_.embryonic, int64_t{-1});
  Bump(stats_.capturing);
  if (options_.naming != Naming::kOwn) Bump(stats_.unnamed);
  Bump(stats_.captures_started);
  flow.state = FlowState::kCapturing;
  flow.id = ++next_id_;
  capturing_.PushBack(flow);
  timers_.Schedule(flow, rules_.DeadlineOf(flow));
  TakeName(flow);
  return true;
}

void FlowTable::PromoteWith(Flow& flow, uint64_t cookie, const Packet& packet) {
  flow.syns.Note(packet);
  if (Promote(flow, cookie)) {
    OnCapturing(flow, packet);
  } else {
    books_.Count(packet.record->ifindex, packet.direction(), PH_FLOW_LIMIT);
  }
}

const Announcement* FlowTable::OwnerOf(const Flow& flow) const {
  if (options_.ownership != Ownership::kAnnounced || flow.cookie != 0) return nullptr;
  const Announcement* owner = announcements_.Find(flow.key, flow.hash, 0, flow.first_wall_ns);
  return owner == nullptr || finished_.Contains(owner->cookie) ? nullptr : owner;
}

void FlowTable::TakeName(Flow& flow) {
  if (options_.naming == Naming::kOwn || flow.name != nullptr) return;
  const auto announcement =
      announcements_.Take(flow.key, flow.hash, flow.cookie, flow.first_wall_ns);
  if (announcement == nullptr) return;
  Bump(stats_.announced);
  SetName(flow, {announcement->uuid, announcement->date});
  timers_.Schedule(flow, rules_.DeadlineOf(flow));
}

void FlowTable::SetName(Flow& flow, FlowName name) {
  flow.name = std::make_unique<FlowName>(std::move(name));
  if (options_.naming != Naming::kOwn) Bump(stats_.unnamed, int64_t{-1});
}

void FlowTable::NameItself(Flow& flow) {
  const absl::Time start = absl::FromUnixNanos(flow.first_wall_ns);
  SetName(flow, {options_.name_flow(flow), absl::ToCivilDay(start, absl::UTCTimeZone())});
}

FlowTable::Kept FlowTable::Append(Flow& flow, const Packet& packet) {
  const ph_header_record& record = *packet.record;
  if (LinkTypeOf(record) != flow.link_type) {
    books_.Count(record.ifindex, record.direction, PH_LINK_MISMATCH);
    return Kept::kOtherLinkType;
  }
  const int64_t wall_ns = packet.time_ns() + suspended_ns_ + flow.wall_offset_ns;
  if (!flow.records.Append(encoder_.Encode(record, wall_ns, flow.disguise()), pool_)) {
    books_.Count(record.ifindex, record.direction, PH_MEMORY_LIMIT);
    return Kept::kNoMemory;
  }
  flow.packets.Add(record.ifindex, record.direction);
  flow.wire_bytes += record.wire_len;
  flow.last_ns = std::max(flow.last_ns, packet.time_ns());
  flow.syns.Note(packet);
  flow.fin[record.direction] |= packet.Is(PH_TCP_FIN);
  flow.reset |= packet.Is(PH_TCP_RST);
  flow.reset_by_host |= packet.Is(PH_TCP_RST) && packet.cookie() != 0;
  // RSTs of closed ports and SYN cookies have no socket either, and are the host's own.
  flow.foreign |=
      packet.egress() && packet.cookie() == 0 && !packet.Is(PH_TCP_RST) && !packet.IsSynAck();
  return Kept::kYes;
}

// The SYN was of no new connection: on the wire it belongs to this one.
void FlowTable::MergeSuccessor(Flow& flow) {
  const std::unique_ptr<Flow> successor = flow.TakeSuccessor();
  if (successor == nullptr) return;
  flow.records.Splice(std::move(successor->records));
  flow.packets.Add(successor->packets);
  flow.wire_bytes += successor->wire_bytes;
  budget_.Release(flow_bytes_);
}

void FlowTable::Submit(Flow& flow, std::optional<FlowEnd> end) {
  if (flow.name == nullptr) NameItself(flow);
  FileJob job;
  job.flow_id = flow.id;
  job.uuid = flow.name->uuid;
  job.date = flow.name->date;
  job.link_type = flow.link_type;
  const bool becomes_large = !end && !options_.stream && !flow.has_large_file &&
                             flow.records.chunk_bytes() >= kLargeJobBytes;
  flow.has_large_file |= becomes_large;
  job.large = flow.has_large_file;
  job.key = flow.shown_key();
  job.records = std::move(flow.records);
  job.first = !flow.has_file;
  job.last = end.has_value();
  if (end) {
    job.end = *end;
    job.packets = std::move(flow.packets);
    job.ended_ns = latest_ns_;
  } else if (job.first) {
    flow.has_file = true;
    budget_.Reserve(kOpenFileBytes);
  }
  if (becomes_large) budget_.Reserve(kHeldBytes);
  ++jobs_outstanding_;
  budget_.Reserve(kFileJobBytes);
  submit_(std::move(job));
}

void FlowTable::Finish(Flow& flow, FlowEnd end, Afterwards afterwards, ph_counter later_reason) {
  MergeSuccessor(flow);
  const uint64_t packets = flow.packets.total();
  // What a socket says after its end an ended flow catches. That the other side sent a RST is no
  // end: it may be forged. That a socket is an owner may be told after its end.
  const bool is_over = flow.closed_by_host() && options_.ownership != Ownership::kAnnounced;
  if (flow.cookie != 0 && !is_over) finished_.Add(flow.cookie);
  if (options_.naming == Naming::kAnnounced && flow.name == nullptr) {
    Bump(stats_.unannounced);
    books_.Count(flow.packets, PH_UNANNOUNCED);
    pool_.Free(std::move(flow.records));
    later_reason = PH_UNANNOUNCED;
  } else if (packets > 0) {
    if (flow.reset) end = FlowEnd::kRst;
    if (flow.fin[PH_INGRESS] && flow.fin[PH_EGRESS]) end = FlowEnd::kFin;
    Submit(flow, end);
  }
  if (rules_.IsWaitingForName(flow)) Bump(stats_.unnamed, int64_t{-1});
  limit_.Leave();
  Bump(stats_.captures_finished);
  stats_.duration_ns.Add(flow.last_ns - flow.first_ns);
  stats_.packets.Add(packets);
  stats_.bytes.Add(flow.wire_bytes);
  Retire(flow, later_reason, afterwards);
}

void FlowTable::Drop(Flow& flow, ph_counter reason, Afterwards afterwards) {
  books_.Count(flow.packets, reason);
  embryonic_bytes_ -= BytesOf(flow);
  pool_.Free(std::move(flow.records));
  Retire(flow, reason, afterwards);
}

void FlowTable::Retire(Flow& flow, ph_counter later_reason, Afterwards afterwards) {
  std::unique_ptr<EndedFlow> ended;
  if (afterwards != Afterwards::kForget) {
    ended = std::make_unique<EndedFlow>(flow.key, flow.hash, later_reason);
    ended->cookie = flow.cookie;
    ended->syns = flow.syns;
    // An open socket may speak again at any time, a closed one for as long as TIME-WAIT lasts.
    if (flow.closed() || later_reason == rules_.UnownedReason()) {
      SetDeadline(*ended, flow.last_ns + kTimeWaitNs);
    }
  }
  Remove(flow);
  if (ended == nullptr) return;
  if (afterwards == Afterwards::kSettle) Settle(*ended, latest_ns_);
  InsertEnded(std::move(ended));
}

void FlowTable::SetDeadline(EndedFlow& flow, int64_t deadline_ns) {
  flow.deadline_ns = deadline_ns;
  timers_.Schedule(flow, deadline_ns);
}

void FlowTable::Settle(EndedFlow& flow, int64_t now_ns) {
  // Records that were on their way come for a moment; later ones tell that the kernel has
  // forgotten the flow, because it paused or a SYN passed.
  if (flow.settled_ns != 0 && now_ns - flow.settled_ns < kSettledAgainNs) return;
  flow.settled_ns = now_ns;
  kernel_.Settle(flow.key, flow.cookie != 0);
}

void FlowTable::Remove(FlowEntry& entry) {
  if (walk_ == &entry) walk_ = capturing_.Next(entry);
  entries_.erase(&entry);
  Bump(CountOf(stats_, entry.state), int64_t{-1});
  if (entry.state == FlowState::kEnded) {
    budget_.Release(sizeof(EndedFlow));
    delete static_cast<EndedFlow*>(&entry);
  } else {
    budget_.Release(flow_bytes_);
    delete static_cast<Flow*>(&entry);
  }
}

void FlowTable::Advance(int64_t now_ns) {
  latest_ns_ = std::max(latest_ns_, now_ns);
  timers_.Advance(now_ns, [this, now_ns](TimerNode& timer) {
    OnTimer(static_cast<FlowEntry&>(timer), now_ns);
  });
  while (const auto oldest = syns_.Oldest()) {
    const int64_t age_ns = now_ns - oldest->time_ns;
    if (age_ns < options_.flow_timeout_ns && age_ns > kLeastAgeNs) break;
    if (oldest->part == SynCache::Part::kSyn) Bump(stats_.expired);
    DropOldestSyn(*oldest, PH_INCOMPLETE_HANDSHAKE);
  }
  stats_.mapped_bytes.store(pool_.mapped_bytes(), std::memory_order_relaxed);
  stats_.idle_bytes.store(pool_.idle_bytes(), std::memory_order_relaxed);
}

void FlowTable::OnTimer(FlowEntry& entry, int64_t now_ns) {
  if (entry.state == FlowState::kEnded) {
    auto& ended = static_cast<EndedFlow&>(entry);
    if (ended.deadline_ns > now_ns) {
      timers_.Schedule(ended, ended.deadline_ns);
    } else {
      Remove(ended);
    }
    return;
  }
  Flow& flow = static_cast<Flow&>(entry);
  const bool has_waited = now_ns - flow.first_ns >= options_.uuid_wait_ns;
  if (flow.state == FlowState::kCapturing && rules_.IsWaitingForName(flow) && has_waited &&
      options_.naming == Naming::kAnnouncedOrOwn) {
    NameItself(flow);
  }
  // Packets have moved the deadline since the timer was set, or it was beyond the wheel's span.
  const int64_t deadline_ns = rules_.DeadlineOf(flow);
  if (deadline_ns > now_ns) {
    timers_.Schedule(flow, deadline_ns);
    return;
  }
  Bump(stats_.expired);
  const bool still_sending = !flow.closed() && now_ns - flow.last_ns < kLingerNs;
  if (flow.state == FlowState::kCapturing) {
    const bool was_long = now_ns - flow.first_ns >= options_.capture_duration_ns;
    Finish(flow, was_long ? FlowEnd::kDuration : FlowEnd::kIdle,
           still_sending ? Afterwards::kSettle : Afterwards::kRemember);
  } else {
    // One that keeps sending must not begin again every few seconds; a SYN that is sent again may.
    const bool goes_on = !flow.syns.AnySeen() && flow.packets.total() >= kLaterPacketsToSettle;
    Drop(flow, rules_.ReasonToDrop(flow), goes_on ? Afterwards::kRemember : Afterwards::kForget);
  }
}

void FlowTable::EvictEmbryonic() {
  // A quarter of the memory is for attempts of which there is more.
  while (syns_.bytes() > options_.max_embryonic_bytes / 4 * 3) {
    const auto syn = syns_.Oldest();
    if (!syn) break;
    DropOldestSyn(*syn, PH_EVICTED);
  }
  while (stats_.embryonic.load(std::memory_order_relaxed) > options_.max_embryonic_flows ||
         embryonic_bytes_ + syns_.bytes() > options_.max_embryonic_bytes) {
    const auto syn = syns_.Oldest();
    AgeNode* oldest = embryonic_.front();
    if (syn && (oldest == nullptr || syn->time_ns <= static_cast<const Flow*>(oldest)->first_ns)) {
      DropOldestSyn(*syn, PH_EVICTED);
      continue;
    }
    if (oldest == nullptr) oldest = requested_.front();
    if (oldest == nullptr) return;
    Drop(*static_cast<Flow*>(oldest), PH_EVICTED, Afterwards::kForget);
  }
}

void FlowTable::DropOldestSyn(const SynCache::About& oldest, ph_counter reason) {
  books_.Count(oldest.ifindex, oldest.direction, reason);
  if (oldest.part == SynCache::Part::kSyn) Bump(stats_.embryonic, int64_t{-1});
  syns_.RemoveOldest();
}

void FlowTable::FlushStreams() {
  capturing_.ForEach([this](AgeNode& node) {
    Flow& flow = static_cast<Flow&>(node);
    if (!flow.records.empty() && !rules_.IsWaitingForName(flow)) Submit(flow, std::nullopt);
  });
}

bool FlowTable::WalkOn(size_t most, absl::FunctionRef<bool(const Flow&)> use) {
  for (; walk_ != nullptr && most > 0; --most) {
    const Flow& flow = *static_cast<const Flow*>(walk_);
    walk_ = capturing_.Next(flow);
    if (!use(flow)) break;
  }
  return walk_ != nullptr;
}

std::string FlowTable::UuidOf(const Flow& flow) const {
  if (flow.name != nullptr) return flow.name->uuid;
  return rules_.IsWaitingForName(flow) ? "" : options_.name_flow(flow);
}

void FlowTable::OnJobDone(FileJob job) {
  --jobs_outstanding_;
  budget_.Release(kFileJobBytes);
  if (job.last && !job.first) budget_.Release(kOpenFileBytes);
  if (job.last && job.large) budget_.Release(kHeldBytes);
  pool_.Free(std::move(job.records));
  if (job.last) books_.Count(job.packets, job.saved ? PH_SAVED : PH_WRITE_ERROR);
}

void FlowTable::FinishAll() {
  while (const auto oldest = syns_.Oldest()) {
    DropOldestSyn(*oldest, PH_INCOMPLETE_HANDSHAKE);
  }
  embryonic_.Splice(requested_);
  while (AgeNode* oldest = embryonic_.front()) {
    Flow& flow = *static_cast<Flow*>(oldest);
    Drop(flow, rules_.ReasonToDrop(flow), Afterwards::kForget);
  }
  while (AgeNode* oldest = capturing_.front()) {
    Finish(*static_cast<Flow*>(oldest), FlowEnd::kShutdown, Afterwards::kForget);
  }
}

}  // namespace packet_headers
