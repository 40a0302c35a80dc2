#include "user/identity/line_splitter.h"

namespace packet_headers {

size_t LineSplitter::Feed(absl::string_view bytes, absl::FunctionRef<void(absl::string_view)> use) {
  size_t oversized = 0;
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    const bool is_end = newline != absl::string_view::npos;
    const absl::string_view piece = bytes.substr(0, newline);
    bytes.remove_prefix(is_end ? newline + 1 : bytes.size());
    if (!skipping_ && rest_.size() + piece.size() > kMaxLineBytes) {
      skipping_ = true;
      ++oversized;
      rest_.clear();
    }
    if (skipping_) {
      skipping_ = !is_end;
    } else if (!is_end) {
      rest_.append(piece.data(), piece.size());
    } else if (rest_.empty()) {
      use(piece);
    } else {
      rest_.append(piece.data(), piece.size());
      use(rest_);
      rest_.clear();
    }
  }
  return oversized;
}

}  // namespace packet_headers
