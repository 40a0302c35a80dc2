// What Prometheus is told of the running daemon.

#ifndef PACKET_HEADERS_USER_SERVICE_METRICS_H_
#define PACKET_HEADERS_USER_SERVICE_METRICS_H_

#include <string>

#include "user/service/observed.h"

namespace packet_headers {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// All of them, in Prometheus' text format. Everything is read when it is asked for.
std::string MetricsText(const Observed& observed);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_METRICS_H_
