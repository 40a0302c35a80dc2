// Flag values in the spelling of Go's flag package, which deployments of the Go program use
// already. An error says in a few words what is wrong with the text; the caller adds which flag and
// text.

#ifndef PACKET_HEADERS_USER_CONFIG_GO_VALUES_H_
#define PACKET_HEADERS_USER_CONFIG_GO_VALUES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace packet_headers {

// One of 1 0 t f T F true false TRUE FALSE True False (strconv.ParseBool).
absl::StatusOr<bool> ParseGoBool(absl::string_view text);

// A signed 64-bit number as strconv.ParseInt(text, 0, 64) reads it: decimal, 0x, 0o, 0b, a leading
// 0 for octal, and `_` between digits or after the base prefix.
absl::StatusOr<int64_t> ParseGoInt(absl::string_view text);

// time.ParseDuration: "1h2m3.5s", "-.5s", "0". Exact to the nanosecond; beyond the 64-bit count of
// nanoseconds that Go keeps (about 292 years) it is an error.
absl::StatusOr<absl::Duration> ParseGoDuration(absl::string_view text);

// Go's Duration.String(): "1m0s", "1.5s", "20µs", "0s". Fractions of a nanosecond are cut off.
std::string FormatGoDuration(absl::Duration duration);

// `^[0-9]+([KMG]?B?)?$`, powers of 1000, at most 2^63 - 1 bytes.
absl::StatusOr<int64_t> ParseByteCount(absl::string_view text);

// The largest unit that divides `bytes`, as the Go program prints it: "8GB", "1500MB", "1001B";
// zero is "0GB".
std::string FormatByteCount(int64_t bytes);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CONFIG_GO_VALUES_H_
