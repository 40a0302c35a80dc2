// The programs, loaded as the daemon loads them, and packets sent through them by
// BPF_PROG_TEST_RUN.
//
// What a test run can't do is left to the tests on real interfaces: the kernel takes no VLAN tag of
// a socket buffer, and the only socket has the addresses of the packet and ports of 0.

#ifndef PACKET_HEADERS_TESTS_BPF_FIXTURE_H_
#define PACKET_HEADERS_TESTS_BPF_FIXTURE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "packet_headers/counters.h"
#include "packet_headers/header_record.h"
#include "packet_headers/kernel_config.h"
#include "packet_headers/parse.h"
#include "packet_headers/settled_flow.h"
#include "tests/support/packet.h"
#include "user/base/unique_fd.h"
#include "user/capture/bpf_ring.h"
#include "user/capture/kernel_counters.h"

struct packet_headers_bpf;

namespace packet_headers::testing {

inline constexpr uint32_t kLoopback = 1;  // the interface of a test run that names none

// What is the same for all packets of a program.
struct Hook {
  std::string name;  // of the program
  ph_direction direction;
  ph_link_layer link_layer;
  int verdict;  // of every packet

  bool is_xdp() const { return name == "ph_xdp_in_eth"; }
};

inline const std::vector<Hook>& Hooks() {
  constexpr int kTcxNext = -1;
  constexpr int kXdpPass = 2;
  static const auto* const hooks = new std::vector<Hook>{
      {"ph_tc_in_eth", PH_INGRESS, PH_LINK_ETHERNET, kTcxNext},
      {"ph_tc_out_eth", PH_EGRESS, PH_LINK_ETHERNET, kTcxNext},
      {"ph_tc_in_ip", PH_INGRESS, PH_LINK_IP, kTcxNext},
      {"ph_tc_out_ip", PH_EGRESS, PH_LINK_IP, kTcxNext},
      {"ph_xdp_in_eth", PH_INGRESS, PH_LINK_ETHERNET, kXdpPass},
  };
  return *hooks;
}

using Counters = std::array<uint64_t, PH_KERNEL_COUNTERS>;

// "seen 1, captured 1": what is not zero.
std::string Text(const Counters& counters);

// The bytes that a record has for a header of this length.
inline size_t SizeClass(size_t header_bytes) {
  for (const size_t bytes : {72, 136, 264}) {
    if (header_bytes <= bytes) return bytes;
  }
  return 520;
}

// One record as it lay in the ring, its length that of the reservation.
class Record {
 public:
  Record(const void* data, size_t bytes)
      : bytes_(static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + bytes) {}

  const Bytes& bytes() const { return bytes_; }
  const ph_header_record& fixed() const {
    return *reinterpret_cast<const ph_header_record*>(bytes_.data());
  }
  // Those of the header, and the zeros up to the size class.
  Bytes headers() const { return {bytes_.begin() + sizeof(ph_header_record), bytes_.end()}; }

 private:
  Bytes bytes_;
};

// What a packet is beside its bytes.
struct Metadata {
  uint32_t ifindex = kLoopback;
  uint16_t gso_size = 0;  // a frame of XDP has none
  uint16_t gso_segs = 0;
};

// What came of one packet.
struct Outcome {
  int error = 0;  // of the test run: a negative errno, where the kernel takes no such packet
  int verdict = 0;
  bool untouched = false;
  uint64_t not_before_ns = 0;  // the packet's time is within these
  uint64_t not_after_ns = 0;
};

struct KernelOptions {
  uint32_t shards = 1;
  uint32_t ring_bytes = 1 << 20;
  uint32_t wakeup_bytes = UINT32_MAX;
  uint32_t shed_bytes = UINT32_MAX;
};

class Kernel {
 public:
  explicit Kernel(const KernelOptions& options = {});
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  Outcome Run(const Hook& hook, const Bytes& frame, const Metadata& metadata = {});

  // What the hooks have counted so far.
  Counters ReadCounters(const Hook& hook) const;
  // What the hooks have counted since the last call.
  Counters TakeCounters(const Hook& hook, uint32_t ifindex = kLoopback);
  void CountInterface(uint32_t ifindex);

  void TouchRing(uint32_t shard);
  // Bytes that were ever reserved in it.
  uint64_t RingProducedBytes(uint32_t shard) const { return rings_[shard]->produced_bytes(); }
  int64_t RingUsedBytes(uint32_t shard) const { return rings_[shard]->used_bytes(); }

  // Takes all records out of all rings, or of one.
  std::vector<Record> Drain();
  std::vector<Record> Drain(uint32_t shard);
  // Whether a reader of the rings is woken by now, at most `timeout_ms` from now.
  bool IsReaderWoken(int timeout_ms);

  void Settle(const ph_flow_key& key);
  bool FindSettled(const ph_flow_key& key, ph_settled_flow* flow) const;

  const ph_kernel_config& config() const { return config_; }
  uint32_t HashOf(const ph_flow_key& key) const { return ph_flow_hash(&key, &config_.hash_seed); }

 private:
  struct Free {
    void operator()(packet_headers_bpf* skeleton) const;
  };
  template <typename T>
  using Owned = std::unique_ptr<T, Free>;

  ph_kernel_config config_ = {};
  Owned<packet_headers_bpf> skeleton_;
  std::optional<KernelCounters> counters_;       // once loaded
  std::vector<std::unique_ptr<BpfRing>> rings_;  // one for each shard
  UniqueFd wakeups_;                             // an epoll of all of them
};

// Loads the programs and gives them their rings, which belong to the caller then. Null with errno
// set when the kernel refuses.
packet_headers_bpf* LoadPrograms(const ph_kernel_config& config, uint32_t ring_bytes,
                                 std::vector<int>& ring_fds);

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_BPF_FIXTURE_H_
