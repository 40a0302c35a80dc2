#include "user/output/chunk_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace packet_headers {
namespace {

constexpr int64_t kSlab = 256 * 1024;
std::string Content(const ChunkList& list) {
  std::string content;
  list.ForEachPiece(
      [&content](absl::string_view piece) { content.append(piece.data(), piece.size()); });
  return content;
}

TEST_CASE("A chunk list holds what was appended, in order", "[chunk_pool]") {
  MemoryBudget budget(16 * kSlab);
  ChunkPool pool(budget, 0);
  ChunkList list;
  std::string expected;
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    const std::string bytes(random() % 700, static_cast<char>(random()));
    REQUIRE(list.Append(bytes, pool));
    expected += bytes;
  }
  CHECK(Content(list) == expected);
  CHECK(list.chunk_bytes() - static_cast<int64_t>(expected.size()) <
        static_cast<int64_t>(kLargestChunkBytes + 1000));
  pool.Free(std::move(list));
  CHECK(list.empty());
  CHECK(list.chunk_bytes() == 0);
}

TEST_CASE("Nothing appended is nothing held", "[chunk_pool]") {
  MemoryBudget budget(kSlab);
  ChunkPool pool(budget, 0);
  ChunkList list;
  CHECK(list.Append("", pool));
  CHECK(list.empty());
  CHECK(budget.used_bytes() == 0);
  pool.Free(std::move(list));
}

TEST_CASE("Spliced lists follow each other", "[chunk_pool]") {
  MemoryBudget budget(kSlab);
  ChunkPool pool(budget, 0);
  ChunkList a, b, empty;
  REQUIRE(a.Append(std::string(300, 'a'), pool));
  REQUIRE(b.Append(std::string(300, 'b'), pool));
  const int64_t bytes = a.chunk_bytes() + b.chunk_bytes();
  a.Splice(std::move(b));
  a.Splice(std::move(empty));
  CHECK(b.empty());
  CHECK(a.chunk_bytes() == bytes);
  REQUIRE(a.Append("end", pool));
  CHECK(Content(a) == std::string(300, 'a') + std::string(300, 'b') + "end");
  empty.Splice(std::move(a));
  CHECK(a.empty());
  CHECK(empty.chunk_bytes() == bytes);
  pool.Free(std::move(empty));
}

TEST_CASE("No more than half of a list is unused", "[chunk_pool]") {
  MemoryBudget budget(64 * kSlab);
  ChunkPool pool(budget, 0);
  ChunkList list;
  REQUIRE(list.Append("x", pool));
  CHECK(list.chunk_bytes() == static_cast<int64_t>(kSmallestChunkBytes));
  int64_t used = 1;
  int64_t largest = 0;
  while (used < 100'000) {
    const int64_t before = list.chunk_bytes();
    REQUIRE(list.Append("x", pool));
    ++used;
    largest = std::max(largest, list.chunk_bytes() - before);
    if (used <= static_cast<int64_t>(kSmallestChunkBytes)) continue;
    if (list.chunk_bytes() > used * 2) FAIL(used << " bytes take " << list.chunk_bytes());
  }
  CHECK(largest == static_cast<int64_t>(kLargestChunkBytes));
  CHECK(list.chunk_bytes() - used < 2 * static_cast<int64_t>(kLargestChunkBytes));
  pool.Free(std::move(list));
}

TEST_CASE("An append that finds no memory leaves the list as it was", "[chunk_pool]") {
  MemoryBudget budget(kSlab);
  ChunkPool pool(budget, 0);
  std::vector<ChunkList> lists(kSlab / kSmallestChunkBytes - 1);
  for (ChunkList& list : lists) REQUIRE(list.Append("first", pool));
  CHECK_FALSE(lists[0].Append(std::string(300, 'b'), pool));
  CHECK(Content(lists[0]) == "first");
  CHECK(lists[0].chunk_bytes() == static_cast<int64_t>(kSmallestChunkBytes));
  CHECK(lists[0].Append(std::string(200, 'b'), pool));  // the chunk has room for it
  CHECK(budget.used_bytes() == kSlab);
  for (ChunkList& list : lists) pool.Free(std::move(list));
}

TEST_CASE("Without memory a chunk of another size does", "[chunk_pool]") {
  MemoryBudget budget(2 * kSlab);
  ChunkPool pool(budget, 0);
  ChunkList large;
  while (large.chunk_bytes() < kSlab) REQUIRE(large.Append("large", pool));
  ChunkList small;
  REQUIRE(small.Append("small", pool));
  CHECK(budget.used_bytes() == 2 * kSlab);
  pool.Free(std::move(small));
  pool.Free(std::move(large));
}

