// One flow: a local socket's connection, or what may become one.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/civil_time.h"
#include "packet_headers/counters.h"
#include "packet_headers/flow_key.h"
#include "user/flow/intrusive_list.h"
#include "user/flow/packet.h"
#include "user/flow/timer_wheel.h"
#include "user/output/anonymize.h"
#include "user/output/chunk_pool.h"
#include "user/output/packet_counts.h"
#include "user/output/pcap.h"

namespace packet_headers {

enum class FlowState : uint8_t {
  kEmbryonic,  // no local socket is known to own it yet
  kCapturing,  // owned and named; its headers are being kept
  kEnded,      // its capture is over; remembered so that nobody begins it again
};

// The SYNs of a connection, by the direction they went.
struct Syns {
  bool AnySeen() const { return seen[PH_INGRESS] || seen[PH_EGRESS]; }

  // Whether a SYN with this number was seen already.
  bool Include(int direction, uint32_t number) const {
    return seen[direction] && number == seq[direction];
  }

  // Whether a SYN begins another connection: not when it is retransmitted, and not when it crosses
  // the SYN of the other side (RFC 9293, 3.5).
  bool AreOlderThan(int direction, uint32_t number) const {
    return seen[direction] ? number != seq[direction] : !seen[1 - direction];
  }

  // Whether a segment takes up one of them: it acknowledges the SYN of the other side, or goes on
  // behind that of its own. Not far behind, for it may be of the tuple's connection before.
  bool AreTakenUpBy(const Packet& packet) const {
    const auto is_near = [this](int direction, uint32_t number) {
      return seen[direction] && number - seq[direction] - 1 < kNearBytes;
    };
    return packet.Is(PH_TCP_ACK) && !packet.Is(PH_TCP_RST) &&
           (is_near(1 - packet.direction(), packet.ack) ||
            (!packet.Is(PH_TCP_SYN) && is_near(packet.direction(), packet.seq)));
  }

  void Note(const Packet& packet) {
    if (!packet.Is(PH_TCP_SYN)) return;
    seen[packet.direction()] = true;
    seq[packet.direction()] = packet.seq;
  }

  static constexpr uint32_t kNearBytes = 1 << 16;  // what may go with a SYN (RFC 7413) or get lost

  uint32_t seq[PH_DIRECTIONS] = {};  // initial sequence numbers
  bool seen[PH_DIRECTIONS] = {};
};

struct FlowName {
  std::string uuid;     // valid (IsValidUuid)
  absl::CivilDay date;  // of the folder
};

// An entry's place among those of its state, in the order in which they came to it.
class AgeNode : public ListNode {};

// What the table keeps of a 4-tuple in any state.
struct FlowEntry : TimerNode, AgeNode {
  FlowEntry(const ph_flow_key& flow_key, uint32_t flow_hash, FlowState flow_state)
      : key(flow_key), hash(flow_hash), state(flow_state) {}

  ph_flow_key key;
  uint32_t hash;
  // Of the owning socket; of an embryonic flow the one that its SYN-ACK carried; 0: unknown.
  uint64_t cookie = 0;
  [[no_unique_address]] Syns syns;
  FlowState state;
};

struct Flow;

// What most flows have only where addresses are hidden.
struct FlowExtras {
  std::optional<Disguise> disguise;
  // Of a capturing flow: a SYN that is either a new connection on the tuple or, from whoever
  // guessed the tuple, nothing (RFC 5961, 4.2). What the other side says next tells.
  std::unique_ptr<Flow> successor;
};

// Of a million open flows each byte is a megabyte, and each cache line a wait: the members stand
// where they leave no gap.
struct Flow : FlowEntry {
  using FlowEntry::FlowEntry;

  // Whether nothing but stragglers is expected.
  bool closed() const { return reset || (fin[PH_INGRESS] && fin[PH_EGRESS]); }

  // Whether the local socket is at its end, whatever may be forged.
  bool closed_by_host() const { return reset_by_host || (fin[PH_INGRESS] && fin[PH_EGRESS]); }

  // The handshake goes on: what seemed an end was of another socket.
  void Reopen() { reset = reset_by_host = fin[PH_INGRESS] = fin[PH_EGRESS] = false; }

  // As files and others show it.
  const ph_flow_key& shown_key() const { return disguise() == nullptr ? key : disguise()->key; }

  // Null: nothing of it is hidden.
  const Disguise* disguise() const {
    return extras == nullptr || !extras->disguise ? nullptr : &*extras->disguise;
  }
  // Null: none.
  Flow* successor() const { return extras == nullptr ? nullptr : extras->successor.get(); }

  FlowExtras& MutableExtras() {
    if (extras == nullptr) extras = std::make_unique<FlowExtras>();
    return *extras;
  }

  // Null: none.
  std::unique_ptr<Flow> TakeSuccessor() {
    if (successor() == nullptr) return nullptr;
    std::unique_ptr<Flow> taken = std::move(extras->successor);
    if (!extras->disguise) extras = nullptr;
    return taken;
  }

  bool fin[PH_DIRECTIONS] = {};
  bool reset = false;
  bool reset_by_host = false;  // by the owning socket
  bool foreign = false;        // the host sent of it what no local socket had made
  uint64_t id = 0;             // of a capturing flow: higher than those of the shard before it
  int64_t first_ns = 0;        // monotonic time of the first packet
  int64_t last_ns = 0;         // and of the latest
  int64_t first_wall_ns = 0;
  // From CLOCK_BOOTTIME to wall time; fixed, so a stepped clock moves no packet.
  int64_t wall_offset_ns = 0;
  [[no_unique_address]] ChunkList records;  // in pcap format
  LinkType link_type = LinkType::kEthernet;
  bool has_file = false;               // which some of its records went to
  bool has_large_file = false;         // which many did
  PacketCounts packets;                // in `records` and in what was streamed to the file before
  uint64_t wire_bytes = 0;             // of its packets as the hooks saw them
  std::unique_ptr<FlowName> name;      // null: not decided yet
  std::unique_ptr<FlowExtras> extras;  // null: as if both of them were
};
static_assert(sizeof(Flow) <= 200);

struct EndedFlow : FlowEntry {
  EndedFlow(const ph_flow_key& flow_key, uint32_t flow_hash, ph_counter later_reason)
      : FlowEntry(flow_key, flow_hash, FlowState::kEnded), reason(later_reason) {}

  ph_counter reason;  // under which its later packets are counted
  uint32_t later_packets = 0;
  int64_t settled_ns = 0;   // when the kernel was told last; 0: never
  int64_t deadline_ns = 0;  // of its timer; 0: it has none
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_H_
