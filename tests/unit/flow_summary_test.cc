#include "user/output/flow_summary.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kStartNs = 1'700'000'000'000'000'000;
constexpr uint8_t kFin = PH_TCP_FIN | PH_TCP_ACK;
constexpr uint8_t kEcnSyn = PH_TCP_SYN | 0xc0;
constexpr uint8_t kEcnSynAck = PH_TCP_SYN | PH_TCP_ACK | 0x40;

// Records of one connection, each a millisecond after the one before, and what they come to.
class Trace {
 public:
  // IPv6 takes the same numbers of ports.
  explicit Trace(bool is_ipv6 = false, LinkType link_type = LinkType::kEthernet)
      : is_ipv6_(is_ipv6), link_type_(link_type) {}

  Packet Local() const { return From(kLocal, 443, kRemote, 50000); }
  Packet Remote() const { return From(kRemote, 50000, kLocal, 443); }

  // Cut after `most_bytes`, or where the headers end.
  Trace& Add(const Packet& packet, size_t most_bytes = 1 << 16) {
    const Bytes bytes = packet.bytes();
    const size_t captured = std::min(packet.header_length(), most_bytes);
    const int64_t time_ns = kStartNs + static_cast<int64_t>(records_.size()) * kMillisecond;
    std::string& record = records_.emplace_back(kPcapRecordHeaderBytes, '\0');
    PutPcapRecordHeader(time_ns, captured, bytes.size(), record.data());
    record.append(reinterpret_cast<const char*>(bytes.data()), captured);
    return *this;
  }

  // The sequence numbers 100, 900 and 101.
  Trace& Handshake() {
    return Add(Remote().Syn().Seq(100).RawTcpOptions({2, 4, 1000 >> 8, 1000 & 0xff}))
        .Add(Local().SynAck().Seq(900).Ack(101).RawTcpOptions(
            {2, 4, 1460 >> 8, 1460 & 0xff, 4, 2, 1, 3, 3, 7, 0, 9}))
        .Add(Remote().Seq(101).Ack(901));
  }

  FlowSummary Summary() const { return SummaryOf({absl::StrJoin(records_, "")}); }
  FlowSummary SummaryByRecord() const { return SummaryOf(records_); }
  SentSummary Sent() const { return Summary().sent(PH_EGRESS); }

 private:
  enum End { kLocal, kRemote };

  FlowSummary SummaryOf(const std::vector<std::string>& pieces) const {
    const ph_flow_key key = is_ipv6_ ? FlowKey("2001:db8::1", 443, "2001:db8::7", 50000)
                                     : FlowKey("192.0.2.1", 443, "198.51.100.7", 50000);
    FlowSummary summary;
    for (const std::string& piece : pieces) summary.Add(piece, link_type_, key);
    return summary;
  }

  Packet From(End source, uint16_t source_port, End destination, uint16_t destination_port) const {
    const auto address = [this](End end) {
      if (is_ipv6_) return end == kLocal ? "2001:db8::1" : "2001:db8::7";
      return end == kLocal ? "192.0.2.1" : "198.51.100.7";
    };
    Packet packet;
    if (link_type_ == LinkType::kEthernet) packet.Ethernet();
    if (is_ipv6_) {
      packet.Ipv6(address(source), address(destination));
    } else {
      packet.Ipv4(address(source), address(destination));
    }
    return packet.Tcp(source_port, destination_port).Ack(source == kLocal ? 101 : 901);
  }

  const bool is_ipv6_;
  const LinkType link_type_;
  std::vector<std::string> records_;
};

TEST_CASE("Each direction has its bytes, on any link and IP version", "[flow_summary]") {
  const bool is_ipv6 = GENERATE(false, true);
  const LinkType link_type = GENERATE(LinkType::kEthernet, LinkType::kRawIp);
  Trace trace(is_ipv6, link_type);
  trace.Handshake()
      .Add(trace.Local().Seq(901).Payload(1000).Pad(1200))  // of which padding is no payload
      .Add(trace.Remote().Seq(101).Ack(1901))
      .Add(trace.Remote().Seq(101).Ack(1901).Timestamps().Payload(7));
  const FlowSummary summary = trace.Summary();
  CHECK(summary.first_ns() == kStartNs);
  CHECK(summary.last_ns() == kStartNs + 5 * kMillisecond);
  const size_t bare = (link_type == LinkType::kEthernet ? 14 : 0) + (is_ipv6 ? 40 : 20) + 20;
  CHECK(summary.sent(PH_EGRESS).payload_bytes == 1000);
  CHECK(summary.sent(PH_INGRESS).payload_bytes == 7);
  CHECK(summary.sent(PH_EGRESS).wire_bytes == bare + 12 + 1200);
  CHECK(summary.sent(PH_INGRESS).wire_bytes == 4 * bare + 4 + 7 + 12);
  CHECK(summary.sent(PH_EGRESS).unseen_bytes == 0);
  CHECK(summary.sent(PH_INGRESS).unseen_bytes == 0);
}

