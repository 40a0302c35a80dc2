// The flows of one shard: from header records to file jobs.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_TABLE_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_TABLE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "user/base/histogram.h"
#include "user/flow/announcements.h"
#include "user/flow/books.h"
#include "user/flow/flow.h"
#include "user/flow/flow_rules.h"
#include "user/flow/local_addresses.h"
#include "user/flow/packet.h"
#include "user/flow/recent_cookies.h"
#include "user/flow/record_source.h"
#include "user/flow/syn_cache.h"
#include "user/flow/timer_wheel.h"
#include "user/output/chunk_pool.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"
#include "user/output/record_encoder.h"

namespace packet_headers {

// Linux keeps a socket in TIME-WAIT this long (TCP_TIMEWAIT_LEN); it may still answer.
inline constexpr int64_t kTimeWaitNs = 60'000'000'000;

// An owned flow is named by the host's first answer; one that isn't by then is nobody's.
inline constexpr uint32_t kMaxUnnamedPackets = 256;

// From so many packets after its end on, a flow is worth an entry in the kernel.
inline constexpr uint32_t kLaterPacketsToSettle = 4;

// So long after it was settled no record of a flow can be on its way any more.
inline constexpr int64_t kSettledAgainNs = 1'000'000'000;

// How many flows all shards may capture at once. Thread-safe.
class FlowLimit {
 public:
  explicit FlowLimit(int64_t most) : most_(most) {}  // 0: any number

  bool TryEnter() {
    if (flows_.fetch_add(1, std::memory_order_relaxed) < most_ || most_ == 0) return true;
    Leave();
    return false;
  }
  void Leave() { flows_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  const int64_t most_;
  std::atomic<int64_t> flows_{0};
};

// What a shard tells the source of its records.
class KernelFlows {
 public:
  virtual ~KernelFlows() = default;

  // No more records of the flow are wanted, until a SYN begins it anew. Those that no local socket
  // owns leave room for the others.
  virtual void Settle(const ph_flow_key& key, bool is_owned) = 0;

