#include "user/capture/attached_interfaces.h"

#include <algorithm>
#include <utility>

#include "spdlog/spdlog.h"

namespace packet_headers {
namespace {

void Add(const CountersByDirection& from, CountersByDirection& to) {
  for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
    for (int counter = 0; counter < PH_COUNTERS; ++counter) {
      to[direction][counter] += from[direction][counter];
    }
  }
}

}  // namespace

absl::Status AttachedInterfaces::Update(const std::vector<NetworkInterface>& all) {
  const std::vector<NetworkInterface> selected = SelectInterfaces(all, names_);
  const auto contains = [](const std::vector<NetworkInterface>& interfaces, uint32_t ifindex) {
    return std::any_of(interfaces.begin(), interfaces.end(),
                       [ifindex](const auto& other) { return other.ifindex == ifindex; });
  };

  absl::MutexLock lock(&mutex_);
  std::vector<uint32_t> vanished;
  for (auto& [ifindex, interface] : interfaces_) {
    const auto now = std::find_if(all.begin(), all.end(), [ifindex = ifindex](const auto& other) {
      return other.ifindex == ifindex;
    });
    if (now != all.end()) interface.name = now->name;
    // One that went down stays attached: it may come up again, and nothing is lost meanwhile.
    const bool stays = now != all.end() && (!now->is_up || contains(selected, ifindex));
    if (!stays) vanished.push_back(ifindex);
  }
  for (const uint32_t ifindex : vanished) LetGo(ifindex);
  absl::erase_if(failed_, [&](uint32_t ifindex) { return !contains(selected, ifindex); });

  absl::Status status;
  for (const NetworkInterface& interface : selected) {
    if (interfaces_.contains(interface.ifindex)) continue;
    absl::StatusOr<Attachment> attachment = engine_.Attach(interface);
    if (!attachment.ok()) {
      CloseBooks(interface.ifindex);
      status.Update(attachment.status());
      if (failed_.insert(interface.ifindex).second) {
        spdlog::warn("not capturing on {}, trying again: {}", interface.name,
                     std::string(attachment.status().message()));
      }
      continue;
    }
    failed_.erase(interface.ifindex);
    spdlog::info("attached to {} (ifindex {}): ingress {}, egress {}", interface.name,
                 interface.ifindex, HookName(attachment->ingress_hook),
                 HookName(attachment->egress_hook));
    interfaces_.emplace(interface.ifindex, Interface{interface.name, *std::move(attachment)});
  }
  return status;
}

void AttachedInterfaces::LetGo(uint32_t ifindex) {
  const auto interface = interfaces_.find(ifindex);
  const std::string name = std::move(interface->second.name);
  interfaces_.erase(interface);
  CloseBooks(ifindex);
  spdlog::info("let go of {} (ifindex {})", name, ifindex);
}

void AttachedInterfaces::CloseBooks(uint32_t ifindex) {
  engine_.AwaitDetached();
  Add(engine_.ReadKernelCounters(ifindex), gone_);
  engine_.ForgetKernelCounters(ifindex);
}

void AttachedInterfaces::DetachAll() {
  absl::MutexLock lock(&mutex_);
  for (auto& [ifindex, interface] : interfaces_) {
    interface.attachment.egress = nullptr;
    interface.attachment.ingress = nullptr;
  }
  engine_.AwaitDetached();
}

std::vector<AttachedInterfaces::Status> AttachedInterfaces::Attached() const {
  absl::MutexLock lock(&mutex_);
  std::vector<Status> attached;
  for (const auto& [ifindex, interface] : interfaces_) {
    attached.push_back(
        {interface.name, interface.attachment.ingress_hook, interface.attachment.egress_hook});
  }
  return attached;
}

absl::btree_map<std::string, CountersByDirection> AttachedInterfaces::Join(
    const absl::flat_hash_map<uint32_t, CountersByDirection>& user) const {
  absl::MutexLock lock(&mutex_);
  absl::btree_map<std::string, CountersByDirection> books;
  for (const auto& [ifindex, interface] : interfaces_) {
    Add(engine_.ReadKernelCounters(ifindex), books[interface.name]);
  }
  if (gone_ != CountersByDirection{}) Add(gone_, books[kGoneInterfaces]);
  for (const auto& [ifindex, counters] : user) {
    const auto interface = interfaces_.find(ifindex);
    Add(counters, books[interface != interfaces_.end() ? interface->second.name : kGoneInterfaces]);
  }
  return books;
}

}  // namespace packet_headers
