#include "user/capture/attached_interfaces.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/escaping.h"
#include "spdlog/spdlog.h"

namespace packet_headers {
namespace {

constexpr size_t kMostClosed = 256;

void Add(const CountersByDirection& from, CountersByDirection& to) {
  for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
    for (int counter = 0; counter < PH_COUNTERS; ++counter) {
      to[direction][counter] += from[direction][counter];
    }
  }
}

}  // namespace

absl::Status AttachedInterfaces::Update(const std::vector<NetworkInterface>& all,
                                        bool has_more_rights) {
  const std::vector<NetworkInterface> selected = SelectInterfaces(all, names_);
  const auto contains = [](const std::vector<NetworkInterface>& interfaces, uint32_t ifindex) {
    return std::any_of(interfaces.begin(), interfaces.end(),
                       [ifindex](const auto& other) { return other.ifindex == ifindex; });
  };

  const std::scoped_lock lock(mutex_);
  std::vector<uint32_t> vanished;
  for (auto& [ifindex, interface] : interfaces_) {
    const auto now = std::find_if(all.begin(), all.end(), [ifindex = ifindex](const auto& other) {
      return other.ifindex == ifindex;
    });
    if (now != all.end()) interface.name = absl::CHexEscape(now->name);
    // One that went down stays attached: it may come up again, and nothing is lost meanwhile.
    const bool stays = now != all.end() && (!now->is_up || contains(selected, ifindex));
    if (!stays || !IsAttached(interface)) vanished.push_back(ifindex);
  }
  for (const uint32_t ifindex : vanished) LetGo(ifindex);
  absl::erase_if(failed_, [&](uint32_t ifindex) { return !contains(selected, ifindex); });

  absl::Status status;
  for (const NetworkInterface& interface : selected) {
    if (interfaces_.contains(interface.ifindex)) continue;
    std::string name = absl::CHexEscape(interface.name);
    absl::StatusOr<Attachment> attachment = engine_.Attach(interface);
    if (!attachment.ok()) {
      CloseBooks(interface.ifindex, {});
      const bool lacks_rights = absl::IsPermissionDenied(attachment.status());
      if (status.ok() || lacks_rights) status = attachment.status();
      if (lacks_rights && has_more_rights) continue;
      if (failed_.insert(interface.ifindex).second) {
        spdlog::warn("not capturing on {}, trying again: {}", name,
                     std::string(attachment.status().message()));
      }
      continue;
    }
    failed_.erase(interface.ifindex);
    spdlog::info("attached to {} (ifindex {}): ingress {}, egress {}", name, interface.ifindex,
                 HookName(attachment->ingress_hook), HookName(attachment->egress_hook));
    interfaces_.emplace(interface.ifindex, Interface{std::move(name), *std::move(attachment),
                                                     ReopenBooks(interface.ifindex)});
  }
  NoteNotCaptured(all, selected);
  return status;
}

void AttachedInterfaces::NoteNotCaptured(const std::vector<NetworkInterface>& all,
                                         const std::vector<NetworkInterface>& selected) {
  const std::vector<std::string> before = std::exchange(not_captured_, {});
  for (const std::string& name : names_) {
    const bool is_there =
        absl::c_any_of(all, [&](const auto& other) { return other.name == name; });
    if (is_there) continue;
    not_captured_.push_back(absl::CHexEscape(name));
    if (absl::c_linear_search(before, not_captured_.back())) continue;
    spdlog::warn("there is no interface {} any more: capturing there again once there is",
                 not_captured_.back());
  }
  for (const NetworkInterface& interface : selected) {
    const auto attached = interfaces_.find(interface.ifindex);
    if (attached != interfaces_.end() && !attached->second.is_taken) continue;
    not_captured_.push_back(absl::CHexEscape(interface.name));
  }
}

bool AttachedInterfaces::IsAttached(Interface& interface) {
  const auto is = [&interface](HookLink::State state) {
    const Attachment& attachment = interface.attachment;
    return attachment.ingress->state() == state ||
           (attachment.egress != nullptr && attachment.egress->state() == state);
  };
  if (is(HookLink::State::kGone)) {
    spdlog::warn("our programs at {} were detached by somebody else", interface.name);
    return false;
  }
  const bool is_taken = is(HookLink::State::kTaken);
  if (is_taken && !interface.is_taken) {
    spdlog::warn("another packet-headers took our place at {}: not capturing there while it does",
                 interface.name);
  }
  interface.is_taken = is_taken;
  return true;
}

