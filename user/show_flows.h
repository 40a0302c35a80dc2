// -flows: what a running daemon captures, as a table.

#ifndef PACKET_HEADERS_USER_SHOW_FLOWS_H_
#define PACKET_HEADERS_USER_SHOW_FLOWS_H_

#include "absl/status/status.h"
#include "user/config/config.h"

namespace packet_headers {

// Prints the flows to stdout; with -watch again and again, until the process is ended. An error if
// the daemon can't be asked.
absl::Status ShowFlows(const Config& config);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SHOW_FLOWS_H_
