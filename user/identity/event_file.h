// Events of tcp-info that were recorded.

#ifndef PACKET_HEADERS_USER_IDENTITY_EVENT_FILE_H_
#define PACKET_HEADERS_USER_IDENTITY_EVENT_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "user/flow/announcement.h"

namespace packet_headers {

// The opens in a file of event lines, in the order of their times. Lines that are no events are
// skipped, and logged as a number.
absl::StatusOr<std::vector<Announcement>> ReadEventFile(const std::string& path);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_EVENT_FILE_H_
