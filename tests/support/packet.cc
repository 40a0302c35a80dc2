#include "tests/support/packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdlib>
#include <cstring>

namespace packet_headers::testing {
namespace {

constexpr size_t kIpv4HeaderBytes = 20;
constexpr size_t kIpv6HeaderBytes = 40;
constexpr size_t kTcpSeqAt = 4;
constexpr size_t kTcpAckAt = 8;
constexpr size_t kTcpFlagsAt = 13;

constexpr uint8_t kFlagSyn = 0x02;
constexpr uint8_t kFlagAck = 0x10;

void Put16(Bytes& frame, size_t at, size_t value) {
  frame[at] = static_cast<uint8_t>(value >> 8);
  frame[at + 1] = static_cast<uint8_t>(value);
}

void Put32(Bytes& frame, size_t at, uint32_t value) {
  Put16(frame, at, value >> 16);
  Put16(frame, at + 2, value);
}

Bytes Address(int family, const std::string& text) {
  Bytes address(family == AF_INET ? 4 : 16);
  if (inet_pton(family, text.c_str(), address.data()) != 1) std::abort();
  return address;
}

// The address as a flow key holds it.
void Map(const std::string& text, uint8_t* to) {
  const Bytes address = text.find(':') == std::string::npos ? Address(AF_INET6, "::ffff:" + text)
                                                            : Address(AF_INET6, text);
  std::memcpy(to, address.data(), address.size());
}

// The Internet checksum (RFC 1071) goes on from `sum`.
uint32_t Sum(const Bytes& bytes, size_t begin, size_t end, uint32_t sum) {
  for (size_t i = begin; i < end; i++) sum += (i - begin) % 2 == 0 ? bytes[i] << 8 : bytes[i];
  return sum;
}

uint16_t Fold(uint32_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace

ph_flow_key FlowKey(const std::string& local_address, uint16_t local_port,
                    const std::string& remote_address, uint16_t remote_port) {
  ph_flow_key key = {};
  Map(local_address, key.local_addr);
  Map(remote_address, key.remote_addr);
  key.local_port_be = htons(local_port);
  key.remote_port_be = htons(remote_port);
  return key;
}

Packet& Packet::Ethernet() {
  Append({0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0, 0});
  ethertype_at_ = 12;
  l3_offset_ = frame_.size();
  return *this;
}

Packet& Packet::Vlan(uint16_t tci, uint16_t tpid) {
  SetEtherType(tpid);
  Append({static_cast<uint8_t>(tci >> 8), static_cast<uint8_t>(tci), 0, 0});
  ethertype_at_ = frame_.size() - 2;
  l3_offset_ = frame_.size();
  return *this;
}

Packet& Packet::EtherType(uint16_t ethertype) {
  SetEtherType(ethertype);
  return *this;
}

Packet& Packet::Ipv4(const std::string& source, const std::string& destination) {
  SetEtherType(0x0800);
  source_ = source;
  destination_ = destination;
  ipv4_header_bytes_ = kIpv4HeaderBytes;
  Append({0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 0, 0, 0});
  Append(Address(AF_INET, source));
  Append(Address(AF_INET, destination));
  protocol_at_ = l3_offset_ + 9;
  return *this;
}

Packet& Packet::Ipv4Options(size_t bytes) {
  ipv4_header_bytes_ += bytes;
  Append(bytes, 1);  // no operation
  return *this;
}

Packet& Packet::RawIpv4Options(const Bytes& options) {
  ipv4_header_bytes_ += options.size();
  Append(options);
  return *this;
}

Packet& Packet::Ipv6(const std::string& source, const std::string& destination) {
  SetEtherType(0x86dd);
  source_ = source;
  destination_ = destination;
  is_ipv6_ = true;
  Append({0x60, 0, 0, 0, 0, 0, 0, 64});
  Append(Address(AF_INET6, source));
  Append(Address(AF_INET6, destination));
  protocol_at_ = l3_offset_ + 6;
  return *this;
}

Packet& Packet::HopByHop(size_t bytes) { return PaddedExtension(IPPROTO_HOPOPTS, bytes); }

Packet& Packet::DestinationOptions(size_t bytes) { return PaddedExtension(IPPROTO_DSTOPTS, bytes); }

Packet& Packet::Routing(size_t bytes) {
  Bytes header(bytes);
  header[1] = static_cast<uint8_t>(bytes / 8 - 1);
  header[2] = 4;  // segment routing, no segment left
  return Extension(IPPROTO_ROUTING, header);
}

Packet& Packet::Mobility(size_t bytes) {
  Bytes header(bytes);
  header[1] = static_cast<uint8_t>(bytes / 8 - 1);
  return Extension(IPPROTO_MH, header);
}

Packet& Packet::AuthenticationHeader(size_t bytes) {
  Bytes header(bytes);
  header[1] = static_cast<uint8_t>(bytes / 4 - 2);
  return Extension(IPPROTO_AH, header);
}

Packet& Packet::Fragment(uint16_t offset, bool more) {
  if (is_ipv6_) {
    Extension(IPPROTO_FRAGMENT, {0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78});
    Put16(frame_, frame_.size() - 6, offset | (more ? 1 : 0));
  } else {
    Put16(frame_, l3_offset_ + 6, offset / 8 | (more ? 0x2000 : 0));
  }
  return *this;
}

Packet& Packet::Protocol(uint8_t protocol) {
  SetProtocol(protocol);
  return *this;
}

Packet& Packet::Udp(uint16_t source_port, uint16_t destination_port) {
  BeginTransport(IPPROTO_UDP, source_port, destination_port);
  Append(4, 0);
  return *this;
}

Packet& Packet::Tcp(uint16_t source_port, uint16_t destination_port) {
  BeginTransport(IPPROTO_TCP, source_port, destination_port);
  Append({0x01, 0x02, 0x03, 0x04, 0x11, 0x12, 0x13, 0x14, 0, 0, 0x72, 0x10, 0, 0, 0, 0});
  header_length_ = frame_.size();
  return Flags(kFlagAck);
}

Packet& Packet::Flags(uint8_t flags) {
  tcp_flags_ = flags;
  frame_[l4_offset_ + kTcpFlagsAt] = flags;
  return *this;
}

Packet& Packet::Syn() { return Flags(kFlagSyn); }

Packet& Packet::SynAck() { return Flags(kFlagSyn | kFlagAck); }

Packet& Packet::Seq(uint32_t number) {
  Put32(frame_, l4_offset_ + kTcpSeqAt, number);
  return *this;
}

Packet& Packet::Ack(uint32_t number) {
  Put32(frame_, l4_offset_ + kTcpAckAt, number);
  return *this;
}

Packet& Packet::Timestamps() {
  Append({1, 1, 8, 10, 0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34});
  header_length_ = frame_.size();
  return *this;
}

Packet& Packet::TcpOptions(size_t bytes) {
  Append(bytes, 1);  // no operation
  header_length_ = frame_.size();
  return *this;
}

Packet& Packet::RawTcpOptions(const Bytes& options) {
  Append(options);
  header_length_ = frame_.size();
  return *this;
}

Packet& Packet::Payload(size_t bytes) {
  Append(bytes, kPayloadByte);
  return *this;
}

Packet& Packet::Pad(size_t frame_bytes) {
  padding_bytes_ = frame_bytes > frame_.size() ? frame_bytes - frame_.size() : 0;
  return *this;
}

Packet& Packet::LieIpVersion(uint8_t version) {
  lie_ip_version_ = version;
  return *this;
}

Packet& Packet::LieIpv4HeaderWords(uint8_t words) {
  lie_ipv4_header_words_ = words;
  return *this;
}

Packet& Packet::LieIpLength(uint16_t bytes) {
  lie_ip_length_ = bytes;
  return *this;
}

Packet& Packet::LieTcpHeaderWords(uint8_t words) {
  lie_tcp_header_words_ = words;
  return *this;
}

Bytes Packet::bytes() const {
  Bytes frame = frame_;
  if (!source_.empty()) FinishIp(frame);
  if (transport_ != 0) FinishTransport(frame);
  frame.insert(frame.end(), padding_bytes_, kPaddingByte);
  return frame;
}

ph_flow_key Packet::key(ph_direction direction) const {
  return direction == PH_EGRESS ? FlowKey(source_, source_port_, destination_, destination_port_)
                                : FlowKey(destination_, destination_port_, source_, source_port_);
}

Packet& Packet::Extension(uint8_t type, const Bytes& header) {
  SetProtocol(type);
  protocol_at_ = frame_.size();
  Append(header);
  return *this;
}

Packet& Packet::PaddedExtension(uint8_t type, size_t bytes) {
  Bytes header(bytes);
  header[1] = static_cast<uint8_t>(bytes / 8 - 1);
  for (size_t at = 2; at < bytes;) {  // filled with PadN, of up to 257 bytes each
    const size_t option_bytes = bytes - at <= 257 ? bytes - at : 250;
    header[at] = 1;
    header[at + 1] = static_cast<uint8_t>(option_bytes - 2);
    at += option_bytes;
  }
  return Extension(type, header);
}

void Packet::BeginTransport(uint8_t protocol, uint16_t source_port, uint16_t destination_port) {
  SetProtocol(protocol);
  transport_ = protocol;
  l4_offset_ = frame_.size();
  source_port_ = source_port;
  destination_port_ = destination_port;
  Append(4, 0);
  Put16(frame_, l4_offset_, source_port);
  Put16(frame_, l4_offset_ + 2, destination_port);
}

void Packet::SetEtherType(uint16_t ethertype) {
  if (ethertype_at_) Put16(frame_, *ethertype_at_, ethertype);
}

void Packet::SetProtocol(uint8_t protocol) { frame_[protocol_at_] = protocol; }

void Packet::FinishIp(Bytes& frame) const {
  uint8_t& first = frame[l3_offset_];
  if (is_ipv6_) {
    const size_t payload_bytes = frame.size() - l3_offset_ - kIpv6HeaderBytes;
    if (lie_ip_version_) first = static_cast<uint8_t>(*lie_ip_version_ << 4 | (first & 0x0f));
    Put16(frame, l3_offset_ + 4,
          lie_ip_length_           ? *lie_ip_length_
          : payload_bytes > 0xffff ? 0
                                   : payload_bytes);
    return;
  }
  const size_t total_bytes = frame.size() - l3_offset_;
  first = static_cast<uint8_t>(lie_ip_version_.value_or(4) << 4 |
                               lie_ipv4_header_words_.value_or(ipv4_header_bytes_ / 4));
  Put16(frame, l3_offset_ + 2, lie_ip_length_.value_or(total_bytes > 0xffff ? 0 : total_bytes));
  Put16(frame, l3_offset_ + 10, Fold(Sum(frame, l3_offset_, l3_offset_ + ipv4_header_bytes_, 0)));
}

void Packet::FinishTransport(Bytes& frame) const {
  const size_t segment_bytes = frame.size() - l4_offset_;
  const bool is_tcp = transport_ == IPPROTO_TCP;
  if (is_tcp) {
    const size_t words = (header_length_ - l4_offset_) / 4;
    frame[l4_offset_ + 12] = static_cast<uint8_t>(lie_tcp_header_words_.value_or(words) << 4);
  } else {
    Put16(frame, l4_offset_ + 4, segment_bytes);
  }
  // The addresses, protocol and length of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
  const size_t addresses_at = l3_offset_ + (is_ipv6_ ? 8 : 12);
  const size_t address_bytes = is_ipv6_ ? 16 : 4;
  uint32_t sum = Sum(frame, addresses_at, addresses_at + 2 * address_bytes, transport_);
  sum += static_cast<uint32_t>(segment_bytes);
  sum = Sum(frame, l4_offset_, frame.size(), sum);
  Put16(frame, l4_offset_ + (is_tcp ? 16 : 6), Fold(sum));
}

Parsed Parse(const uint8_t* frame, size_t length, ph_link_layer link_layer,
             ph_direction direction) {
  const ph_frame view = {frame, length, 0};
  Parsed parsed = {};
  parsed.counter = ph_locate(view, link_layer, &parsed.headers);
  if (parsed.counter == PH_CAPTURED &&
      !ph_read_key(view, &parsed.headers, direction, &parsed.key)) {
    parsed.counter = PH_TRUNCATED;
  }
  return parsed;
}

}  // namespace packet_headers::testing
