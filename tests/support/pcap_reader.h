// Reads pcap, by code of its own.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_PCAP_READER_H_
#define PACKET_HEADERS_TESTS_SUPPORT_PCAP_READER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/packet.h"

namespace packet_headers::testing {

struct PcapRecord {
  int64_t time_ns;
  uint32_t original_bytes;
  Bytes bytes;
};

struct PcapFile {
  uint32_t snaplen;
  uint32_t link_type;
  std::vector<PcapRecord> records;
};

// The test fails where the input is not whole little-endian pcap records (with a file header:
// nanosecond pcap 2.4).
std::vector<PcapRecord> ReadPcapRecords(std::string_view bytes);
PcapFile ReadPcapFile(std::string_view bytes);

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_PCAP_READER_H_