TEST_CASE("Headers that are not at the usual place are found", "[flow_summary]") {
  Trace trace;
  trace.Handshake().Add(Packet()
                            .Ethernet()
                            .Vlan(7)
                            .Ipv4("192.0.2.1", "198.51.100.7")
                            .Ipv4Options(8)
                            .Tcp(443, 50000)
                            .Seq(901)
                            .Payload(11));
  CHECK(trace.Sent().payload_bytes == 11);
}

TEST_CASE("The handshake tells round trips and options", "[flow_summary]") {
  const FlowSummary summary = Trace().Handshake().Summary();
  CHECK(summary.opener() == PH_INGRESS);
  CHECK(summary.syn_to_synack_ns() == kMillisecond);
  CHECK(summary.handshake_ns() == 2 * kMillisecond);
  CHECK(summary.ecn() == false);
  const SentSummary& local = summary.sent(PH_EGRESS);
  CHECK(local.first_seq == 900);
  CHECK(local.mss == 1460);
  CHECK(local.window_scale == 7);
  CHECK(local.sack_permitted);
  const SentSummary& remote = summary.sent(PH_INGRESS);
  CHECK(remote.mss == 1000);
  CHECK(remote.window_scale == std::nullopt);
  CHECK_FALSE(remote.sack_permitted);
}

TEST_CASE("A SYN that was sent again tells no round trip", "[flow_summary]") {
  Trace trace;
  trace.Add(trace.Remote().Syn().Seq(100)).Handshake();
  const FlowSummary summary = trace.Summary();
  CHECK(summary.syn_to_synack_ns() == std::nullopt);
  CHECK(summary.handshake_ns() == 3 * kMillisecond);
  CHECK(summary.sent(PH_INGRESS).retransmitted == 1);
}

TEST_CASE("A handshake that is not whole tells what there is", "[flow_summary]") {
  Trace trace;
  CHECK(trace.Summary().opener() == std::nullopt);
  trace.Add(trace.Local().Syn().Seq(100));
  CHECK(trace.Summary().opener() == PH_EGRESS);
  CHECK(trace.Summary().ecn() == std::nullopt);
  trace.Add(trace.Remote().SynAck().Seq(900).Ack(77));  // of another connection
  CHECK(trace.Summary().syn_to_synack_ns() == std::nullopt);
  trace.Add(trace.Remote().SynAck().Seq(900).Ack(101));
  CHECK(trace.Summary().syn_to_synack_ns() == 2 * kMillisecond);
  trace.Add(trace.Local().Flags(PH_TCP_RST | PH_TCP_ACK).Seq(101).Ack(901));
  CHECK(trace.Summary().handshake_ns() == std::nullopt);
}

TEST_CASE("ECN needs both ends", "[flow_summary]") {
  Trace trace;
  trace.Add(trace.Local().Flags(kEcnSyn).Seq(100));
  SECTION("and has them") {
    trace.Add(trace.Remote().Flags(kEcnSynAck).Seq(900).Ack(101));
    CHECK(trace.Summary().ecn() == true);
  }
  SECTION("and one refuses") {
    trace.Add(trace.Remote().SynAck().Seq(900).Ack(101));
    CHECK(trace.Summary().ecn() == false);
  }
  SECTION("and one reflects what it does not know") {
    trace.Add(trace.Remote().Flags(kEcnSyn | PH_TCP_ACK).Seq(900).Ack(101));
    CHECK(trace.Summary().ecn() == false);
  }
}

TEST_CASE("Options that contradict themselves end the reading", "[flow_summary]") {
  const Bytes options = GENERATE(Bytes{2, 4, 5, 180, 3, 0, 4, 2}, Bytes{2, 4, 5, 180, 8, 9, 4, 2},
                                 Bytes{2, 4, 5, 180, 0, 4, 2, 0}, Bytes{2, 4, 5, 180, 1, 1, 1, 4});
  Trace trace;
  trace.Add(trace.Local().Syn().Seq(100).RawTcpOptions(options));
  CHECK(trace.Sent().mss == 1460);
  CHECK_FALSE(trace.Sent().sack_permitted);
}

