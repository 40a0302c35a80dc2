#include "user/flow/latency_histogram.h"

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

TEST_CASE("A latency is in the first bucket whose bound is not below it", "[latency]") {
  struct Case {
    int64_t ns;
    size_t bucket;
  };
  for (const Case& c : {Case{0, 0}, Case{1, 0}, Case{1000, 0}, Case{1001, 1}, Case{2000, 1},
                        Case{2001, 2}, Case{4000, 2}, Case{4001, 3}, Case{524'288'000, 19},
                        Case{524'288'001, 20}, Case{3'600'000'000'000, 20}}) {
    LatencyHistogram histogram;
    histogram.Add(c.ns);
    INFO(c.ns);
    CHECK(histogram.bucket(c.bucket) == 1);
    CHECK(histogram.sum_ns() == static_cast<uint64_t>(c.ns));
  }
  CHECK(LatencyHistogram::BoundNs(19) == 524'288'000);
}

}  // namespace
}  // namespace packet_headers::testing
