// The pcap format, with nanoseconds and in little-endian order on every host
// (draft-ietf-opsawg-pcap, section 4).

#ifndef PACKET_HEADERS_USER_OUTPUT_PCAP_H_
#define PACKET_HEADERS_USER_OUTPUT_PCAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/types/span.h"

namespace packet_headers {

// As registered at tcpdump.org/linktypes.
enum class LinkType : uint8_t { kEthernet = 1, kRawIp = 101 };

inline constexpr size_t kPcapFileHeaderBytes = 24;
inline constexpr size_t kPcapRecordHeaderBytes = 16;

// What a file begins with. `snaplen` is the most bytes that any of its packets has.
std::string PcapFileHeader(LinkType link_type, uint32_t snaplen);

// Writes the kPcapRecordHeaderBytes that go before a packet's bytes to `out`. `time_ns` is since
// the Unix epoch.
void PutPcapRecordHeader(int64_t time_ns, uint32_t captured_bytes, uint32_t original_bytes,
                         char* out);

// The snaplen of a file that begins with the kPcapFileHeaderBytes at `header`, if it is one of
// ours.
std::optional<uint32_t> SnaplenOfPcapFile(const char* header);

struct PcapRecordHeader {
  int64_t time_ns;
  uint32_t captured_bytes;
  uint32_t original_bytes;
};

// Reads kPcapRecordHeaderBytes; nothing if a file of ours can't hold them, as zeros are where a
// crash took the bytes.
std::optional<PcapRecordHeader> GetPcapRecordHeader(const char* in, uint32_t snaplen);

struct OrderedPcapRecords {
  size_t bytes;         // at the start, of whole records that are in order
  size_t raised_times;  // of these, that had to be changed
};

// Puts the whole records at the start of `records` in the order of their times, those of equal
// times in the order they had; a partial one at the end stays where it is. Those that reach into
// the last `held_bytes` wait for what comes behind them: they are not part of the result. Times
// before `*last_time_ns`, the last one already written, are raised to it; it becomes that of the
// result's last record.
OrderedPcapRecords OrderPcapRecords(absl::Span<char> records, size_t held_bytes,
                                    int64_t* last_time_ns);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_PCAP_H_
