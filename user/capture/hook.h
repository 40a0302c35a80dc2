// Where packets are taken from an interface, and what attaches a program there.

#ifndef PACKET_HEADERS_USER_CAPTURE_HOOK_H_
#define PACKET_HEADERS_USER_CAPTURE_HOOK_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "packet_headers/contract.h"
#include "user/capture/network_interface.h"

namespace packet_headers {

// All but kPcap, a packet socket, are hooks of programs.
enum class Hook { kXdp, kTcx, kClsact, kPcap };

const char* HookName(Hook hook);

// A program at a hook of an interface, or what else captures there, until it is destroyed. Programs
// of others are never replaced.
class HookLink {
 public:
  enum class State {
    kAttached,
    kGone,   // somebody else, or the end of the interface, took it away
    kTaken,  // another process of ours took its place
  };

  virtual ~HookLink() = default;

  virtual State state() const { return State::kAttached; }
};

// Tells of the programs of others in the TCX chains of these interfaces, which all work beside
// ours. Needs CAP_NET_ADMIN, which attaching doesn't, and tells nothing without.
void TellWhoSharesHooks(absl::Span<const NetworkInterface> interfaces);

// Attaches the program of `program_fd`, of the type that the hook takes; XDP means the driver's own
// (never generic) and ingress.
absl::StatusOr<std::unique_ptr<HookLink>> AttachToHook(Hook hook, ph_direction direction,
                                                       const NetworkInterface& interface,
                                                       int program_fd);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_HOOK_H_