TEST_CASE("Slabs above the idle limit go back to the system", "[chunk_pool]") {
  MemoryBudget budget(100 * kSlab);
  const int64_t idle_slabs = GENERATE(0, 1, 3);
  ChunkPool pool(budget, idle_slabs * kSlab);
  std::vector<ChunkList> lists(10);
  for (ChunkList& list : lists) {
    REQUIRE(list.Append(std::string(kSlab - kSlab / 8, 'x'), pool));
  }
  CHECK(pool.mapped_bytes() >= 10 * kSlab);
  CHECK(pool.idle_bytes() == 0);
  for (ChunkList& list : lists) pool.Free(std::move(list));
  CHECK(pool.mapped_bytes() == idle_slabs * kSlab);
  CHECK(pool.idle_bytes() == idle_slabs * kSlab);
  CHECK(budget.used_bytes() == idle_slabs * kSlab);
  ChunkList again;
  REQUIRE(again.Append("x", pool));
  CHECK(pool.idle_bytes() == std::max<int64_t>(idle_slabs - 1, 0) * kSlab);
  CHECK(pool.mapped_bytes() == std::max<int64_t>(idle_slabs, 1) * kSlab);
  pool.Free(std::move(again));
}

// From the page of `place` to the end of its slab.
size_t ResidentPages(const void* place) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(place) & ~(page - 1);
  const uintptr_t end = (begin | (kSlab - 1)) + 1;
  std::vector<unsigned char> is_resident((end - begin) / page);
  REQUIRE(mincore(reinterpret_cast<void*>(begin), end - begin, is_resident.data()) == 0);
  return std::count_if(is_resident.begin(), is_resident.end(),
                       [](unsigned char one) { return (one & 1) != 0; });
}

TEST_CASE("A slab that went back holds no memory until it is used again", "[chunk_pool]") {
  // More than is mapped at once.
  constexpr int64_t kSlabs = 400;
  MemoryBudget budget(kSlabs * kSlab);
  ChunkPool pool(budget, 0);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::pair<ChunkList, const char*>> lists;
    for (ChunkList list; list.Append("x", pool);) {
      const char* place = nullptr;
      list.ForEachPiece([&place](absl::string_view piece) { place = piece.data(); });
      lists.emplace_back(std::move(list), place);
    }
    CHECK(pool.mapped_bytes() == kSlabs * kSlab);
    CHECK(ResidentPages(lists.front().second) > 0);
    CHECK(ResidentPages(lists.back().second) > 0);
    for (auto& [list, place] : lists) pool.Free(std::move(list));
    CHECK(pool.mapped_bytes() == 0);
    CHECK(budget.used_bytes() == 0);
    CHECK(ResidentPages(lists.front().second) == 0);
    CHECK(ResidentPages(lists.back().second) == 0);
  }
}

TEST_CASE("Lists that come and go in any order keep their bytes", "[chunk_pool]") {
  MemoryBudget budget(8 * kSlab);
  {
    ChunkPool pool(budget, kSlab);
    std::mt19937 random(2);
    std::vector<std::pair<ChunkList, std::string>> lists(200);
    for (int i = 0; i < 20'000; ++i) {
      auto& [list, expected] = lists[random() % lists.size()];
      if (random() % 20 == 0) {
        if (Content(list) != expected) FAIL("a list has other bytes than were put in");
        pool.Free(std::move(list));
        expected.clear();
        continue;
      }
      const std::string bytes(random() % 1000, static_cast<char>(random()));
      if (list.Append(bytes, pool)) expected += bytes;
      if (budget.used_bytes() != pool.mapped_bytes()) FAIL("the budget is not what is mapped");
    }
    for (auto& [list, expected] : lists) CHECK(Content(list) == expected);
    CHECK(budget.used_bytes() <= budget.limit_bytes());
  }
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("The memory budget is exact", "[chunk_pool]") {
  MemoryBudget budget(1000);
  CHECK(budget.TryReserve(875));
  CHECK_FALSE(budget.nearly_exhausted());
  CHECK_FALSE(budget.TryReserve(126));
  CHECK(budget.used_bytes() == 875);
  CHECK(budget.TryReserve(125));
  CHECK(budget.nearly_exhausted());
  CHECK_FALSE(budget.TryReserve(1));
  budget.Release(1000);
  CHECK(budget.used_bytes() == 0);
}

}  // namespace
}  // namespace packet_headers
