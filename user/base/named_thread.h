// Threads with names, by which ps -T, gdb and the sandbox's self-test tell them apart.

#ifndef PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_
#define PACKET_HEADERS_USER_BASE_NAMED_THREAD_H_

#include <pthread.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <utility>

namespace packet_headers {

// Of threads that lose packets when they come too late, as far as the process was started at this
// niceness or has the right to it: where processors are scarce, three times the share of others
// (sched(7)).
inline constexpr int kUrgentNice = -5;

enum class Urgency { kNone, kUrgent };

// Takes kUrgentNice, by CAP_SYS_NICE or RLIMIT_NICE, for this thread and those it starts as urgent.
// Who started the process at another niceness than 0 has decided. Returns whether nothing lacks.
inline bool BecomeUrgent() {
  return getpriority(PRIO_PROCESS, 0) != 0 || setpriority(PRIO_PROCESS, 0, kUrgentNice) == 0;
}

// The opposite, which needs no right.
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
