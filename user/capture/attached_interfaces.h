// Keeps the engine attached to the interfaces that are to be captured, as they come and go.

#ifndef PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_
#define PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "user/capture/capture_engine.h"
#include "user/capture/network_interface.h"
#include "user/flow/books.h"

namespace packet_headers {

// The books of all interfaces that are gone go by this name.
inline constexpr char kGoneInterfaces[] = "(gone)";

class AttachedInterfaces {
 public:
  struct Status {
    std::string name;
    Hook ingress;
    Hook egress;
  };

  // `names` as in -interface. `engine` outlives it.
  AttachedInterfaces(CaptureEngine& engine, std::vector<std::string> names)
      : engine_(engine), names_(std::move(names)) {}

  // Attaches to those of `all` that are to be captured and are not yet, and lets go of those that
  // are not among them. Main thread. An error says what could not be attached; the rest is, and
  // the next call tries again.
  absl::Status Update(const std::vector<NetworkInterface>& all) ABSL_LOCKS_EXCLUDED(mutex_);

  // Lets go of all; afterwards the kernel's counters stand still. Main thread.
  void DetachAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // Any thread.
  std::vector<Status> Attached() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The kernel's counters joined with those of user space in `user`, by interface name.
  absl::btree_map<std::string, CountersByDirection> Join(
      const absl::flat_hash_map<uint32_t, CountersByDirection>& user) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Interface {
    std::string name;
    Attachment attachment;
  };

  void LetGo(uint32_t ifindex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes over the kernel's counters of an interface at which no program is attached any more.
  void CloseBooks(uint32_t ifindex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CaptureEngine& engine_;
  const std::vector<std::string> names_;
  mutable absl::Mutex mutex_;
  absl::btree_map<uint32_t, Interface> interfaces_ ABSL_GUARDED_BY(mutex_);  // by ifindex
  absl::flat_hash_set<uint32_t> failed_ ABSL_GUARDED_BY(mutex_);  // ifindexes, complained about
  CountersByDirection gone_ ABSL_GUARDED_BY(mutex_) = {};  // the kernel's counters of past ones
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_ATTACHED_INTERFACES_H_
