#include "user/output/flow_summary.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <utility>

namespace packet_headers {
namespace {

constexpr uint8_t kEce = 0x40;
constexpr uint8_t kCwr = 0x80;

constexpr uint8_t kOptionEnd = 0;
constexpr uint8_t kOptionNop = 1;
constexpr uint8_t kOptionMss = 2;
constexpr uint8_t kOptionWindowScale = 3;
constexpr uint8_t kOptionSackPermitted = 4;

constexpr uint32_t kMostCapturedBytes = std::numeric_limits<uint32_t>::max();

// No window is larger (RFC 7323, 2.3): what is further off is of no use to the other end.
constexpr int32_t kMostAhead = 1 << 30;

// How far `a` is ahead of `b` in the order of sequence numbers (RFC 9293, 3.4).
int32_t Distance(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b); }

bool IsBefore(uint32_t a, uint32_t b) { return Distance(a, b) < 0; }

// As the hooks do: most frames are decided at offsets that the compiler knows. Whether the fixed
// part of the TCP header is there; options may be cut off.
__ph_inline bool Locate(ph_frame frame, ph_link_layer link_layer, ph_headers* headers) {
  frame.is_direct = 1;
  ph_counter result = ph_locate(frame, link_layer, headers);
  if (result == PH_UNDECIDED) {
    frame.is_direct = 0;
    result = ph_locate(frame, link_layer, headers);
  }
  return result == PH_CAPTURED || (result == PH_TRUNCATED && headers->length > 0);
}

uint16_t Read16(const uint8_t* at) {
  uint16_t value_be;
  std::memcpy(&value_be, at, sizeof(value_be));
  return ntohs(value_be);
}

// Where IP says the packet ends. With BIG TCP (RFC 2675) it doesn't.
uint32_t IpEnd(const uint8_t* frame, const ph_headers& headers, uint32_t wire_bytes) {
  const uint8_t* const ip = frame + headers.l3_offset;
  const uint32_t bytes = headers.is_ipv6 ? Read16(ip + offsetof(ipv6hdr, payload_len))
                                         : Read16(ip + offsetof(iphdr, tot_len));
  if (bytes == 0) return wire_bytes;
  return headers.l3_offset + (headers.is_ipv6 ? sizeof(ipv6hdr) : 0) + bytes;
}

bool IsSentByLocal(const uint8_t* frame, const ph_headers& headers, const ph_tcp& tcp,
                   const ph_flow_key& key) {
  if (key.local_port_be != key.remote_port_be) return tcp.source_port_be == key.local_port_be;
  const uint8_t* const ip = frame + headers.l3_offset;
  return headers.is_ipv6 ? std::memcmp(ip + offsetof(ipv6hdr, saddr), key.local_addr, 16) == 0
                         : std::memcmp(ip + offsetof(iphdr, saddr), key.local_addr + 12, 4) == 0;
}

void ReadSynOptions(const uint8_t* at, const uint8_t* end, SentSummary& sent) {
  while (at < end && *at != kOptionEnd) {
    if (*at == kOptionNop) {
      ++at;
      continue;
    }
    if (end - at < 2 || at[1] < 2 || at[1] > end - at) return;
    if (*at == kOptionMss && at[1] == 4) sent.mss = Read16(at + 2);
    if (*at == kOptionWindowScale && at[1] == 3) sent.window_scale = at[2];
    if (*at == kOptionSackPermitted) sent.sack_permitted = true;
    at += at[1];
  }
}

}  // namespace

void SentSummary::AddGap(Gap gap) {
  unseen_bytes += gap.end - gap.begin;
  if (gap_count_ == kMostGaps) {
    std::copy(gaps_.begin() + 1, gaps_.end(), gaps_.begin());
    --gap_count_;
  }
  gaps_[gap_count_++] = gap;
}

uint32_t SentSummary::Fill(Gap sent) {
  const uint64_t unseen_before = unseen_bytes;
  const std::array<Gap, kMostGaps> before = gaps_;
  const size_t count = std::exchange(gap_count_, 0);
  for (size_t i = 0; i < count; ++i) {
    const Gap gap = before[i];
    unseen_bytes -= gap.end - gap.begin;
    const Gap ahead = {gap.begin, IsBefore(sent.begin, gap.end) ? sent.begin : gap.end};
    const Gap behind = {IsBefore(gap.begin, sent.end) ? sent.end : gap.begin, gap.end};
    for (const Gap& rest : {ahead, behind}) {
      if (IsBefore(rest.begin, rest.end)) AddGap(rest);
    }
  }
  return static_cast<uint32_t>(unseen_before - unseen_bytes);
}

void SentSummary::Place(const Segment& segment) {
  const bool is_syn = (segment.flags & PH_TCP_SYN) != 0;
  const bool is_fin = (segment.flags & PH_TCP_FIN) != 0;
  const uint32_t bytes = segment.payload_bytes + is_syn + is_fin;
  if (bytes == 0 || (segment.flags & PH_TCP_RST) != 0) return;
  if (is_syn && first_seq != segment.seq) return;  // of no socket, or of another connection
  const uint32_t end = segment.seq + bytes;
  const int32_t ahead = next_seq_ ? Distance(segment.seq, *next_seq_) : 0;
  if (ahead > kMostAhead || ahead < -kMostAhead) return;
  if (ahead >= 0) {
    if (ahead > 0) AddGap({*next_seq_, segment.seq});
    next_seq_ = end;
    return;
  }
  // A keepalive repeats the last byte, or sends none in its place (RFC 9293, 3.8.4).
  if (ahead == -1 && !is_syn && !is_fin && bytes == 1) return;
  const bool goes_on = IsBefore(*next_seq_, end);
  const uint32_t repeated_end = goes_on ? *next_seq_ : end;
  const uint32_t filled = gap_count_ == 0 ? 0 : Fill({segment.seq, repeated_end});
  repeated_bytes += repeated_end - segment.seq - filled;
  out_of_order += filled > 0;
  retransmitted += filled == 0 && !goes_on;
  if (goes_on) next_seq_ = end;
}

