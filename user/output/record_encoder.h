// From a header record to the bytes of a pcap record.

#ifndef PACKET_HEADERS_USER_OUTPUT_RECORD_ENCODER_H_
#define PACKET_HEADERS_USER_OUTPUT_RECORD_ENCODER_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "packet_headers/header_record.h"
#include "user/output/anonymize.h"
#include "user/output/pcap.h"

namespace packet_headers {

// One thread.
class RecordEncoder {
 public:
  // Keeps at most `max_header_bytes` of each packet.
  explicit RecordEncoder(uint32_t max_header_bytes) : max_header_bytes_(max_header_bytes) {}

  // The pcap record of `record`, whose bounds have been checked, with the time `time_ns` since the
  // Unix epoch. A VLAN tag that the kernel had stripped is put back, padding among options is
  // zeroed (ScrubOptions). With a `disguise` the packet is anonymised. Valid until the next call.
  absl::string_view Encode(const ph_header_record& record, int64_t time_ns,
                           const Disguise* disguise);

 private:
  const uint32_t max_header_bytes_;
  char buffer_[kPcapRecordHeaderBytes + PH_MAX_HEADER_BYTES + 4];  // 4: a VLAN tag put back
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_OUTPUT_RECORD_ENCODER_H_
