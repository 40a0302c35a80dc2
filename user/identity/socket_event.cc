#include "user/identity/socket_event.h"

#include <arpa/inet.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "packet_headers/parse.h"
#include "user/identity/uuid.h"

namespace packet_headers {
namespace {

constexpr int64_t kOpen = 0;
constexpr int64_t kClose = 1;

constexpr int kMaxDepth = 10'000;  // as in Go
constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr absl::string_view kJsonWhiteSpace = " \t\r\n";

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / kSecondNs - 1;

struct Timestamp {
  int64_t time_ns;      // since the Unix epoch
  absl::CivilDay date;  // as written
};

// Removes `digits` digits from the front.
bool ConsumeDigits(absl::string_view* text, size_t digits, int* value) {
  if (text->size() < digits) return false;
  *value = 0;
  for (const char c : text->substr(0, digits)) {
    if (!absl::ascii_isdigit(c)) return false;
    *value = *value * 10 + (c - '0');
  }
  text->remove_prefix(digits);
  return true;
}

// Removes a point and digits, if there is a point. Digits behind the ninth are dropped, as in Go.
bool ConsumeFraction(absl::string_view* text, int64_t* ns) {
  *ns = 0;
  if (!absl::ConsumePrefix(text, ".")) return true;
  int64_t unit_ns = kSecondNs / 10;
  int digit = 0;
  if (!ConsumeDigits(text, 1, &digit)) return false;
  do {
    *ns += digit * unit_ns;
    unit_ns /= 10;
  } while (ConsumeDigits(text, 1, &digit));
  return true;
}

// Removes "Z", "+hh:mm" or "-hh:mm".
bool ConsumeOffset(absl::string_view* text, int64_t* seconds) {
  *seconds = 0;
  if (absl::ConsumePrefix(text, "Z")) return true;
  const bool west = absl::StartsWith(*text, "-");
  int hours = 0;
  int minutes = 0;
  if (!(absl::ConsumePrefix(text, west ? "-" : "+") && ConsumeDigits(text, 2, &hours) &&
        absl::ConsumePrefix(text, ":") && ConsumeDigits(text, 2, &minutes)) ||
      hours > 23 || minutes > 59) {
    return false;
  }
  *seconds = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
  return true;
}

// RFC 3339 as Go's time.Time reads it: upper case, no leap second.
std::optional<Timestamp> ParseTimestamp(absl::string_view text) {
  int year = 0;
  int month = 0;
  int day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  int64_t fraction_ns = 0;
  int64_t offset_seconds = 0;
  if (!(ConsumeDigits(&text, 4, &year) && absl::ConsumePrefix(&text, "-") &&
        ConsumeDigits(&text, 2, &month) && absl::ConsumePrefix(&text, "-") &&
        ConsumeDigits(&text, 2, &day) && absl::ConsumePrefix(&text, "T") &&
        ConsumeDigits(&text, 2, &hour) && absl::ConsumePrefix(&text, ":") &&
        ConsumeDigits(&text, 2, &minute) && absl::ConsumePrefix(&text, ":") &&
        ConsumeDigits(&text, 2, &second) && ConsumeFraction(&text, &fraction_ns) &&
        ConsumeOffset(&text, &offset_seconds) && text.empty())) {
    return std::nullopt;
  }
  const absl::CivilDay date(year, month, day);  // the 31st of April becomes the 1st of May
  if (date.month() != month || date.day() != day || hour > 23 || minute > 59 || second > 59) {
    return std::nullopt;
  }
  const int64_t seconds = (date - absl::CivilDay(1970, 1, 1)) * 86'400 + hour * 3600 + minute * 60 +
                          second - offset_seconds;
  if (seconds < -kMaxSeconds || seconds > kMaxSeconds) return std::nullopt;
  return Timestamp{seconds * kSecondNs + fraction_ns, date};
}

// An IPv4 address becomes a mapped one. False: neither IPv4 nor IPv6.
bool ParseAddress(const std::string& text, __u8 (&address)[16]) {
  if (absl::StrContains(text, '\0')) return false;  // inet_pton would stop there
  in_addr ipv4;
  if (inet_pton(AF_INET, text.c_str(), &ipv4) == 1) {
    ph_map_ipv4(address, ipv4.s_addr);
    return true;
  }
  return inet_pton(AF_INET6, text.c_str(), address) == 1;
}

// Go's net.IP.String(). It differs from inet_ntop where the first 96 bits are zero: there it never
// writes the rest as an IPv4 address.
std::string FormatAddress(const __u8 (&address)[16]) {
  static constexpr __u8 kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  static constexpr __u8 kCompatible[12] = {};
  char text[INET6_ADDRSTRLEN];
  if (std::memcmp(address, kMapped, sizeof(kMapped)) == 0) {
    return inet_ntop(AF_INET, address + sizeof(kMapped), text, sizeof(text));
  }
  uint16_t last_be[2];
  std::memcpy(last_be, address + sizeof(kCompatible), sizeof(last_be));
  if (last_be[0] != 0 && std::memcmp(address, kCompatible, sizeof(kCompatible)) == 0) {
    return absl::StrFormat("::%x:%x", ntohs(last_be[0]), ntohs(last_be[1]));
  }
  return inet_ntop(AF_INET6, address, text, sizeof(text));
}

// Go's RFC3339Nano.
std::string FormatTimestamp(int64_t time_ns) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", absl::FromUnixNanos(time_ns),
                          absl::UTCTimeZone());
}

