// Packets with random faults, through the kernel and through the same parser in user space.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/bpf/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr uint32_t kSeed = 20240229;
constexpr int kFrames = 1'000'000;

std::vector<Bytes> Originals(const Hook& hook) {
  const auto begin = [&] {
    return hook.link_layer == PH_LINK_ETHERNET ? Packet().Ethernet() : Packet();
  };
  const auto ipv4 = [&] { return begin().Ipv4("192.0.2.1", "198.51.100.2"); };
  const auto ipv6 = [&] { return begin().Ipv6("2001:db8::1", "2001:db8:ffff::2"); };
  std::vector<Bytes> frames = {
      ipv4().Tcp(1234, 80).Timestamps().Payload(40).bytes(),
      ipv4().Tcp(1234, 80).Syn().TcpOptions(20).bytes(),
      ipv4().Ipv4Options(12).Tcp(1234, 80).Payload(1).Pad(90).bytes(),
      ipv4().Fragment(0, true).Tcp(1234, 80).TcpOptions(40).Payload(64).bytes(),
      ipv6().Tcp(1234, 80).Timestamps().Payload(40).bytes(),
      ipv6().HopByHop().Routing(24).Tcp(1234, 80).Payload(200).bytes(),
      ipv6().Fragment(0, false).AuthenticationHeader().Tcp(1234, 80).TcpOptions(8).bytes(),
      ipv6().DestinationOptions(400).Tcp(1234, 80).TcpOptions(20).Payload(64).bytes(),
  };
  if (hook.link_layer == PH_LINK_ETHERNET) {
    frames.push_back(begin().Vlan(1).Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2).Payload(9).bytes());
    frames.push_back(
        begin().Vlan(1, 0x88a8).Vlan(2).Ipv6("2001:db8::1", "2001:db8::2").Tcp(1, 2).bytes());
  }
  return frames;
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  Bytes Mutate(const std::vector<Bytes>& originals) {
    Bytes frame = originals[Below(originals.size())];
    for (size_t faults = Below(4); faults > 0; faults--) {
      // Most faults are in the headers that come first.
      const size_t at = Below(Below(4) == 0 ? frame.size() : std::min<size_t>(frame.size(), 80));
      switch (Below(4)) {
        case 0:
          frame[at] ^= static_cast<uint8_t>(1 << Below(8));
          break;
        case 1:
          frame[at] = static_cast<uint8_t>(Below(256));
          break;
        case 2:
          frame[at] = kTelling[Below(sizeof(kTelling))];
          break;
        default:
          frame[at] = Below(2) == 0 ? 0 : 0xff;
          break;
      }
    }
    if (Below(4) == 0) frame.resize(std::max<size_t>(14, Below(frame.size() + 1)));
    return frame;
  }

 private:
  // Protocols, types and lengths that lead somewhere.
  static constexpr uint8_t kTelling[] = {0,   1,    2,    4,    5,    6,    8,    17,   43,
                                         44,  51,   58,   60,   64,   69,   0x46, 0x50, 0x60,
                                         135, 0x81, 0x86, 0xdd, 0x88, 0xa8, 0x91, 0xf0};

  size_t Below(size_t limit) { return random_() % limit; }

  std::mt19937 random_;
};

// What a record should be. What can't be foretold is the record's own: the time, and the cookie of
// the test run's socket, which has the addresses of the packet and ports of 0.
Bytes Expected(const Kernel& kernel, const Hook& hook, const Bytes& frame, const Parsed& parsed,
               const ph_header_record& actual) {
  const ph_headers& headers = parsed.headers;
  ph_header_record fixed = {};
  fixed.time_ns = actual.time_ns;
  if (hook.direction == PH_EGRESS && parsed.key.local_port_be == 0 &&
      parsed.key.remote_port_be == 0) {
    fixed.socket_cookie = actual.socket_cookie;
  }
  fixed.flow_hash = kernel.HashOf(parsed.key);
  fixed.ifindex = kLoopback;
  fixed.wire_len = static_cast<uint32_t>(frame.size());
  fixed.header_len = headers.length;
  fixed.l3_offset = headers.l3_offset;
  fixed.l4_offset = headers.l4_offset;
  fixed.direction = static_cast<uint8_t>(hook.direction);
  fixed.link_layer = static_cast<uint8_t>(hook.link_layer);
  fixed.tcp_flags = headers.tcp_flags;
  Bytes bytes(sizeof(fixed) + SizeClass(headers.length));
  std::memcpy(bytes.data(), &fixed, sizeof(fixed));
  std::copy_n(frame.begin(), headers.length, bytes.begin() + sizeof(fixed));
  return bytes;
}

