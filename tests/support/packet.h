// Frames for tests, written as one reads them:
//
//   Packet().Ethernet().Vlan(100).Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Syn().Payload(9)
//
// Headers follow each other in the order of the calls. Lengths, types and checksums are right
// unless a Lie...() says otherwise.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_PACKET_H_
#define PACKET_HEADERS_TESTS_SUPPORT_PACKET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "packet_headers/parse.h"

namespace packet_headers::testing {

using Bytes = std::vector<uint8_t>;

// What payload and padding consist of, so that they can be recognised where they must not be.
inline constexpr uint8_t kPayloadByte = 0xa5;
inline constexpr uint8_t kPaddingByte = 0x5a;

// The key of a flow, made from text without the code under test.
ph_flow_key FlowKey(const std::string& local_address, uint16_t local_port,
                    const std::string& remote_address, uint16_t remote_port);

class Packet {
 public:
  // Link layer; without it the frame begins with the IP header.
  Packet& Ethernet();
  Packet& Vlan(uint16_t tci, uint16_t tpid = 0x8100);
  Packet& EtherType(uint16_t ethertype);

  // Network layer. Sizes are in bytes, of the whole option space or extension header.
  Packet& Ipv4(const std::string& source, const std::string& destination);
  Packet& Ipv4Options(size_t bytes);
  Packet& RawIpv4Options(const Bytes& options);  // as they are; whole words
  Packet& Ipv6(const std::string& source, const std::string& destination);
  Packet& HopByHop(size_t bytes = 8);
  Packet& Routing(size_t bytes = 8);
  Packet& DestinationOptions(size_t bytes = 8);
  Packet& Mobility(size_t bytes = 8);
  Packet& AuthenticationHeader(size_t bytes = 24);
  Packet& Extension(uint8_t type, const Bytes& header);  // its first byte is filled in
  // Sets the fields of IPv4, appends the extension header of IPv6. The offset is in bytes.
  Packet& Fragment(uint16_t offset, bool more);
  // Names what follows, where that is neither an extension header nor TCP nor UDP.
  Packet& Protocol(uint8_t protocol);

  // Transport layer. A segment is an ACK unless it is said to be something else.
  Packet& Udp(uint16_t source_port, uint16_t destination_port);
  Packet& Tcp(uint16_t source_port, uint16_t destination_port);
  Packet& Flags(uint8_t flags);
  Packet& Syn();
  Packet& SynAck();
  Packet& Seq(uint32_t number);
  Packet& Ack(uint32_t number);  // the field; the flag is another matter
  Packet& Timestamps();          // 12 bytes, as Linux lays them out
  Packet& TcpOptions(size_t bytes);
  Packet& RawTcpOptions(const Bytes& options);  // as they are; whole words

  Packet& Payload(size_t bytes);
  Packet& Pad(size_t frame_bytes);  // behind the IP packet, up to this size of the frame

  // Fields that contradict the packet.
  Packet& LieIpVersion(uint8_t version);
  Packet& LieIpv4HeaderWords(uint8_t words);
  Packet& LieIpLength(uint16_t bytes);  // total length of IPv4, payload length of IPv6
  Packet& LieTcpHeaderWords(uint8_t words);

  Bytes bytes() const;

  // Where things truly are, in bytes from the start of the frame.
  size_t l3_offset() const { return l3_offset_; }
  size_t l4_offset() const { return l4_offset_; }
  size_t header_length() const { return header_length_; }  // to the end of the TCP header

  bool is_ipv6() const { return is_ipv6_; }
  uint8_t tcp_flags() const { return tcp_flags_; }

  // The key that this packet has where it goes in `direction`.
  ph_flow_key key(ph_direction direction) const;

 private:
  Packet& PaddedExtension(uint8_t type, size_t bytes);
  void BeginTransport(uint8_t protocol, uint16_t source_port, uint16_t destination_port);
  void SetEtherType(uint16_t ethertype);
  void SetProtocol(uint8_t protocol);
  void Append(const Bytes& bytes) { frame_.insert(frame_.end(), bytes.begin(), bytes.end()); }
  void Append(size_t count, uint8_t byte) { frame_.insert(frame_.end(), count, byte); }
  void FinishIp(Bytes& frame) const;
  void FinishTransport(Bytes& frame) const;

  Bytes frame_;                         // what was appended; bytes() fills in lengths and checksums
  std::optional<size_t> ethertype_at_;  // the field that names what comes next
  size_t protocol_at_ = 0;              // likewise
  size_t l3_offset_ = 0;
  size_t l4_offset_ = 0;
  size_t header_length_ = 0;
  size_t ipv4_header_bytes_ = 0;
  size_t padding_bytes_ = 0;
  bool is_ipv6_ = false;
  uint8_t transport_ = 0;  // protocol number; 0: no header
  uint8_t tcp_flags_ = 0;
  uint16_t source_port_ = 0;
  uint16_t destination_port_ = 0;
  std::string source_;
  std::string destination_;
  std::optional<uint8_t> lie_ip_version_;
  std::optional<uint8_t> lie_ipv4_header_words_;
  std::optional<uint16_t> lie_ip_length_;
  std::optional<uint8_t> lie_tcp_header_words_;
};

// What the parser says of the `length` bytes of an Ethernet frame, or of an IP packet.
struct Parsed {
  ph_counter counter;
  ph_headers headers;
  ph_flow_key key;
};
Parsed Parse(const uint8_t* frame, size_t length, ph_link_layer link_layer, ph_direction direction);

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_PACKET_H_
