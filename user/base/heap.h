// How malloc() takes memory from the kernel.

#ifndef PACKET_HEADERS_USER_BASE_HEAP_H_
#define PACKET_HEADERS_USER_BASE_HEAP_H_

#include <malloc.h>

namespace packet_headers {

// From then on the heaps of all threads grow in steps of 64 MiB of address space: glibc's own are
// of 4 KiB outside the main thread, and each is a change of a mapping that holds memory. That takes
// a lock, which the kernel also takes to age, move or reclaim pages, and on a busy host holds for
// seconds. What was freed stays for the next use of it. Once, before there are threads.
inline void GrowHeapInLargeSteps() {
  constexpr int kStepBytes = 64 * 1024 * 1024;  // glibc's largest
  mallopt(M_TOP_PAD, kStepBytes);
  mallopt(M_TRIM_THRESHOLD, 2 * kStepBytes);  // so that no step is taken back
  // What is larger has a mapping of its own.
  mallopt(M_MMAP_THRESHOLD, kStepBytes / 2);
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_HEAP_H_
