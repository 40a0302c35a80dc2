// Header records from whole frames, for where no BPF program makes them.

#ifndef PACKET_HEADERS_USER_CAPTURE_FRAME_RECORD_H_
#define PACKET_HEADERS_USER_CAPTURE_FRAME_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "packet_headers/counters.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/header_record.h"
#include "packet_headers/parse.h"

namespace packet_headers {

// Enough of a frame to hold the longest headers of a record, behind any cooked header.
inline constexpr int kFrameSnaplen = PH_MAX_HEADER_BYTES + 64;

// How the frames of a link type begin.
struct FrameFormat {
  ph_link_layer link_layer;
  uint32_t skipped_bytes;  // of a header that is not kept: of BSD loopback, or cooked by Linux
};

// Nothing for a link type (DLT_* of libpcap) that can't be read.
std::optional<FrameFormat> FrameFormatOf(int link_type);

// A frame as libpcap gives it.
struct Frame {
  const uint8_t* bytes;
  uint32_t captured_bytes;
  uint32_t wire_bytes;
  FrameFormat format;
};

// The key with that end as the local one whose address and port come first: for captures, which
// don't tell which end is the host's own.
ph_flow_key FirstEndLocal(ph_flow_key key);

// Makes the record of one frame after the other. One thread.
class FrameRecord {
 public:
  explicit FrameRecord(const ph_hash_seed& seed) : seed_(seed) {}

  // PH_CAPTURED if there is now a record of the frame, or what is to be counted instead.
  ph_counter Read(const Frame& frame, ph_direction direction);

  // The same, where nobody knows which end of a connection is local: it is the one whose address
  // and port come first.
  ph_counter ReadEitherWay(const Frame& frame);

  // Valid until the next frame is read. Time, interface and cookie are the caller's to set.
  ph_header_record& record() { return *reinterpret_cast<ph_header_record*>(buffer_); }
  const ph_flow_key& key() const { return key_; }
  const void* data() const { return buffer_; }
  size_t size() const { return size_; }

 private:
  // Behind the cooked header.
  struct Located {
    ph_frame frame;
    uint32_t wire_bytes;
    ph_headers headers;
  };
  ph_counter Locate(const Frame& frame, Located& located);
  void Fill(const Located& located, ph_link_layer link_layer, ph_direction direction);

  const ph_hash_seed seed_;
  ph_flow_key key_ = {};
  size_t size_ = 0;
  alignas(ph_header_record) char buffer_[sizeof(ph_header_record) + PH_MAX_HEADER_BYTES];
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CAPTURE_FRAME_RECORD_H_
