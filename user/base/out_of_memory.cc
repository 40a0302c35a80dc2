#include "user/base/out_of_memory.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "user/base/clock.h"

namespace packet_headers {
namespace {

constexpr size_t kReserveBytes = 1 << 20;
constexpr timespec kPause = {0, 10'000'000};
constexpr int64_t kPatienceNs = 5'000'000'000;

// A call that comes later than this after the one before is about another allocation.
constexpr int64_t kSameNs = 100'000'000;

std::atomic<uint64_t> failures{0};
std::atomic<void*> reserve{nullptr};

[[noreturn]] void Exit(absl::string_view message) {
  if (write(STDERR_FILENO, message.data(), message.size()) < 0) _exit(EXIT_FAILURE);
  _exit(EXIT_FAILURE);
}

// Called by `operator new` until it returns with memory to be had.
void OnNoMemory() {
  thread_local int64_t since_ns = 0;
  thread_local int64_t last_ns = 0;
  CountAllocationFailure();
  const int64_t now_ns = MonotonicNow();
  const bool is_first = now_ns - last_ns > kSameNs;
  if (is_first) since_ns = now_ns;
  last_ns = now_ns;
  std::free(reserve.exchange(nullptr));
  if (is_first) return;
  if (now_ns - since_ns > kPatienceNs) {
    Exit("packet-headers: no memory for 5 seconds (a lower -maxheap leaves more room); exiting\n");
  }
  nanosleep(&kPause, nullptr);
}

void OnTerminate() {
  try {
    if (const std::exception_ptr exception = std::current_exception()) {
      std::rethrow_exception(exception);
    }
  } catch (const std::exception& exception) {
    Exit(absl::StrCat("packet-headers: ended by an exception: ", exception.what(), "\n"));
  } catch (...) {
  }
  Exit("packet-headers: ended by std::terminate\n");
}

}  // namespace

void SurviveLackOfMemory() {
  reserve = std::malloc(kReserveBytes);
  std::set_new_handler(OnNoMemory);
  std::set_terminate(OnTerminate);
}

uint64_t AllocationFailures() { return failures; }

void CountAllocationFailure() { ++failures; }

}  // namespace packet_headers
