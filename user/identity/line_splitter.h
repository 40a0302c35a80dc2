// Lines out of a stream of bytes from somebody who may be hostile.

#ifndef PACKET_HEADERS_USER_IDENTITY_LINE_SPLITTER_H_
#define PACKET_HEADERS_USER_IDENTITY_LINE_SPLITTER_H_

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace packet_headers {

// Keeps at most one line's bytes, however long the lines are.
class LineSplitter {
 public:
  static constexpr size_t kMaxLineBytes = 64 * 1024;  // without the newline

  // Calls `use` with each line that `bytes` completes, without its newline; the view lasts as long
  // as the call. Returns how many lines became longer than kMaxLineBytes: each counts once, as soon
  // as it does, and is skipped up to its newline.
  size_t Feed(absl::string_view bytes, absl::FunctionRef<void(absl::string_view)> use);

  // What came behind the last newline, unless it is being skipped. At the end of the stream it is a
  // line without newline, whole or torn.
  absl::string_view rest() const { return rest_; }

 private:
  std::string rest_;
  bool skipping_ = false;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_IDENTITY_LINE_SPLITTER_H_