// tcp-info's SockID.
struct SocketId {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  std::string source_ip;
  std::string destination_ip;
  uint32_t interface = 0;
  int64_t cookie = 0;
};

// tcp-info's FlowEvent, filled in by the JSON parser as it goes (the interface of json_sax). A
// function that returns false ends the parsing.
class FlowEvent {
 public:
  int64_t event = kOpen;
  std::optional<Timestamp> timestamp;
  std::string uuid;
  std::optional<SocketId> id;

  bool null() {
    if (field_ == Field::kId) id.reset();
    return true;
  }

  bool boolean(bool) { return field_ == Field::kUnknown; }

  // With a minus sign.
  bool number_integer(int64_t value) {
    switch (field_) {
      case Field::kUnknown:
        return true;
      case Field::kEvent:
        return Set(value, event);
      case Field::kCookie:
        return Set(value, id->cookie);
      default:
        return false;
    }
  }

  bool number_unsigned(uint64_t value) {
    switch (field_) {
      case Field::kUnknown:
        return true;
      case Field::kEvent:
        return Set(value, event);
      case Field::kSourcePort:
        return Set(value, id->source_port);
      case Field::kDestinationPort:
        return Set(value, id->destination_port);
      case Field::kInterface:
        return Set(value, id->interface);
      case Field::kCookie:
        return Set(value, id->cookie);
      default:
        return false;
    }
  }

  // With a point or an exponent, or too large for 64 bits.
  bool number_float(double, const std::string&) { return field_ == Field::kUnknown; }

  bool string(std::string& value) {
    switch (field_) {
      case Field::kUnknown:
        return true;
      case Field::kTimestamp:
        timestamp = ParseTimestamp(value);
        return timestamp.has_value();
      case Field::kUuid:
        uuid = std::move(value);
        return true;
      case Field::kSourceIp:
        id->source_ip = std::move(value);
        return true;
      case Field::kDestinationIp:
        id->destination_ip = std::move(value);
        return true;
      default:
        return false;
    }
  }

  bool binary(nlohmann::json::binary_t&) { return false; }  // not in JSON

  bool start_object(size_t) {
    if (field_ == Field::kId) {
      in_id_ = true;
      if (!id.has_value()) id.emplace();  // what a duplicate leaves out keeps its value
    } else if (field_ != Field::kEventItself && field_ != Field::kUnknown) {
      return false;
    }
    return ++depth_ <= kMaxDepth;
  }

  bool key(const std::string& name) {
    struct Name {
      absl::string_view name;
      Field field;
    };
    static constexpr Name kEventNames[] = {{"Event", Field::kEvent},
                                           {"Timestamp", Field::kTimestamp},
                                           {"UUID", Field::kUuid},
                                           {"ID", Field::kId}};
    static constexpr Name kIdNames[] = {
        {"SPort", Field::kSourcePort},    {"DPort", Field::kDestinationPort},
        {"SrcIP", Field::kSourceIp},      {"DstIP", Field::kDestinationIp},
        {"Interface", Field::kInterface}, {"Cookie", Field::kCookie}};
    const auto find = [&name](const auto& names) {
      for (const Name& known : names) {
        if (absl::EqualsIgnoreCase(name, known.name)) return known.field;
      }
      return Field::kUnknown;
    };
    field_ = Field::kUnknown;
    if (depth_ == 1) field_ = find(kEventNames);
    if (depth_ == 2 && in_id_) field_ = find(kIdNames);
    return true;
  }

