#include "user/config/go_values.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace packet_headers {
namespace {

constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
constexpr int64_t kMinInt64 = std::numeric_limits<int64_t>::min();
constexpr int64_t kSecond = 1'000'000'000;

template <typename T>
struct Accepted {
  std::string text;
  T value;
};

// `parse` reads each text as the value beside it.
template <typename T, typename Parse>
void CheckAccepted(Parse parse, const std::vector<Accepted<T>>& cases) {
  for (const auto& c : cases) {
    INFO("text: \"" << c.text << "\"");
    const auto value = parse(c.text);
    INFO("status: " << value.status());
    REQUIRE(value.ok());
    CHECK(*value == c.value);
  }
}

// `parse` refuses each text with a message that fits on the operator's one line.
template <typename Parse>
void CheckRefused(Parse parse, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    INFO("text: \"" << text << "\"");
    const auto value = parse(text);
    REQUIRE_FALSE(value.ok());
    CHECK(value.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK_FALSE(value.status().message().empty());
    CHECK(value.status().message().find('\n') == absl::string_view::npos);
  }
}

absl::StatusOr<int64_t> ParseNanoseconds(absl::string_view text) {
  const absl::StatusOr<absl::Duration> duration = ParseGoDuration(text);
  if (!duration.ok()) return duration.status();
  // Nothing finer than a nanosecond is left over.
  CHECK(absl::Nanoseconds(absl::ToInt64Nanoseconds(*duration)) == *duration);
  return absl::ToInt64Nanoseconds(*duration);
}

TEST_CASE("Booleans are the words that Go knows", "[go_values]") {
  CheckAccepted<bool>(ParseGoBool, {{"1", true},
                                    {"t", true},
                                    {"T", true},
                                    {"true", true},
                                    {"TRUE", true},
                                    {"True", true},
                                    {"0", false},
                                    {"f", false},
                                    {"F", false},
                                    {"false", false},
                                    {"FALSE", false},
                                    {"False", false}});
  CheckRefused(ParseGoBool, {"", "tRUE", "fALSE", "yes", "no", "on", "off", "y", "n", "2", "00",
                             "01", "-1", " true", "true ", "true\n"});
}

TEST_CASE("Integers are read in the base that their prefix says", "[go_values]") {
  CheckAccepted<int64_t>(ParseGoInt, {
                                         {"0", 0},
                                         {"-0", 0},
                                         {"+0", 0},
                                         {"00", 0},
                                         {"150", 150},
                                         {"+150", 150},
                                         {"-150", -150},
                                         {"0x1F", 31},
                                         {"0X1f", 31},
                                         {"-0x1f", -31},
                                         {"0xb", 11},
                                         {"0o17", 15},
                                         {"0O17", 15},
                                         {"017", 15},
                                         {"-017", -15},
                                         {"0b101", 5},
                                         {"0B101", 5},
                                     });
  CheckRefused(ParseGoInt,
               {"",     "-",    "+",     "+-5", "--5", "- 5",     " 5",  "5 ",   "5\n",
                "1e3",  "1.0",  "1,000", "ten", "0x",  "0X",      "0o",  "0b",   "-0x",
                "08",   "09",   "0o8",   "0b2", "0xG", "1F",      "x1F", "0x-1", "0x0x1",
                "0x 1", "0d10", "256MB", "1/2", "١",   "0x1.8p1", "inf", "nan",  "true"});
}

TEST_CASE("Underscores stand between digits or after the base prefix", "[go_values]") {
  CheckAccepted<int64_t>(ParseGoInt, {
                                         {"1_000", 1000},
                                         {"1_0_0", 100},
                                         {"-1_000", -1000},
                                         {"0x_1F", 31},
                                         {"0x1_F", 31},
                                         {"0b_1", 1},
                                         {"0o_17", 15},
                                         {"0_17", 15},
                                         {"0_0", 0},
                                     });
  CheckRefused(ParseGoInt, {"_", "_1", "1_", "1__0", "0_", "0__7", "0_8", "0x_", "0x__1", "0x1_",
                            "0_x1", "-_1", "+_1", "1_000_"});
}

TEST_CASE("Integers are 64 bits wide", "[go_values]") {
  CheckAccepted<int64_t>(ParseGoInt, {
                                         {"9223372036854775807", kMaxInt64},
                                         {"-9223372036854775808", kMinInt64},
                                         {"0x7fffffffffffffff", kMaxInt64},
                                         {"-0x8000000000000000", kMinInt64},
                                         {"0777777777777777777777", kMaxInt64},
                                         {"0000000000000000000000000000001", 1},
                                     });
  CheckRefused(ParseGoInt, {"9223372036854775808", "-9223372036854775809", "0x8000000000000000",
                            "-0x8000000000000001", "18446744073709551616", "18446744073709551617",
                            "01000000000000000000000", "99999999999999999999999999999999999999"});
}

TEST_CASE("Durations are read as time.ParseDuration reads them", "[go_values]") {
  CheckAccepted<int64_t>(ParseNanoseconds, {
                                               {"0", 0},
                                               {"-0", 0},
                                               {"+0", 0},
                                               {"0s", 0},
                                               {"5s", 5 * kSecond},
                                               {"30s", 30 * kSecond},
                                               {"1478s", 1478 * kSecond},
                                               {"-5s", -5 * kSecond},
                                               {"+5s", 5 * kSecond},
                                               {"5.0s", 5 * kSecond},
                                               {"5.6s", 5'600'000'000},
                                               {"5.s", 5 * kSecond},
                                               {"1.s", kSecond},
                                               {".5s", 500'000'000},
                                               {"-.5s", -500'000'000},
                                               {"+.5s", 500'000'000},
                                               {"1.004s", 1'004'000'000},
                                               {"1.0040s", 1'004'000'000},
                                               {"100.00100s", 100'001'000'000},
                                               {"007s", 7 * kSecond},
                                               {"10ns", 10},
                                               {"11us", 11'000},
                                               {"12µs", 12'000},  // U+00B5
                                               {"12μs", 12'000},  // U+03BC
                                               {"13ms", 13'000'000},
                                               {"14s", 14 * kSecond},
                                               {"15m", 15 * 60 * kSecond},
                                               {"16h", 16 * 3600 * kSecond},
                                           });
}

TEST_CASE("A duration may have several parts, in any order", "[go_values]") {
  CheckAccepted<int64_t>(ParseNanoseconds, {
                                               {"1h2m3.5s", 3723 * kSecond + 500'000'000},
                                               {"3h30m", 12'600 * kSecond},
                                               {"10.5s4m", 250 * kSecond + 500'000'000},
                                               {"-2m3.4s", -123 * kSecond - 400'000'000},
                                               {"1h2m3s4ms5us6ns", 3723 * kSecond + 4'005'006},
                                               {"39h9m14.425s", 140'954 * kSecond + 425'000'000},
                                               {"1s1s", 2 * kSecond},
                                               {"1m.5s", 60 * kSecond + 500'000'000},
                                               {"0s0s", 0},
                                           });
}

TEST_CASE("Fractions of a duration come to the nanosecond that Go comes to", "[go_values]") {
  CheckAccepted<int64_t>(ParseNanoseconds, {
                                               {"0.3333333333333333333h", 1200 * kSecond},
                                               {"0.9223372036854775807h", 3'320'413'933'267},
                                               {"0.100000000000000000000h", 360 * kSecond},
                                               {"0.830103483285477580700h", 2'988'372'539'827},
                                               {"52763797000ns", 52'763'797'000},
                                               {"1.9ns", 1},
                                               {"-1.9ns", -1},
                                               {"0.000000001s", 1},
                                               {"0.0000000009s", 0},
                                               {"0.99999999999999999999999999999s", kSecond},
                                           });
}

TEST_CASE("Durations without a number, a unit or sense are refused", "[go_values]") {
  CheckRefused(
      ParseNanoseconds,
      {"",       "-",      "+",         "s",     "-s",    ".",    "-.",   ".s",   "+.s",   "3000",
       "1",      "-1",     "00",        "0.0",   ".0",    "1.5",  "1e3s", "1d",   "1w",    "1S",
       "1M",     "1H",     "1Ms",       "1sec",  "1 s",   " 1s",  "1s ",  "1s\n", "1s 2s", "--1s",
       "-+1s",   "1s-1s",  "1h-1m",     "1..5s", "1.5.s", "1,5s", "1_0s", "0x1s", "1m2",   "1s0",
       "1\xb5s", "1\xc2s", "\xc3\xb5s", "1s.",   "inf",   "30s,"});
}

TEST_CASE("The error of a duration says what is missing", "[go_values]") {
  CHECK(ParseGoDuration("30").status().message() == "missing unit (ns, us, ms, s, m or h)");
  CHECK(ParseGoDuration("1d").status().message() == "unknown unit (ns, us, ms, s, m or h)");
}

TEST_CASE("Durations end where 64 bits of nanoseconds end", "[go_values]") {
  CheckAccepted<int64_t>(ParseNanoseconds, {
                                               {"9223372036854775807ns", kMaxInt64},
                                               {"9223372036854775.807us", kMaxInt64},
                                               {"9223372036s854ms775us807ns", kMaxInt64},
                                               {"-9223372036854775807ns", -kMaxInt64},
                                               {"-9223372036854775808ns", kMinInt64},
                                               {"-9223372036854775.808us", kMinInt64},
                                               {"-9223372036s854ms775us808ns", kMinInt64},
                                               {"2562047h47m16.854775807s", kMaxInt64},
                                               {"-2562047h47m16.854775808s", kMinInt64},
                                           });
  CheckRefused(ParseNanoseconds, {
                                     "9223372036854775808ns",
                                     "9223372036854775.808us",
                                     "9223372036854ms775us808ns",
                                     "-9223372036854775809ns",
                                     "-9223372036s854ms775us809ns",
                                     "18446744073709551616ns",
                                     "3000000h",
                                     "-3000000h",
                                     "5124096h",  // just above 2^64 ns
                                     "9223372036854775807.9us",
                                     "9223372036.9s",
                                     "2562047h47m16.854775808s",
                                     "9223372036854775807ns1ns",
                                     // Two that add up to 2^64, which is 0 in 64 bits.
                                     "9223372036854775808ns9223372036854775808ns",
                                     "-9223372036854775808ns9223372036854775808ns",
                                     "99999999999999999999999999999999s",
                                 });
}

TEST_CASE("Durations are printed as Go prints them", "[go_values]") {
  const std::vector<Accepted<int64_t>> cases = {
      {"0s", 0},
      {"1ns", 1},
      {"-1ns", -1},
      {"999ns", 999},
      {"1µs", 1'000},
      {"1.1µs", 1'100},
      {"1.001µs", 1'001},
      {"999.999µs", 999'999},
      {"1ms", 1'000'000},
      {"2.2ms", 2'200'000},
      {"500ms", 500'000'000},
      {"1s", kSecond},
      {"1.5s", 1'500'000'000},
      {"3.3s", 3'300'000'000},
      {"1.000000001s", 1'000'000'001},
      {"30s", 30 * kSecond},
      {"59.999999999s", 59'999'999'999},
      {"1m0s", 60 * kSecond},
      {"4m5s", 245 * kSecond},
      {"4m5.001s", 245'001'000'000},
      {"-4m5.001s", -245'001'000'000},
      {"1h0m0s", 3600 * kSecond},
      {"1h0m0.1s", 3600 * kSecond + 100'000'000},
      {"5h6m7.001s", 18'367'001'000'000},
      {"48h0m0s", 48 * 3600 * kSecond},
      {"8m0.000000001s", 480'000'000'001},
      {"2562047h47m16.854775807s", kMaxInt64},
      {"-2562047h47m16.854775808s", kMinInt64},
  };
  for (const auto& c : cases) {
    CHECK(FormatGoDuration(absl::Nanoseconds(c.value)) == c.text);
  }
  CheckAccepted<int64_t>(ParseNanoseconds, cases);  // what is printed is read back as it was
}

TEST_CASE("Byte counts have decimal units in upper case", "[go_values]") {
  CheckAccepted<int64_t>(ParseByteCount, {
                                             {"0", 0},
                                             {"0B", 0},
                                             {"0GB", 0},
                                             {"1", 1},
                                             {"1B", 1},
                                             {"007", 7},
                                             {"1K", 1'000},
                                             {"1KB", 1'000},
                                             {"1500MB", 1'500'000'000},
                                             {"1500M", 1'500'000'000},
                                             {"2GB", 2'000'000'000},
                                             {"8G", 8'000'000'000},
                                         });
  CheckRefused(ParseByteCount, {"",      "B",    "K",    "KB",    "GB",    "1k",   "1kb",  "1Kb",
                                "1mb",   "1gB",  "1b",   "1BB",   "1BK",   "1KK",  "1KiB", "1TB",
                                "1T",    "1 GB", " 1GB", "1GB ",  "1GB\n", "-1",   "+1",   "-1GB",
                                "1.5GB", "1e9",  "0x10", "1_000", "1,000", "1GB1", "1GBMB"});
}

TEST_CASE("Byte counts end where 63 bits end", "[go_values]") {
  CheckAccepted<int64_t>(ParseByteCount, {
                                             {"9223372036854775807", kMaxInt64},
                                             {"9223372036854775KB", 9'223'372'036'854'775'000},
                                             {"9223372036GB", 9'223'372'036'000'000'000},
                                         });
  CheckRefused(ParseByteCount, {"9223372036854775808", "9223372036854775808B", "9223372036854776KB",
                                "9223372036855MB", "9223372037GB", "18446744073709551616",
                                "18446744074GB", "99999999999999999999999999999999"});
}

TEST_CASE("Byte counts are printed in the largest unit without a rest", "[go_values]") {
  const std::vector<Accepted<int64_t>> cases = {
      {"0GB", 0},
      {"1B", 1},
      {"999B", 999},
      {"1KB", 1'000},
      {"1001B", 1'001},
      {"4096B", 4'096},
      {"32MB", 32'000'000},
      {"1500MB", 1'500'000'000},
      {"8GB", 8'000'000'000},
      {"1000GB", 1'000'000'000'000},
      {"9223372036854775807B", kMaxInt64},
  };
  for (const auto& c : cases) {
    CHECK(FormatByteCount(c.value) == c.text);
  }
  CheckAccepted<int64_t>(ParseByteCount, cases);
}

}  // namespace
}  // namespace packet_headers
