// From capture files to a file for each flow: -read.

#ifndef PACKET_HEADERS_USER_SPLITTER_H_
#define PACKET_HEADERS_USER_SPLITTER_H_

#include "absl/status/statusor.h"
#include "user/config/config.h"

namespace packet_headers {

// Reads config.read_files one after the other as one capture. Time comes from the packets, so the
// flows are what they would have been live. Returns the exit code: 2 if a file could not be read to
// its end, after what could be read was saved; 1 if a flow could not be saved; 128 + n after
// signal n.
absl::StatusOr<int> SplitFiles(const Config& config);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SPLITTER_H_
