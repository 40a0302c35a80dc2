// flood KIND DEVICE MAC DESTINATION PORT SECONDS [RATE [SOURCE PORT]]: lets packets arrive at the
// device, so many a second or (0) as fast as this CPU can make them, from everywhere, with right
// checksums, and says how many they were:
//
//   5123456 packets in 10.002 s
//
// KIND: syn, ack, rst, synack, udp, fragment (later ones), scan (SYNs from one end to all ports),
// or segment (ACKs of one connection, from the IPv4 address SOURCE and its PORT). MAC and
// DESTINATION are the device's own. Needs Linux 5.18.

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "flood.skel.h"
#include "packet_headers/parse.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr int kFramesInRun = 1 << 16;
constexpr double kPace = 0.002;  // seconds from one run to the next, where there is a rate

struct Endpoint {
  std::string address;
  uint16_t port = 0;
};

// What must be added to a field's checksum to have the sum of all that it covers.
uint32_t SumOf(const Bytes& frame, size_t check_at) {
  uint16_t check;
  std::memcpy(&check, &frame[check_at], sizeof(check));
  return static_cast<uint16_t>(~check);
}

Packet Frame(const std::string& kind, const std::string& destination, uint16_t port,
             const Endpoint& source) {
  if (kind == "segment") {
    return Packet()
        .Ethernet()
        .Ipv4(source.address, destination)
        .Tcp(source.port, port)
        .Seq(0)
        .Flags(PH_TCP_ACK)
        .Ack(1);
  }
  const bool is_ipv6 = destination.find(':') != std::string::npos;
  // Zeros are in the place of what varies.
  Packet packet = Packet().Ethernet();
  if (is_ipv6) {
    packet.Ipv6(kind == "scan" ? "2001:db8:ffff::7" : "2001:db8:ffff::", destination);
  } else {
    packet.Ipv4(kind == "scan" ? "198.51.100.7" : "0.0.0.0", destination);
  }
  if (kind == "udp") return packet.Udp(0, port).Payload(12);
  if (kind == "fragment") return packet.Fragment(64, true).Protocol(6).Payload(40);
  const bool is_scan = kind == "scan";
  packet.Tcp(is_scan ? 54321 : 0, is_scan ? 0 : port).Seq(0);
  if (is_scan || kind == "syn") return packet.Flags(PH_TCP_SYN);
  if (kind == "synack") return packet.Flags(PH_TCP_SYN | PH_TCP_ACK).Ack(1);
  if (kind == "rst") return packet.Flags(PH_TCP_RST);
  if (kind == "ack") return packet.Flags(PH_TCP_ACK).Ack(1);
  std::fprintf(stderr, "flood: no such kind: %s\n", kind.c_str());
  std::exit(2);
}

flood_bpf* Load(const Packet& packet, const Bytes& frame, const std::string& kind) {
  flood_bpf* const skeleton = flood_bpf::open();
  if (skeleton == nullptr) return nullptr;
  auto& about = *skeleton->rodata;
  const auto l3 = static_cast<uint32_t>(packet.l3_offset());
  const auto l4 = static_cast<uint32_t>(packet.l4_offset());
  about.frame_bytes = static_cast<uint32_t>(frame.size());
  about.is_scan = kind == "scan";
  const bool varies = kind != "segment";
  if (varies && !about.is_scan) about.source_at = packet.is_ipv6() ? l3 + 8 + 12 : l3 + 12;
  if (varies && !packet.is_ipv6()) {
    about.ip_check_at = l3 + 10;
    about.ip_sum = SumOf(frame, l3 + 10);
  }
  if (varies && kind != "fragment") {
    about.port_at = about.is_scan ? l4 + 2 : l4;
    about.check_at = kind == "udp" ? l4 + 6 : l4 + 16;
    about.sum = SumOf(frame, about.check_at);
    if (kind != "udp") about.sequence_at = l4 + 4;
  }
  if (flood_bpf::load(skeleton) != 0) return nullptr;
  return skeleton;
}

int Run(const std::string& kind, const std::string& device, const std::string& mac,
        const std::string& destination, uint16_t port, double seconds, double rate,
        const Endpoint& source) {
  const Packet packet = Frame(kind, destination, port, source);
  Bytes frame = packet.bytes();
  if (std::sscanf(mac.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame[0], &frame[1], &frame[2],
                  &frame[3], &frame[4], &frame[5]) != 6) {
    std::fprintf(stderr, "flood: no such address: %s\n", mac.c_str());
    return 2;
  }
  flood_bpf* const skeleton = Load(packet, frame, kind);
  if (skeleton == nullptr) {
    std::fprintf(stderr, "flood: load the program: %s\n", std::strerror(errno));
    return 1;
  }
  xdp_md context = {};
  context.data_end = static_cast<uint32_t>(frame.size());
  context.ingress_ifindex = if_nametoindex(device.c_str());
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&begin] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  while (elapsed() < seconds) {
    int frames = kFramesInRun;
    if (rate > 0) {
      // What is due by the end of this turn.
      const double due = rate * (elapsed() + kPace) - static_cast<double>(skeleton->bss->sent);
      frames = std::min(static_cast<int>(due), kFramesInRun);
      if (frames <= 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(kPace / 4));
        continue;
      }
    }
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()), .ctx_in = &context,
                .ctx_size_in = sizeof(context), .repeat = frames,
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.ph_flood), &opts) != 0) {
      std::fprintf(stderr, "flood: send: %s\n", std::strerror(errno));
      return 1;
    }
  }
  std::printf("%llu packets in %.3f s\n", static_cast<unsigned long long>(skeleton->bss->sent),
              elapsed());
  flood_bpf::destroy(skeleton);
  return 0;
}

}  // namespace
}  // namespace packet_headers::testing

int main(int argc, char** argv) {
  const bool has_source = argc == 10;
  if (!has_source && (argc < 7 || argc > 8 || std::strcmp(argv[1], "segment") == 0)) {
    std::fprintf(stderr,
                 "usage: flood KIND DEVICE MAC DESTINATION PORT SECONDS [RATE [SOURCE PORT]]\n");
    return 2;
  }
  packet_headers::testing::Endpoint source;
  if (has_source) source = {argv[8], static_cast<uint16_t>(std::atoi(argv[9]))};
  return packet_headers::testing::Run(argv[1], argv[2], argv[3], argv[4],
                                      static_cast<uint16_t>(std::atoi(argv[5])), std::atof(argv[6]),
                                      argc > 7 ? std::atof(argv[7]) : 0, source);
}
