// What the packets of a flow say of its connection.

#ifndef PACKET_HEADERS_USER_OUTPUT_FLOW_SUMMARY_H_
#define PACKET_HEADERS_USER_OUTPUT_FLOW_SUMMARY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/parse.h"
#include "user/output/pcap.h"

namespace packet_headers {

// What one end of a connection sent. Lengths in sequence numbers count each byte of payload, the
// SYN and the FIN as one (RFC 9293, 3.4).
class SentSummary {
 public:
  // What of a segment matters here.
  struct Segment {
    uint32_t seq;
    uint32_t payload_bytes;
    uint8_t flags;  // PH_TCP_*
  };

  // Notes where a segment lies among those before.
  void Place(const Segment& segment);

  // Notes that the other end has everything before `seq`.
  void Acknowledge(uint32_t seq);

  uint64_t wire_bytes = 0;
  uint64_t payload_bytes = 0;
  uint64_t repeated_bytes = 0;  // sequence numbers that were in a segment before
  uint64_t unseen_bytes = 0;    // sequence numbers that were passed over, or acknowledged unseen
  uint32_t retransmitted = 0;   // segments that hold nothing but what was in segments before
  uint32_t out_of_order = 0;    // segments that hold what was passed over
  uint32_t aggregates = 0;      // segments that are larger than the other end would take

  // Of the first SYN.
  std::optional<uint32_t> first_seq;
  uint16_t mss = 0;                     // 0: it named none
  std::optional<uint8_t> window_scale;  // RFC 7323
  bool sack_permitted = false;

 private:
  // From a sequence number to another.
  struct Gap {
    uint32_t begin;
    uint32_t end;
  };
  // Further ones push out the oldest, which stay unseen.
  static constexpr size_t kMostGaps = 8;

  void AddGap(Gap gap);
  // Closes what of gaps lies in `sent`, and returns how much that is.
  uint32_t Fill(Gap sent);

  std::optional<uint32_t> next_seq_;      // behind the highest that was sent
  std::array<Gap, kMostGaps> gaps_ = {};  // the oldest first
  size_t gap_count_ = 0;
};

// Follows a flow in the records of its file. Small, and copied to be able to go back.
class FlowSummary {
 public:
  // Takes the next records of the file, which are whole and in order. `key` is that of the flow as
  // the records show it. Of a packet that was cut before the end of its fixed TCP header only the
  // time is taken. Where the ends of `key` can't be told apart, the local one is taken to send all.
  void Add(absl::string_view records, LinkType link_type, const ph_flow_key& key);

  bool empty() const { return first_ns_ < 0; }
  // Since the Unix epoch.
  int64_t first_ns() const { return first_ns_; }
  int64_t last_ns() const { return last_ns_; }

  // What the local end sent (PH_EGRESS), or the remote one.
  const SentSummary& sent(int direction) const { return sent_[direction]; }

  // The direction of the first SYN that answers none.
  std::optional<int> opener() const;
  // From the SYN to the SYN-ACK; none if the SYN was sent again, since it can't be told which one
  // was answered (RFC 6298, 3).
  std::optional<int64_t> syn_to_synack_ns() const;
  // From the first SYN to the segment that acknowledges the SYN-ACK.
  std::optional<int64_t> handshake_ns() const;
  // Whether both ends speak of congestion with each other (RFC 3168, 6.1.1); none without SYN and
  // SYN-ACK.
  std::optional<bool> ecn() const;

 private:
  enum class Handshake : uint8_t { kNothing, kSyn, kSynAck, kDone };

  // Of the segment that came at last_ns_.
  void FollowHandshake(int direction, const SentSummary::Segment& segment, uint32_t ack);

  int64_t first_ns_ = -1;  // no record came yet
  int64_t last_ns_ = 0;
  std::array<SentSummary, PH_DIRECTIONS> sent_;
  Handshake handshake_ = Handshake::kNothing;
  uint8_t opener_ = 0;
  bool syn_was_repeated_ = false;
  bool ecn_was_offered_ = false;
  bool ecn_was_taken_ = false;
  int64_t syn_ns_ = 0;
  int64_t synack_ns_ = 0;
  int64_t established_ns_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_FLOW_SUMMARY_H_
