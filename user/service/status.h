// What the status page shows.

#ifndef PACKET_HEADERS_USER_SERVICE_STATUS_H_
#define PACKET_HEADERS_USER_SERVICE_STATUS_H_

#include <cstdint>
#include <string>

#include "user/service/history.h"
#include "user/service/http_connections.h"
#include "user/service/observed.h"

namespace packet_headers {

// What one reading of the counters comes to.
Sample TakeSample(const Observed& observed, int64_t now_ns);

// As JSON. `readiness` is the answer of /readyz.
std::string StatusJson(const std::string& host, const Observed& observed, const History& history,
                       const HttpAnswer& readiness, int64_t started_ns, int64_t now_ns);

// The page itself, its style and its script, by path; user/service/page/ holds them.
HttpRoutes PageRoutes(bool is_for_all);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_STATUS_H_