TEST_CASE("What was sent before is a retransmission", "[flow_summary]") {
  Trace trace;
  trace.Handshake()
      .Add(trace.Local().Seq(901).Payload(1000))
      .Add(trace.Local().Seq(1901).Payload(1000));
  SECTION("of a segment") {
    trace.Add(trace.Local().Seq(901).Payload(1000)).Add(trace.Local().Seq(1901).Payload(500));
    CHECK(trace.Sent().retransmitted == 2);
    CHECK(trace.Sent().repeated_bytes == 1500);
  }
  SECTION("of parts of two") {
    trace.Add(trace.Local().Seq(1500).Payload(1000));
    CHECK(trace.Sent().retransmitted == 1);
    CHECK(trace.Sent().repeated_bytes == 1000);
  }
  SECTION("but not if it goes on, as aggregates do") {
    trace.Add(trace.Local().Seq(1901).Payload(3000)).Add(trace.Local().Seq(4901).Payload(1));
    CHECK(trace.Sent().retransmitted == 0);
    CHECK(trace.Sent().repeated_bytes == 1000);
  }
  SECTION("nor without payload") {
    trace.Add(trace.Local().Seq(1901)).Add(trace.Local().Seq(2900));
    CHECK(trace.Sent().retransmitted == 0);
  }
  SECTION("nor a keepalive, with a byte or without") {
    trace.Add(trace.Local().Seq(2900)).Add(trace.Local().Seq(2900).Payload(1));
    CHECK(trace.Sent().retransmitted == 0);
    CHECK(trace.Sent().repeated_bytes == 0);
  }
  SECTION("nor a RST") {
    trace.Add(trace.Local().Flags(PH_TCP_RST).Seq(901).Payload(5));
    CHECK(trace.Sent().retransmitted == 0);
  }
  SECTION("and a FIN is sent again like a byte") {
    trace.Add(trace.Local().Flags(kFin).Seq(2901)).Add(trace.Local().Flags(kFin).Seq(2901));
    CHECK(trace.Sent().retransmitted == 1);
    CHECK(trace.Sent().repeated_bytes == 1);
  }
  CHECK(trace.Sent().unseen_bytes == 0);
  CHECK(trace.Sent().out_of_order == 0);
}

TEST_CASE("What fills a gap is out of order, and what is left of it unseen", "[flow_summary]") {
  Trace trace;
  trace.Handshake().Add(trace.Local().Seq(1901).Payload(1000));
  CHECK(trace.Sent().unseen_bytes == 1000);
  SECTION("all of it") {
    trace.Add(trace.Local().Seq(901).Payload(1000));
    CHECK(trace.Sent().unseen_bytes == 0);
  }
  SECTION("from its middle") {
    trace.Add(trace.Local().Seq(1001).Payload(500));
    CHECK(trace.Sent().unseen_bytes == 500);
    CHECK(trace.Sent().out_of_order == 1);
    trace.Add(trace.Local().Seq(901).Payload(1000));
    CHECK(trace.Sent().unseen_bytes == 0);
    CHECK(trace.Sent().repeated_bytes == 500);
    trace.Add(trace.Local().Seq(901).Payload(1000));
    CHECK(trace.Sent().retransmitted == 1);
    return;
  }
  SECTION("and what comes behind") {
    trace.Add(trace.Local().Seq(901).Payload(3000));
    CHECK(trace.Sent().unseen_bytes == 0);
    CHECK(trace.Sent().repeated_bytes == 1000);
  }
  CHECK(trace.Sent().out_of_order == 1);
  CHECK(trace.Sent().retransmitted == 0);
}

TEST_CASE("What is acknowledged was sent, seen or not", "[flow_summary]") {
  Trace trace;
  trace.Handshake().Add(trace.Local().Seq(901).Payload(100)).Add(trace.Remote().Seq(101).Ack(1501));
  CHECK(trace.Sent().unseen_bytes == 500);
  SECTION("but not by a RST") {
    trace.Add(trace.Remote().Flags(PH_TCP_RST | PH_TCP_ACK).Seq(101).Ack(9999));
    CHECK(trace.Sent().unseen_bytes == 500);
  }
  SECTION("nor what no window can hold") {
    trace.Add(trace.Remote().Seq(101).Ack(901 + (1u << 31)))
        .Add(trace.Local().Seq(901 + (3u << 29)).Payload(10))
        .Add(trace.Local().Seq(1501 + (1u << 31)).Payload(10));
    CHECK(trace.Sent().unseen_bytes == 500);
  }
}

