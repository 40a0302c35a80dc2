#include "user/capture/pcap_tap.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <pcap/pcap.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace packet_headers {
namespace {

// An EtherType that no frame has: below 1536 it is not one (IEEE 802.3), nor one of Linux's own.
constexpr uint16_t kNothing = 0x00ff;

struct ClosePcap {
  void operator()(pcap_t* handle) const { pcap_close(handle); }
};
using Handle = std::unique_ptr<pcap_t, ClosePcap>;

// Which packets the socket gets, from now on. The kernel waits until none is being handed over
// under what was said before.
int BindTo(int fd, uint16_t protocol, uint32_t ifindex) {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(ifindex);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// In the kernel, so that the other direction takes no room in the buffer and no part in the drops.
int FilterDirection(int fd, ph_direction direction) {
  const uint32_t if_egress = direction == PH_EGRESS ? kFrameSnaplen : 0;
  const uint32_t if_ingress = direction == PH_INGRESS ? kFrameSnaplen : 0;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, if_egress),
      BPF_STMT(BPF_RET | BPF_K, if_ingress),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

// `why` of libpcap can be empty.
absl::Status OpenError(const NetworkInterface& interface, int error, absl::string_view why) {
  const std::string tried = absl::StrCat("open ", interface.name, " with libpcap: ");
  switch (error) {
    case PCAP_ERROR_PERM_DENIED:
      return absl::PermissionDeniedError(absl::StrCat(tried, kNeedsNetRaw));
    case PCAP_ERROR_NO_SUCH_DEVICE:
      return absl::NotFoundError(absl::StrCat(tried, "there is no such interface"));
    case PCAP_ERROR_IFACE_NOT_UP:
      return absl::UnavailableError(absl::StrCat(tried, "it is down"));
    default:
      return absl::UnknownError(
          absl::StrCat(tried, why.empty() ? absl::string_view(pcap_statustostr(error)) : why));
  }
}

absl::Status SystemError(const NetworkInterface& interface, absl::string_view tried) {
  return absl::ErrnoToStatus(errno,
                             absl::StrCat("open ", interface.name, " with libpcap: ", tried));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PcapTap>> PcapTap::Open(const NetworkInterface& interface,
                                                       ph_direction direction,
                                                       int64_t buffer_bytes) {
  char why[PCAP_ERRBUF_SIZE] = "";
  Handle handle(pcap_create(interface.name.c_str(), why));
  if (handle == nullptr) return OpenError(interface, PCAP_ERROR, why);
  pcap_set_snaplen(handle.get(), kFrameSnaplen);
  pcap_set_promisc(handle.get(), 0);
  pcap_set_immediate_mode(handle.get(), 1);
  pcap_set_buffer_size(handle.get(), static_cast<int>(std::min<int64_t>(
                                         buffer_bytes, std::numeric_limits<int>::max())));
  // Not on every device; without it times are in microseconds.
  pcap_set_tstamp_precision(handle.get(), PCAP_TSTAMP_PRECISION_NANO);
  // Nothing yet: a filter does not look at what is in the buffer already.
  pcap_set_protocol_linux(handle.get(), kNothing);
  // Above 0 it is a warning.
  const int error = pcap_activate(handle.get());
  if (error < 0) return OpenError(interface, error, pcap_geterr(handle.get()));
  const std::optional<FrameFormat> format = FrameFormatOf(pcap_datalink(handle.get()));
  if (!format.has_value()) {
    return absl::UnimplementedError(absl::StrCat("open ", interface.name,
                                                 " with libpcap: its frames (link type ",
                                                 pcap_datalink(handle.get()), ") can't be read"));
  }
  if (pcap_setnonblock(handle.get(), 1, why) != 0) return OpenError(interface, PCAP_ERROR, why);
  const int fd = pcap_fileno(handle.get());
  if (FilterDirection(fd, direction) != 0) return SystemError(interface, "attach its filter");
  if (BindTo(fd, ETH_P_ALL, interface.ifindex) != 0) return SystemError(interface, "bind");
  return std::unique_ptr<PcapTap>(new PcapTap(handle.release(), *format));
}

PcapTap::PcapTap(pcap* handle, FrameFormat format)
    : handle_(handle),
      fd_(pcap_fileno(handle)),
      format_(format),
      fraction_ns_(pcap_get_tstamp_precision(handle) == PCAP_TSTAMP_PRECISION_NANO ? 1 : 1000) {}

PcapTap::~PcapTap() { pcap_close(handle_); }

void PcapTap::Stop() {
  // Not at its interface, which may be gone.
  BindTo(fd_, kNothing, 0);
}

bool PcapTap::Read(absl::FunctionRef<void(const Frame& frame, int64_t wall_ns)> use) {
  struct Context {
    const PcapTap& tap;
    absl::FunctionRef<void(const Frame& frame, int64_t wall_ns)> use;
  } context = {*this, use};
  const auto callback = [](u_char* any, const pcap_pkthdr* header, const u_char* bytes) {
    const Context& to = *reinterpret_cast<const Context*>(any);
    to.use({bytes, header->caplen, header->len, to.tap.format_},
           int64_t{header->ts.tv_sec} * 1'000'000'000 + header->ts.tv_usec * to.tap.fraction_ns_);
  };
  // A negative value says that the interface is down or gone. It may come up again; its owner
  // knows.
  return pcap_dispatch(handle_, 1, callback, reinterpret_cast<u_char*>(&context)) > 0;
}

uint64_t PcapTap::TakeDropped() {
  pcap_stat statistics;
  if (pcap_stats(handle_, &statistics) != 0) return 0;
  const uint32_t dropped = statistics.ps_drop - dropped_;
  dropped_ = statistics.ps_drop;
  return dropped;
}

}  // namespace packet_headers