// A test run itself reads the addresses of IP, and takes no frame that hasn't got them.
bool IsRefused(const Hook& hook, const Bytes& frame) {
  if (hook.is_xdp()) return false;
  const int ethertype = frame[12] << 8 | frame[13];
  return (ethertype == 0x0800 && frame.size() < 14 + 20) ||
         (ethertype == 0x86dd && frame.size() < 14 + 40);
}

// An empty string when all is as it must be.
std::string Fault(Kernel& kernel, const Hook& hook, const Bytes& frame, Counters& books) {
  const Outcome outcome = kernel.Run(hook, frame);
  if (outcome.error == -EINVAL && IsRefused(hook, frame)) return "";
  if (outcome.error != 0) return "error " + std::to_string(outcome.error);
  if (outcome.verdict != hook.verdict) return "verdict " + std::to_string(outcome.verdict);
  if (!outcome.untouched) return "the packet was changed";

  const Parsed parsed = Parse(frame.data(), frame.size(), hook.link_layer, hook.direction);
  const ph_counter counter = parsed.counter;
  books[PH_SEEN]++;
  books[counter]++;
  const Counters counters = kernel.ReadCounters(hook);
  if (counters != books) return "counted " + Text(counters) + ", not " + Text(books);

  const std::vector<Record> records = kernel.Drain();
  if (records.size() != (counter == PH_CAPTURED ? 1 : 0)) {
    return std::to_string(records.size()) + " records";
  }
  for (const Record& record : records) {
    if (record.bytes() != Expected(kernel, hook, frame, parsed, record.fixed())) {
      return "another record";
    }
  }
  return "";
}

std::string Hex(const Bytes& bytes) {
  std::string text;
  char hex[3];
  for (const uint8_t byte : bytes) {
    std::snprintf(hex, sizeof(hex), "%02x", byte);
    text += hex;
  }
  return text;
}

TEST_CASE("The kernel makes of any packet what the parser makes of it", "[bpf]") {
  Kernel kernel;
  WARN("seed " << kSeed << ", " << kFrames << " frames for each program");
  for (const Hook& hook : Hooks()) {
    const std::vector<Bytes> originals = Originals(hook);
    Mutator mutator(kSeed);
    Counters books = {};
    kernel.TakeCounters(hook);
    for (int i = 0; i < kFrames; i++) {
      const Bytes frame = mutator.Mutate(originals);
      const std::string fault = Fault(kernel, hook, frame, books);
      if (!fault.empty()) {
        FAIL(hook.name << ", frame " << i << ": " << fault << ": " << Hex(frame));
      }
    }
    INFO(hook.name << ": " << Text(books));
    uint64_t reasons = 0;
    for (size_t i = PH_CAPTURED; i < books.size(); i++) reasons += books[i];
    CHECK(books[PH_SEEN] == reasons);
    // The faults must lead everywhere that the parser can.
    for (const ph_counter counter : {PH_CAPTURED, PH_NOT_IP, PH_NOT_TCP, PH_FRAGMENT, PH_TRUNCATED,
                                     PH_MALFORMED_IP, PH_MALFORMED_TCP, PH_HEADER_TOO_LONG}) {
      CHECK(books[counter] > 0);
    }
  }
}

}  // namespace
}  // namespace packet_headers::testing