void AttachedInterfaces::LetGo(uint32_t ifindex) {
  const auto interface = interfaces_.find(ifindex);
  const std::string name = std::move(interface->second.name);
  const CountersByDirection earlier = interface->second.earlier;
  interfaces_.erase(interface);
  CloseBooks(ifindex, earlier);
  spdlog::info("let go of {} (ifindex {})", name, ifindex);
}

void AttachedInterfaces::CloseBooks(uint32_t ifindex, const CountersByDirection& earlier) {
  engine_.AwaitDetached();
  CountersByDirection counters = engine_.ReadKernelCounters(ifindex);
  engine_.ForgetKernelCounters(ifindex);
  Add(earlier, counters);
  const auto [closed, is_new] = closed_.try_emplace(ifindex);
  Add(counters, closed->second);
  if (!is_new) return;
  closed_order_.push_back(ifindex);
  if (closed_order_.size() > kMostClosed) Add(ReopenBooks(closed_order_.front()), gone_);
}

CountersByDirection AttachedInterfaces::ReopenBooks(uint32_t ifindex) {
  const auto closed = closed_.find(ifindex);
  if (closed == closed_.end()) return {};
  const CountersByDirection counters = closed->second;
  closed_.erase(closed);
  std::erase(closed_order_, ifindex);
  return counters;
}

Ifindexes AttachedInterfaces::WithBooks(const std::vector<NetworkInterface>& all) const {
  const std::scoped_lock lock(mutex_);
  Ifindexes ifindexes;
  for (const NetworkInterface& interface : all) ifindexes.insert(interface.ifindex);
  for (const auto& [ifindex, interface] : interfaces_) ifindexes.insert(ifindex);
  for (const auto& [ifindex, counters] : closed_) ifindexes.insert(ifindex);
  return ifindexes;
}

void AttachedInterfaces::DetachAll() {
  const std::scoped_lock lock(mutex_);
  for (auto& [ifindex, interface] : interfaces_) {
    interface.attachment.egress = nullptr;
    interface.attachment.ingress = nullptr;
  }
  engine_.AwaitDetached();
}

std::vector<std::string> AttachedInterfaces::NotCaptured() const {
  const std::scoped_lock lock(mutex_);
  return not_captured_;
}

std::vector<AttachedInterfaces::Status> AttachedInterfaces::Attached() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Status> attached;
  for (const auto& [ifindex, interface] : interfaces_) {
    if (interface.is_taken) continue;
    attached.push_back(
        {interface.name, interface.attachment.ingress_hook, interface.attachment.egress_hook});
  }
  return attached;
}

std::optional<AttachedInterfaces::Status> AttachedInterfaces::Find(uint32_t ifindex) const {
  const std::scoped_lock lock(mutex_);
  const auto interface = interfaces_.find(ifindex);
  if (interface == interfaces_.end()) return std::nullopt;
  const Attachment& attachment = interface->second.attachment;
  return Status{interface->second.name, attachment.ingress_hook, attachment.egress_hook};
}

absl::btree_map<std::string, CountersByDirection> AttachedInterfaces::Join(
    const absl::flat_hash_map<uint32_t, CountersByDirection>& user) const {
  const std::scoped_lock lock(mutex_);
  absl::btree_map<std::string, CountersByDirection> books;
  const auto add = [&](uint32_t ifindex, const CountersByDirection& counters) {
    if (counters == CountersByDirection{}) return;
    const auto interface = interfaces_.find(ifindex);
    Add(counters, books[interface != interfaces_.end() ? interface->second.name : kGoneInterfaces]);
  };
  for (const auto& [ifindex, interface] : interfaces_) {
    Add(interface.earlier, books[interface.name]);
    Add(engine_.ReadKernelCounters(ifindex), books[interface.name]);
  }
  for (const auto& [ifindex, counters] : closed_) add(ifindex, counters);
  for (const auto& [ifindex, counters] : user) add(ifindex, counters);
  add(Books::kOthers, gone_);
  return books;
}

}  // namespace packet_headers
