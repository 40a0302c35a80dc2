// What captures packets on interfaces and turns them into header records.

#ifndef PACKET_HEADERS_USER_CAPTURE_CAPTURE_ENGINE_H_
#define PACKET_HEADERS_USER_CAPTURE_CAPTURE_ENGINE_H_

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "user/capture/hook.h"
#include "user/capture/network_interface.h"
#include "user/flow/books.h"
#include "user/flow/flow_table.h"
#include "user/flow/record_source.h"

namespace packet_headers {

// The capture of one interface, until it is destroyed.
struct Attachment {
  Hook ingress_hook;
  Hook egress_hook;
  std::unique_ptr<HookLink> ingress;
  std::unique_ptr<HookLink> egress;  // goes first: the one before may own the qdisc
};

class CaptureEngine {
 public:
  virtual ~CaptureEngine() = default;

  // How many shards the records are spread over.
  virtual uint32_t shards() const = 0;

  // Whether each packet that a local socket sends tells its cookie. If not, some do.
  virtual bool sees_cookies() const = 0;

  // Whether programs in the kernel capture, else packet sockets.
  virtual bool uses_bpf() const = 0;

  // The records of a shard; its thread's, and gone with this object.
  virtual RecordSource& source(uint32_t shard) = 0;

  // What the shards tell of settled flows.
  virtual KernelFlows& kernel_flows() = 0;

  // Begins to capture on the interface. Main thread. The engine outlives the attachment.
  virtual absl::StatusOr<Attachment> Attach(const NetworkInterface& interface) = 0;

  // Returns when no packet of what was detached before comes any more, other than those that
  // wait in the sources.
  virtual void AwaitDetached() = 0;

  // What the kernel counts at an interface that is attached, or was and is not forgotten. Any
  // thread.
  virtual CountersByDirection ReadKernelCounters(uint32_t ifindex) const = 0;
  virtual void ForgetKernelCounters(uint32_t ifindex) = 0;

  // Adds what the engine itself has counted in user space, by ifindex. Any thread.
  virtual void AddTo(absl::flat_hash_map<uint32_t, CountersByDirection>& totals) const = 0;

  // Of which interfaces it is to keep what it counts in user space; as Books has it. Any thread.
  virtual void KeepBooksOf(std::shared_ptr<const Ifindexes> kept) = 0;

  // To be called every few seconds from the main thread. Settled flows that sent nothing for
  // `idle_ns` are forgotten.
  virtual void Sweep(int64_t now_ns, int64_t idle_ns) = 0;

  // Gauges, for any thread.
  virtual int64_t settled_flows() const = 0;
  virtual int64_t buffer_bytes() const = 0;                   // of each shard's buffer
  virtual int64_t BufferUsedBytes(uint32_t shard) const = 0;  // of which so many wait
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_CAPTURE_ENGINE_H_
