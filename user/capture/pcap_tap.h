// libpcap on one direction of one interface.

#ifndef PACKET_HEADERS_USER_CAPTURE_PCAP_TAP_H_
#define PACKET_HEADERS_USER_CAPTURE_PCAP_TAP_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "user/capture/frame_record.h"
#include "user/capture/network_interface.h"

struct pcap;

namespace packet_headers {

// Why packets can't be captured without that right.
inline constexpr absl::string_view kNeedsNetRaw =
    "not permitted (needs CAP_NET_RAW, e.g. from `setcap cap_net_raw=ep` on the program, or root)";

// Holds every packet of its direction from the end of Open() to the beginning of Stop(), or counts
// it as dropped. One thread reads; any one may stop.
class PcapTap {
 public:
  // The kernel keeps `buffer_bytes` of packets, of each no more than the headers. Needs
  // CAP_NET_RAW, and the interface to be up. Of a loopback interface, where what is sent comes in
  // at once, ingress is all there is.
  static absl::StatusOr<std::unique_ptr<PcapTap>> Open(const NetworkInterface& interface,
                                                       ph_direction direction,
                                                       int64_t buffer_bytes);
  PcapTap(const PcapTap&) = delete;
  PcapTap& operator=(const PcapTap&) = delete;
  ~PcapTap();

  // Afterwards nothing new comes; what waits can still be read.
  void Stop();

  // Becomes readable when a packet waits.
  int fd() const { return fd_; }

  // Calls `use` for the oldest packet that waits; the frame is valid during the call, its time is
  // the kernel's, of the wall clock. Returns whether there was one: none comes of an interface that
  // is down or gone.
  bool Read(absl::FunctionRef<void(const Frame& frame, int64_t wall_ns)> use);

  // How many packets found the buffer full since the last call.
  uint64_t TakeDropped();

 private:
  PcapTap(pcap* handle, FrameFormat format);

  pcap* const handle_;
  const int fd_;
  const FrameFormat format_;
  const int64_t fraction_ns_;  // what a packet's time counts beside the seconds
  uint32_t dropped_ = 0;       // as libpcap told last; wraps
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_PCAP_TAP_H_
