#include "user/identity/socket_event.h"

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "tests/support/catch.h"
#include "user/identity/uuid.h"

namespace packet_headers {
namespace {

constexpr char kOpenLine[] =
    R"({"Event":0,"Timestamp":"2026-11-21T19:58:25.916725472Z",)"
    R"("UUID":"host.example.com_1553815964_00000000000030DB",)"
    R"("ID":{"SPort":8020,"DPort":48852,"SrcIP":"10.9.0.1","DstIP":"10.9.0.200",)"
    R"("Interface":0,"Cookie":12507}})";
constexpr char kCloseLine[] = R"({"Event":1,"Timestamp":"2026-11-21T19:58:26.218703162Z",)"
                              R"("UUID":"host.example.com_1553815964_00000000000030DB","ID":null})";
constexpr char kUuid[] = "host.example.com_1553815964_00000000000030DB";

// 2026-11-21T19:58:25Z
constexpr int64_t kSeconds = 1'795'291'105;
constexpr int64_t kSecondNs = 1'000'000'000;

// The open line with a piece of it replaced.
std::string With(absl::string_view piece, absl::string_view replacement) {
  std::string line = kOpenLine;
  REQUIRE(absl::StrReplaceAll({{piece, replacement}}, &line) == 1);
  return line;
}

std::string WithTimestamp(absl::string_view timestamp) {
  return With("2026-11-21T19:58:25.916725472Z", timestamp);
}

Announcement DecodeOpen(absl::string_view line) {
  SocketEvent event = DecodeSocketEvent(line);
  INFO(line);
  REQUIRE(std::holds_alternative<Announcement>(event));
  return std::get<Announcement>(event);
}

// The label of the reason why the line is bad; for a line that isn't, what it is.
std::string Verdict(absl::string_view line) {
  const SocketEvent event = DecodeSocketEvent(line);
  if (std::holds_alternative<Announcement>(event)) return "open";
  if (std::holds_alternative<ClosedSocket>(event)) return "close";
  if (std::holds_alternative<BlankLine>(event)) return "blank";
  return kBadEventNames[static_cast<int>(std::get<BadEvent>(event))];
}

std::string Address(const __u8 (&address)[16]) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(AF_INET6, address, text, sizeof(text));
}

TEST_CASE("tcp-info's own lines", "[event]") {
  const Announcement announcement = DecodeOpen(kOpenLine);
  CHECK(Address(announcement.key.local_addr) == "::ffff:10.9.0.1");
  CHECK(Address(announcement.key.remote_addr) == "::ffff:10.9.0.200");
  CHECK(ntohs(announcement.key.local_port_be) == 8020);
  CHECK(ntohs(announcement.key.remote_port_be) == 48852);
  CHECK(announcement.cookie == 12507);
  CHECK(announcement.time_ns == kSeconds * kSecondNs + 916'725'472);
  CHECK(announcement.date == absl::CivilDay(2026, 11, 21));
  CHECK(announcement.uuid == kUuid);

  CHECK(Verdict(kCloseLine) == "close");
}

TEST_CASE("Lines that are read as Go's encoding/json reads them", "[event]") {
  const std::vector<std::string> same = {
      With("Event", "eVENT"),
      With("Timestamp", "timestamp"),
      With("UUID", "Uuid"),
      With("\"ID\"", "\"id\""),
      With("SPort", "sport"),
      With("DPort", "DPORT"),
      With("SrcIP", "srcip"),
      With("DstIP", "dstIp"),
      With("Cookie", "cookie"),
      With("Event", "\\u0045vent"),
      With("host.", "\\u0068ost."),
      With(":0,\"T", " : 0 ,\t\"T"),
      // Unknown fields, whatever they are
      With("{\"Event\"", R"({"New":null,"Event")"),
      With("{\"Event\"", R"({"New":1e9,"Event")"),
      With("{\"Event\"", R"({"New":-1.5,"Event")"),
      With("{\"Event\"", R"({"New":true,"Event")"),
      With("{\"Event\"", R"({"New":-3,"N2":99999999999999999999,"Event")"),
      With("{\"Event\"", R"({"":"x","\u003c":"\u003e","Event")"),
      With("{\"Event\"", R"({"New":[1,[2,{"ID":null,"UUID":"x"}],"y"],"Event")"),
      With("{\"Event\"", R"({"New":{"Event":7,"ID":{"SPort":9}},"Event")"),
      With("{\"SPort\"", R"({"New":{"SPort":7,"Cookie":[]},"SPort")"),
      With("{\"SPort\"", R"({"New":[{"SPort":7}],"Event":9,"SPort")"),
      With("12507}", R"(12507,"UUID":"x"})"),
      With("}}", R"(},"Cookie":9,"SPort":"x"})"),
      With("}}", R"(},"New":{"SPort":"x","Cookie":9}})"),
      // null leaves what is there
      With("\"Event\":0", R"("Event":null)"),
      With("\"Interface\":0", R"("Interface":null)"),
      With("12507}", R"(12507,"Cookie":null,"SrcIP":null})"),
      With("}}", R"(},"UUID":null,"Timestamp":null,"Event":null})"),
      // Of duplicates the last counts
      With("\"Event\":0", R"("Event":7,"event":0)"),
      With("\"SrcIP\"", R"("SrcIP":"nonsense","SrcIP")"),
      With("\"SPort\"", R"("SPORT":1,"SPort")"),
      With("\"UUID\"", R"("UUID":"../x","uuid")"),
      With("\"Timestamp\"", R"("Timestamp":"1999-01-01T00:00:00Z","Timestamp")"),
      With("\"ID\"", R"("ID":null,"ID")"),
      With("\"ID\"", R"("ID":{"SPort":1},"ID")"),
      // and an ID is filled in where it is
      With("\"Interface\"", R"("x":0},"ID":{"Interface")"),
      // Missing fields are zero
      With("\"Event\":0,", ""),
      With("\"Interface\":0,", ""),
      // What surrounds the object
      absl::StrCat(kOpenLine, "\n"),
      absl::StrCat(kOpenLine, "\r\n"),
      absl::StrCat(" \t", kOpenLine, "  "),
  };
  const std::string expected = EncodeOpen(DecodeOpen(kOpenLine), 0);
  for (const std::string& line : same) {
    INFO(line);
    CHECK(EncodeOpen(DecodeOpen(line), 0) == expected);
  }
}

TEST_CASE("Numbers of an open event", "[event]") {
  CHECK(DecodeOpen(With("12507", "-1")).cookie == UINT64_MAX);
  CHECK(DecodeOpen(With("12507", "-9223372036854775808")).cookie == uint64_t{1} << 63);
  CHECK(DecodeOpen(With("12507", "9223372036854775807")).cookie == INT64_MAX);
  CHECK(DecodeOpen(With("12507", "-0")).cookie == 0);
  CHECK(DecodeOpen(With("\"Cookie\"", "\"x\"")).cookie == 0);
  CHECK(DecodeOpen(With("8020", "0")).key.local_port_be == 0);
  CHECK(DecodeOpen(With("48852", "65535")).key.remote_port_be == 0xffff);
  CHECK(Verdict(With("\"Interface\":0", "\"Interface\":4294967295")) == "open");

  for (const char* number : {"-1",   "-0",  "65536", "4294967296", "18446744073709551616",
                             "1.5",  "1.0", "1e3",   "1E400",      "\"1\"",
                             "true", "[1]", "{}",    "01",         "+1",
                             "0x10", ".5",  "1.",    "NaN",        "-",
                             ""}) {
    INFO(number);
    CHECK(Verdict(With("8020", number)) == "malformed");
    CHECK(Verdict(With("48852", number)) == "malformed");
  }
  for (const char* number : {"-1", "-0", "4294967296", "1.0", "1e3", "\"0\"", "false"}) {
    INFO(number);
    CHECK(Verdict(With("\"Interface\":0", absl::StrCat("\"Interface\":", number))) == "malformed");
  }
  for (const char* number : {"9223372036854775808", "-9223372036854775809", "18446744073709551615",
                             "1e1", "0.0", "-1.0", "\"12507\"", "false"}) {
    INFO(number);
    CHECK(Verdict(With("12507", number)) == "malformed");
  }
}

TEST_CASE("Which event it is", "[event]") {
  const auto verdict = [](absl::string_view event) {
    return Verdict(With("\"Event\":0", absl::StrCat("\"Event\":", event)));
  };
  CHECK(verdict("1") == "close");
  CHECK(verdict("-0") == "open");
  for (const char* event : {"2", "-1", "256", "4294967296", "9223372036854775807"}) {
    CHECK(verdict(event) == "unknownevent");
  }
  for (const char* event : {"9223372036854775808", "1.0", "1e0", "\"open\"", "true", "[0]", "{}"}) {
    CHECK(verdict(event) == "malformed");
  }
}

TEST_CASE("An open without ID is counted as such", "[event]") {
  CHECK(Verdict(R"({"Event":0,"Timestamp":"2026-11-21T19:58:25Z","UUID":"a","ID":null})") ==
        "nilid");
  CHECK(Verdict(R"({"Event":0,"Timestamp":"2026-11-21T19:58:25Z","UUID":"a"})") == "nilid");
  CHECK(Verdict(With("}}", R"(},"ID":null})")) == "nilid");
  CHECK(Verdict("{}") == "nilid");
  CHECK(Verdict("null") == "nilid");
  for (const char* id : {"0", "\"\"", "[]", "false", "1.5", "-1"}) {
    CHECK(Verdict(absl::StrCat(R"({"ID":)", id, "}")) == "malformed");
  }
}

TEST_CASE("Addresses of an open event", "[event]") {
  struct Case {
    std::string text;
    std::string address;
  };
  for (const Case& c : std::vector<Case>{
           {"0.0.0.0", "::ffff:0.0.0.0"},
           {"255.255.255.255", "::ffff:255.255.255.255"},
           {"::ffff:10.9.0.1", "::ffff:10.9.0.1"},
           {"::FFFF:0a09:0001", "::ffff:10.9.0.1"},
           {"0:0:0:0:0:ffff:a09:1", "::ffff:10.9.0.1"},
           {"2001:db8::1", "2001:db8::1"},
           {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
           {"::", "::"},
           {"::1.2.3.4", "::1.2.3.4"},
       }) {
    INFO(c.text);
    CHECK(Address(DecodeOpen(With("10.9.0.1\"", c.text + "\"")).key.local_addr) == c.address);
    CHECK(Address(DecodeOpen(With("10.9.0.200", c.text)).key.remote_addr) == c.address);
  }
  for (const char* text : {"",
                           " ",
                           "10.9.0",
                           "10.9.0.1.2",
                           "10.9.0.256",
                           "10.9.0.01",
                           "010.9.0.1",
                           "0x0a.9.0.1",
                           "10.9.0.1 ",
                           " 10.9.0.1",
                           "10.9.0.1\\u0000",
                           "10.9.0.1\\u0000x",
                           "\\u0000",
                           "168361985",
                           "10.9.0.1/32",
                           "10.9.0.1:80",
                           "fe80::1%eth0",
                           "fe80::1%2",
                           "[::1]",
                           ":::",
                           "1:2:3:4:5:6:7",
                           "1:2:3:4:5:6:7:8:9",
                           "::12345",
                           "::g",
                           "::ffff:10.9.0.256",
                           "::ffff:10.9.0.01",
                           "1:2:3:4::5:6:7:8",
                           "localhost"}) {
    INFO(text);
    CHECK(Verdict(With("10.9.0.1\"", absl::StrCat(text, "\""))) == "badip");
    CHECK(Verdict(With("10.9.0.200", text)) == "badip");
  }
  CHECK(Verdict(With("\"SrcIP\":", "\"NoIP\":")) == "badip");
  CHECK(Verdict(With("\"10.9.0.200\"", "null")) == "badip");
  CHECK(Verdict(With("\"10.9.0.200\"", "10")) == "malformed");
}

TEST_CASE("A UUID that could lead out of the directory is counted as such", "[event]") {
  for (const char* uuid :
       {"", ".", "..", "../x", "a/b", "/etc/passwd", "a\\u0000", "\\u0000", "a\\u0000/../b",
        "a\\/b", "\\u003cscript\\u003e", "a b", "a\\n", "\\ud83d\\ude00", "h\xc3\xb6st"}) {
    INFO(uuid);
    CHECK(Verdict(With(kUuid, uuid)) == "baduuid");
  }
  CHECK(Verdict(With(kUuid, std::string(128, 'x'))) == "open");
  CHECK(Verdict(With(kUuid, std::string(129, 'x'))) == "baduuid");
  CHECK(Verdict(With(kUuid, std::string(60'000, 'x'))) == "baduuid");
  CHECK(Verdict(With("\"UUID\"", "\"NoUUID\"")) == "baduuid");
  CHECK(Verdict(With(absl::StrCat("\"", kUuid, "\""), "7")) == "malformed");
}

TEST_CASE("The date is the one that is written, the time is the instant", "[event]") {
  struct Case {
    std::string timestamp;
    int64_t time_ns;
    absl::CivilDay date;
  };
  const absl::CivilDay day(2026, 11, 21);
  for (const Case& c : std::vector<Case>{
           {"2026-11-21T19:58:25Z", kSeconds * kSecondNs, day},
           {"2026-11-21T19:58:25.5Z", kSeconds * kSecondNs + 500'000'000, day},
           {"2026-11-21T19:58:25.000000001Z", kSeconds * kSecondNs + 1, day},
           {"2026-11-21T19:58:25.1234567899Z", kSeconds * kSecondNs + 123'456'789, day},
           {"2026-11-21T19:58:25+00:00", kSeconds * kSecondNs, day},
           {"2026-11-21T19:58:25-00:00", kSeconds * kSecondNs, day},
           {"2026-11-22T01:28:25+05:30", kSeconds * kSecondNs, absl::CivilDay(2026, 11, 22)},
           {"2026-11-22T19:57:25+23:59", kSeconds * kSecondNs, absl::CivilDay(2026, 11, 22)},
           {"2026-11-20T19:59:25-23:59", kSeconds * kSecondNs, absl::CivilDay(2026, 11, 20)},
           {"2025-01-01T00:00:00+14:00", 1'735'639'200 * kSecondNs, absl::CivilDay(2025, 1, 1)},
           {"1970-01-01T00:00:00Z", 0, absl::CivilDay(1970, 1, 1)},
           {"1969-12-31T23:59:59.75Z", -250'000'000, absl::CivilDay(1969, 12, 31)},
           {"2024-02-29T00:00:00Z", 1'709'164'800 * kSecondNs, absl::CivilDay(2024, 2, 29)},
           {"2000-02-29T00:00:00Z", 951'782'400 * kSecondNs, absl::CivilDay(2000, 2, 29)},
           {"1678-01-01T00:00:00Z", -9'214'560'000 * kSecondNs, absl::CivilDay(1678, 1, 1)},
           {"2261-12-31T23:59:59Z", 9'214'646'399 * kSecondNs, absl::CivilDay(2261, 12, 31)},
       }) {
    INFO(c.timestamp);
    const Announcement announcement = DecodeOpen(WithTimestamp(c.timestamp));
    CHECK(announcement.time_ns == c.time_ns);
    CHECK(announcement.date == c.date);
  }
}

TEST_CASE("A time that is none is malformed", "[event]") {
  for (const char* timestamp : {"",
                                "now",
                                "2026-11-21",
                                "2026-11-21T19:58Z",
                                "2026-11-21T19:58:25",
                                "2026-11-21 19:58:25Z",
                                "2026-11-21t19:58:25Z",
                                "2026-11-21T19:58:25z",
                                " 2026-11-21T19:58:25Z",
                                "2026-11-21T19:58:25Z ",
                                "2026-11-21T19:58:25Z\\u0000",
                                "2026-11-21T19:58:25.Z",
                                "2026-11-21T19:58:25,5Z",
                                "2026-11-21T19:58:25.-5Z",
                                "2026-11-21T19:58:25.5",
                                "2026-11-21T19:58:25+5:30",
                                "2026-11-21T19:58:25+0530",
                                "2026-11-21T19:58:25+05",
                                "2026-11-21T19:58:25+24:00",
                                "2026-11-21T19:58:25+05:60",
                                "2026-11-21T19:58:25+05:30Z",
                                "2026-11-21T19:58:60Z",
                                "2016-12-31T23:59:60Z",
                                "2026-11-21T19:60:25Z",
                                "2026-11-21T24:00:00Z",
                                "2026-11-21T9:58:25Z",
                                "2026-11-31T00:00:00Z",
                                "2026-02-29T00:00:00Z",
                                "1900-02-29T00:00:00Z",
                                "2026-11-00T00:00:00Z",
                                "2026-00-21T00:00:00Z",
                                "2026-13-21T00:00:00Z",
                                "26-11-21T19:58:25Z",
                                "-2026-11-21T19:58:25Z",
                                "+2026-11-21T19:58:25Z",
                                "12026-11-21T19:58:25Z",
                                "0001-01-01T00:00:00Z",
                                "1677-01-01T00:00:00Z",
                                "2263-01-01T00:00:00Z",
                                "9999-12-31T23:59:59Z",
                                "infinite-future"}) {
    INFO(timestamp);
    CHECK(Verdict(WithTimestamp(timestamp)) == "malformed");
  }
  CHECK(Verdict(With("\"Timestamp\"", "\"NoTime\"")) == "malformed");
  CHECK(Verdict(With("\"2026-11-21T19:58:25.916725472Z\"", "null")) == "malformed");
  CHECK(Verdict(With("\"2026-11-21T19:58:25.916725472Z\"", "1795291105")) == "malformed");
}

TEST_CASE("A line that is no JSON object is malformed", "[event]") {
  const std::string open = kOpenLine;
  for (const std::string& line : {std::string("x"),
                                  std::string("0"),
                                  std::string("-1"),
                                  std::string("1.5"),
                                  std::string("true"),
                                  std::string("\"open\""),
                                  std::string("[]"),
                                  std::string("[{}]"),
                                  std::string("{\"Event\":}"),
                                  std::string("{Event:0}"),
                                  std::string("{\"Event\":0,}"),
                                  std::string("{\"Event\":'0'}"),
                                  std::string("{} {}"),
                                  std::string("{}}"),
                                  std::string("{} // opened"),
                                  std::string("{\"x\":1e400}"),
                                  std::string("{\"x\":\"\\ud800\"}"),
                                  std::string("{\"x\":\"\\q\"}"),
                                  std::string("\0", 1),
                                  std::string("\f{}"),
                                  "\xef\xbb\xbf" + open,
                                  "\xff\xfe" + open,
                                  open + open,
                                  open + ",",
                                  open + std::string("\0", 1),
                                  open + std::string("\0x", 2),
                                  std::string("\0", 1) + open,
                                  With("host.", "ho\xffst."),
                                  With("host.", "ho\xc0\xafst."),
                                  With("host.", "ho\xed\xa0\x80st."),
                                  With("host.", "ho\tst."),
                                  With("host.", absl::string_view("ho\0st.", 6)),
                                  With("Event", "Eve\xffnt")}) {
    INFO(line);
    CHECK(Verdict(line) == "malformed");
  }
}

TEST_CASE("Deep nesting is malformed, as deep as it may be", "[event]") {
  const auto nested = [](int depth) {
    return absl::StrCat("{\"x\":", std::string(depth, '['), std::string(depth, ']'), "}");
  };
  CHECK(Verdict(nested(9'999)) == "nilid");
  CHECK(Verdict(nested(10'000)) == "malformed");
  CHECK(Verdict(std::string(65'536, '[')) == "malformed");
  CHECK(Verdict(absl::StrCat("{\"x\":", std::string(65'000, '['))) == "malformed");
  std::string objects;
  for (int i = 0; i < 13'000; ++i) objects += "{\"x\":";
  CHECK(Verdict(objects) == "malformed");
}

TEST_CASE("A blank line is no event", "[event]") {
  for (const char* line : {"", " ", "\r", "\t \r\n"}) CHECK(Verdict(line) == "blank");
}

TEST_CASE("A line torn anywhere is malformed", "[event]") {
  for (const absl::string_view line : {kOpenLine, kCloseLine}) {
    for (size_t size = 1; size < line.size(); ++size) {
      INFO(line.substr(0, size));
      CHECK(Verdict(line.substr(0, size)) == "malformed");
    }
  }
}

TEST_CASE("Whatever byte is wrong, no announcement has an invalid UUID", "[event]") {
  const std::string bytes("\0\x1f /\\\"{}[],:.-0e\x7f\x80\xff", 20);
  size_t opens = 0;
  for (size_t position = 0; position < sizeof(kOpenLine) - 1; ++position) {
    for (const char byte : bytes) {
      std::string line = kOpenLine;
      line[position] = byte;
      const SocketEvent event = DecodeSocketEvent(line);
      const auto* const announcement = std::get_if<Announcement>(&event);
      if (announcement == nullptr) continue;
      ++opens;
      if (!IsValidUuid(announcement->uuid)) FAIL(line);
    }
  }
  CHECK(opens > 100);
}

TEST_CASE("Events are written as tcp-info writes them", "[event]") {
  CHECK(EncodeOpen(DecodeOpen(kOpenLine), 0) == absl::StrCat(kOpenLine, "\n"));
  CHECK(EncodeClose(kSeconds * kSecondNs + kSecondNs + 218'703'162, kUuid) ==
        absl::StrCat(kCloseLine, "\n"));

  // Trailing zeros of the fraction are left out.
  for (const char* timestamp :
       {"2026-11-21T19:58:25Z", "2026-11-21T19:58:25.5Z", "2026-11-21T19:58:25.91672547Z",
        "2026-11-21T19:58:25.000000001Z", "2026-01-02T03:04:05.01Z"}) {
    CHECK(EncodeOpen(DecodeOpen(WithTimestamp(timestamp)), 0) ==
          absl::StrCat(WithTimestamp(timestamp), "\n"));
  }
  // Cookies are signed, the interface's bytes are swapped.
  CHECK(EncodeOpen(DecodeOpen(With("12507", "-2")), 3) ==
        absl::StrCat(
            absl::StrReplaceAll(With("12507", "-2"), {{"Interface\":0", "Interface\":50331648"}}),
            "\n"));
}

TEST_CASE("Addresses are written as Go writes them", "[event]") {
  struct Case {
    std::string address;
    std::string written;
  };
  for (const Case& c : std::vector<Case>{
           {"::ffff:10.9.0.1", "10.9.0.1"},
           {"::ffff:0.0.0.0", "0.0.0.0"},
           {"::", "::"},
           {"::1", "::1"},
           {"::1.2.3.4", "::102:304"},
           {"::1.2.0.0", "::102:0"},
           {"::0.0.3.4", "::304"},
           {"::fffe:1.2.3.4", "::fffe:102:304"},
           {"::ffff:0:1.2.3.4", "::ffff:0:102:304"},
           {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
           {"2001:DB8::0A", "2001:db8::a"},
           {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
           {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
           {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
           {"1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0"},
           {"fe80::", "fe80::"},
       }) {
    INFO(c.address);
    const Announcement announcement = DecodeOpen(With("10.9.0.200", c.address));
    CHECK(EncodeOpen(announcement, 0) == absl::StrCat(With("10.9.0.200", c.written), "\n"));
  }
}

TEST_CASE("What is written is read back", "[event]") {
  Announcement announcement = DecodeOpen(kOpenLine);
  for (int i = 0; i < 1000; ++i) {
    // Bytes and numbers without a pattern.
    const uint64_t noise = 0x9e3779b97f4a7c15 * (i + 1);
    std::memcpy(announcement.key.local_addr, &noise, sizeof(noise));
    std::memcpy(announcement.key.remote_addr + 16 - i % 9, &noise, i % 9);
    announcement.key.local_port_be = static_cast<__be16>(noise >> 7);
    announcement.cookie = noise;
    announcement.time_ns = static_cast<int64_t>(noise) / 2;
    announcement.date =
        absl::ToCivilDay(absl::FromUnixNanos(announcement.time_ns), absl::UTCTimeZone());
    announcement.uuid = UuidFromCookie("host", noise);
    const Announcement read = DecodeOpen(EncodeOpen(announcement, i));
    REQUIRE(std::memcmp(&read.key, &announcement.key, sizeof(read.key)) == 0);
    REQUIRE(read.cookie == announcement.cookie);
    REQUIRE(read.time_ns == announcement.time_ns);
    REQUIRE(read.date == announcement.date);
    REQUIRE(read.uuid == announcement.uuid);
    REQUIRE(Verdict(EncodeClose(read.time_ns, read.uuid)) == "close");
  }
}

}  // namespace
}  // namespace packet_headers
