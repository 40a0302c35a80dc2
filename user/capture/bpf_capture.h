// The BPF programs and maps in the kernel.

#ifndef PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
#define PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "packet_headers/flow_key.h"
#include "user/capture/hook.h"
#include "user/capture/network_interface.h"
#include "user/config/config.h"
#include "user/flow/books.h"
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
  static void AwaitDetached();

  // Tells the kernel that no more records of the flow are wanted. Any thread. Where the kernel has
  // no room left, they keep coming.
  void Settle(const ph_flow_key& key) ABSL_LOCKS_EXCLUDED(settled_mutex_);

  // Forgets settled flows that sent nothing for `idle_ns`. Any thread.
  void SweepSettled(int64_t now_ns, int64_t idle_ns) ABSL_LOCKS_EXCLUDED(settled_mutex_);

  // Settled flows, those included that began anew since the last sweep. Any thread.
  int64_t settled_flows() const ABSL_LOCKS_EXCLUDED(settled_mutex_);

  // The kernel's counters of an interface; zeros if it was never attached. Any thread.
  CountersByDirection ReadCounters(uint32_t ifindex) const;
  void ForgetCounters(uint32_t ifindex);

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
  std::vector<std::unique_ptr<BpfRing>> rings_;
  mutable absl::Mutex settled_mutex_;  // guards any_settled in the kernel, too
  int64_t settled_flows_ ABSL_GUARDED_BY(settled_mutex_) = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
