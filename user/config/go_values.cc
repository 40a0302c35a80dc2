#include "user/config/go_values.h"

#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace packet_headers {
namespace {

constexpr uint64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
constexpr uint64_t kTwoTo63 = uint64_t{1} << 63;  // the magnitude of the smallest int64_t

constexpr uint64_t kMicrosecond = 1000;
constexpr uint64_t kMillisecond = 1000 * kMicrosecond;
constexpr uint64_t kSecond = 1000 * kMillisecond;
constexpr uint64_t kMinute = 60 * kSecond;
constexpr uint64_t kHour = 60 * kMinute;

struct DurationUnit {
  absl::string_view name;
  uint64_t ns;
};

constexpr DurationUnit kDurationUnits[] = {
    {"ns", 1},
    {"us", kMicrosecond},
    {"\xc2\xb5s", kMicrosecond},  // U+00B5, the micro sign
    {"\xce\xbcs", kMicrosecond},  // U+03BC, the Greek letter mu
    {"ms", kMillisecond},
    {"s", kSecond},
    {"m", kMinute},
    {"h", kHour},
};

absl::Status NotAnInteger() { return absl::InvalidArgumentError("not an integer"); }

absl::Status NotADuration() {
  return absl::InvalidArgumentError("not a duration such as 30s, 1.5s or 1h2m3s");
}

absl::Status DurationOutOfRange() {
  return absl::InvalidArgumentError("out of range: a duration is at most about 292 years");
}

// Removes an optional sign; true when it was a minus.
bool ConsumeSign(absl::string_view* text) {
  if (absl::ConsumePrefix(text, "-")) return true;
  absl::ConsumePrefix(text, "+");
  return false;
}

// `magnitude` is at most 2^63, and less than that where `negative` is false.
int64_t WithSign(uint64_t magnitude, bool negative) {
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

// Removes 0x, 0o, 0b or a leading 0 that stands before more digits; returns the base.
uint64_t ConsumeBase(absl::string_view* text) {
  if (text->size() < 2 || text->front() != '0') return 10;
  switch (absl::ascii_tolower((*text)[1])) {
    case 'x':
      text->remove_prefix(2);
      return 16;
    case 'o':
      text->remove_prefix(2);
      return 8;
    case 'b':
      text->remove_prefix(2);
      return 2;
    default:
      text->remove_prefix(1);
      return 8;
  }
}

// The value of a digit in any base up to 16; 16 for every other character.
uint64_t DigitValue(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  if (absl::ascii_isxdigit(c)) return absl::ascii_tolower(c) - 'a' + 10;
  return 16;
}

// Removes the leading decimal digits; false when their value is above 2^63.
bool ConsumeInteger(absl::string_view* text, uint64_t* value) {
  *value = 0;
  while (!text->empty() && absl::ascii_isdigit(text->front())) {
    const uint64_t digit = text->front() - '0';
    if (*value > (kTwoTo63 - digit) / 10) return false;
    *value = *value * 10 + digit;
    text->remove_prefix(1);
  }
  return true;
}

struct Fraction {
  uint64_t digits = 0;
  double scale = 1;  // the fraction is digits / scale
};

// Removes the leading decimal digits. Those that no longer fit are too small to matter.
Fraction ConsumeFraction(absl::string_view* text) {
  Fraction fraction;
  bool full = false;
  while (!text->empty() && absl::ascii_isdigit(text->front())) {
    const uint64_t digit = text->front() - '0';
    text->remove_prefix(1);
    full = full || fraction.digits > (kTwoTo63 - digit) / 10;
    if (full) continue;
    fraction.digits = fraction.digits * 10 + digit;
    fraction.scale *= 10;
  }
  return fraction;
}

// Removes everything up to the next digit or point and returns how many nanoseconds it stands for.
absl::StatusOr<uint64_t> ConsumeUnit(absl::string_view* text) {
  size_t length = 0;
  while (length < text->size() && (*text)[length] != '.' && !absl::ascii_isdigit((*text)[length])) {
    ++length;
  }
  const absl::string_view name = text->substr(0, length);
  text->remove_prefix(length);
  for (const DurationUnit& unit : kDurationUnits) {
    if (unit.name == name) return unit.ns;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name.empty() ? "missing unit" : "unknown unit", " (ns, us, ms, s, m or h)"));
}

// Removes the first number and unit ("1.5s" of "1.5s20ms"); nanoseconds, which may be above 2^63 by
// less than the unit.
absl::StatusOr<uint64_t> ConsumeDurationTerm(absl::string_view* text) {
  const size_t size = text->size();
  uint64_t value = 0;
  if (!ConsumeInteger(text, &value)) return DurationOutOfRange();
  size_t digits = size - text->size();
  Fraction fraction;
  if (absl::ConsumePrefix(text, ".")) {
    const size_t fraction_size = text->size();
    fraction = ConsumeFraction(text);
    digits += fraction_size - text->size();
  }
  if (digits == 0) return NotADuration();

  const absl::StatusOr<uint64_t> unit = ConsumeUnit(text);
  if (!unit.ok()) return unit.status();
  if (value > kTwoTo63 / *unit) return DurationOutOfRange();
  value *= *unit;
  // The same floating-point steps as Go, so that the same text means the same nanosecond.
  value += static_cast<uint64_t>(static_cast<double>(fraction.digits) *
                                 (static_cast<double>(*unit) / fraction.scale));
  return value;
}

// value / 10^places, without trailing zeros.
std::string Decimal(uint64_t value, int places) {
  uint64_t unit = 1;
  for (int i = 0; i < places; ++i) unit *= 10;
  if (value % unit == 0) return absl::StrCat(value / unit);
  std::string text = absl::StrFormat("%d.%0*d", value / unit, places, value % unit);
  text.erase(text.find_last_not_of('0') + 1);
  return text;
}

}  // namespace