  bool end_object() {
    if (--depth_ == 1) in_id_ = false;
    return true;
  }

  bool start_array(size_t) { return field_ == Field::kUnknown && ++depth_ <= kMaxDepth; }

  bool end_array() {
    --depth_;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) { return false; }

 private:
  enum class Field {
    kEventItself,
    kEvent,
    kTimestamp,
    kUuid,
    kId,
    kSourcePort,
    kDestinationPort,
    kSourceIp,
    kDestinationIp,
    kInterface,
    kCookie,
    kUnknown,
  };

  template <typename From, typename To>
  static bool Set(From value, To& field) {
    field = static_cast<To>(value);
    return std::in_range<To>(value);
  }

  Field field_ = Field::kEventItself;  // that the next value belongs to
  int depth_ = 0;                      // objects and arrays around it
  bool in_id_ = false;                 // whether the second of them is the ID
};

SocketEvent OpenedSocket(FlowEvent event) {
  if (!event.id.has_value()) return BadEvent::kNilId;
  Announcement announcement;
  if (!ParseAddress(event.id->source_ip, announcement.key.local_addr) ||
      !ParseAddress(event.id->destination_ip, announcement.key.remote_addr)) {
    return BadEvent::kBadIp;
  }
  if (!IsValidUuid(event.uuid)) return BadEvent::kBadUuid;
  if (!event.timestamp.has_value()) return BadEvent::kMalformed;
  announcement.key.local_port_be = htons(event.id->source_port);
  announcement.key.remote_port_be = htons(event.id->destination_port);
  announcement.cookie = static_cast<uint64_t>(event.id->cookie);
  announcement.time_ns = event.timestamp->time_ns;
  announcement.date = event.timestamp->date;
  announcement.uuid = std::move(event.uuid);
  return announcement;
}

}  // namespace

SocketEvent DecodeSocketEvent(absl::string_view line) {
  if (line.find_first_not_of(kJsonWhiteSpace) == absl::string_view::npos) return BlankLine();
  // The parser would skip the one and take the other for the end.
  if (absl::StartsWith(line, kByteOrderMark) || absl::StrContains(line, '\0')) {
    return BadEvent::kMalformed;
  }
  FlowEvent event;
  if (!nlohmann::json::sax_parse(line.begin(), line.end(), &event)) return BadEvent::kMalformed;
  switch (event.event) {
    case kOpen:
      return OpenedSocket(std::move(event));
    case kClose:
      return ClosedSocket();
    default:
      return BadEvent::kUnknownEvent;
  }
}

std::string EncodeOpen(const Announcement& announcement, uint32_t bound_ifindex) {
  const ph_flow_key& key = announcement.key;
  // tcp-info takes the interface, which the kernel gives in the host's byte order, for big-endian.
  return absl::StrCat(
      R"({"Event":)", kOpen, R"(,"Timestamp":")", FormatTimestamp(announcement.time_ns),
      R"(","UUID":")", announcement.uuid, R"(","ID":{"SPort":)", ntohs(key.local_port_be),
      R"(,"DPort":)", ntohs(key.remote_port_be), R"(,"SrcIP":")", FormatAddress(key.local_addr),
      R"(","DstIP":")", FormatAddress(key.remote_addr), R"(","Interface":)", htonl(bound_ifindex),
      R"(,"Cookie":)", static_cast<int64_t>(announcement.cookie), "}}\n");
}

std::string EncodeClose(int64_t time_ns, absl::string_view uuid) {
  return absl::StrCat(R"({"Event":)", kClose, R"(,"Timestamp":")", FormatTimestamp(time_ns),
                      R"(","UUID":")", uuid, R"(","ID":null})", "\n");
}

}  // namespace packet_headers
