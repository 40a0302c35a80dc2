// The lines of tcp-info's event socket: one JSON object for each TCP socket that opened or closed.

#ifndef PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_H_
#define PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_H_

#include <cstdint>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "user/flow/announcement.h"

namespace packet_headers {

// Why a line was skipped.
enum class BadEvent {
  kMalformed,     // not JSON, a field of the wrong type, or no time that an announcement can hold
  kUnknownEvent,  // neither an open nor a close
  kNilId,         // an open without ID
  kBadIp,         // an open with an address that does not parse
  kBadUuid,       // an open with a UUID that may not become a file name
  kOversized,     // too long to be decoded: counted by who splits the stream (line_splitter.h)
};

// By BadEvent: the `reason` labels of pcap_tcpinfohandler_bad_events_total.
inline constexpr const char* kBadEventNames[] = {"malformed", "unknownevent", "nilid",
                                                 "badip",     "baduuid",      "oversized"};

struct ClosedSocket {};
struct BlankLine {};
using SocketEvent = std::variant<Announcement, ClosedSocket, BlankLine, BadEvent>;

// What a line says, read as Go's encoding/json reads it into tcp-info's FlowEvent: names match
// whatever their (ASCII) case, unknown fields are ignored, null leaves a field as it is, of
// duplicates the last counts. It is stricter in that invalid UTF-8 is malformed, and an open
// without Timestamp, or with one outside the years 1678 to 2261, too. Go fails on a blank line;
// here it is no event.
SocketEvent DecodeSocketEvent(absl::string_view line);

// The lines as tcp-info writes them, newline included. The timestamp is in UTC. `bound_ifindex` is
// the interface that the socket is bound to, or 0.
std::string EncodeOpen(const Announcement& announcement, uint32_t bound_ifindex);
std::string EncodeClose(int64_t time_ns, absl::string_view uuid);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_SOCKET_EVENT_H_
