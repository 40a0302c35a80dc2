// The parser over any frame. First byte: bit 0 the link layer, bit 1 the direction. The rest is the
// frame.

#include <cstdint>
#include <cstring>
#include <optional>

#include "packet_headers/parse.h"
#include "tests/fuzz/fuzz.h"
#include "user/capture/frame_record.h"
#include "user/flow/packet.h"

namespace packet_headers::fuzz {
namespace {

constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

struct Parsed {
  ph_counter counter;
  ph_headers headers = {};
  ph_flow_key key = {};
};

bool operator==(const ph_flow_key& a, const ph_flow_key& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}
bool operator==(const ph_headers& a, const ph_headers& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

Parsed Parse(absl::string_view bytes, bool is_direct, ph_link_layer link_layer,
             ph_direction direction) {
  const ph_frame frame = {bytes.data(), bytes.size(), is_direct};
  Parsed parsed;
  parsed.counter = ph_locate(frame, link_layer, &parsed.headers);
  if (parsed.counter == PH_CAPTURED) {
    FUZZ_CHECK(ph_read_key(frame, &parsed.headers, direction, &parsed.key));
  }
  return parsed;
}

ph_flow_key Reversed(const ph_flow_key& key) {
  ph_flow_key reversed = {};
  std::memcpy(reversed.local_addr, key.remote_addr, sizeof(key.remote_addr));
  std::memcpy(reversed.remote_addr, key.local_addr, sizeof(key.local_addr));
  reversed.local_port_be = key.remote_port_be;
  reversed.remote_port_be = key.local_port_be;
  return reversed;
}

void CheckOffsets(absl::string_view frame, ph_link_layer link_layer, const ph_headers& headers) {
  FUZZ_CHECK(headers.length <= frame.size() && headers.length <= PH_MAX_HEADER_BYTES);
  const size_t link_bytes = link_layer == PH_LINK_ETHERNET ? 14 : 0;
  const size_t tag_bytes = headers.l3_offset - link_bytes;
  FUZZ_CHECK(tag_bytes == 0 || (link_bytes > 0 && (tag_bytes == 4 || tag_bytes == 8)));
  const size_t ip_bytes = headers.l4_offset - headers.l3_offset;
  FUZZ_CHECK(frame[headers.l3_offset] >> 4 == (headers.is_ipv6 ? 6 : 4));
  FUZZ_CHECK(ip_bytes % 4 == 0 && ip_bytes >= (headers.is_ipv6 ? 40 : 20));
  FUZZ_CHECK(headers.is_ipv6 || ip_bytes <= 60);
  const size_t tcp_bytes = headers.length - headers.l4_offset;
  FUZZ_CHECK(tcp_bytes % 4 == 0 && tcp_bytes >= 20 && tcp_bytes <= 60);
  FUZZ_CHECK(headers.tcp_flags == static_cast<uint8_t>(frame[headers.l4_offset + 13]));
}

// What user space makes of it must be what it takes for a record.
void CheckRecord(absl::string_view bytes, ph_link_layer link_layer, ph_direction direction,
                 const Parsed& parsed) {
  FrameRecord maker(kSeed);
  const auto size = static_cast<uint32_t>(bytes.size());
  const Frame frame = {reinterpret_cast<const uint8_t*>(bytes.data()), size, size, {link_layer, 0}};
  FUZZ_CHECK(maker.Read(frame, direction) == parsed.counter);
  if (parsed.counter != PH_CAPTURED) return;
  FUZZ_CHECK(maker.size() == sizeof(ph_header_record) + parsed.headers.length);
  const std::optional<Packet> packet = DecodeRecord(maker.data(), maker.size());
  FUZZ_CHECK(packet.has_value());
  FUZZ_CHECK(packet->key == parsed.key && packet->flags == parsed.headers.tcp_flags);
  FUZZ_CHECK(!DecodeRecord(maker.data(), maker.size() - 1).has_value());

  FUZZ_CHECK(maker.ReadEitherWay(frame) == PH_CAPTURED);
  const ph_flow_key key = maker.key();
  FUZZ_CHECK(key == parsed.key || key == Reversed(parsed.key));
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers;
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const uint8_t how = input.Byte();
  const auto link_layer = (how & 1) != 0 ? PH_LINK_IP : PH_LINK_ETHERNET;
  const auto direction = (how & 2) != 0 ? PH_EGRESS : PH_INGRESS;
  const absl::string_view frame = input.Rest();

  const Parsed parsed = Parse(frame, /*is_direct=*/false, link_layer, direction);
  FUZZ_CHECK(parsed.counter != PH_UNDECIDED);
  const Parsed direct = Parse(frame, /*is_direct=*/true, link_layer, direction);
  if (direct.counter != PH_UNDECIDED) {
    FUZZ_CHECK(direct.counter == parsed.counter);
    if (direct.counter == PH_CAPTURED) {
      FUZZ_CHECK(direct.headers == parsed.headers && direct.key == parsed.key);
    }
  }
  CheckRecord(frame, link_layer, direction, parsed);
  if (parsed.counter != PH_CAPTURED) return 0;

  CheckOffsets(frame, link_layer, parsed.headers);
  const auto other_way = direction == PH_EGRESS ? PH_INGRESS : PH_EGRESS;
  FUZZ_CHECK(Parse(frame, false, link_layer, other_way).key == Reversed(parsed.key));
  // What is saved depends on nothing behind it, and on all of it.
  const size_t length = parsed.headers.length;
  const Parsed cut = Parse(frame.substr(0, length), false, link_layer, direction);
  FUZZ_CHECK(cut.counter == PH_CAPTURED && cut.headers == parsed.headers && cut.key == parsed.key);
  FUZZ_CHECK(Parse(frame.substr(0, length - 1), false, link_layer, direction).counter ==
             PH_TRUNCATED);
  return 0;
}
