#include "user/service/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "user/base/unique_fd.h"
#include "user/service/history.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST_CASE("Progress says how far, how fast and how long", "[progress]") {
  CHECK(FormatProgress(812'000'000, 2'400'000'000, 7'260'000, 6 * kSecond) ==
        "33 %  812 MB of 2.40 GB  1.21 M packets/s  12 s left");
  CHECK(FormatProgress(1'000'000, 100'000'000, 500, 10 * kSecond) ==
        "1 %  1.00 MB of 100 MB  50 packets/s  16 min left");
  CHECK(FormatProgress(1'000'000, 2'000'000'000, 500'000, 10 * kSecond) ==
        "0 %  1.00 MB of 2.00 GB  50.0 k packets/s  6 h left");
}

TEST_CASE("Progress leaves out what can't be said", "[progress]") {
  // Of a pipe.
  CHECK(FormatProgress(812'000'000, 0, 1000, kSecond) == "812 MB  1.00 k packets/s");
  // At the beginning.
  CHECK(FormatProgress(0, 0, 0, 0) == "0 B");
  CHECK(FormatProgress(0, 5000, 0, 0) == "0 %  0 B of 5.00 kB");
  CHECK(FormatProgress(0, 5000, 0, kSecond) == "0 %  0 B of 5.00 kB  0 packets/s");
  // At the end, also of a file that has grown.
  CHECK(FormatProgress(5000, 5000, 40, kSecond) == "100 %  5.00 kB of 5.00 kB  40 packets/s");
  CHECK(FormatProgress(6000, 5000, 40, kSecond) == "100 %  6.00 kB of 6.00 kB  40 packets/s");
  // All but at the end.
  CHECK(FormatProgress(99'999, 100'000, 0, 5 * kSecond) ==
        "99 %  100 kB of 100 kB  0 packets/s  0 s left");
}

