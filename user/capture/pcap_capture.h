// The engine for where no BPF program may be loaded: libpcap, which needs CAP_NET_RAW alone.

#ifndef PACKET_HEADERS_USER_CAPTURE_PCAP_CAPTURE_H_
#define PACKET_HEADERS_USER_CAPTURE_PCAP_CAPTURE_H_

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "packet_headers/flow_key.h"
#include "user/base/unique_fd.h"
#include "user/capture/capture_engine.h"
#include "user/flow/books.h"
#include "user/flow/record_source.h"
#include "user/identity/owner_cache.h"
#include "user/identity/socket_owners.h"

namespace packet_headers {

// One shard, whose thread reads the kernel's buffers itself, as its source of records.
class PcapCapture : public CaptureEngine, private RecordSource, private KernelFlows {
 public:
  // The n-th buffer, of which every direction of every interface has one, gets an n-th of
  // `buffer_bytes`, and 2 MiB at least: many interfaces must not take all memory. Without `owners`
  // no record has a cookie. PermissionDenied without CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<PcapCapture>> Open(const ph_hash_seed& seed,
                                                           int64_t buffer_bytes,
                                                           std::unique_ptr<SocketOwners> owners);
  ~PcapCapture() override;

  uint32_t shards() const override { return 1; }
  // Not where a socket was gone before it was asked for; then TakeOwners() may tell.
  bool sees_cookies() const override { return false; }
  bool uses_bpf() const override { return false; }
  RecordSource& source(uint32_t) override { return *this; }
  KernelFlows& kernel_flows() override { return *this; }

  // Unavailable of an interface that is down.
  absl::StatusOr<Attachment> Attach(const NetworkInterface& interface) override;
  // The end of an attachment has waited already.
  void AwaitDetached() override {}

  // What the kernel drops is counted in user space, with the rest.
  CountersByDirection ReadKernelCounters(uint32_t) const override { return {}; }
  void ForgetKernelCounters(uint32_t) override {}
  void AddTo(absl::flat_hash_map<uint32_t, CountersByDirection>& totals) const override {
    books_.AddTo(totals);
  }
  void KeepBooksOf(std::shared_ptr<const Ifindexes> kept) override {
    books_.KeepOnly(std::move(kept));
  }

  void Sweep(int64_t now_ns, int64_t idle_ns) override;

  int64_t settled_flows() const override { return 0; }
  int64_t buffer_bytes() const override { return buffer_bytes_; }
  // Of the packets that the last drain found: libpcap doesn't tell how many wait.
  int64_t BufferUsedBytes(uint32_t) const override {
    return drained_bytes_.load(std::memory_order_relaxed);
  }

 private:
  struct Tap;
  class Link;

  PcapCapture(const ph_hash_seed& seed, int64_t buffer_bytes, std::unique_ptr<SocketOwners> owners,
              UniqueFd arrived);

  absl::StatusOr<std::unique_ptr<HookLink>> AttachTap(const NetworkInterface& interface,
                                                      std::vector<ph_direction> directions);

  // The thread of the shard.
  void Wait(absl::Duration most) override;
  size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) override;
  int64_t FillPpm() const override { return BufferUsedBytes(0) * 1'000'000 / buffer_bytes_; }
  std::vector<FlowOwner> TakeOwners() override { return std::exchange(late_owners_, {}); }
  void Settle(const ph_flow_key&, bool) override {}
  void Unsettle(const ph_flow_key&) override {}

  void TakeArrivals();
  void ReadDepartures();
  void FollowWallClock(int64_t now_ns);
  // Reads on to the tap's next record, or to its end for this round.
  void ReadOn(Tap& tap, int64_t now_ns);
  void Use(Tap& tap, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use);
  void CountDropped(Tap& tap);
  // Those that were stopped and read to their end.
  void Retire();

  const ph_hash_seed seed_;
  const int64_t buffer_bytes_;
  const std::unique_ptr<SocketOwners> owners_;
  const UniqueFd arrived_;  // an eventfd, readable while there is something in arrivals_
  Books books_;
  std::atomic<int64_t> drained_bytes_{0};
  int64_t open_taps_ = 0;  // the main thread's

  std::mutex mutex_;  // guards what follows
  std::vector<std::unique_ptr<Tap>> arrivals_;
  std::vector<std::unique_ptr<Tap>> retired_;

  // The thread of the shard.
  OwnerCache cache_;
  std::vector<FlowOwner> late_owners_;
  std::vector<std::unique_ptr<Tap>> taps_;
  std::vector<pollfd> polled_;  // arrived_, then the taps in their order
  std::vector<Tap*> waiting_;   // a heap of those with a record for this round, earliest first
  bool more_ = false;           // the last round left records behind
  int64_t round_bytes_ = 0;
  int64_t wall_offset_ns_ = 0;
  int64_t next_offset_ns_ = 0;
  int64_t next_dropped_ns_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_PCAP_CAPTURE_H_
