#include "user/capture/bpf_capture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "packet_headers/kernel_config.h"
#include "spdlog/spdlog.h"
#include "user/capture/bpf_ring.h"

// Behind the contract, whose types it uses.
#include "packet_headers.skel.h"

namespace packet_headers {
namespace {

// What libbpf said of the failure, for the error that it leads to. Only the main thread loads.
std::string& Warnings() {
  static std::string* const warnings = new std::string;
  return *warnings;
}

int KeepWarning(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  va_list again;
  va_copy(again, arguments);
  std::string text(std::vsnprintf(nullptr, 0, format, again), '\0');
  va_end(again);
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  Warnings() += text;
  return 0;
}

// Of all that was said: which program it was, which comes first, and why, which is the last that
// the verifier says before its statistics.
std::string WhyNotLoaded() {
  const std::vector<std::string> lines = absl::StrSplit(Warnings(), '\n', absl::SkipEmpty());
  if (lines.empty()) return "nothing";
  for (size_t i = 1; i < lines.size(); ++i) {
    if (absl::StartsWith(lines[i], "processed ")) {
      return absl::StrCat(lines[0], ": ", lines[i - 1]);
    }
  }
  return lines[0];
}

int64_t RingBytes(int64_t at_least) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return static_cast<int64_t>(std::bit_ceil(std::max<uint64_t>(at_least, page)));
}

absl::Status LoadError(int error) {
  if (error == EPERM) {
    return absl::PermissionDeniedError(
        "load the BPF programs: not permitted (they need CAP_BPF and CAP_NET_ADMIN: run as root, "
        "or give both to the process, and before Linux 5.11 an unlimited RLIMIT_MEMLOCK)");
  }
  return absl::ErrnoToStatus(
      error, absl::StrCat(
                 "load the BPF programs (they need Linux 5.10 or newer, and before 6.1 CAP_PERFMON "
                 "as well); libbpf says: ",
                 WhyNotLoaded()));
}

// Hooks in the order in which they are tried.
std::vector<Hook> HooksToTry(const NetworkInterface& interface, CaptureHook choice,
                             ph_direction direction, bool has_xdp) {
  switch (choice) {
    case CaptureHook::kXdp:
      if (direction == PH_INGRESS) return {Hook::kXdp};
      return {Hook::kTcx, Hook::kClsact};
    case CaptureHook::kTcx:
      return {Hook::kTcx};
    case CaptureHook::kClsact:
      return {Hook::kClsact};
    default:
      // On virtual devices XDP costs the host more than it saves.
      if (has_xdp && direction == PH_INGRESS && interface.is_physical &&
          interface.link_layer() == PH_LINK_ETHERNET) {
        return {Hook::kXdp, Hook::kTcx, Hook::kClsact};
      }
      return {Hook::kTcx, Hook::kClsact};
  }
}

}  // namespace

BpfCapture::BpfCapture(packet_headers_bpf* skeleton, int64_t ring_bytes, CaptureHook hook,
                       bool has_xdp)
    : skeleton_(skeleton), ring_bytes_(ring_bytes), hook_(hook), has_xdp_(has_xdp) {}

BpfCapture::~BpfCapture() { packet_headers_bpf::destroy(skeleton_); }

absl::StatusOr<std::unique_ptr<BpfCapture>> BpfCapture::Load(uint32_t shards, int64_t ring_bytes,
                                                             CaptureHook hook,
                                                             const ph_hash_seed& hash_seed) {
  Warnings().clear();
  libbpf_set_print(KeepWarning);
  // libbpf remembers the number: KernelCounters can rely on it from now on.
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return absl::ErrnoToStatus(-cpus, "learn how many CPUs there can be");
  packet_headers_bpf* skeleton = packet_headers_bpf::open();
  if (skeleton == nullptr) return LoadError(errno);
  const bool has_xdp =
      libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP, BPF_FUNC_xdp_get_buff_len, nullptr) == 1;
  std::unique_ptr<BpfCapture> capture(
      new BpfCapture(skeleton, RingBytes(ring_bytes), hook, has_xdp));

  bpf_program__set_autoload(skeleton->progs.ph_xdp_in_eth, has_xdp);
  ph_kernel_config& config = const_cast<ph_kernel_config&>(skeleton->rodata->config);
  config.hash_seed = hash_seed;
  config.shards = shards;
  config.wakeup_bytes = static_cast<uint32_t>(capture->ring_bytes_ / 2);
  config.shed_bytes = static_cast<uint32_t>(capture->ring_bytes_ / 4 * 3);
  bpf_map__set_max_entries(skeleton->maps.ph_rings, shards);
  const int error = packet_headers_bpf::load(skeleton);
  libbpf_set_print(nullptr);  // what follows tells by its errors
  if (error != 0) return LoadError(-error);
  capture->counters_.emplace(bpf_map__fd(skeleton->maps.ph_counters),
                             bpf_map__fd(skeleton->maps.ph_counters_2nd));
  capture->settled_flows_.emplace(bpf_map__fd(skeleton->maps.ph_settled),
                                  &skeleton->bss->any_settled, hash_seed);
  const absl::Status status = capture->MakeRings(shards);
  if (!status.ok()) return status;
  return capture;
}