absl::StatusOr<bool> ParseGoBool(absl::string_view text) {
  for (absl::string_view word : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == word) return true;
  }
  for (absl::string_view word : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == word) return false;
  }
  return absl::InvalidArgumentError("not a boolean (true or false)");
}

absl::StatusOr<int64_t> ParseGoInt(absl::string_view text) {
  const bool negative = ConsumeSign(&text);
  const uint64_t limit = negative ? kTwoTo63 : kMaxInt64;
  const uint64_t base = ConsumeBase(&text);
  if (text.empty()) return NotAnInteger();

  uint64_t value = 0;
  bool after_digit = base != 10;  // a base prefix counts as one
  for (char c : text) {
    if (c == '_') {
      if (!after_digit) return NotAnInteger();
      after_digit = false;
      continue;
    }
    const uint64_t digit = DigitValue(c);
    if (digit >= base) return NotAnInteger();
    if (value > (limit - digit) / base) {
      return absl::InvalidArgumentError("out of range of a 64-bit integer");
    }
    value = value * base + digit;
    after_digit = true;
  }
  if (!after_digit) return NotAnInteger();
  return WithSign(value, negative);
}

absl::StatusOr<absl::Duration> ParseGoDuration(absl::string_view text) {
  const bool negative = ConsumeSign(&text);
  if (text == "0") return absl::ZeroDuration();
  if (text.empty()) return NotADuration();

  const uint64_t limit = negative ? kTwoTo63 : kMaxInt64;
  uint64_t total_ns = 0;
  while (!text.empty()) {
    const absl::StatusOr<uint64_t> term_ns = ConsumeDurationTerm(&text);
    if (!term_ns.ok()) return term_ns.status();
    if (*term_ns > limit || total_ns > limit - *term_ns) return DurationOutOfRange();
    total_ns += *term_ns;
  }
  return absl::Nanoseconds(WithSign(total_ns, negative));
}

std::string FormatGoDuration(absl::Duration duration) {
  const int64_t ns = absl::ToInt64Nanoseconds(duration);
  const uint64_t magnitude = ns < 0 ? 0 - static_cast<uint64_t>(ns) : static_cast<uint64_t>(ns);
  std::string text = ns < 0 ? "-" : "";
  if (magnitude == 0) return "0s";
  if (magnitude < kMicrosecond) return absl::StrCat(text, magnitude, "ns");
  if (magnitude < kMillisecond) return absl::StrCat(text, Decimal(magnitude, 3), "\xc2\xb5s");
  if (magnitude < kSecond) return absl::StrCat(text, Decimal(magnitude, 6), "ms");
  if (magnitude >= kHour) absl::StrAppend(&text, magnitude / kHour, "h");
  if (magnitude >= kMinute) absl::StrAppend(&text, magnitude % kHour / kMinute, "m");
  absl::StrAppend(&text, Decimal(magnitude % kMinute, 9), "s");
  return text;
}

absl::StatusOr<int64_t> ParseByteCount(absl::string_view text) {
  const absl::Status too_large = absl::InvalidArgumentError("out of range: at most 2^63 - 1 bytes");
  const bool has_digit = !text.empty() && absl::ascii_isdigit(text.front());
  uint64_t count = 0;
  if (!ConsumeInteger(&text, &count)) return too_large;

  absl::ConsumeSuffix(&text, "B");
  uint64_t unit = 0;
  if (text.empty()) unit = 1;
  if (text == "K") unit = 1'000;
  if (text == "M") unit = 1'000'000;
  if (text == "G") unit = 1'000'000'000;
  if (!has_digit || unit == 0) {
    return absl::InvalidArgumentError("not a byte count such as 4096, 64KB, 1500MB or 8GB");
  }
  if (count > kMaxInt64 / unit) return too_large;
  return static_cast<int64_t>(count * unit);
}

std::string FormatByteCount(int64_t bytes) {
  if (bytes % 1'000'000'000 == 0) return absl::StrCat(bytes / 1'000'000'000, "GB");
  if (bytes % 1'000'000 == 0) return absl::StrCat(bytes / 1'000'000, "MB");
  if (bytes % 1'000 == 0) return absl::StrCat(bytes / 1'000, "KB");
  return absl::StrCat(bytes, "B");
}

}  // namespace packet_headers
