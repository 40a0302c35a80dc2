#include "user/capture/hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "spdlog/spdlog.h"
#include "user/base/unique_fd.h"

namespace packet_headers {
namespace {

// Newer than Debian 12's headers (Linux 6.6).
constexpr bpf_attach_type kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr bpf_attach_type kTcxEgress = static_cast<bpf_attach_type>(47);
constexpr uint32_t kBefore = 1U << 3;  // BPF_F_BEFORE; of no program in particular: of all

// "ph" in ASCII: what tells our clsact filters from those of others.
constexpr uint32_t kClsactHandle = 0x7068;

// First of all filters, so that no verdict of another hides a packet from us; if a filter of
// another kind holds that priority, behind it.
constexpr uint32_t kClsactPriorities[] = {1, 0x7068};

const char* DirectionName(ph_direction direction) {
  return direction == PH_INGRESS ? "ingress" : "egress";
}

bpf_attach_type TcxType(ph_direction direction) {
  return direction == PH_INGRESS ? kTcxIngress : kTcxEgress;
}

absl::Status AttachError(Hook hook, const NetworkInterface& interface, int error,
                         absl::string_view hint) {
  return absl::ErrnoToStatus(error,
                             absl::StrCat("attach ", HookName(hook), " to ", interface.name,
                                          hint.empty() ? "" : " (", hint, hint.empty() ? "" : ")"));
}

// A bpf_link: gone with its descriptor.
class BpfLink : public HookLink {
 public:
  explicit BpfLink(int fd) : fd_(fd) {}

  // A link whose device is gone, or that was detached by force, stays behind without ifindex.
  State state() const override {
    bpf_link_info info = {};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd_.get(), &info, &size) != 0) return State::kAttached;
    return info.xdp.ifindex == 0 ? State::kGone : State::kAttached;  // TCX has it there as well
  }

 private:
  UniqueFd fd_;
};

absl::StatusOr<std::unique_ptr<HookLink>> AttachXdp(const NetworkInterface& interface,
                                                    int program_fd) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
  const int fd = bpf_link_create(program_fd, interface.ifindex, BPF_XDP, &options);
  if (fd >= 0) return std::make_unique<BpfLink>(fd);
  uint32_t other = 0;
  const bool is_held =
      bpf_xdp_query_id(static_cast<int>(interface.ifindex), 0, &other) == 0 && other != 0;
  return AttachError(
      Hook::kXdp, interface, -fd,
      absl::StrCat(is_held ? absl::StrCat("the XDP program with id ", other, " is there")
                           : "not every driver takes it",
                   "; -capture.hook=tcx uses TC instead"));
}

absl::StatusOr<std::unique_ptr<HookLink>> AttachTcx(ph_direction direction,
                                                    const NetworkInterface& interface,
                                                    int program_fd) {
  // First in the chain, so that no verdict of another program hides a packet from us.
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = kBefore);
  const int fd = bpf_link_create(program_fd, interface.ifindex, TcxType(direction), &options);
  if (fd >= 0) return std::make_unique<BpfLink>(fd);
  return AttachError(Hook::kTcx, interface, -fd,
                     fd == -EINVAL ? "needs Linux 6.6; -capture.hook=clsact works before" : "");
}

bpf_tc_hook ClsactHook(uint32_t ifindex, bpf_tc_attach_point point) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex), .attach_point = point);
  return hook;
}

struct Filter {
  uint32_t priority;
  uint32_t handle;
};

// All filters, ours and others', of one side of the clsact qdisc; nothing if that can't be told.
std::optional<std::vector<Filter>> ListFilters(uint32_t ifindex, bpf_tc_attach_point point) {
  const std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket(
      mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC), mnl_socket_close);
  if (socket == nullptr || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) return {};
  char buffer[16 * 1024];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETTFILTER;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto* message = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(tcmsg)));
  message->tcm_family = AF_UNSPEC;
  message->tcm_ifindex = static_cast<int>(ifindex);
  message->tcm_parent =
      TC_H_MAKE(TC_H_CLSACT, point == BPF_TC_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) return {};
  std::vector<Filter> filters;
  int more = MNL_CB_OK;
  while (more > MNL_CB_STOP) {
    const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer, sizeof(buffer));
    if (size < 0) return {};
    more = mnl_cb_run(
        buffer, size, 0, 0,
        [](const nlmsghdr* answer, void* to) {
          const auto* filter = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(answer));
          static_cast<std::vector<Filter>*>(to)->push_back(
              {TC_H_MAJ(filter->tcm_info) >> 16, filter->tcm_handle});
          return MNL_CB_OK;
        },
        &filters);
  }
  if (more == MNL_CB_ERROR) return {};
  return filters;
}

bool IsEmpty(uint32_t ifindex, bpf_tc_attach_point point) {
  const std::optional<std::vector<Filter>> filters = ListFilters(ifindex, point);
  return filters.has_value() && filters->empty();
}

