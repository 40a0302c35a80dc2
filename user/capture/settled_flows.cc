#include "user/capture/settled_flows.h"

#include <bpf/bpf.h>

#include <vector>

#include "packet_headers/settled_flow.h"
#include "user/base/clock.h"

namespace packet_headers {

void SettledFlows::Settle(const ph_flow_key& key, bool is_owned) {
  const ph_settled_flow fresh = {.packets = 0};
  const std::scoped_lock lock(mutex_);
  if (!is_owned && flows_.size() >= PH_MAX_SETTLED_FLOWS / 2) return;
  if (bpf_map_update_elem(map_, &key, &fresh, BPF_ANY) != 0) return;
  *any_settled_ = 1;
  flows_[key] = {0, MonotonicNow()};
}

void SettledFlows::Unsettle(const ph_flow_key& key) {
  const std::scoped_lock lock(mutex_);
  bpf_map_delete_elem(map_, &key);
  flows_.erase(key);
}

void SettledFlows::Sweep(int64_t now_ns, int64_t idle_ns) {
  std::vector<ph_flow_key> keys;
  {
    const std::scoped_lock lock(mutex_);
    keys.reserve(flows_.size());
    for (const auto& [key, activity] : flows_) keys.push_back(key);
  }
  // A lock for each: a system call is made under it, and shards wait.
  for (const ph_flow_key& key : keys) {
    const std::scoped_lock lock(mutex_);
    const auto flow = flows_.find(key);
    if (flow != flows_.end() && IsOver(flow->first, flow->second, now_ns, idle_ns)) {
      flows_.erase(flow);
    }
  }
  const std::scoped_lock lock(mutex_);
  if (flows_.empty()) *any_settled_ = 0;
}

bool SettledFlows::IsOver(const ph_flow_key& key, Activity& activity, int64_t now_ns,
                          int64_t idle_ns) {
  ph_settled_flow now;
  // The kernel has let go of those that began anew.
  if (bpf_map_lookup_elem(map_, &key, &now) != 0) return true;
  if (now.packets != activity.packets) {
    activity = {now.packets, now_ns};
    return false;
  }
  if (now_ns - activity.since_ns < idle_ns) return false;
  bpf_map_delete_elem(map_, &key);
  return true;
}

int64_t SettledFlows::count() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<int64_t>(flows_.size());
}

}  // namespace packet_headers