TEST_CASE("Progress rounds without a fourth digit", "[progress]") {
  CHECK(FormatProgress(999, 0, 0, 0) == "999 B");
  CHECK(FormatProgress(1000, 0, 0, 0) == "1.00 kB");
  CHECK(FormatProgress(9'994, 0, 0, 0) == "9.99 kB");
  CHECK(FormatProgress(9'996, 0, 0, 0) == "10.0 kB");
  CHECK(FormatProgress(99'960, 0, 0, 0) == "100 kB");
  CHECK(FormatProgress(999'499, 0, 0, 0) == "999 kB");
  CHECK(FormatProgress(999'500, 0, 0, 0) == "1.00 MB");
}

TEST_CASE("A line of the daemon tells the rate since the line before", "[progress]") {
  const Sample before = {.time_ns = 7 * kSecond, .packets_seen = 1000};
  Sample now = {.time_ns = 9 * kSecond,
                .packets_seen = 17'100,
                .packets_saved = 16'000,
                .packets_lost = 3,
                .flows_open = 39,
                .memory_bytes = 3'560'000};
  CHECK(FormatSample(before, now) ==
        "39 flows  8.05 k packets/s  saved 16.0 k  lost 3  memory 3.56 MB");
  CHECK(FormatSample(now, now) == "39 flows  0 packets/s  saved 16.0 k  lost 3  memory 3.56 MB");
  now = {kSecond, UINT64_MAX, UINT64_MAX, UINT64_MAX, 0, INT64_MAX, INT64_MAX};
  CHECK(FormatSample({}, now).size() < 80);
}

TEST_CASE("Of the history the last two minutes are kept", "[progress]") {
  for (const int64_t interval_ns : {kSecond, 7 * kSecond}) {
    History history;
    CHECK(history.Add({.time_ns = kSecond}).time_ns == kSecond);
    const int64_t end_ns = kSecond + 200 * interval_ns;
    for (int64_t time_ns = kSecond; time_ns < end_ns;) {
      time_ns += interval_ns;
      CHECK(history.Add({.time_ns = time_ns}).time_ns == time_ns - interval_ns);
    }
    const std::vector<Sample> kept = history.Get();
    CHECK(kept.size() == static_cast<size_t>(120 * kSecond / interval_ns + 1));
    CHECK(kept.front().time_ns >= end_ns - 120 * kSecond);
    CHECK(kept.back().time_ns == end_ns);
  }
}

TEST_CASE("The longest progress fits a line of 80 columns", "[progress]") {
  CHECK(FormatProgress(1, INT64_MAX, UINT64_MAX, INT64_MAX).size() < 80);
  CHECK(FormatProgress(INT64_MAX - 1, INT64_MAX, UINT64_MAX, 1).size() < 80);
}

// What a terminal, or a pipe, was sent so far: a terminal hands it over later, but in order, so a
// mark is sent behind it.
std::string Drain(const UniqueFd& screen, const UniqueFd& terminal) {
  constexpr char kMark = '|';
  std::string shown;
  if (write(terminal.get(), &kMark, 1) != 1) return "no mark could be written";
  for (char byte; read(screen.get(), &byte, 1) == 1 && byte != kMark;) shown += byte;
  return shown;
}

TEST_CASE("Progress is drawn over itself on a terminal, five times a second", "[progress]") {
  const UniqueFd screen(posix_openpt(O_RDWR | O_NOCTTY));
  REQUIRE(grantpt(screen.get()) == 0);
  REQUIRE(unlockpt(screen.get()) == 0);
  const UniqueFd terminal(open(ptsname(screen.get()), O_RDWR | O_NOCTTY));
  REQUIRE(terminal.valid());
  {
    Progress progress(terminal.get(), 1000, 5 * kSecond);
    progress.Update(10, 1, 5 * kSecond);
    progress.Clear();
    CHECK(Drain(screen, terminal) == "");
    for (int i = 1; i <= 100; ++i) progress.Update(5 * i, i, 5 * kSecond + i * kSecond / 100);
    CHECK(Drain(screen, terminal) ==
          "\r\x1b[K10 %  100 B of 1.00 kB  100 packets/s  2 s left"
          "\r\x1b[K20 %  200 B of 1.00 kB  100 packets/s  2 s left"
          "\r\x1b[K30 %  300 B of 1.00 kB  100 packets/s  1 s left"
          "\r\x1b[K40 %  400 B of 1.00 kB  100 packets/s  1 s left"
          "\r\x1b[K50 %  500 B of 1.00 kB  100 packets/s  1 s left");
    progress.Clear();
    CHECK(Drain(screen, terminal) == "\r\x1b[K");
    progress.Clear();
    CHECK(Drain(screen, terminal) == "");
    progress.Update(600, 200, 7 * kSecond);
    CHECK(Drain(screen, terminal) != "");
  }
  CHECK(Drain(screen, terminal) == "\r\x1b[K");
}

TEST_CASE("Progress stays in one line, on a narrow terminal too", "[progress]") {
  const UniqueFd screen(posix_openpt(O_RDWR | O_NOCTTY));
  REQUIRE(grantpt(screen.get()) == 0);
  REQUIRE(unlockpt(screen.get()) == 0);
  const UniqueFd terminal(open(ptsname(screen.get()), O_RDWR | O_NOCTTY));
  const winsize size = {.ws_row = 24, .ws_col = 20, .ws_xpixel = 0, .ws_ypixel = 0};
  REQUIRE(ioctl(terminal.get(), TIOCSWINSZ, &size) == 0);
  Progress progress(terminal.get(), 1000, 0);
  progress.Update(100, 20, kSecond);
  CHECK(Drain(screen, terminal) == "\r\x1b[K10 %  100 B of 1.00");
}

TEST_CASE("Progress is silent where there is no terminal", "[progress]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  {
    Progress progress(in.get(), 1000, 0);
    progress.Update(10, 1, 5 * kSecond);
  }
  CHECK(Drain(out, in) == "");
}

}  // namespace
}  // namespace packet_headers::testing
