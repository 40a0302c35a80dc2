#include "user/output/file_job.h"

#include <cstdint>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

FileJob JobOf(uint64_t flow_id) {
  FileJob job;
  job.flow_id = flow_id;
  return job;
}

TEST_CASE("A job queue gives back in order what was put in", "[file_job]") {
  FileJobQueue queue;
  CHECK(queue.Take(10).empty());
  for (uint64_t i = 0; i < 5; ++i) queue.Put(JobOf(i));
  CHECK(queue.size() == 5);
  const std::vector<FileJob> first = queue.Take(3);
  REQUIRE(first.size() == 3);
  CHECK(first[0].flow_id == 0);
  CHECK(first[2].flow_id == 2);
  queue.Close();
  const std::vector<FileJob> rest = queue.WaitAndTake(3);
  REQUIRE(rest.size() == 2);
  CHECK(rest[1].flow_id == 4);
  CHECK(queue.WaitAndTake(3).empty());
}

TEST_CASE("A job queue carries jobs between threads and wakes who waits", "[file_job]") {
  constexpr uint64_t kJobs = 10'000;
  FileJobQueue queue;
  uint64_t sum = 0;
  std::thread reader([&] {
    while (!queue.is_over()) {
      for (const FileJob& job : queue.WaitAndTake(7)) sum += job.flow_id;
    }
  });
  for (uint64_t i = 1; i <= kJobs; ++i) queue.Put(JobOf(i));
  queue.Close();
  reader.join();
  CHECK(sum == kJobs * (kJobs + 1) / 2);
}

}  // namespace
}  // namespace packet_headers::testing
