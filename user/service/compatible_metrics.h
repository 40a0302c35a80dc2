// The metrics of m-lab/packet-headers, which dashboards and alerts use.

#ifndef PACKET_HEADERS_USER_SERVICE_COMPATIBLE_METRICS_H_
#define PACKET_HEADERS_USER_SERVICE_COMPATIBLE_METRICS_H_

#include "user/service/observed.h"
#include "user/service/scrape.h"

namespace packet_headers {

// Adds them under their names, with what comes nearest to their meaning here
// (docs/compatibility.md). What does not happen here is left out.
void AddCompatibleMetrics(const Observed& observed, const BooksByName& books, Scrape& scrape);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_COMPATIBLE_METRICS_H_
