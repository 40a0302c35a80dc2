// The flows of which the kernel sends no more records.

#ifndef PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_
#define PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_

#include <array>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "packet_headers/flow_key.h"
#include "user/flow/flow_table.h"

namespace packet_headers {

// Thread-safe.
class SettledFlows : public KernelFlows {
 public:
  // The descriptor of the map ph_settled and the kernel's any_settled, which outlive it.
  SettledFlows(int map, uint32_t* any_settled) : map_(map), any_settled_(any_settled) {}

  // Where the kernel has no room left, the records keep coming.
  void Settle(const ph_flow_key& key) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Unsettle(const ph_flow_key& key) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes back those that sent nothing for `idle_ns`. To be called every few seconds.
  void Sweep(int64_t now_ns, int64_t idle_ns) ABSL_LOCKS_EXCLUDED(mutex_);

  // Those included that began anew since the last sweep.
  int64_t count() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Key = std::array<uint8_t, sizeof(ph_flow_key)>;
  static Key BytesOf(const ph_flow_key& key);
  struct Activity {
    uint64_t packets;  // at the last sweep
    int64_t since_ns;  // when they became so many
  };

  // Whether the kernel has let go of the flow, or now does. Notes what it sent.
  bool IsOver(const Key& key, Activity& activity, int64_t now_ns, int64_t idle_ns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int map_;
  uint32_t* const any_settled_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Key, Activity> flows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_
