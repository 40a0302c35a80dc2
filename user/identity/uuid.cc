#include "user/identity/uuid.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace packet_headers {
namespace {

constexpr size_t kMaxUuidLength = 128;
constexpr size_t kCookieSuffixLength = 1 + 16;  // "_" and the digits
constexpr size_t kMaxPrefixLength = kMaxUuidLength - kCookieSuffixLength;

constexpr double kMaxUptimeSeconds = 1e12;  // in microseconds it still fits 64 bits

bool IsUuidCharacter(char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; }

struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};

// At most the first `limit` bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) {
  const std::unique_ptr<FILE, CloseFile> file(fopen(path.c_str(), "re"));
  int error = errno;
  if (file == nullptr) return absl::ErrnoToStatus(error, absl::StrCat("open ", path));
  std::string content(limit, '\0');
  const size_t size = fread(content.data(), 1, limit, file.get());
  error = errno;
  if (ferror(file.get())) return absl::ErrnoToStatus(error, absl::StrCat("read ", path));
  content.resize(size);
  return content;
}

absl::Status CheckPrefix(absl::string_view prefix) {
  if (prefix.empty()) return absl::InvalidArgumentError("it is empty");
  if (prefix.size() > kMaxPrefixLength) {
    return absl::InvalidArgumentError(
        absl::StrCat("it is longer than ", kMaxPrefixLength, " characters"));
  }
  if (!absl::c_all_of(prefix, IsUuidCharacter)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::CHexEscape(prefix), "\" has characters other than A-Z a-z 0-9 . _ -"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> HostName() {
  const char* const pod_name = getenv("POD_NAME");
  if (pod_name != nullptr && *pod_name != '\0') return std::string(pod_name);
  char name[HOST_NAME_MAX + 1] = {};
  if (gethostname(name, sizeof(name)) != 0) return absl::ErrnoToStatus(errno, "gethostname");
  return std::string(name);
}

// With '-' for each character that no UUID may hold.
std::string WithUuidCharacters(absl::string_view text) {
  std::string result(text);
  std::replace_if(
      result.begin(), result.end(), [](char c) { return !IsUuidCharacter(c); }, '-');
  return result;
}

std::string AddressForName(const uint8_t* address) {
  constexpr char kMapped[] = "::ffff:";
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, address, text, sizeof(text));
  std::string name(absl::StripPrefix(text, kMapped));
  std::replace(name.begin(), name.end(), ':', '-');
  return name;
}

}  // namespace

bool IsValidUuid(absl::string_view uuid) {
  return !uuid.empty() && uuid.size() <= kMaxUuidLength && uuid != "." && uuid != ".." &&
         absl::c_all_of(uuid, IsUuidCharacter);
}

std::string UuidFromCookie(absl::string_view prefix, uint64_t cookie) {
  return absl::StrFormat("%s_%016X", prefix, cookie);
}

std::string UuidFromTuple(const ph_flow_key& key, int64_t start_ns) {
  const absl::Time start = absl::FromUnixNanos(start_ns);
  return absl::StrCat(absl::FormatTime("%Y%m%dT%H%M%E9SZ", start, absl::UTCTimeZone()), "_",
                      AddressForName(key.local_addr), ".", ntohs(key.local_port_be), "_",
                      AddressForName(key.remote_addr), ".", ntohs(key.remote_port_be));
}

absl::string_view PrefixOf(absl::string_view uuid, uint64_t cookie) {
  return absl::ConsumeSuffix(&uuid, UuidFromCookie("", cookie)) ? uuid : absl::string_view();
}

std::string UuidPrefix::Get() const {
  const std::scoped_lock lock(mutex_);
  return prefix_;
}

bool UuidPrefix::Learn(std::string prefix) {
  const std::scoped_lock lock(mutex_);
  if (prefix == prefix_) return false;
  prefix_ = std::move(prefix);
  return true;
}

absl::StatusOr<std::string> ReadUuidPrefix(const std::string& path) {
  // One more than the longest prefix and its newline is enough to see that it is too long.
  absl::StatusOr<std::string> content = ReadFile(path, kMaxPrefixLength + 2);
  if (!content.ok()) {
    return absl::Status(content.status().code(),
                        absl::StrCat("-uuid-prefix-file: ", content.status().message()));
  }
  const absl::string_view prefix = absl::StripSuffix(*content, "\n");
  const absl::Status check = CheckPrefix(prefix);
  if (!check.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("-uuid-prefix-file=", path, ": ", check.message()));
  }
  return std::string(prefix);
}

absl::StatusOr<std::string> UnsafeUuidPrefix(absl::string_view host, absl::string_view proc_uptime,
                                             absl::Time now) {
  double uptime_s = 0;
  const absl::string_view first_number = proc_uptime.substr(0, proc_uptime.find(' '));
  if (!absl::SimpleAtod(first_number, &uptime_s) ||
      !(uptime_s >= 0 && uptime_s < kMaxUptimeSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("/proc/uptime: no number in \"", absl::CHexEscape(proc_uptime), "\""));
  }
  if (host.empty()) return absl::InvalidArgumentError("this host has no name");
  std::string prefix = WithUuidCharacters(host);
  // Microseconds, as m-lab/uuid counts them, so that both cut off at the same second.
  const absl::Time boot = now - absl::Microseconds(static_cast<int64_t>(uptime_s * 1e6));
  absl::StrAppend(&prefix, "_", absl::ToUnixSeconds(boot), "_unsafe");
  const absl::Status check = CheckPrefix(prefix);
  if (!check.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("default UUID prefix \"", prefix,
                                                   "\": ", check.message(),
                                                   "; name a shorter one in -uuid-prefix-file"));
  }
  return prefix;
}

std::string HostForFileNames() {
  const std::string host = WithUuidCharacters(HostName().value_or("")).substr(0, kMaxUuidLength);
  return IsValidUuid(host) ? host : "unnamed";
}

absl::StatusOr<std::string> DefaultUuidPrefix() {
  const absl::StatusOr<std::string> host = HostName();
  if (!host.ok()) return host.status();
  // Before the uptime, as m-lab/uuid reads it.
  const absl::Time now = absl::Now();
  const absl::StatusOr<std::string> uptime = ReadFile("/proc/uptime", 64);
  if (!uptime.ok()) return uptime.status();
  return UnsafeUuidPrefix(*host, *uptime, now);
}

}  // namespace packet_headers
