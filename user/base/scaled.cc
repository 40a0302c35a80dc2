#include "user/base/scaled.h"

#include <iterator>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace packet_headers {

std::string Scaled(double value) {
  static constexpr absl::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  const absl::string_view* prefix = kPrefixes;
  // What would be rounded to four digits goes to the next prefix.
  for (; value >= 999.5 && prefix != std::end(kPrefixes) - 1; ++prefix) value /= 1000;
  const bool is_whole = prefix == kPrefixes || value >= 99.95;
  return absl::StrFormat("%.*f %s", is_whole ? 0 : value >= 9.995 ? 1 : 2, value, *prefix);
}

std::string ScaledCount(double value) {
  std::string scaled = Scaled(value);
  if (scaled.back() == ' ') scaled.pop_back();
  return scaled;
}

double Seconds(int64_t ns) { return static_cast<double>(ns / 1'000'000) / 1e3; }

}  // namespace packet_headers
