#include "user/identity/uuid.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers {
namespace {

using testing::ScratchDirectory;

constexpr char kUuid[] = "host.example.com_1553815964_00000000000030DB";

// Sets an environment variable, or removes it for null, until the end of the scope.
class ScopedEnvironment {
 public:
  ScopedEnvironment(const char* name, const char* value) : name_(name) {
    const char* const old = getenv(name);
    was_set_ = old != nullptr;
    if (was_set_) old_ = old;
    Set(value);
  }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;
  ~ScopedEnvironment() { Set(was_set_ ? old_.c_str() : nullptr); }

 private:
  void Set(const char* value) {
    if (value == nullptr) {
      unsetenv(name_);
    } else {
      setenv(name_, value, 1);
    }
  }

  const char* name_;
  bool was_set_ = false;
  std::string old_;
};

TEST_CASE("A UUID that may become a file name is valid", "[uuid]") {
  for (const std::string& uuid :
       {std::string(kUuid), std::string("a"), std::string("0"), std::string("_"), std::string("-"),
        std::string("..."), std::string(".a"), std::string("a."), std::string("a..b"),
        std::string("AZaz09._-"), std::string(128, 'x')}) {
    INFO(uuid);
    CHECK(IsValidUuid(uuid));
  }
}

TEST_CASE("A UUID that could lead out of the directory or garble a line is not valid", "[uuid]") {
  for (const std::string& uuid : {std::string(""),
                                  std::string("."),
                                  std::string(".."),
                                  std::string("/"),
                                  std::string("a/b"),
                                  std::string("../a"),
                                  std::string("/etc/passwd"),
                                  std::string("a b"),
                                  std::string("a\n"),
                                  std::string("a\tb"),
                                  std::string("a\\b"),
                                  std::string("a:b"),
                                  std::string("a%00"),
                                  std::string("a\0b", 3),
                                  std::string("\0", 1),
                                  std::string("h\xc3\xb6st"),
                                  std::string("a\x7f"),
                                  std::string("\xff"),
                                  std::string("a@b"),
                                  std::string("a["),
                                  std::string("a`"),
                                  std::string("a{"),
                                  std::string("a,"),
                                  std::string("a^"),
                                  std::string(129, 'x')}) {
    INFO(uuid);
    CHECK_FALSE(IsValidUuid(uuid));
  }
}

TEST_CASE("The UUID of a cookie is the one that m-lab/uuid gives it", "[uuid]") {
  CHECK(UuidFromCookie("host.example.com_1553815964", 12507) == kUuid);
  CHECK(UuidFromCookie("p", 0) == "p_0000000000000000");
  CHECK(UuidFromCookie("p", 0xabcdef) == "p_0000000000ABCDEF");
  CHECK(UuidFromCookie("p", UINT64_MAX) == "p_FFFFFFFFFFFFFFFF");
  CHECK(UuidFromCookie("p", uint64_t{1} << 63) == "p_8000000000000000");
}

TEST_CASE("A flow without a socket is named by its ends and its beginning", "[uuid]") {
  const int64_t start_ns = 1'795'290'305'916'725'472;
  const std::string four =
      UuidFromTuple(testing::FlowKey("10.9.0.1", 8020, "10.9.0.200", 48852), start_ns);
  CHECK(four == "20261121T194505.916725472Z_10.9.0.1.8020_10.9.0.200.48852");
  CHECK(IsValidUuid(four));
  CHECK(UuidFromTuple(testing::FlowKey("2001:db8::1", 443, "::", 1), 1) ==
        "19700101T000000.000000001Z_2001-db8--1.443_--.1");
  const std::string longest = "fdff:fdff:fdff:fdff:fdff:fdff:fdff:fdff";
  CHECK(IsValidUuid(UuidFromTuple(testing::FlowKey(longest, 65535, longest, 65535), start_ns)));
}

TEST_CASE("A UUID of the cookie tells its prefix, any other none", "[uuid]") {
  CHECK(PrefixOf(kUuid, 12507) == "host.example.com_1553815964");
  CHECK(PrefixOf("p_8000000000000000", uint64_t{1} << 63) == "p");
  CHECK(PrefixOf("_FFFFFFFFFFFFFFFF_FFFFFFFFFFFFFFFF", UINT64_MAX) == "_FFFFFFFFFFFFFFFF");
  for (const char* other :
       {"", "p", "00000000000030DB", "_00000000000030DB", "p_30DB", "p_00000000000030db",
        "p-00000000000030DB", "p_100000000000030DB", "p_00000000000030DC", "p_00000000000030DB "}) {
    INFO(other);
    CHECK(PrefixOf(other, 12507).empty());
  }
}

TEST_CASE("A prefix is learned once", "[uuid]") {
  UuidPrefix prefix("host_1_unsafe");
  CHECK(prefix.Get() == "host_1_unsafe");
  CHECK_FALSE(prefix.Learn("host_1_unsafe"));
  CHECK(prefix.Learn("host_1"));
  CHECK(prefix.Get() == "host_1");
  CHECK_FALSE(prefix.Learn("host_1"));
}

TEST_CASE("The prefix is the content of the file", "[uuid]") {
  const ScratchDirectory directory;
  const std::string longest(111, 'x');
  struct Case {
    std::string content;
    std::string prefix;
  };
  const std::vector<Case> cases = {
      {"host.example.com_1553815964", "host.example.com_1553815964"},
      {"host.example.com_1553815964\n", "host.example.com_1553815964"},
      {"a", "a"},
      {".", "."},
      {longest, longest},
      {longest + "\n", longest},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<std::string> prefix = ReadUuidPrefix(directory.Write("prefix", c.content));
    INFO(c.content << ": " << prefix.status());
    REQUIRE(prefix.ok());
    CHECK(*prefix == c.prefix);
    CHECK(IsValidUuid(UuidFromCookie(*prefix, UINT64_MAX)));
  }
}

TEST_CASE("A prefix that would make invalid UUIDs is refused, and the file named", "[uuid]") {
  const ScratchDirectory directory;
  for (const std::string& content :
       {std::string(""), std::string("\n"), std::string("host\n\n"), std::string("host\r\n"),
        std::string(" host"), std::string("host "), std::string("host 1"), std::string("\nhost"),
        std::string("host\n1"), std::string("../host"), std::string("a/b"), std::string("a\0b", 3),
        std::string("h\xc3\xb6st"), std::string(112, 'x'), std::string(112, 'x') + "\n",
        std::string(111, 'x') + "\nx", std::string(5000, 'x')}) {
    const std::string path = directory.Write("prefix", content);
    const absl::StatusOr<std::string> prefix = ReadUuidPrefix(path);
    INFO("content: \"" << content << "\", status: " << prefix.status());
    REQUIRE_FALSE(prefix.ok());
    CHECK(prefix.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StrContains(prefix.status().message(), path));
    CHECK_FALSE(absl::StrContains(prefix.status().message(), "\n"));
  }
}

TEST_CASE("A prefix file that can't be read is an error that says why", "[uuid]") {
  const ScratchDirectory directory;
  const std::string missing = directory.Path("missing");
  const absl::Status not_found = ReadUuidPrefix(missing).status();
  CHECK(not_found.code() == absl::StatusCode::kNotFound);
  CHECK(absl::StrContains(not_found.message(), missing));
  CHECK(absl::StrContains(not_found.message(), "No such file or directory"));

  const absl::Status is_directory = ReadUuidPrefix(directory.Path("")).status();
  CHECK_FALSE(is_directory.ok());
  CHECK(absl::StrContains(is_directory.message(), "Is a directory"));

  CHECK_FALSE(ReadUuidPrefix("").ok());
}

TEST_CASE("The default prefix names the host and the second of its boot", "[uuid]") {
  struct Case {
    std::string host;
    std::string uptime;
    absl::Time now;
    std::string prefix;
  };
  const absl::Time now = absl::FromUnixSeconds(1553815964);
  const std::vector<Case> cases = {
      {"host.example.com", "964.00 1000.00\n", now, "host.example.com_1553815000_unsafe"},
      {"ndt-x7k2p", "0.00 0.00\n", now, "ndt-x7k2p_1553815964_unsafe"},
      // The boot was within a second, and that second counts.
      {"h", "0.01 0.00\n", now, "h_1553815963_unsafe"},
      {"h", "0.75 0.00\n", now + absl::Milliseconds(750), "h_1553815964_unsafe"},
      {"h", "0.76 0.00\n", now + absl::Milliseconds(750), "h_1553815963_unsafe"},
      {"h", "10000000.25 1.00\n", now + absl::Milliseconds(999), "h_1543815964_unsafe"},
      {"bad host/name", "0.00 0.00\n", now, "bad-host-name_1553815964_unsafe"},
      {"../h", "0.00 0.00\n", now, "..-h_1553815964_unsafe"},
      {std::string(93, 'h'), "0.00 0.00\n", now,
       absl::StrCat(std::string(93, 'h'), "_1553815964_unsafe")},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<std::string> prefix = UnsafeUuidPrefix(c.host, c.uptime, c.now);
    INFO(c.host << " " << c.uptime << ": " << prefix.status());
    REQUIRE(prefix.ok());
    CHECK(*prefix == c.prefix);
    CHECK(IsValidUuid(UuidFromCookie(*prefix, UINT64_MAX)));
  }
}

TEST_CASE("Without a host name, an uptime or room there is no default prefix", "[uuid]") {
  const absl::Time now = absl::FromUnixSeconds(1553815964);
  CHECK_FALSE(UnsafeUuidPrefix("", "1.00 1.00\n", now).ok());
  for (const char* uptime : {"", "\n", " 1.00\n", "up 1.00\n", "-1.00 1.00\n", "nan 1\n", "inf 1\n",
                             "1e300 1\n", "1.00x 1.00\n"}) {
    INFO(uptime);
    const absl::Status status = UnsafeUuidPrefix("h", uptime, now).status();
    CHECK_FALSE(status.ok());
    CHECK(absl::StrContains(status.message(), "/proc/uptime"));
  }
  const absl::Status too_long = UnsafeUuidPrefix(std::string(94, 'h'), "0.00 0.00\n", now).status();
  CHECK_FALSE(too_long.ok());
  CHECK(absl::StrContains(too_long.message(), "-uuid-prefix-file"));
}

// The boot second in a default prefix of `host`; 0 when it is not one.
int64_t BootSecondOf(const std::string& prefix, const std::string& host) {
  int64_t boot = 0;
  const std::string start = host + "_";
  if (!absl::StartsWith(prefix, start) || !absl::EndsWith(prefix, "_unsafe")) return 0;
  const size_t length = prefix.size() - start.size() - std::string("_unsafe").size();
  return absl::SimpleAtoi(prefix.substr(start.size(), length), &boot) ? boot : 0;
}

TEST_CASE("The default prefix of this host", "[uuid]") {
  std::string host_name(256, '\0');
  REQUIRE(gethostname(host_name.data(), host_name.size()) == 0);
  host_name.resize(host_name.find('\0'));
  struct Case {
    const char* pod_name;
    std::string host;
  };
  for (const Case& c :
       {Case{"ndt-x7k2p", "ndt-x7k2p"}, Case{nullptr, host_name}, Case{"", host_name}}) {
    const ScopedEnvironment pod_name("POD_NAME", c.pod_name);
    const absl::StatusOr<std::string> prefix = DefaultUuidPrefix();
    REQUIRE(prefix.ok());
    INFO(*prefix);
    CHECK(IsValidUuid(UuidFromCookie(*prefix, 1)));
    const int64_t boot = BootSecondOf(*prefix, c.host);
    CHECK(boot > 0);
    CHECK(boot <= absl::ToUnixSeconds(absl::Now()));
  }
}

}  // namespace
}  // namespace packet_headers