absl::Status BpfCapture::MakeRings(uint32_t shards) {
  for (uint32_t shard = 0; shard < shards; ++shard) {
    UniqueFd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, absl::StrCat("ph_ring_", shard).c_str(), 0,
                                 0, static_cast<uint32_t>(ring_bytes_), nullptr));
    if (!ring.valid()) {
      return absl::ErrnoToStatus(errno, absl::StrCat("make a ring buffer of ", ring_bytes_,
                                                     " bytes (-capture.ringsize sets its size)"));
    }
    const int fd = ring.get();
    if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.ph_rings), &shard, &fd, BPF_ANY) != 0) {
      return absl::ErrnoToStatus(errno, "give the kernel a ring buffer");
    }
    absl::StatusOr<std::unique_ptr<BpfRing>> reader = BpfRing::Open(std::move(ring));
    if (!reader.ok()) return reader.status();
    rings_.push_back(*std::move(reader));
    rings_.back()->Touch(bpf_program__fd(skeleton_->progs.ph_touch_ring), shard);
  }
  return absl::OkStatus();
}

RecordSource& BpfCapture::source(uint32_t shard) { return *rings_[shard]; }

int64_t BpfCapture::BufferUsedBytes(uint32_t shard) const { return rings_[shard]->used_bytes(); }

CountersByDirection BpfCapture::ReadKernelCounters(uint32_t ifindex) const {
  return counters_->Read(ifindex);
}

void BpfCapture::ForgetKernelCounters(uint32_t ifindex) { counters_->Forget(ifindex); }

absl::StatusOr<std::unique_ptr<HookLink>> BpfCapture::AttachDirection(
    const NetworkInterface& interface, ph_direction direction, Hook hook) {
  const bool is_ethernet = interface.link_layer() == PH_LINK_ETHERNET;
  const auto& programs = skeleton_->progs;
  const bpf_program* program = direction == PH_EGRESS
                                   ? (is_ethernet ? programs.ph_tc_out_eth : programs.ph_tc_out_ip)
                                   : (is_ethernet ? programs.ph_tc_in_eth : programs.ph_tc_in_ip);
  if (hook == Hook::kXdp) {
    if (!is_ethernet) {
      return absl::InvalidArgumentError(
          absl::StrCat("attach xdp to ", interface.name,
                       ": it has no Ethernet header (-capture.hook=tcx uses TC instead)"));
    }
    if (!has_xdp_) {
      return absl::UnimplementedError(
          absl::StrCat("attach xdp to ", interface.name,
                       ": needs Linux 5.18 or newer (-capture.hook=clsact uses TC instead)"));
    }
    program = programs.ph_xdp_in_eth;
  }
  return AttachToHook(hook, direction, interface, bpf_program__fd(program));
}

absl::StatusOr<Attachment> BpfCapture::Attach(const NetworkInterface& interface) {
  Attachment attachment;
  const absl::Status status = counters_->Begin(interface.ifindex);
  if (!status.ok()) return status;
  for (const ph_direction direction : {PH_INGRESS, PH_EGRESS}) {
    std::vector<std::string> failures;
    absl::Status last_failure;
    bool attached = false;
    for (const Hook hook : HooksToTry(interface, hook_, direction, has_xdp_)) {
      absl::StatusOr<std::unique_ptr<HookLink>> link = AttachDirection(interface, direction, hook);
      if (!link.ok()) {
        failures.emplace_back(link.status().message());
        last_failure = link.status();
        continue;
      }
      // An older kernel without TCX is nothing to tell of.
      if (direction == PH_INGRESS && hook != Hook::kXdp && !failures.empty() &&
          HooksToTry(interface, hook_, direction, has_xdp_)[0] == Hook::kXdp) {
        spdlog::info("{} instead: {}", HookName(hook), failures[0]);
      }
      (direction == PH_INGRESS ? attachment.ingress_hook : attachment.egress_hook) = hook;
      (direction == PH_INGRESS ? attachment.ingress : attachment.egress) = *std::move(link);
      attached = true;
      break;
    }
    if (!attached) return absl::Status(last_failure.code(), absl::StrJoin(failures, "; "));
  }
  return attachment;
}

void BpfCapture::AwaitDetached() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  // Not on hosts with nohz_full. A map of maps waits likewise for the programs that may still see
  // what an element held before.
  const uint32_t first = 0;
  const int fd = rings_[first]->map_fd();
  bpf_map_update_elem(bpf_map__fd(skeleton_->maps.ph_rings), &first, &fd, BPF_ANY);
}

}  // namespace packet_headers
