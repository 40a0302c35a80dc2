// The books, for people and for Prometheus.

#ifndef PACKET_HEADERS_USER_SERVICE_BOOKS_REPORT_H_
#define PACKET_HEADERS_USER_SERVICE_BOOKS_REPORT_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "packet_headers/counters.h"
#include "user/flow/books.h"
#include "user/output/publisher.h"

namespace packet_headers {

struct Reason {
  ph_counter counter;
  const char* name;
  const char* meaning;
  // Whether a file misses such packets. None does: other protocols, flows without a local socket,
  // attempts that failed or gave way in a flood, what came behind the end of a capture, and what
  // -maxflows or -uuid.source=tcpinfo leaves out on request. The Prometheus rules say the same.
  bool is_loss;
};

// Why packets were not saved, of the kernel and of user space.
absl::Span<const Reason> Reasons();

// Packets seen that are neither saved nor counted under a reason. At rest they are none; while the
// daemon runs they are those that wait in rings, flows and files.
int64_t Unaccounted(const CounterArray& counters);

// Packets that files miss.
uint64_t Lost(const CounterArray& counters);

// Logs the books of `whose`, without the reasons that hold none. What is not accounted for is an
// error.
void LogBooks(const std::string& whose, const CounterArray& counters);

// Logs whether all books together close, in a sentence.
void LogBalance(const CounterArray& total);

// Logs how many files were saved. That some were not is an error.
void LogFiles(const PublisherStats& stats);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_BOOKS_REPORT_H_
