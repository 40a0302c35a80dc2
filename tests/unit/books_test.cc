#include "user/flow/books.h"

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "tests/support/catch.h"

namespace packet_headers {
namespace {

uint64_t Saved(const Books& books, uint32_t ifindex) {
  absl::flat_hash_map<uint32_t, CountersByDirection> totals;
  books.AddTo(totals);
  return totals.contains(ifindex) ? totals[ifindex][PH_INGRESS][PH_SAVED] : 0;
}

size_t Rows(const Books& books) {
  absl::flat_hash_map<uint32_t, CountersByDirection> totals;
  books.AddTo(totals);
  return totals.size();
}

TEST_CASE("Books of interfaces that are gone become one row, and no packet is lost") {
  Books books;
  constexpr uint32_t kInterfaces = 10'000;
  for (uint32_t ifindex = 1; ifindex <= kInterfaces; ++ifindex) {
    books.KeepOnly(std::make_shared<const Ifindexes>(Ifindexes{1, ifindex}));
    books.Count(1, PH_INGRESS, PH_SAVED);
    books.Count(ifindex, PH_INGRESS, PH_SAVED);
    REQUIRE(Rows(books) <= 4);  // the two, the last one, and the others
  }
  CHECK(Saved(books, 1) == kInterfaces + 1);
  CHECK(Saved(books, kInterfaces) == 1);
  CHECK(Saved(books, Books::kOthers) == kInterfaces - 2);
}

TEST_CASE("Packets of an interface that is gone are counted with the others") {
  Books books;
  books.Count(5, PH_EGRESS, PH_LATE);
  books.KeepOnly(std::make_shared<const Ifindexes>(Ifindexes{7}));
  books.Count(6, PH_INGRESS, PH_SAVED);
  books.Count(5, PH_INGRESS, PH_SAVED, 3);
  CHECK(Saved(books, Books::kOthers) == 4);
  CHECK(Saved(books, 5) == 0);
  CHECK(Saved(books, 6) == 0);
}

}  // namespace
}  // namespace packet_headers
