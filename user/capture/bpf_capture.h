// The BPF programs and maps in the kernel.

#ifndef PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
#define PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/capture/hook.h"
#include "user/capture/kernel_counters.h"
#include "user/capture/network_interface.h"
#include "user/capture/settled_flows.h"
#include "user/config/config.h"
#include "user/flow/record_source.h"

struct packet_headers_bpf;

namespace packet_headers {

class BpfRing;

// Our programs at one interface, until it is destroyed.
struct Attachment {
  Hook ingress_hook;
  Hook egress_hook;
  std::unique_ptr<HookLink> ingress;
  std::unique_ptr<HookLink> egress;  // goes first: the one before may own the qdisc
};

class BpfCapture {
 public:
  // Loads the programs with one ring of at least `ring_bytes` for each shard. Needs CAP_BPF and
  // CAP_NET_ADMIN.
  static absl::StatusOr<std::unique_ptr<BpfCapture>> Load(uint32_t shards, int64_t ring_bytes);
  ~BpfCapture();

  // The records of a shard; its thread's, and gone with this object.
  RecordSource& source(uint32_t shard);

  // Attaches by the policy of `hook`. One thread at a time.
  absl::StatusOr<Attachment> Attach(const NetworkInterface& interface, CaptureHook hook);

  // Returns when no program that was attached before can be running any more.
  void AwaitDetached();

  SettledFlows& settled_flows() { return *settled_flows_; }
  const SettledFlows& settled_flows() const { return *settled_flows_; }

  KernelCounters& counters() { return *counters_; }

  int64_t ring_bytes() const { return ring_bytes_; }
  // Bytes waiting in a shard's ring. Any thread.
  int64_t RingUsed(uint32_t shard) const;

 private:
  BpfCapture(packet_headers_bpf* skeleton, int64_t ring_bytes, bool has_xdp);

  absl::Status MakeRings(uint32_t shards);
  absl::StatusOr<std::unique_ptr<HookLink>> AttachDirection(const NetworkInterface& interface,
                                                            ph_direction direction, Hook hook);

  packet_headers_bpf* const skeleton_;
  const int64_t ring_bytes_;
  const bool has_xdp_;
  std::optional<KernelCounters> counters_;     // once loaded
  std::optional<SettledFlows> settled_flows_;  // once loaded
  std::vector<std::unique_ptr<BpfRing>> rings_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
