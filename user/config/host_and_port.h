// Addresses in Go's form.

#ifndef PACKET_HEADERS_USER_CONFIG_HOST_AND_PORT_H_
#define PACKET_HEADERS_USER_CONFIG_HOST_AND_PORT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace packet_headers {

struct HostAndPort {
  std::string host;  // empty: none was said
  std::string port;  // 0 to 65535
};

// Of "host:port", ":port" or "[v6]:port". An error says what is wrong, not where.
inline absl::StatusOr<HostAndPort> SplitHostAndPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    const bool is_port =
        !address.empty() && address.find_first_not_of("0123456789") == std::string::npos;
    return absl::InvalidArgumentError(
        absl::StrCat("no port in it (did you mean ", is_port ? ":" : "",
                     absl::Utf8SafeCEscape(address), is_port ? "" : ":9990", "?)"));
  }
  HostAndPort parts = {address.substr(0, colon), address.substr(colon + 1)};
  int number = 0;
  if (!absl::SimpleAtoi(parts.port, &number) || number < 0 || number > 65'535) {
    return absl::InvalidArgumentError("its port is no number from 0 to 65535");
  }
  std::string& host = parts.host;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return parts;
}

// Whether a server at that host is at all addresses of this one.
inline bool IsAnyAddress(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

// Where this host finds a server that listens at `host`.
inline std::string UrlOf(const std::string& host, int port) {
  const std::string name = IsAnyAddress(host)             ? "localhost"
                           : absl::StrContains(host, ':') ? absl::StrCat("[", host, "]")
                                                          : host;
  return absl::StrCat("http://", name, ":", port, "/");
}

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_CONFIG_HOST_AND_PORT_H_
