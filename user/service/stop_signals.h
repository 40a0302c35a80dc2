// The signals that end the daemon.

#ifndef PACKET_HEADERS_USER_SERVICE_STOP_SIGNALS_H_
#define PACKET_HEADERS_USER_SERVICE_STOP_SIGNALS_H_

#include "absl/status/statusor.h"
#include "user/base/unique_fd.h"

namespace packet_headers {

// Turns SIGTERM, SIGINT and SIGHUP into a descriptor that becomes readable. To be called before
// there are other threads, which inherit it.
absl::StatusOr<UniqueFd> CatchStopSignals();

// Takes the signal that made the descriptor readable and returns its number.
int TakeStopSignal(const UniqueFd& signals);

// From now on SIGINT ends the process at once, with exit code 130.
void ExitOnInterrupt();

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_STOP_SIGNALS_H_
