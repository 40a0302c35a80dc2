#include "user/capture/socket_events.h"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "user/base/unique_fd.h"
#include "user/capture/bpf_ring.h"

// Behind the contract, whose types it uses.
#include "socket_events.skel.h"

namespace packet_headers {
namespace {

constexpr const char* kNetworkNamespace = "/proc/self/ns/net";

// About 14,000 events: a third of a second in which 20,000 connections a second come and go.
constexpr uint32_t kRingBytes = 1 << 20;

absl::Status Error(int error, absl::string_view tried) {
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(tried,
                     ": not permitted (it needs CAP_BPF and CAP_PERFMON: run as root, or "
                     "give both to the process)"));
  }
  return absl::ErrnoToStatus(error,
                             absl::StrCat(tried, " (it needs Linux 5.12 or newer, with BTF)"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SocketEvents>> SocketEvents::Start() {
  struct stat netns = {};
  if (stat(kNetworkNamespace, &netns) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("look at ", kNetworkNamespace));
  }
  socket_events_bpf* const skeleton = socket_events_bpf::open();
  if (skeleton == nullptr) return Error(errno, "open the program for socket events");
  std::unique_ptr<SocketEvents> events(new SocketEvents(skeleton));
  skeleton->rodata->netns_inode = static_cast<__u32>(netns.st_ino);
  bpf_map__set_max_entries(skeleton->maps.ph_socket_events, kRingBytes);
  int error = socket_events_bpf::load(skeleton);
  if (error != 0) return Error(-error, "load the program for socket events");

  UniqueFd map(fcntl(bpf_map__fd(skeleton->maps.ph_socket_events), F_DUPFD_CLOEXEC, 0));
  if (!map.valid()) return absl::ErrnoToStatus(errno, "open the ring of socket events");
  absl::StatusOr<std::unique_ptr<BpfRing>> ring = BpfRing::Open(std::move(map));
  if (!ring.ok()) return ring.status();
  events->ring_ = *std::move(ring);

  error = socket_events_bpf::attach(skeleton);
  if (error != 0) return Error(-error, "attach the program for socket events");
  return events;
}

SocketEvents::SocketEvents(socket_events_bpf* skeleton) : skeleton_(skeleton) {}

SocketEvents::~SocketEvents() { socket_events_bpf::destroy(skeleton_); }

int SocketEvents::fd() const { return ring_->map_fd(); }

void SocketEvents::Drain(size_t most, absl::FunctionRef<void(const ph_socket_event&)> use) {
  ring_->Drain(most, [use](absl::Span<const RecordBytes> records) {
    for (const RecordBytes& record : records) {
      use(*static_cast<const ph_socket_event*>(record.data));
    }
  });
}

uint64_t SocketEvents::lost() const {
  return std::atomic_ref(skeleton_->bss->ring_full).load(std::memory_order_relaxed);
}

}  // namespace packet_headers
