#include "user/service/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"
#include "tests/support/catch.h"
#include "user/base/unique_fd.h"

namespace packet_headers::testing {
namespace {

// A log whose stderr is `to`, until it goes.
struct Redirected {
  explicit Redirected(const UniqueFd& to) {
    std::fflush(stderr);
    dup2(to.get(), STDERR_FILENO);
  }
  ~Redirected() {
    spdlog::set_default_logger(logger);
    dup2(before.get(), STDERR_FILENO);
  }
  const std::shared_ptr<spdlog::logger> logger = spdlog::default_logger();
  const UniqueFd before{dup(STDERR_FILENO)};
};

struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    out.Reset(ends[0]);
    in.Reset(ends[1]);
  }
  std::string Read() const {
    char bytes[4096];
    const ssize_t size = read(out.get(), bytes, sizeof(bytes));
    return std::string(bytes, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  }
  UniqueFd out, in;
};

TEST_CASE("With JSON a line is one object, whatever it says", "[log]") {
  const Pipe pipe;
  const Redirected redirected(pipe.in);
  Log log(LogFormat::kJson);
  log.ShowStatus("not shown");
  const std::string texts[] = {"plain", "\"quotes\" \\ and\nlines\r\t\x1b[2J\x7f",
                               std::string("a\0b", 3), "\xff\xfe no UTF-8 \xc3", "\xe2\x82\xac"};
  for (const std::string& text : texts) {
    spdlog::warn("{}", text);
    const std::string line = pipe.Read();
    CAPTURE(line);
    REQUIRE(line.find('\n') == line.size() - 1);
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    REQUIRE(object.is_object());
    CHECK(object["level"] == "warning");
    CHECK(object["time"].get<std::string>().size() == sizeof("2026-11-21T22:23:24.655Z") - 1);
    if (text[0] != '\xff') CHECK(object["message"] == text);
  }
}

TEST_CASE("Where there is no terminal there is no line of what goes on", "[log]") {
  const Pipe pipe;
  const Redirected redirected(pipe.in);
  Log log(LogFormat::kText);
  log.ShowStatus("not shown");
  spdlog::info("text");
  const std::string line = pipe.Read();
  CHECK(line.find("info text\n") != std::string::npos);
  CHECK(line.find('\x1b') == std::string::npos);
  CHECK(line.find("not shown") == std::string::npos);
}

TEST_CASE("On a terminal it stays below the log", "[log]") {
  const UniqueFd screen(posix_openpt(O_RDWR | O_NOCTTY));
  REQUIRE(grantpt(screen.get()) == 0);
  REQUIRE(unlockpt(screen.get()) == 0);
  const UniqueFd terminal(open(ptsname(screen.get()), O_RDWR | O_NOCTTY));
  REQUIRE(terminal.valid());
  std::string shown;
  {
    const Redirected redirected(terminal);
    Log log(LogFormat::kText);
    log.ShowStatus("1 flow");
    log.ShowStatus("2 flows");
    spdlog::info("text");
    log.ClearStatus();
    spdlog::info("the end|");
  }
  for (char byte; read(screen.get(), &byte, 1) == 1 && byte != '|';) shown += byte;
  const size_t text = shown.find("text\r\n");
  REQUIRE(text != std::string::npos);
  CHECK(shown.substr(0, 25) == "\r\x1b[K1 flow\r\x1b[K2 flows\r\x1b[K");
  // Behind the log line once more, and gone at the end.
  CHECK(shown.substr(text + 6, 14) == "\r\x1b[K2 flows\r\x1b[");
}

}  // namespace
}  // namespace packet_headers::testing