  // They are wanted again.
  virtual void Unsettle(const ph_flow_key& key) = 0;
};

// Of seconds and their parts, in ns.
inline constexpr int64_t kFlowDurationBounds[] = {
    1'000'000,       10'000'000,      100'000'000,       1'000'000'000,    2'000'000'000,
    5'000'000'000,   10'000'000'000,  30'000'000'000,    60'000'000'000,   120'000'000'000,
    300'000'000'000, 600'000'000'000, 1'800'000'000'000, 3'600'000'000'000};
inline constexpr int64_t kFlowPacketsBounds[] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1'000, 2'000, 5'000, 10'000, 50'000, 100'000, 1'000'000};
inline constexpr int64_t kFlowBytesBounds[] = {
    100,        1'000,       10'000,        100'000,        1'000'000,
    10'000'000, 100'000'000, 1'000'000'000, 10'000'000'000, 100'000'000'000};

// Written by the shard's thread, read by any.
struct FlowStats {
  std::atomic<int64_t> embryonic{0};  // those in the SYN cache included
  std::atomic<int64_t> capturing{0};
  std::atomic<int64_t> unnamed{0};  // capturing, and waiting for an announcement
  std::atomic<int64_t> ended{0};
  std::atomic<uint64_t> captures_started{0};
  std::atomic<uint64_t> captures_finished{0};
  std::atomic<uint64_t> refused_by_limit{0};   // -maxflows
  std::atomic<uint64_t> refused_by_memory{0};  // -maxheap
  std::atomic<uint64_t> announced{0};          // flows that an announcement named
  std::atomic<uint64_t> unannounced{0};        // flows that no announcement came for in time
  std::atomic<uint64_t> expired{0};            // timers that ended a flow
  std::atomic<int64_t> mapped_bytes{0};        // of slabs
  std::atomic<int64_t> idle_bytes{0};          // of slabs that wait for reuse
  // Of flows whose capture is over: first to last packet, how many, and their bytes on the wire.
  Histogram duration_ns{kFlowDurationBounds};
  Histogram packets{kFlowPacketsBounds};
  Histogram bytes{kFlowBytesBounds};
};

// No thread, no clock, no file: one thread calls it, times are arguments (CLOCK_MONOTONIC in ns),
// finished flows go to `submit`.
class FlowTable {
 public:
  FlowTable(const FlowOptions& options, uint32_t shard, int64_t now_ns, MemoryBudget& budget,
            FlowLimit& limit, Books& books, FlowStats& stats, KernelFlows& kernel,
            std::function<void(FileJob)> submit);
  ~FlowTable();

  // What must be added to monotonic time to get wall time; for flows that begin from now on.
  void set_wall_offset_ns(int64_t offset_ns);
  int64_t wall_offset_ns() const { return wall_offset_ns_; }

  // How long the host was suspended, while monotonic time stood still: for packets that come from
  // now on. Within what readings of clocks differ by it stays as it is.
  void set_suspended_ns(int64_t suspended_ns);

  // Those that are not anonymised, for flows that begin from now on; without a call all are.
  void set_local_addresses(std::shared_ptr<const LocalAddresses> addresses) {
    local_addresses_ = std::move(addresses);
  }

  // A socket that opened. Where it belongs to no flow yet, it waits for one.
  void OnAnnouncement(KeyedAnnouncement keyed);

  // The owner of records that told none.
  void OnOwner(const FlowOwner& owner);

  // Records of the ring, which may hold anything.
  void OnRecords(absl::Span<const RecordBytes> records);

  // The latest time that a record or Advance() told of.
  int64_t latest_ns() const { return latest_ns_; }

  // Ends what has expired, once all records before `now_ns` have come.
  void Advance(int64_t now_ns);

  // With -stream: hands over what the open flows have.
  void FlushStreams();

  // A submitted job that came back.
  void OnJobDone(FileJob job);

  // Hands over every flow that has an owner and drops the others. Jobs may still come back.
  void FinishAll();

  // Looks at the capturing flows, oldest first, in any number of turns: each calls `use` with the
  // next ones until it returns false, `most` were looked at or no more are left. Whether some are
  // left. Between the turns flows come and go.
  void BeginWalk() { walk_ = capturing_.front(); }
  bool WalkOn(size_t most, absl::FunctionRef<bool(const Flow&)> use);

  // No flow's id is higher.
  uint64_t latest_id() const { return next_id_; }

  // The UUID of a capturing flow; empty while it waits for one.
  std::string UuidOf(const Flow& flow) const;

  // Submitted jobs that have not come back.
  int64_t jobs_outstanding() const { return jobs_outstanding_; }

 private:
  struct Tuple {
    const ph_flow_key& key;
    uint32_t flow_hash;
  };
  // Stands for the first entry that may have the hash.
  struct Hint {
    uint32_t flow_hash;
  };
  struct EntryHash {
    using is_transparent = void;
    size_t operator()(const FlowEntry* entry) const { return entry->hash; }
    size_t operator()(const Packet& packet) const { return packet.record->flow_hash; }
    size_t operator()(const Tuple& tuple) const { return tuple.flow_hash; }
    size_t operator()(Hint hint) const { return hint.flow_hash; }
  };
  struct EntryEqual {
    using is_transparent = void;
    bool operator()(const FlowEntry* a, const FlowEntry* b) const { return a == b; }
    bool operator()(const FlowEntry* a, const Packet& b) const;
    bool operator()(const FlowEntry* a, const Tuple& b) const;
    bool operator()(const FlowEntry*, Hint) const { return true; }
  };
  enum class Kept { kYes, kNoMemory, kOtherLinkType };
  enum class Afterwards { kForget, kRemember, kSettle };

  // The flow of the tuple, if it has not ended, or null.
  Flow* FindFlow(const ph_flow_key& key, uint32_t flow_hash);
  void Prefetch(absl::Span<const RecordBytes> records) const;
  void OnRecord(const RecordBytes& bytes);
  void Dispatch(const Packet& packet);
  void OnUnknown(const Packet& packet);
  bool Recall(const Packet& packet);
  void RecallAll();
  void KeepAttempt(const Packet& packet);
  void Begin(const Packet& packet);
  void BeginFlow(const Packet& packet);
  void RefuseForGood(const Packet& packet);
  void OnEmbryonic(Flow& flow, const Packet& packet);
  void OnCapturing(Flow& flow, const Packet& packet);
  void OnEnded(EndedFlow& flow, const Packet& packet);
  void NoteReplaced(const FlowEntry& flow, const Packet& syn);
  void OnNewSyn(Flow& flow, const Packet& packet);
  void OnOtherSocket(Flow& flow, const Packet& packet);

  // Null when the budget is exhausted.
  std::unique_ptr<Flow> NewFlow(const Packet& packet);
  int64_t BytesOf(const Flow& flow) const { return flow_bytes_ + flow.records.chunk_bytes(); }
  bool IsLocal(const uint8_t* address) const;
  void InsertEmbryonic(std::unique_ptr<Flow> flow);
  void InsertEnded(std::unique_ptr<EndedFlow> flow);
  // Makes an embryonic flow a capturing one; or refuses it, and drops it.
  bool Promote(Flow& flow, uint64_t cookie);
  // The same for the sake of a packet, which the flow gets.
  void PromoteWith(Flow& flow, uint64_t cookie, const Packet& packet);
  // The announcement that may be of the embryonic flow's owner, which no record tells. Or null.
  const Announcement* OwnerOf(const Flow& flow) const;
  // Takes an announcement of the flow for its name, if there is one.
  void TakeName(Flow& flow);
  void SetName(Flow& flow, FlowName name);
  void NameItself(Flow& flow);
  // Keeps the packet's headers and notes what they say of the connection, or counts why not.
  Kept Append(Flow& flow, const Packet& packet);
  // Hands over a capturing flow. One that was closed has ended by that, and not by `end`.
  void Finish(Flow& flow, FlowEnd end, Afterwards afterwards, ph_counter later_reason = PH_LATE);
  // Counts and forgets the packets of an embryonic flow.
  void Drop(Flow& flow, ph_counter reason, Afterwards afterwards);
  // Removes a live flow, and leaves what Afterwards says in its place.
  void Retire(Flow& flow, ph_counter later_reason, Afterwards afterwards);
  void SetDeadline(EndedFlow& flow, int64_t deadline_ns);
  void Settle(EndedFlow& flow, int64_t now_ns);
  void MergeSuccessor(Flow& flow);
  // Its records; those of a flow that ended are the last.
  void Submit(Flow& flow, std::optional<FlowEnd> end);
  void Remove(FlowEntry& entry);
  void OnTimer(FlowEntry& entry, int64_t now_ns);
  void EvictEmbryonic();
  // `oldest` is what syns_.Oldest() returned.
  void DropOldestSyn(const SynCache::About& oldest, ph_counter reason);

  const FlowOptions options_;
  const FlowRules rules_;
  const int64_t flow_bytes_;          // that a flow takes, its records apart
  const int64_t most_waiting_bytes_;  // of a flow's records in memory
  MemoryBudget& budget_;
  FlowLimit& limit_;
  Books& books_;
  FlowStats& stats_;
  KernelFlows& kernel_;
  const std::function<void(FileJob)> submit_;

  ChunkPool pool_;
  RecordEncoder encoder_;
  TimerWheel timers_;
  RecentCookies finished_;  // of open sockets whose capture is over or was refused
  RecentCookies replaced_;  // of flows on whose tuple the SYN of another socket came
  Announcements announcements_;
  SynCache syns_;
  IntrusiveList<AgeNode> embryonic_;
  IntrusiveList<AgeNode> requested_;  // embryonic, and the host keeps a request for its socket
  IntrusiveList<AgeNode> capturing_;
  IntrusiveList<AgeNode> ended_;                                    // until pushed out
  IntrusiveList<AgeNode> ended_timed_;                              // with a timer
  IntrusiveList<AgeNode> ended_strays_;                             // never owned
  absl::flat_hash_set<FlowEntry*, EntryHash, EntryEqual> entries_;  // owned
  AgeNode* walk_ = nullptr;      // the capturing flow that WalkOn() looks at next
  int64_t embryonic_bytes_ = 0;  // that embryonic flows take
  int64_t jobs_outstanding_ = 0;
  uint64_t next_id_;
  int64_t latest_ns_ = 0;
  int64_t wall_offset_ns_ = 0;
  int64_t suspended_ns_ = 0;
  std::shared_ptr<const LocalAddresses> local_addresses_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_TABLE_H_
