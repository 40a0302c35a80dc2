#include "user/base/paced_log.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/captured_log.h"
#include "tests/support/catch.h"

namespace packet_headers {
namespace {

using testing::CapturedLog;
using Lines = std::vector<std::string>;

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr auto kLevel = spdlog::level::info;

TEST_CASE("What changes now and then is logged as it happens", "[log]") {
  const CapturedLog captured;
  PacedLog log;
  Lines expected;
  for (int i = 0; i < 100; ++i) {
    expected.push_back(absl::StrCat("news ", i));
    log.Say(kLevel, expected.back(), i * 10 * kSecondNs);
  }
  CHECK(captured.Lines() == expected);
}

TEST_CASE("A storm leaves a few lines, then one each ten seconds", "[log]") {
  const CapturedLog captured;
  PacedLog log;
  for (int i = 0; i < 1000; ++i) log.Say(kLevel, absl::StrCat("news ", i), i * kSecondNs / 10);
  CHECK(captured.Lines().size() == 6 + 9);
}

TEST_CASE("The last news are logged when their turn comes", "[log]") {
  const CapturedLog captured;
  PacedLog log;
  for (int i = 0; i < 20; ++i) log.Say(kLevel, absl::StrCat("news ", i), 0);
  REQUIRE(captured.Lines().size() == 6);
  REQUIRE(log.due_ns() == 10 * kSecondNs);
  log.CatchUp(log.due_ns() - 1);
  CHECK(captured.Lines().size() == 6);
  log.CatchUp(log.due_ns());
  CHECK(captured.Lines().size() == 7);
  CHECK(captured.Lines().back() == "news 19 (13 lines left out before)");
  log.CatchUp(1000 * kSecondNs);
  CHECK(captured.Lines().size() == 7);
}

TEST_CASE("The same line is logged once a minute", "[log]") {
  const CapturedLog captured;
  PacedLog log;
  for (int second = 0; second < 150; second += 5) log.Say(kLevel, "absent", second * kSecondNs);
  CHECK(captured.Lines() ==
        Lines{"absent", "absent (11 lines left out before)", "absent (11 lines left out before)"});
  log.Say(kLevel, "there", 150 * kSecondNs);
  log.Say(kLevel, "absent", 151 * kSecondNs);
  CHECK(captured.Lines().back() == "absent");
}

}  // namespace
}  // namespace packet_headers
