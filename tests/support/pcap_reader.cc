#include "tests/support/pcap_reader.h"

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

uint32_t Get32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; i++) value |= uint32_t{static_cast<uint8_t>(bytes[at + i])} << 8 * i;
  return value;
}

}  // namespace

std::vector<PcapRecord> ReadPcapRecords(std::string_view bytes) {
  std::vector<PcapRecord> records;
  while (!bytes.empty()) {
    if (bytes.size() < 16) FAIL("half a record header");
    const uint32_t nanoseconds = Get32(bytes, 4);
    const size_t size = Get32(bytes, 8);
    if (nanoseconds >= 1'000'000'000) FAIL("more than a second of nanoseconds: " << nanoseconds);
    if (size > bytes.size() - 16) FAIL("half a record of " << size << " bytes");
    const std::string_view packet = bytes.substr(16, size);
    records.push_back({Get32(bytes, 0) * int64_t{1'000'000'000} + nanoseconds, Get32(bytes, 12),
                       Bytes(packet.begin(), packet.end())});
    bytes.remove_prefix(16 + size);
  }
  return records;
}

PcapFile ReadPcapFile(std::string_view bytes) {
  REQUIRE(bytes.size() >= 24);
  REQUIRE(Get32(bytes, 0) == 0xa1b23c4d);
  REQUIRE(Get32(bytes, 4) == (2 | 4 << 16));
  REQUIRE(Get32(bytes, 8) == 0);
  REQUIRE(Get32(bytes, 12) == 0);
  return {Get32(bytes, 16), Get32(bytes, 20), ReadPcapRecords(bytes.substr(24))};
}

}  // namespace packet_headers::testing
