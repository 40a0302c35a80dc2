// Threads with names, by which ps -T, gdb and the sandbox's self-test tell them apart.

#ifndef PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_
#define PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_

#include <pthread.h>

#include <string>
#include <thread>
#include <utility>

namespace packet_headers {

// Starts a thread that has its name from its beginning on: it inherits the one of this thread,
// which has another meanwhile. The kernel keeps 15 bytes.
template <typename Body>
std::thread StartThread(const std::string& name, Body body) {
  char own[16];
  pthread_getname_np(pthread_self(), own, sizeof(own));
  pthread_setname_np(pthread_self(), name.substr(0, sizeof(own) - 1).c_str());
  std::thread thread(std::move(body));
  pthread_setname_np(pthread_self(), own);
  return thread;
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_
