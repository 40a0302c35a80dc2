#include "user/base/histogram.h"

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

constexpr auto kMicroseconds = DoubledBounds<20>(1000);

TEST_CASE("A value is in the first bucket whose bound is not below it", "[histogram]") {
  struct Case {
    int64_t value;
    size_t bucket;
  };
  for (const Case& c : {Case{0, 0}, Case{1, 0}, Case{1000, 0}, Case{1001, 1}, Case{2000, 1},
                        Case{2001, 2}, Case{4000, 2}, Case{4001, 3}, Case{524'288'000, 19},
                        Case{524'288'001, 20}, Case{3'600'000'000'000, 20}}) {
    Histogram histogram(kMicroseconds);
    histogram.Add(c.value);
    INFO(c.value);
    CHECK(histogram.count(c.bucket) == 1);
    CHECK(histogram.sum() == static_cast<uint64_t>(c.value));
  }
  CHECK(kMicroseconds.back() == 524'288'000);
}

TEST_CASE("A value may be added several times, and is never below 0", "[histogram]") {
  Histogram histogram(kMicroseconds);
  histogram.Add(3000, 5);
  CHECK(histogram.count(2) == 5);
  CHECK(histogram.sum() == 15'000);
  histogram.Add(-7, 2);
  CHECK(histogram.count(0) == 2);
  CHECK(histogram.sum() == 15'000);
}

}  // namespace
}  // namespace packet_headers::testing
