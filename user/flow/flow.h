// One flow: a local socket's connection, or what may become one.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_H_

#include <cstdint>
#include <memory>

#include "packet_headers/counters.h"
#include "packet_headers/flow_key.h"
#include "user/flow/intrusive_list.h"
#include "user/flow/timer_wheel.h"
#include "user/output/chunk_pool.h"
#include "user/output/packet_counts.h"
#include "user/output/pcap.h"

namespace packet_headers {

enum class FlowState : uint8_t {
  kEmbryonic,  // no local socket is known to own it yet
  kCapturing,  // owned and named; its headers are being kept
  kEnded,      // its capture is over; remembered so that nobody begins it again
};

// An entry's place among those of its state, oldest first.
class AgeNode : public ListNode {};

// What the table keeps of a 4-tuple in any state.
struct FlowEntry : TimerNode, AgeNode {
  FlowEntry(const ph_flow_key& flow_key, uint32_t flow_hash, FlowState flow_state)
      : key(flow_key), hash(flow_hash), state(flow_state) {}

  // Whether a SYN with this number was seen already.
  bool KnowsSyn(int direction, uint32_t seq) const {
    return syn[direction] && seq == syn_seq[direction];
  }

  // Whether a SYN begins another connection: not when it is retransmitted, and not when it crosses
  // the SYN of the other side (RFC 9293, 3.5).
  bool IsNewSyn(int direction, uint32_t seq) const {
    return syn[direction] ? seq != syn_seq[direction] : !syn[1 - direction];
  }

  ph_flow_key key;
  uint32_t hash;
  FlowState state;
  uint32_t syn_seq[PH_DIRECTIONS] = {};  // initial sequence numbers, where a SYN was seen
  bool syn[PH_DIRECTIONS] = {};
  // Of the owning socket; of an embryonic flow the one that its SYN-ACK carried; 0: unknown.
  uint64_t cookie = 0;
};

struct Flow : FlowEntry {
  using FlowEntry::FlowEntry;

  // Whether nothing but stragglers is expected.
  bool closed() const { return reset || (fin[PH_INGRESS] && fin[PH_EGRESS]); }

  // Whether the local socket is at its end, whatever may be forged.
  bool closed_by_host() const { return reset_by_host || (fin[PH_INGRESS] && fin[PH_EGRESS]); }

  uint64_t id = 0;
  int64_t first_ns = 0;  // monotonic time of the first packet
  int64_t last_ns = 0;   // and of the latest
  int64_t wall_offset_ns =
      0;                 // what makes them wall time; fixed, so a stepped clock moves no packet
  ChunkList records;     // in pcap format
  PacketCounts packets;  // in `records` and in what was streamed to the file before
  uint32_t packet_count = 0;
  LinkType link_type = LinkType::kEthernet;
  bool fin[PH_DIRECTIONS] = {};
  bool reset = false;
  bool reset_by_host = false;  // by the owning socket
  bool foreign = false;        // the host sent of it what no local socket had made
  bool hide_remote = false;    // the remote address is to be anonymised

  // Of a capturing flow: an inbound SYN that is either a new connection on the tuple or, from
  // whoever guessed the tuple, nothing (RFC 5961, 4.2). The next packet of the host tells.
  std::unique_ptr<Flow> successor;
};

struct EndedFlow : FlowEntry {
  using FlowEntry::FlowEntry;

  ph_counter reason = PH_LATE;  // under which its later packets are counted
  uint32_t later_packets = 0;
  int64_t settled_ns = 0;  // when the kernel was told last; 0: never
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_H_
