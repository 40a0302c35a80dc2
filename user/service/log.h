// What the process says on stderr.

#ifndef PACKET_HEADERS_USER_SERVICE_LOG_H_
#define PACKET_HEADERS_USER_SERVICE_LOG_H_

#include <memory>
#include <string>

#include "user/config/config.h"

namespace packet_headers {

class LogSink;

// spdlog's default logger from its making on. Any thread, also while others log.
class Log {
 public:
  // SIGPIPE is ignored from then on.
  explicit Log(LogFormat format);

  // Shows a line below all others where stderr is a terminal, in the place of the one before.
  // Nothing where lines are JSON.
  void ShowStatus(std::string text);
  // Takes it away.
  void ClearStatus() { ShowStatus(""); }

 private:
  const std::shared_ptr<LogSink> sink_;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_LOG_H_
