#include "user/capture/settled_flows.h"

#include <bpf/bpf.h>

#include <cstring>
#include <vector>

#include "packet_headers/settled_flow.h"
#include "user/flow/clock.h"

namespace packet_headers {

SettledFlows::Key SettledFlows::BytesOf(const ph_flow_key& key) {
  Key bytes;
  std::memcpy(bytes.data(), &key, bytes.size());
  return bytes;
}

void SettledFlows::Settle(const ph_flow_key& key) {
  const ph_settled_flow fresh = {.packets = 0};
  absl::MutexLock lock(&mutex_);
  if (bpf_map_update_elem(map_, &key, &fresh, BPF_ANY) != 0) return;
  *any_settled_ = 1;
  flows_[BytesOf(key)] = {0, MonotonicNow()};
}

void SettledFlows::Unsettle(const ph_flow_key& key) {
  absl::MutexLock lock(&mutex_);
  bpf_map_delete_elem(map_, &key);
  flows_.erase(BytesOf(key));
}

void SettledFlows::Sweep(int64_t now_ns, int64_t idle_ns) {
  std::vector<Key> keys;
  {
    absl::MutexLock lock(&mutex_);
    keys.reserve(flows_.size());
    for (const auto& [key, activity] : flows_) keys.push_back(key);
  }
  // A lock for each: a system call is made under it, and shards wait.
  for (const Key& key : keys) {
    absl::MutexLock lock(&mutex_);
    const auto flow = flows_.find(key);
    if (flow != flows_.end() && IsOver(flow->first, flow->second, now_ns, idle_ns)) {
      flows_.erase(flow);
    }
  }
  absl::MutexLock lock(&mutex_);
  if (flows_.empty()) *any_settled_ = 0;
}

bool SettledFlows::IsOver(const Key& key, Activity& activity, int64_t now_ns, int64_t idle_ns) {
  ph_settled_flow now;
  // The kernel has let go of those that began anew.
  if (bpf_map_lookup_elem(map_, key.data(), &now) != 0) return true;
  if (now.packets != activity.packets) {
    activity = {now.packets, now_ns};
    return false;
  }
  if (now_ns - activity.since_ns < idle_ns) return false;
  bpf_map_delete_elem(map_, key.data());
  return true;
}

int64_t SettledFlows::count() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(flows_.size());
}

}  // namespace packet_headers
