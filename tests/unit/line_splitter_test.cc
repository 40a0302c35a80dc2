#include "user/identity/line_splitter.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/catch.h"

namespace packet_headers {
namespace {

using Lines = std::vector<std::string>;

// A splitter and what came out of it.
struct Stream {
  void Feed(absl::string_view bytes) {
    oversized += splitter.Feed(bytes, [this](absl::string_view line) { lines.emplace_back(line); });
  }

  LineSplitter splitter;
  Lines lines;
  size_t oversized = 0;
};

const std::string kLongest(LineSplitter::kMaxLineBytes, 'x');

TEST_CASE("A stream is split into the same lines wherever it is cut", "[lines]") {
  const std::string stream = "one\n\ntwo \r\nthree\nrest";
  const Lines expected = {"one", "", "two \r", "three"};
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      Stream cut;
      cut.Feed(stream.substr(0, first));
      cut.Feed(stream.substr(first, second - first));
      cut.Feed(stream.substr(second));
      INFO(first << " " << second);
      REQUIRE(cut.lines == expected);
      REQUIRE(cut.splitter.rest() == "rest");
      REQUIRE(cut.oversized == 0);
    }
  }
}

TEST_CASE("The longest line passes, one byte more does not, wherever it is cut", "[lines]") {
  for (const size_t cut : {size_t{1}, size_t{1000}, kLongest.size() - 1, kLongest.size()}) {
    Stream longest;
    longest.Feed(kLongest.substr(0, cut));
    longest.Feed(absl::StrCat(kLongest.substr(cut), "\nnext\n"));
    CHECK(longest.lines == Lines{kLongest, "next"});
    CHECK(longest.oversized == 0);

    Stream longer;
    longer.Feed(kLongest.substr(0, cut));
    longer.Feed(absl::StrCat(kLongest.substr(cut), "x\nnext\n"));
    CHECK(longer.lines == Lines{"next"});
    CHECK(longer.oversized == 1);
  }
}

TEST_CASE("Each oversized line counts once", "[lines]") {
  const std::string longer = kLongest + "x";
  Stream stream;
  stream.Feed(absl::StrCat("a\n", longer, "\n", longer, "\nb\n", longer));
  CHECK(stream.lines == Lines{"a", "b"});
  CHECK(stream.oversized == 3);
  CHECK(stream.splitter.rest().empty());
  stream.Feed(longer);
  CHECK(stream.oversized == 3);
  stream.Feed("\nc\n");
  CHECK(stream.lines == Lines{"a", "b", "c"});
}

TEST_CASE("A gigabyte without a newline is one oversized line and never kept", "[lines]") {
  Stream stream;
  size_t most_kept = 0;
  for (size_t fed = 0; fed < (size_t{1} << 30); fed += kLongest.size()) {
    stream.Feed(kLongest);
    most_kept = std::max(most_kept, stream.splitter.rest().size());
  }
  CHECK(stream.oversized == 1);
  CHECK(most_kept == kLongest.size());
  stream.Feed("end\nnext\n");
  CHECK(stream.lines == Lines{"next"});
  CHECK(stream.oversized == 1);
}

}  // namespace
}  // namespace packet_headers
