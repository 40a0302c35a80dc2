// Threads with names, by which ps -T, gdb and the sandbox's self-test tell them apart.

#ifndef PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_
#define PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_

#include <pthread.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <utility>

namespace packet_headers {

// Of threads that lose packets when they come too late: where processors are scarce it gives them
// three times the share of others in the same group of tasks (sched(7)).
inline constexpr int kUrgentNice = -5;

enum class Urgency { kNone, kUrgent };

// Gives kUrgentNice to this thread, and so to those it starts as urgent, by CAP_SYS_NICE or
// RLIMIT_NICE; without them all stays as it is. Who started the process at another niceness than 0
// has decided.
inline void BecomeUrgent() {
  if (getpriority(PRIO_PROCESS, 0) == 0) setpriority(PRIO_PROCESS, 0, kUrgentNice);
}

// The opposite, also where the process was started at kUrgentNice. Needs no right.
inline void CeaseToBeUrgent() {
  if (getpriority(PRIO_PROCESS, 0) == kUrgentNice) setpriority(PRIO_PROCESS, 0, 0);
}

// Starts a thread that has its name from its beginning on: it inherits the one of this thread,
// which has another meanwhile. The kernel keeps 15 bytes. It is as urgent as this one at most.
template <typename Body>
std::thread StartThread(const std::string& name, Body body, Urgency urgency = Urgency::kNone) {
  char own[16];
  pthread_getname_np(pthread_self(), own, sizeof(own));
  pthread_setname_np(pthread_self(), name.substr(0, sizeof(own) - 1).c_str());
  std::thread thread([body = std::move(body), urgency]() mutable {
    if (urgency == Urgency::kNone) CeaseToBeUrgent();
    body();
  });
  pthread_setname_np(pthread_self(), own);
  return thread;
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_
