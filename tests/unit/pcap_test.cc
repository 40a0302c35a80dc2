#include "user/output/pcap.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/pcap_reader.h"

namespace packet_headers::testing {
namespace {

struct Note {
  int64_t time_ns;
  std::string bytes;
};

std::string Records(const std::vector<Note>& notes) {
  std::string records;
  for (const Note& note : notes) {
    char header[kPcapRecordHeaderBytes];
    PutPcapRecordHeader(note.time_ns, note.bytes.size(), 1000, header);
    records.append(header, sizeof(header));
    records += note.bytes;
  }
  return records;
}

// Such as "5:a 6:b".
std::string Text(const std::string& records) {
  std::string text;
  for (const PcapRecord& record : ReadPcapRecords(records)) {
    text += (text.empty() ? "" : " ") + std::to_string(record.time_ns) + ":" +
            std::string(record.bytes.begin(), record.bytes.end());
  }
  return text;
}

TEST_CASE("A pcap file begins with a header for nanoseconds", "[pcap]") {
  const std::string header = PcapFileHeader(LinkType::kRawIp, 256);
  const unsigned char expected[] = {0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0,   0, 0, 0,
                                    0,    0,    0,    0,    0, 1, 0, 0, 101, 0, 0, 0};
  CHECK(header == std::string(reinterpret_cast<const char*>(expected), sizeof(expected)));
  CHECK(ReadPcapFile(PcapFileHeader(LinkType::kEthernet, 70000)).link_type == 1);
  CHECK(ReadPcapFile(PcapFileHeader(LinkType::kEthernet, 70000)).snaplen == 70000);
}

TEST_CASE("A record has its time, its captured and its original length", "[pcap]") {
  char header[kPcapRecordHeaderBytes];
  PutPcapRecordHeader(1'700'000'000'123'456'789, 3, 0x01020304, header);
  const std::string record = std::string(header, sizeof(header)) + "abc";
  const std::vector<PcapRecord> records = ReadPcapRecords(record);
  REQUIRE(records.size() == 1);
  CHECK(records[0].time_ns == 1'700'000'000'123'456'789);
  CHECK(records[0].bytes == Bytes{'a', 'b', 'c'});
  CHECK(records[0].original_bytes == 0x01020304);
}

TEST_CASE("Records are put in the order of their times", "[pcap]") {
  struct Case {
    std::vector<Note> notes;
    std::string expected;
  };
  const Case c = GENERATE(values<Case>({
      {{}, ""},
      {{{5, "a"}}, "5:a"},
      {{{5, "a"}, {6, "bb"}, {7, ""}}, "5:a 6:bb 7:"},
      {{{7, "a"}, {6, "bb"}, {5, "ccc"}}, "5:ccc 6:bb 7:a"},
      {{{5, "a"}, {5, "b"}, {5, "c"}}, "5:a 5:b 5:c"},
      {{{6, "a"}, {5, "b"}, {6, "c"}, {5, "d"}}, "5:b 5:d 6:a 6:c"},
      {{{2'000'000'000, "a"}, {1'999'999'999, "b"}}, "1999999999:b 2000000000:a"},
  }));
  std::string records = Records(c.notes);
  int64_t last_time_ns = 0;
  const OrderedPcapRecords ordered = OrderPcapRecords(absl::MakeSpan(records), 0, &last_time_ns);
  CHECK(Text(records) == c.expected);
  CHECK(ordered.bytes == records.size());
  CHECK(ordered.raised_times == 0);
}

TEST_CASE("Times before what is written already are raised to it", "[pcap]") {
  std::string records = Records({{30, "a"}, {10, "b"}, {25, "c"}, {19, "d"}});
  int64_t last_time_ns = 20;
  const OrderedPcapRecords ordered = OrderPcapRecords(absl::MakeSpan(records), 0, &last_time_ns);
  CHECK(Text(records) == "20:b 20:d 25:c 30:a");
  CHECK(ordered.raised_times == 2);
  CHECK(last_time_ns == 30);

  records = Records({{1, "e"}});
  CHECK(OrderPcapRecords(absl::MakeSpan(records), 0, &last_time_ns).raised_times == 1);
  CHECK(Text(records) == "30:e");
  CHECK(last_time_ns == 30);
}

TEST_CASE("What reaches into the held bytes waits for what may come before it", "[pcap]") {
  const std::vector<Note> notes = GENERATE(values<std::vector<Note>>({
      {{5, "a"}, {6, "b"}, {7, "c"}},
      {{5, "a"}, {7, "c"}, {6, "b"}},
      {{7, "c"}, {5, "a"}, {6, "b"}},
  }));
  const size_t record_bytes = kPcapRecordHeaderBytes + 1;
  for (const size_t held_bytes :
       {size_t{0}, size_t{1}, record_bytes, record_bytes + 1, 9 * record_bytes}) {
    CAPTURE(held_bytes);
    std::string records = Records(notes);
    int64_t last_time_ns = 1;
    const OrderedPcapRecords ordered =
        OrderPcapRecords(absl::MakeSpan(records), held_bytes, &last_time_ns);
    const size_t held = std::min<size_t>((held_bytes + record_bytes - 1) / record_bytes, 3);
    CHECK(Text(records) == "5:a 6:b 7:c");
    CHECK(ordered.bytes == (3 - held) * record_bytes);
    CHECK(last_time_ns == (held == 3 ? 1 : 7 - static_cast<int64_t>(held)));
  }
}

TEST_CASE("A partial record at the end stays where it is", "[pcap]") {
  const bool is_in_order = GENERATE(true, false);
  const std::string whole =
      is_in_order ? Records({{5, "b"}, {6, "a"}}) : Records({{6, "a"}, {5, "b"}});
  const std::string next = Records({{1, "cdefgh"}});
  const size_t size = GENERATE_COPY(range(size_t{1}, next.size()));
  std::string records = whole + next.substr(0, size);
  int64_t last_time_ns = 0;
  const OrderedPcapRecords ordered = OrderPcapRecords(absl::MakeSpan(records), 0, &last_time_ns);
  CHECK(ordered.bytes == whole.size());
  CHECK(Text(records.substr(0, ordered.bytes)) == "5:b 6:a");
  CHECK(records.substr(ordered.bytes) == next.substr(0, size));
  CHECK(last_time_ns == 6);
}

TEST_CASE("Where there is no whole record nothing changes", "[pcap]") {
  std::string records = Records({{1, "abc"}});
  records.pop_back();
  const std::string before = records;
  int64_t last_time_ns = 20;
  const OrderedPcapRecords ordered = OrderPcapRecords(absl::MakeSpan(records), 0, &last_time_ns);
  CHECK(ordered.bytes == 0);
  CHECK(records == before);
  CHECK(last_time_ns == 20);
}

}  // namespace
}  // namespace packet_headers::testing