// Tells of others that see a packet before us: of lower priority, or newer of the same.
void TellFiltersBefore(ph_direction direction, const NetworkInterface& interface,
                       const std::optional<std::vector<Filter>>& filters) {
  if (!filters.has_value()) return;
  const auto ours = std::find_if(filters->begin(), filters->end(), [](const Filter& filter) {
    return filter.handle == kClsactHandle;
  });
  // The kernel lists each priority first without a handle.
  const auto others = std::count_if(filters->begin(), ours,
                                    [](const Filter& filter) { return filter.handle != 0; });
  if (others == 0) return;
  spdlog::info("clsact {} of {} is shared: {} filter(s) of others come before ours",
               DirectionName(direction), interface.name, others);
}

// A filter in the clsact qdisc. It would outlive the process, so one that is ours from an earlier
// run is replaced; the qdisc goes with the last filter if it is ours.
class ClsactFilter : public HookLink {
 public:
  static absl::StatusOr<std::unique_ptr<HookLink>> Attach(ph_direction direction,
                                                          const NetworkInterface& interface,
                                                          int program_fd) {
    const bpf_tc_attach_point point = direction == PH_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS;
    bpf_tc_hook hook = ClsactHook(interface.ifindex, point);
    const int created = bpf_tc_hook_create(&hook);
    if (created != 0 && created != -EEXIST) {
      return AttachError(Hook::kClsact, interface, -created, "make the clsact qdisc");
    }
    bool own_qdisc = created == 0;
    int error = 0;
    for (const uint32_t priority : kClsactPriorities) {
      LIBBPF_OPTS(bpf_tc_opts, ours, .handle = kClsactHandle, .priority = priority);
      const bool left_by_us = bpf_tc_query(&hook, &ours) == 0;
      own_qdisc |= left_by_us;
      LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program_fd,
                  .flags = left_by_us ? uint32_t{BPF_TC_F_REPLACE} : 0, .handle = kClsactHandle,
                  .priority = priority);
      error = bpf_tc_attach(&hook, &options);
      if (error == 0) {
        TellFiltersBefore(direction, interface, ListFilters(interface.ifindex, point));
        return std::make_unique<ClsactFilter>(interface.ifindex, point, priority, options.prog_id,
                                              own_qdisc);
      }
    }
    return AttachError(Hook::kClsact, interface, -error, "");
  }

  ClsactFilter(uint32_t ifindex, bpf_tc_attach_point point, uint32_t priority, uint32_t program_id,
               bool own_qdisc)
      : ifindex_(ifindex),
        point_(point),
        priority_(priority),
        program_id_(program_id),
        own_qdisc_(own_qdisc) {}

  State state() const override {
    const bpf_tc_hook hook = ClsactHook(ifindex_, point_);
    LIBBPF_OPTS(bpf_tc_opts, now, .handle = kClsactHandle, .priority = priority_);
    const int error = bpf_tc_query(&hook, &now);
    if (error == 0) return now.prog_id == program_id_ ? State::kAttached : State::kTaken;
    return error == -ENOENT || error == -EINVAL ? State::kGone : State::kAttached;
  }

  ~ClsactFilter() override {
    if (state() != State::kAttached) return;
    bpf_tc_hook hook = ClsactHook(ifindex_, point_);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = kClsactHandle, .priority = priority_);
    bpf_tc_detach(&hook, &options);
    if (own_qdisc_ && IsEmpty(ifindex_, BPF_TC_INGRESS) && IsEmpty(ifindex_, BPF_TC_EGRESS)) {
      hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
      bpf_tc_hook_destroy(&hook);
    }
  }

 private:
  const uint32_t ifindex_;
  const bpf_tc_attach_point point_;
  const uint32_t priority_;
  const uint32_t program_id_;
  const bool own_qdisc_;
};

}  // namespace

const char* HookName(Hook hook) {
  switch (hook) {
    case Hook::kXdp:
      return "xdp";
    case Hook::kTcx:
      return "tcx";
    case Hook::kClsact:
      return "clsact";
    default:
      return "pcap";
  }
}

void TellWhoSharesHooks(absl::Span<const NetworkInterface> interfaces) {
  for (const NetworkInterface& interface : interfaces) {
    for (const ph_direction direction : {PH_INGRESS, PH_EGRESS}) {
      uint32_t ids[64];
      uint32_t count = std::size(ids);
      uint32_t flags = 0;
      if (bpf_prog_query(static_cast<int>(interface.ifindex), TcxType(direction), 0, &flags, ids,
                         &count) != 0 ||
          count == 0) {
        continue;
      }
      spdlog::info("tcx {} of {} is shared: program id {} comes after ours",
                   DirectionName(direction), interface.name, absl::StrJoin(ids, ids + count, ", "));
    }
  }
}

absl::StatusOr<std::unique_ptr<HookLink>> AttachToHook(Hook hook, ph_direction direction,
                                                       const NetworkInterface& interface,
                                                       int program_fd) {
  switch (hook) {
    case Hook::kXdp:
      return AttachXdp(interface, program_fd);
    case Hook::kTcx:
      return AttachTcx(direction, interface, program_fd);
    default:
      return ClsactFilter::Attach(direction, interface, program_fd);
  }
}

}  // namespace packet_headers
