// The BPF programs and maps in the kernel.

#ifndef PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
#define PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "user/capture/capture_engine.h"
#include "user/capture/kernel_counters.h"
#include "user/capture/network_interface.h"
#include "user/capture/settled_flows.h"
#include "user/config/config.h"

struct packet_headers_bpf;

namespace packet_headers {

class BpfRing;

class BpfCapture : public CaptureEngine {
 public:
  // Loads the programs with one ring of at least `ring_bytes` for each shard; they attach by the
  // policy of `hook`. Needs CAP_BPF and CAP_NET_ADMIN.
  static absl::StatusOr<std::unique_ptr<BpfCapture>> Load(uint32_t shards, int64_t ring_bytes,
                                                          CaptureHook hook,
                                                          const ph_hash_seed& hash_seed);
  ~BpfCapture() override;

  uint32_t shards() const override { return static_cast<uint32_t>(rings_.size()); }
  bool sees_cookies() const override { return true; }
  bool uses_bpf() const override { return true; }
  RecordSource& source(uint32_t shard) override;
  KernelFlows& kernel_flows() override { return *settled_flows_; }

  absl::StatusOr<Attachment> Attach(const NetworkInterface& interface) override;
  void AwaitDetached() override;

  CountersByDirection ReadKernelCounters(uint32_t ifindex) const override;
  void ForgetKernelCounters(uint32_t ifindex) override;
  // All is counted in the kernel.
  void AddTo(absl::flat_hash_map<uint32_t, CountersByDirection>&) const override {}
  void KeepBooksOf(std::shared_ptr<const Ifindexes>) override {}

  void Sweep(int64_t now_ns, int64_t idle_ns) override { settled_flows_->Sweep(now_ns, idle_ns); }
  int64_t settled_flows() const override { return settled_flows_->count(); }
  int64_t buffer_bytes() const override { return ring_bytes_; }
  int64_t BufferUsedBytes(uint32_t shard) const override;

 private:
  BpfCapture(packet_headers_bpf* skeleton, int64_t ring_bytes, CaptureHook hook, bool has_xdp);

  absl::Status MakeRings(uint32_t shards);
  absl::StatusOr<std::unique_ptr<HookLink>> AttachDirection(const NetworkInterface& interface,
                                                            ph_direction direction, Hook hook);

  packet_headers_bpf* const skeleton_;
  const int64_t ring_bytes_;
  const CaptureHook hook_;
  const bool has_xdp_;
  std::optional<KernelCounters> counters_;     // once loaded
  std::optional<SettledFlows> settled_flows_;  // once loaded
  std::vector<std::unique_ptr<BpfRing>> rings_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_BPF_CAPTURE_H_
