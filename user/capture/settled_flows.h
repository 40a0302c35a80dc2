// The flows of which the kernel sends no more records.

#ifndef PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_
#define PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_

#include <cstdint>
#include <mutex>

#include "packet_headers/flow_key.h"
#include "user/flow/flow_key_hash.h"
#include "user/flow/flow_table.h"

namespace packet_headers {

// Thread-safe.
class SettledFlows : public KernelFlows {
 public:
  // The descriptor of the map ph_settled and the kernel's any_settled, which outlive it. The seed
  // is secret.
  SettledFlows(int map, uint32_t* any_settled, const ph_hash_seed& seed)
      : map_(map), any_settled_(any_settled), flows_(0, FlowKeyHash(seed)) {}

  // Where the kernel has no room left, the records keep coming. Half of it is kept for flows that
  // are owned.
  void Settle(const ph_flow_key& key, bool is_owned) override;
  void Unsettle(const ph_flow_key& key) override;

  // Takes back those that sent nothing for `idle_ns`. To be called every few seconds.
  void Sweep(int64_t now_ns, int64_t idle_ns);

  // Those included that began anew since the last sweep.
  int64_t count() const;

 private:
  struct Activity {
    uint64_t packets;  // at the last sweep
    int64_t since_ns;  // when they became so many
  };

  // Whether the kernel has let go of the flow, or now does. Notes what it sent.
  bool IsOver(const ph_flow_key& key, Activity& activity, int64_t now_ns, int64_t idle_ns);

  const int map_;
  uint32_t* const any_settled_;
  mutable std::mutex mutex_;  // guards what follows
  FlowKeyMap<Activity> flows_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_SETTLED_FLOWS_H_