TEST_CASE("More gaps than are kept leave the oldest unseen", "[flow_summary]") {
  Trace trace;
  trace.Handshake();
  for (uint32_t i = 0; i < 10; ++i) trace.Add(trace.Local().Seq(901 + 20 * i + 10).Payload(10));
  CHECK(trace.Sent().unseen_bytes == 100);
  for (uint32_t i = 0; i < 10; ++i) trace.Add(trace.Local().Seq(901 + 20 * i).Payload(10));
  CHECK(trace.Sent().out_of_order == 8);
  CHECK(trace.Sent().retransmitted == 2);
  CHECK(trace.Sent().unseen_bytes == 20);
}

TEST_CASE("Sequence numbers wrap around", "[flow_summary]") {
  Trace trace;
  const uint32_t before = 0xffffff00;
  trace.Add(trace.Local().Syn().Seq(before - 1))
      .Add(trace.Local().Seq(before).Payload(0x200))
      .Add(trace.Local().Seq(0x300).Payload(0x100))
      .Add(trace.Local().Seq(before + 0x80).Payload(0x100));
  CHECK(trace.Sent().unseen_bytes == 0x200);
  CHECK(trace.Sent().retransmitted == 1);
}

TEST_CASE("A SYN of another connection moves nothing", "[flow_summary]") {
  Trace trace;
  trace.Handshake().Add(trace.Remote().Syn().Seq(1 << 20)).Add(trace.Remote().Seq(101).Payload(9));
  CHECK(trace.Summary().sent(PH_INGRESS).unseen_bytes == 0);
  CHECK(trace.Summary().sent(PH_INGRESS).retransmitted == 0);
}

TEST_CASE("What is larger than the other end takes is an aggregate", "[flow_summary]") {
  Trace trace;
  trace.Handshake()
      .Add(trace.Local().Seq(901).Payload(1000))
      .Add(trace.Local().Seq(1901).Payload(1001))
      .Add(trace.Remote().Seq(101).Payload(1460));
  CHECK(trace.Sent().aggregates == 1);
  CHECK(trace.Summary().sent(PH_INGRESS).aggregates == 0);
}

TEST_CASE("BIG TCP, whose IP length is zero, ends where the frame does", "[flow_summary]") {
  Trace trace;
  trace.Handshake().Add(trace.Local().Seq(901).Payload(70'000).LieIpLength(0));
  CHECK(trace.Sent().payload_bytes == 70'000);
}

TEST_CASE("Of headers that were cut, what is left is told", "[flow_summary]") {
  Trace trace;
  const auto syn = trace.Local().Syn().Seq(100).RawTcpOptions({2, 4, 5, 180, 3, 3, 7, 0});
  SECTION("in the options") {
    trace.Add(syn, 14 + 20 + 20 + 4);
    CHECK(trace.Sent().mss == 1460);
    CHECK(trace.Sent().window_scale == std::nullopt);
  }
  SECTION("before the end of TCP") {
    trace.Add(syn, 14 + 20 + 19).Add(trace.Local().Seq(101), 10);
    CHECK(trace.Sent().wire_bytes == 0);
    CHECK(trace.Summary().last_ns() == kStartNs + kMillisecond);
  }
}

TEST_CASE("Ports that are the same leave it to the addresses who sent", "[flow_summary]") {
  const Packet local = Packet().Ethernet().Ipv4("192.0.2.1", "192.0.2.2").Tcp(179, 179).Payload(5);
  FlowSummary summary;
  std::string record(kPcapRecordHeaderBytes, '\0');
  const Bytes bytes = local.bytes();
  PutPcapRecordHeader(kStartNs, local.header_length(), bytes.size(), record.data());
  record.append(reinterpret_cast<const char*>(bytes.data()), local.header_length());
  summary.Add(record, LinkType::kEthernet, FlowKey("192.0.2.2", 179, "192.0.2.1", 179));
  CHECK(summary.sent(PH_INGRESS).payload_bytes == 5);
  CHECK(summary.sent(PH_EGRESS).payload_bytes == 0);
}

TEST_CASE("It does not matter in how many parts the records come", "[flow_summary]") {
  Trace trace;
  trace.Handshake()
      .Add(trace.Local().Seq(911).Payload(10))
      .Add(trace.Local().Seq(911).Payload(10))
      .Add(trace.Local().Seq(901).Payload(5));
  const FlowSummary summary = trace.SummaryByRecord();
  CHECK(summary.first_ns() == kStartNs);
  CHECK(summary.handshake_ns() == 2 * kMillisecond);
  CHECK(summary.sent(PH_EGRESS).retransmitted == 1);
  CHECK(summary.sent(PH_EGRESS).unseen_bytes == 5);
  CHECK(summary.sent(PH_EGRESS).payload_bytes == trace.Sent().payload_bytes);
}

}  // namespace
}  // namespace packet_headers::testing
