#include "user/flow/flow_rules.h"

#include <algorithm>

namespace packet_headers {

bool FlowRules::ShowsOwner(const Flow& flow, const Packet& packet) const {
  switch (options_.ownership) {
    case Ownership::kNone:
      return true;
    case Ownership::kHandshake:
      return !packet.Is(PH_TCP_SYN) && flow.syns.AreTakenUpBy(packet);
    default:
      // The request has become a socket, with the same cookie.
      return flow.cookie != 0 && !packet.egress() && packet.Is(PH_TCP_ACK) &&
             !packet.Is(PH_TCP_SYN | PH_TCP_RST) && flow.syns.Include(PH_EGRESS, packet.ack - 1);
  }
}

bool FlowRules::IsOfOtherSocket(const Flow& flow, const Packet& packet) const {
  const bool tells_all = options_.ownership == Ownership::kSocket;
  return (!tells_all && flow.successor() != nullptr &&
          flow.successor()->syns.AreTakenUpBy(packet)) ||
         (knows_sockets() && IsFromOtherSocket(flow.cookie, packet));
}

bool FlowRules::IsFromOtherSocket(uint64_t cookie, const Packet& packet) const {
  // A SYN-ACK without a socket is a SYN cookie, where it would have had its own.
  const bool tells =
      packet.cookie() != 0 || (packet.IsSynAck() && options_.ownership == Ownership::kSocket);
  return packet.egress() && packet.cookie() != cookie && tells;
}

bool FlowRules::IsOfSameSocket(const Flow& flow, const Packet& packet) const {
  if (!knows_sockets()) {
    return flow.successor() != nullptr && !flow.successor()->syns.seen[packet.direction()];
  }
  return packet.egress() && packet.cookie() == flow.cookie;
}

int64_t FlowRules::DeadlineOf(const Flow& flow) const {
  const int64_t idle = flow.last_ns + (flow.closed() ? kLingerNs : options_.flow_timeout_ns);
  if (flow.state == FlowState::kCapturing) {
    return IsWaitingForName(flow) ? flow.first_ns + options_.uuid_wait_ns
                                  : std::min(idle, flow.first_ns + options_.capture_duration_ns);
  }
  // Its owner may be announced as long as its name.
  if (options_.ownership == Ownership::kAnnounced && options_.naming != Naming::kOwn) {
    return std::max(idle, flow.first_ns + options_.uuid_wait_ns);
  }
  // A handshake may be slow; what began in the middle is named by the host's next packet.
  return flow.syns.AnySeen() ? idle : std::min(idle, flow.first_ns + options_.uuid_wait_ns);
}

ph_counter FlowRules::ReasonToDrop(const Flow& flow) const {
  const bool is_attempt =
      knows_sockets() ? flow.syns.seen[PH_INGRESS] && !flow.foreign : flow.syns.AnySeen();
  return is_attempt ? PH_INCOMPLETE_HANDSHAKE : UnownedReason();
}

}  // namespace packet_headers
