#include "user/output/pcap.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
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

struct RecordPlace {
  int64_t time_ns;
  char* bytes;
  size_t size;
};

std::vector<RecordPlace> FindWholeRecords(std::string& records) {
  std::vector<RecordPlace> places;
  for (size_t at = 0; records.size() - at >= kPcapRecordHeaderBytes;) {
    char* record = records.data() + at;
    const size_t size = kPcapRecordHeaderBytes + GetLittleEndian(record + 8);
    if (size > records.size() - at) break;
    places.push_back({GetTime(record), record, size});
    at += size;
  }
  return places;
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

OrderedPcapRecords OrderPcapRecords(std::string& records, int64_t* last_time_ns) {
  std::vector<RecordPlace> places = FindWholeRecords(records);
  OrderedPcapRecords result = {0, 0};
  if (places.empty()) return result;
  result.bytes = places.back().bytes + places.back().size - records.data();

  const auto earlier = [](const RecordPlace& a, const RecordPlace& b) {
    return a.time_ns < b.time_ns;
  };
  const bool in_order = std::is_sorted(places.begin(), places.end(), earlier);
  if (!in_order) std::stable_sort(places.begin(), places.end(), earlier);

  for (RecordPlace& place : places) {
    if (place.time_ns >= *last_time_ns) break;
    PutTime(*last_time_ns, place.bytes);
    ++result.raised_times;
  }
  *last_time_ns = std::max(*last_time_ns, places.back().time_ns);

  if (!in_order) {
    std::string ordered;
    ordered.reserve(records.size());
    for (const RecordPlace& place : places) ordered.append(place.bytes, place.size);
    ordered.append(records, result.bytes, std::string::npos);
    records = std::move(ordered);
  }
  return result;
}

}  // namespace packet_headers
