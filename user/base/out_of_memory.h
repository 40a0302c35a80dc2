// What happens when the system gives no memory.

#ifndef PACKET_HEADERS_USER_BASE_OUT_OF_MEMORY_H_
#define PACKET_HEADERS_USER_BASE_OUT_OF_MEMORY_H_

#include <cstdint>
#include <exception>
#include <new>

namespace packet_headers {

// From then on `operator new` waits a few seconds for memory, with the help of a small reserve, and
// if there is none ends the process with a message and exit code 1. What else would end it by an
// exception that nobody expects ends it in the same way, without a core dump. Once, before there
// are threads.
void SurviveLackOfMemory();

// How often memory was refused, also where the next try got it. Any thread.
uint64_t AllocationFailures();

// To be called by those who ask for memory in other ways. Any thread.
void CountAllocationFailure();

// What `make` returns, which is null when it finds no memory: then it is called again, as `operator
// new` would.
template <typename Make>
auto* InsistOnMemory(Make make) {
  while (true) {
    if (auto* const made = make()) return made;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) std::terminate();
    handler();
  }
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_OUT_OF_MEMORY_H_
