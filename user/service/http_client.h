// One question to an HTTP server of this project. A library would be larger than what it is for.

#ifndef PACKET_HEADERS_USER_SERVICE_HTTP_CLIENT_H_
#define PACKET_HEADERS_USER_SERVICE_HTTP_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"

namespace packet_headers {

// The body of what the server at `address` (host:port, or :port on this host) answers to a GET of
// `path`, of at most 16 MiB and within 10 s. An error if that is no HTTP, or not 200; it says what
// was answered, and is FailedPrecondition where the server refuses who asks (403).
absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_HTTP_CLIENT_H_
