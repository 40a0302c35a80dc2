// A flow table between a wire that the test plays and files that the test reads:
//
//   FlowFixture flows;
//   flows.In({.flags = kSyn, .seq = 100});
//   flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 7});
//   flows.In({.seq = 101, .ack = 901});
//   flows.Finish();
//   CHECK(Seqs(flows.FileOf(7)) == std::vector<uint32_t>{100, 900, 101});
//
// At its end the books must close: each record is saved or counted under exactly one reason.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_FLOW_FIXTURE_H_
#define PACKET_HEADERS_TESTS_SUPPORT_FLOW_FIXTURE_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/civil_time.h"
#include "packet_headers/counters.h"
#include "packet_headers/header_record.h"
#include "packet_headers/parse.h"
#include "tests/support/packet.h"
#include "tests/support/pcap_reader.h"
#include "user/flow/books.h"
#include "user/flow/flow_table.h"
#include "user/output/memory_budget.h"

inline bool operator==(const ph_flow_key& a, const ph_flow_key& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

namespace packet_headers::testing {

inline constexpr int64_t kMillisecond = 1'000'000;
inline constexpr int64_t kSecond = 1000 * kMillisecond;

inline constexpr uint8_t kFin = PH_TCP_FIN | PH_TCP_ACK;
inline constexpr uint8_t kSyn = PH_TCP_SYN;
inline constexpr uint8_t kRst = PH_TCP_RST;
inline constexpr uint8_t kAck = PH_TCP_ACK;
inline constexpr uint8_t kSynAck = PH_TCP_SYN | PH_TCP_ACK;

struct Tuple {
  std::string local = "192.0.2.1";
  uint16_t local_port = 443;
  std::string remote = "198.51.100.7";
  uint16_t remote_port = 50000;

  ph_flow_key key() const { return FlowKey(local, local_port, remote, remote_port); }
};
inline Tuple Peer(uint16_t port) { return {.remote_port = port}; }

// A TCP packet and what the hook says of it.
struct Segment {
  uint8_t flags = kAck;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint64_t cookie = 0;
  Tuple tuple = {};
  uint32_t ifindex = 2;
  ph_link_layer link_layer = PH_LINK_ETHERNET;
  int64_t at_ns = -1;  // -1: a millisecond after the packet before
  size_t options = 0;  // bytes of TCP options
};

// What tcp-info says of a socket.
struct Told {
  std::string uuid;
  uint64_t cookie = 0;
  Tuple tuple = {};
  int64_t at_ns = -1;  // -1: now
  absl::CivilDay date = absl::CivilDay(2026, 11, 21);
};

// The record of a packet, as the kernel lays it out.
std::vector<char> RecordOf(const Packet& packet, ph_direction direction,
                           const ph_header_record& about);

// What became of a captured flow.
struct SavedFlow {
  std::string uuid;
  absl::CivilDay date;
  LinkType link_type;
  int jobs;      // that its file was handed over in
  bool is_last;  // the last one came
  FlowEnd end;   // as that says
  ph_flow_key key;
  std::string bytes;
  std::vector<PcapRecord> records;  // in the order of the file, once that is complete
};

// The sequence numbers of a file's packets.
std::vector<uint32_t> Seqs(const SavedFlow& flow);

FlowOptions DefaultFlowOptions();

class FlowFixture {
 public:
  explicit FlowFixture(const FlowOptions& options = DefaultFlowOptions(),
                       int64_t memory_bytes = int64_t{64} << 20, int64_t most_flows = 0);
  FlowFixture(const FlowFixture&) = delete;
  FlowFixture& operator=(const FlowFixture&) = delete;
  // Finishes, and fails the test if the books don't close or memory is not given back.
  ~FlowFixture() noexcept(false);

  void In(const Segment& segment) { Feed(segment, PH_INGRESS); }
  void Out(const Segment& segment) { Feed(segment, PH_EGRESS); }
  // A record of any bytes.
  void FeedBytes(const void* data, size_t size);

  // As the announcer does: both ways to read it.
  void Announce(const Told& told);

  // As the source does, where records told no owner.
  void Own(uint64_t cookie, int64_t until_ns, const Tuple& tuple = {});

  // Three packets, with the sequence numbers 100, 900 and 101.
  void Accept(uint64_t cookie, const Tuple& tuple = {});
  // The same from the host's side: 900, 100, 901.
  void Connect(uint64_t cookie, const Tuple& tuple = {});
  // Four packets, the remote side first: 102, 902, 903, 103.
  void Close(uint64_t cookie, const Tuple& tuple = {});

  // Lets time pass, and the timers with it.
  void Wait(int64_t ns);
  int64_t now_ns() const { return now_ns_; }

  // As at the end of the program. What was handed over is then complete.
  void Finish();

  FlowTable& table() { return *table_; }
  const FlowStats& stats() const { return stats_; }
  const MemoryBudget& budget() const { return budget_; }
  FlowLimit& limit() { return limit_; }

  // Files that are handed over from now on can't be written.
  void FailFiles() { files_fail_ = true; }
  // While it is set, jobs don't come back.
  void HoldJobs(bool hold);

  // Files in the order they were begun.
  const std::vector<SavedFlow>& files();
  // The only one of the socket.
  const SavedFlow& FileOf(uint64_t cookie);
  std::vector<std::string> uuids();

  // Packets so far under `counter`.
  uint64_t Count(ph_counter counter) const;
  CountersByDirection CountsOf(uint32_t ifindex) const;
  // The flows that the kernel was told of, in order; those included that it was told back.
  const std::vector<ph_flow_key>& settled() const { return kernel_.settled; }
  const std::vector<ph_flow_key>& unsettled() const { return kernel_.unsettled; }
  // As the kernel does with what is idle.
  void ForgetSettled() { kernel_.is_settled.clear(); }
  uint64_t fed() const { return fed_total_; }

 private:
  void Feed(const Segment& segment, ph_direction direction);
  void ReturnJobs();
  void TakeJob(FileJob& job);
  void CheckBooks() const;

  MemoryBudget budget_;
  FlowLimit limit_;
  Books books_;
  FlowStats stats_;
  std::vector<FileJob> jobs_;  // handed over, not returned
  std::vector<SavedFlow> files_;
  std::map<uint64_t, size_t> open_files_;  // places in files_ by flow id
  struct Kernel : KernelFlows {
    // The fixture goes on feeding what the kernel would hold back; told twice is told once.
    void Settle(const ph_flow_key& key, bool) override {
      if (std::exchange(is_settled[Bytes(key)], true)) return;
      settled.push_back(key);
    }
    void Unsettle(const ph_flow_key& key) override {
      is_settled[Bytes(key)] = false;
      unsettled.push_back(key);
    }
    static std::string Bytes(const ph_flow_key& key) {
      return {reinterpret_cast<const char*>(&key), sizeof(key)};
    }
    std::map<std::string, bool> is_settled;
    std::vector<ph_flow_key> settled;
    std::vector<ph_flow_key> unsettled;
  } kernel_;
  std::map<std::pair<uint32_t, int>, uint64_t> fed_;  // records by interface and direction
  uint64_t fed_total_ = 0;
  int64_t now_ns_;
  bool files_fail_ = false;
  bool hold_jobs_ = false;
  std::unique_ptr<FlowTable> table_;
};

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_FLOW_FIXTURE_H_
