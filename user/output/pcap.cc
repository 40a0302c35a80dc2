#include "user/output/pcap.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace packet_headers {
namespace {

constexpr uint32_t kMagicNanoseconds = 0xa1b23c4d;
constexpr uint32_t kVersion = 2 | 4 << 16;  // major, minor: two fields of 16 bits
constexpr uint32_t kMostSnaplen = 262'144;  // that libpcap reads
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

void PutLittleEndian(uint32_t value, char* out) {
  value = htole32(value);
  std::memcpy(out, &value, sizeof(value));
}

uint32_t GetLittleEndian(const char* in) {
  uint32_t value;
  std::memcpy(&value, in, sizeof(value));
  return le32toh(value);
}

void PutTime(int64_t time_ns, char* out) {
  PutLittleEndian(static_cast<uint32_t>(time_ns / kNanosecondsPerSecond), out);
  PutLittleEndian(static_cast<uint32_t>(time_ns % kNanosecondsPerSecond), out + 4);
}

int64_t GetTime(const char* in) {
  return GetLittleEndian(in) * kNanosecondsPerSecond + GetLittleEndian(in + 4);
}

constexpr size_t kUsualRecordBytes = kPcapRecordHeaderBytes + 66;

struct RecordPlace {
  int64_t time_ns;
  int64_t least_from_here_ns;  // of this record and those behind it
  const char* bytes;
  size_t size;
};

using RecordPlaces = std::vector<RecordPlace>;

RecordPlaces FindWholeRecords(absl::Span<const char> bytes) {
  RecordPlaces places;
  places.reserve(bytes.size() / kUsualRecordBytes);
  while (bytes.size() >= kPcapRecordHeaderBytes) {
    const size_t size = kPcapRecordHeaderBytes + GetLittleEndian(bytes.data() + 8);
    if (size > bytes.size()) break;
    places.push_back({GetTime(bytes.data()), 0, bytes.data(), size});
    bytes.remove_prefix(size);
  }
  return places;
}

bool IsEarlier(const RecordPlace& a, const RecordPlace& b) { return a.time_ns < b.time_ns; }

// Puts the records of adjacent places, which begin at `to`, in order.
void Sort(RecordPlaces::iterator begin, RecordPlaces::iterator end, char* to) {
  std::stable_sort(begin, end, IsEarlier);
  std::string ordered;
  for (auto place = begin; place != end; ++place) {
    const char* const bytes = std::exchange(place->bytes, to + ordered.size());
    ordered.append(bytes, place->size);
  }
  std::memcpy(to, ordered.data(), ordered.size());
}

// Records that are out of order stand near each other, so only what lies between two places that
// no record has to cross is sorted.
void SortAll(RecordPlaces& places, char* records) {
  int64_t least_ns = std::numeric_limits<int64_t>::max();
  for (auto place = places.rbegin(); place != places.rend(); ++place) {
    least_ns = place->least_from_here_ns = std::min(least_ns, place->time_ns);
  }
  int64_t latest_ns = std::numeric_limits<int64_t>::min();
  size_t bytes = 0;
  for (auto begin = places.begin(), place = begin; place != places.end();) {
    latest_ns = std::max(latest_ns, place->time_ns);
    bytes += place->size;
    ++place;
    if (place != places.end() && place->least_from_here_ns < latest_ns) continue;
    if (place - begin > 1) Sort(begin, place, records);
    begin = place;
    records += std::exchange(bytes, 0);
  }
}

// What OrderPcapRecords does where no time is before the one in front of it, or `*last_time_ns`, as
// nearly always. Else nothing, and nothing has changed.
std::optional<OrderedPcapRecords> TakeOrdered(absl::Span<const char> records, size_t held_bytes,
                                              int64_t* last_time_ns) {
  size_t taken = 0;
  int64_t taken_ns = *last_time_ns;
  int64_t latest_ns = *last_time_ns;
  for (size_t at = 0; at + kPcapRecordHeaderBytes <= records.size();) {
    const char* const record = records.data() + at;
    at += kPcapRecordHeaderBytes + GetLittleEndian(record + 8);
    if (at > records.size()) break;
    const int64_t time_ns = GetTime(record);
    if (time_ns < latest_ns) return std::nullopt;
    latest_ns = time_ns;
    if (at + held_bytes > records.size()) continue;
    taken = at;
    taken_ns = time_ns;
  }
  *last_time_ns = taken_ns;
  return OrderedPcapRecords{taken, 0};
}

}  // namespace

std::string PcapFileHeader(LinkType link_type, uint32_t snaplen) {
  std::string header(kPcapFileHeaderBytes, '\0');
  PutLittleEndian(kMagicNanoseconds, &header[0]);
  PutLittleEndian(kVersion, &header[4]);
  PutLittleEndian(snaplen, &header[16]);
  PutLittleEndian(static_cast<uint32_t>(link_type), &header[20]);
  return header;
}

void PutPcapRecordHeader(int64_t time_ns, uint32_t captured_bytes, uint32_t original_bytes,
                         char* out) {
  PutTime(time_ns, out);
  PutLittleEndian(captured_bytes, out + 8);
  PutLittleEndian(original_bytes, out + 12);
}

std::optional<uint32_t> SnaplenOfPcapFile(const char* header) {
  const uint32_t snaplen = GetLittleEndian(header + 16);
  if (snaplen > kMostSnaplen) return std::nullopt;
  for (const LinkType link_type : {LinkType::kEthernet, LinkType::kRawIp}) {
    const std::string ours = PcapFileHeader(link_type, snaplen);
    if (ours.compare(0, ours.size(), header, ours.size()) == 0) return snaplen;
  }
  return std::nullopt;
}

std::optional<PcapRecordHeader> GetPcapRecordHeader(const char* in, uint32_t snaplen) {
  const uint32_t captured_bytes = GetLittleEndian(in + 8);
  const uint32_t original_bytes = GetLittleEndian(in + 12);
  if (captured_bytes == 0 || captured_bytes > snaplen || captured_bytes > original_bytes ||
      GetLittleEndian(in + 4) >= kNanosecondsPerSecond) {
    return std::nullopt;
  }
  return PcapRecordHeader{GetTime(in), captured_bytes, original_bytes};
}

OrderedPcapRecords OrderPcapRecords(absl::Span<char> records, size_t held_bytes,
                                    int64_t* last_time_ns) {
  if (const auto ordered = TakeOrdered(records, held_bytes, last_time_ns)) return *ordered;

  RecordPlaces places = FindWholeRecords(records);
  SortAll(places, records.data());

  OrderedPcapRecords result = {0, 0};
  for (const RecordPlace& place : places) {
    if (result.bytes + place.size + held_bytes > records.size()) break;
    if (place.time_ns < *last_time_ns) {
      PutTime(*last_time_ns, records.data() + result.bytes);
      ++result.raised_times;
    } else {
      *last_time_ns = place.time_ns;
    }
    result.bytes += place.size;
  }
  return result;
}

}  // namespace packet_headers
