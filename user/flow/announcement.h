// What tcp-info says of a socket that opened.

#ifndef PACKET_HEADERS_USER_FLOW_ANNOUNCEMENT_H_
#define PACKET_HEADERS_USER_FLOW_ANNOUNCEMENT_H_

#include <cstdint>
#include <string>

#include "absl/time/civil_time.h"
#include "packet_headers/flow_key.h"

namespace packet_headers {

struct Announcement {
  ph_flow_key key = {};  // the event's source is `local`; it may name either end first
  uint64_t cookie = 0;   // of the socket
  int64_t time_ns = 0;   // of the event, since the Unix epoch
  absl::CivilDay date;   // the same as it was written, in the event's own offset from UTC
  std::string uuid;      // valid (IsValidUuid)
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_ANNOUNCEMENT_H_
