// Header records as a ring has them, made for benchmarks.

#ifndef PACKET_HEADERS_BENCH_RECORD_STREAM_H_
#define PACKET_HEADERS_BENCH_RECORD_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/header_record.h"
#include "user/flow/record_source.h"
#include "user/output/pcap.h"

namespace packet_headers {

inline constexpr int64_t kStreamStartNs = 5'000'000'000'000;  // before the first record

// Records one behind the other, as a ring has them: eight bytes before each tell its size.
class Records {
 public:
  struct Segment {
    uint32_t flow;
    ph_direction direction;
    uint8_t flags;
    uint32_t seq;
    uint32_t ack;
  };

  // As the kernel makes it of a segment with the options that Linux gives it; 100 ns after the one
  // before. What the host sends has the cookie of its flow.
  void Add(const Segment& segment);

  void AddHandshake(uint32_t flow);

  // Uses the next records, at most so many, as a drain does; 0 at the end, from where it begins
  // anew.
  size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use);

  // For other records, later ones.
  void Clear() {
    bytes_.clear();
    next_ = 0;
  }

  size_t bytes() const { return bytes_.size(); }

 private:
  struct Template {
    ph_flow_key key;
    std::vector<char> record;
  };

  static Template Make(ph_direction direction, bool is_syn);
  static const Template& TemplateOf(const Segment& segment);

  std::vector<char> bytes_;
  size_t next_ = 0;
  int64_t time_ns_ = kStreamStartNs;
};

enum Order { kRoundRobin, kBursts, kRandom };

// Data of the host and what acknowledges it, of flows 0 to `flows` - 1: so many bytes that no cache
// holds them until they come again.
void FillStream(Records& records, uint32_t flows, Order order);

// Of one record of the stream, and of a SYN.
inline constexpr size_t kPcapBytes = kPcapRecordHeaderBytes + 66;
inline constexpr size_t kSynPcapBytes = kPcapRecordHeaderBytes + 74;

// One flow.
struct EncodedFlow {
  ph_flow_key key;
  std::string records;  // in pcap format
};

EncodedFlow EncodeFlow(size_t packets);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_BENCH_RECORD_STREAM_H_