void SentSummary::Acknowledge(uint32_t seq) {
  const int32_t ahead = next_seq_ ? Distance(seq, *next_seq_) : 0;
  if (ahead < 0 || ahead > kMostAhead) return;
  if (ahead > 0) AddGap({*next_seq_, seq});
  next_seq_ = seq;
}

void FlowSummary::Add(absl::string_view records, LinkType link_type, const ph_flow_key& key) {
  while (records.size() >= kPcapRecordHeaderBytes) {
    const auto record = GetPcapRecordHeader(records.data(), kMostCapturedBytes);
    if (!record) return;
    const auto* const bytes =
        reinterpret_cast<const uint8_t*>(records.data() + kPcapRecordHeaderBytes);
    records.remove_prefix(kPcapRecordHeaderBytes + record->captured_bytes);
    if (empty()) first_ns_ = record->time_ns;
    last_ns_ = record->time_ns;

    const ph_frame frame = {bytes, record->captured_bytes, 0};
    ph_headers headers = {};
    if (!(link_type == LinkType::kEthernet ? Locate(frame, PH_LINK_ETHERNET, &headers)
                                           : Locate(frame, PH_LINK_IP, &headers))) {
      continue;
    }
    ph_tcp tcp;
    std::memcpy(&tcp, bytes + headers.l4_offset, sizeof(tcp));
    const int direction = IsSentByLocal(bytes, headers, tcp, key) ? PH_EGRESS : PH_INGRESS;
    SentSummary& sent = sent_[direction];
    SentSummary& answered = sent_[1 - direction];
    const uint32_t end =
        std::min(IpEnd(bytes, headers, record->original_bytes), record->original_bytes);
    const SentSummary::Segment segment = {
        ntohl(tcp.sequence_be), end > headers.length ? end - headers.length : 0, tcp.flags};
    const uint32_t ack = ntohl(tcp.acknowledgment_be);
    const bool has_ack = (tcp.flags & (PH_TCP_ACK | PH_TCP_RST)) == PH_TCP_ACK;
    sent.wire_bytes += record->original_bytes;
    sent.payload_bytes += segment.payload_bytes;
    sent.aggregates += answered.mss != 0 && segment.payload_bytes > answered.mss;
    if ((tcp.flags & PH_TCP_SYN) != 0 && !sent.first_seq) {
      sent.first_seq = segment.seq;
      const uint8_t* const options = bytes + headers.l4_offset + sizeof(tcp);
      ReadSynOptions(options, bytes + std::min<size_t>(headers.length, record->captured_bytes),
                     sent);
    }
    if (handshake_ != Handshake::kDone) FollowHandshake(direction, segment, ack);
    sent.Place(segment);
    if (has_ack) answered.Acknowledge(ack);
  }
}

void FlowSummary::FollowHandshake(int direction, const SentSummary::Segment& segment,
                                  uint32_t ack) {
  const bool is_syn = (segment.flags & PH_TCP_SYN) != 0;
  const bool is_ack = (segment.flags & PH_TCP_ACK) != 0;
  const bool is_of_opener = direction == opener_;
  const std::optional<uint32_t>& answered = sent_[1 - direction].first_seq;
  switch (handshake_) {
    case Handshake::kNothing:
      if (!is_syn || is_ack) break;
      handshake_ = Handshake::kSyn;
      opener_ = static_cast<uint8_t>(direction);
      syn_ns_ = last_ns_;
      ecn_was_offered_ = (segment.flags & (kEce | kCwr)) == (kEce | kCwr);
      break;
    case Handshake::kSyn:
      syn_was_repeated_ |= is_syn && is_of_opener;
      if (!is_syn || !is_ack || is_of_opener || ack != *answered + 1) break;
      handshake_ = Handshake::kSynAck;
      synack_ns_ = last_ns_;
      ecn_was_taken_ = ecn_was_offered_ && (segment.flags & (kEce | kCwr)) == kEce;
      break;
    case Handshake::kSynAck:
      if (is_syn || !is_ack || !is_of_opener || (segment.flags & PH_TCP_RST) != 0 ||
          !IsBefore(*answered, ack)) {
        break;
      }
      handshake_ = Handshake::kDone;
      established_ns_ = last_ns_;
      break;
    case Handshake::kDone:
      break;
  }
}

std::optional<int> FlowSummary::opener() const {
  return handshake_ == Handshake::kNothing ? std::nullopt : std::optional<int>(opener_);
}

std::optional<int64_t> FlowSummary::syn_to_synack_ns() const {
  if (handshake_ < Handshake::kSynAck || syn_was_repeated_) return std::nullopt;
  return synack_ns_ - syn_ns_;
}

std::optional<int64_t> FlowSummary::handshake_ns() const {
  if (handshake_ != Handshake::kDone) return std::nullopt;
  return established_ns_ - syn_ns_;
}

std::optional<bool> FlowSummary::ecn() const {
  if (handshake_ < Handshake::kSynAck) return std::nullopt;
  return ecn_was_taken_;
}

}  // namespace packet_headers
