// Keeps the engine attached to the interfaces that are to be captured, as they come and go.

#ifndef PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_
#define PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "user/capture/capture_engine.h"
#include "user/capture/network_interface.h"
#include "user/flow/books.h"

namespace packet_headers {

// The books of all interfaces that are gone go by this name.
inline constexpr char kGoneInterfaces[] = "(gone)";

class AttachedInterfaces {
 public:
  struct Status {
    std::string name;  // as it is shown: Linux allows almost any bytes, here they are escaped
    Hook ingress;
    Hook egress;
  };

  // `names` as in -interface. `engine` outlives it.
  AttachedInterfaces(CaptureEngine& engine, std::vector<std::string> names)
      : engine_(engine), names_(std::move(names)) {}

  // Attaches to those of `all` that are to be captured and are not yet, or were and have been
  // detached by others, and lets go of those that are not among them. Main thread. An error says
  // what could not be attached; the rest is, and the next call tries again. Where rights were
  // missing it is PermissionDenied, which is not logged if the caller `has_more_rights` to come
  // again with.
  absl::Status Update(const std::vector<NetworkInterface>& all, bool has_more_rights = false);

  // The interfaces whose books are told apart, if Update(all) comes next. Main thread.
  Ifindexes WithBooks(const std::vector<NetworkInterface>& all) const;

  // Lets go of all; afterwards the kernel's counters stand still. Main thread.
  void DetachAll();

  // Any thread.
  std::vector<Status> Attached() const;

  // Those that were to be captured at the last Update() and were not, named as in Status: attaching
  // failed, another process of ours took the place, or -interface names one that is gone. Any
  // thread.
  std::vector<std::string> NotCaptured() const;

  // Of one interface, until it is gone. Any thread.
  std::optional<Status> Find(uint32_t ifindex) const;

  // The kernel's counters joined with those of user space in `user`, by interface name.
  absl::btree_map<std::string, CountersByDirection> Join(
      const absl::flat_hash_map<uint32_t, CountersByDirection>& user) const;

 private:
  struct Interface {
    std::string name;  // as in Status
    Attachment attachment;
    CountersByDirection earlier = {};  // the kernel's counters of past attachments
    bool is_taken = false;             // by another process of ours
  };

  // Whether the attachment is still there. Tells if somebody else took its place.
  static bool IsAttached(Interface& interface);
  void LetGo(uint32_t ifindex);
  void NoteNotCaptured(const std::vector<NetworkInterface>& all,
                       const std::vector<NetworkInterface>& selected);
  // Takes over the kernel's counters of an interface at which no program is attached any more.
  void CloseBooks(uint32_t ifindex, const CountersByDirection& earlier);
  // The counters of an interface that was let go and comes back.
  CountersByDirection ReopenBooks(uint32_t ifindex);

  CaptureEngine& engine_;
  const std::vector<std::string> names_;
  mutable std::mutex mutex_;                         // guards what follows
  absl::btree_map<uint32_t, Interface> interfaces_;  // by ifindex
  absl::flat_hash_set<uint32_t> failed_;             // ifindexes, complained about
  std::vector<std::string> not_captured_;
  // The kernel's counters of those let go. An interface may come back under its ifindex, and
  // packets of before be counted in user space until then; so the last of them are told apart.
  absl::flat_hash_map<uint32_t, CountersByDirection> closed_;
  std::deque<uint32_t> closed_order_;  // the keys, oldest first
  CountersByDirection gone_ = {};      // of those before
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_
