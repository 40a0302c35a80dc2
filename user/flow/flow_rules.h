// What flows are captured and for how long, and what packets tell of whose they are.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_RULES_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_RULES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "packet_headers/counters.h"
#include "user/flow/flow.h"
#include "user/flow/packet.h"
#include "user/output/anonymize.h"

namespace packet_headers {

// After its close a flow waits this long for stragglers: the last ACK, a retransmitted FIN.
inline constexpr int64_t kLingerNs = 2'000'000'000;

// What makes a flow one to capture.
enum class Ownership {
  kSocket,     // a local socket, whose cookie the records tell
  kAnnounced,  // that, or an announcement: for records that can't tell every cookie
  kHandshake,  // a handshake in it, whoever's: for what other hosts have captured
  kNone,       // that there is a packet of it
};

// Where the name of a flow comes from.
enum class Naming {
  kOwn,             // name_flow
  kAnnouncedOrOwn,  // an announcement that comes within uuid_wait, else name_flow
  kAnnounced,       // an announcement that comes within uuid_wait, else the flow is dropped
};

struct FlowOptions {
  Ownership ownership = Ownership::kSocket;
  Naming naming = Naming::kOwn;
  int64_t capture_duration_ns = 0;
  int64_t flow_timeout_ns = 0;
  int64_t uuid_wait_ns = 0;
  uint32_t max_header_bytes = 0;
  // Hides the addresses that are no local ones. Null: none is hidden.
  std::shared_ptr<const Anonymizer> anonymizer;
  bool stream = false;
  int64_t max_idle_bytes = 0;
  // In each shard; above them the oldest give way.
  int64_t max_embryonic_flows = 0;
  int64_t max_embryonic_bytes = 0;
  int64_t max_ended_flows = 0;
  int64_t max_recent_cookies = 0;
  int64_t max_announcements = 0;  // of which no flow is known yet
  // The UUID of a flow that nobody else has named.
  std::function<std::string(const Flow&)> name_flow;
};

// Decides, and changes nothing. Refers to the options.
class FlowRules {
 public:
  explicit FlowRules(const FlowOptions& options) : options_(options) {}

  // Whether packets can tell the local socket.
  bool knows_sockets() const { return options_.ownership <= Ownership::kAnnounced; }

  // Whether the packet is a SYN of a peer, behind which there may never come more.
  bool IsAttempt(const Packet& packet) const {
    return !packet.egress() && packet.IsSyn() && IsOfNoSocket(packet);
  }

  // Whether it is a SYN-ACK for which the host keeps nothing.
  bool IsSynCookie(const Packet& packet) const {
    return packet.egress() && packet.IsSynAck() && IsOfNoSocket(packet);
  }

  // Of an embryonic flow: whether the packet makes it one to capture, with the cookie that it has
  // by now.
  bool ShowsOwner(const Flow& flow, const Packet& packet) const;

  // Whether the packet is a SYN on the tuple of a live flow that is not the flow's own.
  static bool IsNewSyn(const Flow& flow, const Packet& packet) {
    return packet.IsSyn() && !flow.packets.empty() &&
           flow.syns.AreOlderThan(packet.direction(), packet.seq);
  }

  // Of an embryonic flow: whether the packet begins another attempt: by such a SYN, or by its own
  // after so long that the capture of the connection would be over at once.
  bool IsNewAttempt(const Flow& flow, const Packet& packet) const {
    return IsNewSyn(flow, packet) ||
           (packet.IsSyn() && packet.time_ns() - flow.first_ns > options_.capture_duration_ns);
  }

  // Behind a RST: whether the packet shows that it ended nothing (RFC 5961, 3.2).
  bool DisprovesReset(const Packet& packet) const {
    const bool goes_on = knows_sockets() ? packet.cookie() != 0 : packet.Is(PH_TCP_SYN);
    return goes_on && !packet.Is(PH_TCP_RST);
  }

  // Whether the packet shows that a capturing flow's tuple now has another connection, or that it
  // has not.
  bool IsOfOtherSocket(const Flow& flow, const Packet& packet) const;
  bool IsOfSameSocket(const Flow& flow, const Packet& packet) const;

  // Whether the packet was sent by another local socket than the one with the cookie.
  bool IsFromOtherSocket(uint64_t cookie, const Packet& packet) const;

  // Of a capturing flow: whether no file of it may be begun, since an announcement may yet come.
  bool IsWaitingForName(const Flow& flow) const {
    return options_.naming != Naming::kOwn && flow.name == nullptr;
  }

  // When a live flow ends unless packets come.
  int64_t DeadlineOf(const Flow& flow) const;

  // Why a flow that nobody turned out to own is dropped, and later packets of it are.
  ph_counter ReasonToDrop(const Flow& flow) const;
  ph_counter UnownedReason() const {
    return options_.ownership == Ownership::kHandshake ? PH_NO_HANDSHAKE : PH_UNOWNED;
  }

 private:
  // Whether the packet leaves open whose its connection is, and does not end it.
  bool IsOfNoSocket(const Packet& packet) const {
    return options_.ownership == Ownership::kSocket && packet.cookie() == 0 &&
           !packet.Is(PH_TCP_FIN | PH_TCP_RST);
  }

  const FlowOptions& options_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_RULES_H_
