#include "bench/record_stream.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <random>

#include "packet_headers/parse.h"
#include "tests/support/packet.h"
#include "user/flow/packet.h"
#include "user/flow_options.h"
#include "user/output/record_encoder.h"

namespace packet_headers {
namespace {

constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
constexpr size_t kStreamBytes = 32 << 20;
constexpr uint32_t kBurst = 32;
constexpr uint8_t kAck = PH_TCP_ACK;
constexpr uint8_t kSynAck = PH_TCP_SYN | PH_TCP_ACK;

}  // namespace

void Records::Add(const Segment& segment) {
  const Template& made_of = TemplateOf(segment);
  const size_t at = bytes_.size();
  const uint64_t size = made_of.record.size();
  bytes_.resize(at + sizeof(size) + size);
  std::memcpy(&bytes_[at], &size, sizeof(size));
  char* const begin = &bytes_[at + sizeof(size)];
  std::memcpy(begin, made_of.record.data(), size);

  ph_flow_key key = made_of.key;
  const uint32_t address_be = htonl(0x0a000000 | segment.flow >> 8);
  const uint16_t port_be = htons(static_cast<uint16_t>(20'000 + (segment.flow & 0xff)));
  std::memcpy(key.remote_addr + 12, &address_be, sizeof(address_be));
  key.remote_port_be = port_be;
  auto& record = *reinterpret_cast<ph_header_record*>(begin);
  const bool is_out = segment.direction == PH_EGRESS;
  uint8_t* const ip = record.headers + record.l3_offset;
  uint8_t* const tcp = record.headers + record.l4_offset;
  const uint32_t seq_be = htonl(segment.seq);
  const uint32_t ack_be = htonl(segment.ack);
  std::memcpy(ip + (is_out ? 16 : 12), &address_be, sizeof(address_be));
  std::memcpy(tcp + (is_out ? 2 : 0), &port_be, sizeof(port_be));
  std::memcpy(tcp + 4, &seq_be, sizeof(seq_be));
  std::memcpy(tcp + 8, &ack_be, sizeof(ack_be));
  tcp[13] = record.tcp_flags = segment.flags;
  record.flow_hash = ph_flow_hash(&key, &kSeed);
  record.socket_cookie = is_out ? segment.flow + 1 : 0;
  record.time_ns = static_cast<uint64_t>(time_ns_ += 100);
}

void Records::AddHandshake(uint32_t flow) {
  Add({flow, PH_INGRESS, PH_TCP_SYN, 100, 0});
  Add({flow, PH_EGRESS, kSynAck, 900, 101});
  Add({flow, PH_INGRESS, kAck, 101, 901});
}

size_t Records::Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) {
  std::array<RecordBytes, 32> batch;
  size_t records = 0;
  while (records < most && next_ < bytes_.size()) {
    size_t some = 0;
    for (; some < std::min(batch.size(), most - records) && next_ < bytes_.size(); ++some) {
      uint64_t size;
      std::memcpy(&size, &bytes_[next_], sizeof(size));
      batch[some] = {&bytes_[next_ + sizeof(size)], size};
      next_ += sizeof(size) + size;
    }
    use({batch.data(), some});
    records += some;
  }
  if (records == 0) next_ = 0;
  return records;
}

Records::Template Records::Make(ph_direction direction, bool is_syn) {
  const bool is_out = direction == PH_EGRESS;
  testing::Packet packet = testing::Packet().Ethernet();
  is_out ? packet.Ipv4("192.0.2.1", "10.0.0.0").Tcp(443, 1)
         : packet.Ipv4("10.0.0.0", "192.0.2.1").Tcp(1, 443);
  if (is_syn) {  // MSS, SACK, timestamps, window scale
    packet.RawTcpOptions({2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7});
  } else {
    packet.Timestamps().Payload(is_out ? 1448 : 0);
  }
  const testing::Bytes frame = packet.bytes();
  const size_t header_bytes = packet.header_length();
  const size_t room = ph_class_of(header_bytes);
  Template made = {packet.key(direction), std::vector<char>(sizeof(ph_header_record) + room)};
  auto& record = *reinterpret_cast<ph_header_record*>(made.record.data());
  record.ifindex = 2;
  record.wire_len = static_cast<uint32_t>(frame.size());
  record.header_len = static_cast<uint16_t>(header_bytes);
  record.l3_offset = static_cast<uint16_t>(packet.l3_offset());
  record.l4_offset = static_cast<uint16_t>(packet.l4_offset());
  record.direction = direction;
  record.link_layer = PH_LINK_ETHERNET;
  std::copy_n(frame.begin(), header_bytes, record.headers);
  return made;
}

const Records::Template& Records::TemplateOf(const Segment& segment) {
  static const Template templates[PH_DIRECTIONS][2] = {
      {Make(PH_INGRESS, false), Make(PH_INGRESS, true)},
      {Make(PH_EGRESS, false), Make(PH_EGRESS, true)},
  };
  return templates[segment.direction][(segment.flags & PH_TCP_SYN) != 0];
}

void FillStream(Records& records, uint32_t flows, Order order) {
  std::mt19937 random(1);
  for (uint32_t i = 0; records.bytes() < kStreamBytes; ++i) {
    const uint32_t flow = order == kRoundRobin ? i % flows
                          : order == kBursts   ? i / kBurst % flows
                                               : static_cast<uint32_t>(random() % flows);
    const ph_direction direction = random() % 2 == 0 ? PH_INGRESS : PH_EGRESS;
    const bool is_out = direction == PH_EGRESS;
    records.Add({flow, direction, kAck, is_out ? 901 + i : 101, is_out ? 101 : 901 + i});
  }
}

EncodedFlow EncodeFlow(size_t packets) {
  EncodedFlow flow = {};
  Records stream;
  FillStream(stream, 1, kRoundRobin);
  RecordEncoder encoder(static_cast<uint32_t>(Config().max_header_size));
  stream.Drain(packets, [&](absl::Span<const RecordBytes> some) {
    for (const RecordBytes& bytes : some) {
      const std::optional<Packet> packet = DecodeRecord(bytes.data, bytes.size);
      flow.key = packet->key;
      const absl::string_view encoded = encoder.Encode(*packet->record, packet->time_ns(), nullptr);
      flow.records.append(encoded.data(), encoded.size());
    }
  });
  return flow;
}

}  // namespace packet_headers
