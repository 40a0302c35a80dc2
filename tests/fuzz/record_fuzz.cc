// Records of a ring through the flow table, with time, announcements and owners between. First
// bytes: how the table is set up. Then one step after the other: a byte that says what, and what
// that needs.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "packet_headers/parse.h"
#include "tests/fuzz/fuzz.h"
#include "user/config/config.h"
#include "user/flow/flow_table.h"
#include "user/flow_options.h"
#include "user/identity/uuid.h"
#include "user/output/flow_summary.h"
#include "user/output/pcap.h"

namespace packet_headers::fuzz {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr uint32_t kSnaplen = 96;
constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

FlowOptions OptionsOf(uint8_t how) {
  Config config;
  config.max_header_size = kSnaplen;
  config.stream = (how & 1) != 0;
  config.capture_duration = absl::Seconds(10);
  FlowOptions options = MakeFlowOptions(config, /*shards=*/1);
  options.ownership = static_cast<Ownership>(how >> 1 & 3);
  options.naming = static_cast<Naming>((how >> 3 & 3) % 3);
  options.name_flow = [](const Flow& flow) { return absl::StrCat("flow_", flow.cookie); };
  // Few, so that the limits are reached.
  options.max_embryonic_flows = 4;
  options.max_embryonic_bytes = kLargestChunkBytes * 2;
  options.max_ended_flows = 4;
  options.max_recent_cookies = 4;
  options.max_announcements = 4;
  return options;
}

struct IgnoredKernel : KernelFlows {
  void Settle(const ph_flow_key&, bool) override {}
  void Unsettle(const ph_flow_key&) override {}
};

// A TCP packet of few fields, so that steps soon meet: 8 tuples, small numbers.
struct Step {
  uint8_t tuple;  // bit 3: IPv6, bit 4: without Ethernet, bit 5: which way
  uint8_t flags;
  uint8_t seq;
  uint8_t ack;
  uint8_t cookie;
  uint8_t ifindex;
};

ph_flow_key KeyOf(uint8_t tuple) {
  ph_flow_key key = {};
  if ((tuple & 8) == 0) {
    ph_map_ipv4(key.local_addr, ph_htons(1));
    ph_map_ipv4(key.remote_addr, ph_htons(2));
  } else {
    key.local_addr[0] = 0x20;
    key.remote_addr[0] = 0x20;
    key.remote_addr[15] = 2;
  }
  key.local_port_be = ph_htons(443);
  key.remote_port_be = ph_htons(50'000 + (tuple & 7));
  return key;
}

std::string RecordOf(const Step& step, int64_t time_ns) {
  const ph_flow_key key = KeyOf(step.tuple);
  const bool is_ipv6 = (step.tuple & 8) != 0;
  const bool is_out = (step.tuple & 32) != 0;
  std::string frame((step.tuple & 16) != 0 ? 0 : ETH_HLEN, '\0');
  const size_t l3_offset = frame.size();
  if (l3_offset > 0) {
    frame[12] = static_cast<char>(is_ipv6 ? 0x86 : 0x08);
    frame[13] = static_cast<char>(is_ipv6 ? 0xdd : 0x00);
  }
  const auto* const source = is_out ? key.local_addr : key.remote_addr;
  const auto* const destination = is_out ? key.remote_addr : key.local_addr;
  if (is_ipv6) {
    ipv6hdr ip = {};
    ip.version = 6;
    ip.nexthdr = PH_IPPROTO_TCP;
    std::memcpy(&ip.saddr, source, 16);
    std::memcpy(&ip.daddr, destination, 16);
    frame.append(reinterpret_cast<const char*>(&ip), sizeof(ip));
  } else {
    iphdr ip = {};
    ip.version = 4;
    ip.ihl = 5;
    ip.protocol = PH_IPPROTO_TCP;
    std::memcpy(&ip.saddr, source + 12, 4);
    std::memcpy(&ip.daddr, destination + 12, 4);
    frame.append(reinterpret_cast<const char*>(&ip), sizeof(ip));
  }
  const size_t l4_offset = frame.size();
  ph_tcp tcp = {};
  tcp.source_port_be = is_out ? key.local_port_be : key.remote_port_be;
  tcp.destination_port_be = is_out ? key.remote_port_be : key.local_port_be;
  tcp.sequence_be = uint32_t{step.seq} << 24;
  tcp.acknowledgment_be = uint32_t{step.ack} << 24;
  tcp.data_offset = 5 << 4;
  tcp.flags = step.flags;
  frame.append(reinterpret_cast<const char*>(&tcp), sizeof(tcp));

  ph_header_record record = {};
  record.time_ns = time_ns;
  record.socket_cookie = is_out ? step.cookie % 8 : 0;
  record.flow_hash = ph_flow_hash(&key, &kSeed);
  record.ifindex = step.ifindex % 4;
  record.wire_len = frame.size();
  record.header_len = frame.size();
  record.l3_offset = l3_offset;
  record.l4_offset = l4_offset;
  record.direction = is_out ? PH_EGRESS : PH_INGRESS;
  record.link_layer = l3_offset > 0 ? PH_LINK_ETHERNET : PH_LINK_IP;
  record.tcp_flags = step.flags;
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&record), sizeof(record)),
                      frame);
}

// A flow table, what feeds it and what takes its files.
class Shard {
 public:
  explicit Shard(Input& input)
      : how_(input.Byte()),
        budget_((input.Byte() % 8 + 1) * (int64_t{512} << 10)),
        limit_(input.Byte() % 8),
        table_(std::make_unique<FlowTable>(
            OptionsOf(how_), /*shard=*/1, now_ns_, budget_, limit_, books_, stats_, kernel_,
            [this](FileJob job) { jobs_.push_back(std::move(job)); })) {}

  void Run(Input& input) {
    while (!input.empty()) {
      Take(input);
      ReturnJobs(input.Byte() % 4);
    }
    table_->FinishAll();
    ReturnJobs(jobs_.size());
    CheckRest();
  }

 private:
  void Take(Input& input) {
    const uint8_t what = input.Byte();
    switch (what % 8) {
      case 0:  // any record
        Feed(std::string(input.Bytes(input.Byte() * size_t{4})));
        break;
      case 1:  // time
        now_ns_ += input.Byte() * 100 * kMillisecond;
        table_->Advance(now_ns_);
        break;
      case 2: {
        const int64_t offset_ns = input.Byte() * kMillisecond;
        const uint8_t which = input.Byte();
        if ((which & 1) != 0) table_->FlushStreams();
        if ((which & 2) != 0) table_->set_wall_offset_ns(offset_ns);
        if ((which & 4) != 0) table_->set_suspended_ns(offset_ns);
        break;
      }
      case 3:
        Announce(input);
        break;
      case 4: {
        const ph_flow_key key = KeyOf(input.Byte());
        table_->OnOwner({key, ph_flow_hash(&key, &kSeed), input.Byte() % uint64_t{8}, now_ns_});
        break;
      }
      default: {  // a packet, mostly in its time
        now_ns_ += kMillisecond;
        const auto step = input.Number<Step>();
        Feed(RecordOf(step, now_ns_ - (what >> 6) * kMillisecond));
      }
    }
  }

  void Feed(const std::string& record) {
    // Where it ends, the address sanitizer looks.
    const std::unique_ptr<uint64_t[]> copy(new uint64_t[record.size() / 8 + 1]);
    std::memcpy(copy.get(), record.data(), record.size());
    const RecordBytes bytes = {copy.get(), record.size()};
    table_->OnRecords({&bytes, 1});
    ++fed_;
  }

  void Announce(Input& input) {
    auto announcement = std::make_shared<Announcement>();
    announcement->key = KeyOf(input.Byte());
    announcement->cookie = input.Byte() % 8;
    announcement->time_ns = now_ns_ - input.Byte() * 10 * kMillisecond;
    announcement->date = absl::CivilDay(2026, 11, 21);
    announcement->uuid = absl::StrCat("told_", announcement->cookie);
    const ph_flow_key key = announcement->key;
    table_->OnAnnouncement({key, ph_flow_hash(&key, &kSeed), std::move(announcement)});
  }

  void ReturnJobs(size_t most) {
    for (; most > 0 && !jobs_.empty(); --most) {
      FileJob job = std::move(jobs_.front());
      jobs_.pop_front();
      CheckJob(job);
      job.saved = true;
      table_->OnJobDone(std::move(job));
    }
  }

  void CheckJob(const FileJob& job) {
    FUZZ_CHECK(IsValidUuid(job.uuid));
    std::string bytes;
    job.records.ForEachPiece([&bytes](absl::string_view piece) { absl::StrAppend(&bytes, piece); });
    int64_t last_time_ns = 0;
    FUZZ_CHECK(OrderPcapRecords(absl::MakeSpan(bytes), 0, &last_time_ns).bytes == bytes.size());
    FlowSummary summary;
    summary.Add(bytes, job.link_type, job.key);
    FUZZ_CHECK(summary.last_ns() == last_time_ns);
    for (const int direction : {PH_INGRESS, PH_EGRESS}) {
      FUZZ_CHECK(summary.sent(direction).payload_bytes <= summary.sent(direction).wire_bytes);
    }
    while (!bytes.empty()) {
      uint32_t captured_bytes, original_bytes;
      std::memcpy(&captured_bytes, bytes.data() + 8, 4);
      std::memcpy(&original_bytes, bytes.data() + 12, 4);
      FUZZ_CHECK(captured_bytes <= kSnaplen && captured_bytes <= original_bytes);
      bytes.erase(0, kPcapRecordHeaderBytes + captured_bytes);
      ++in_files_;
    }
  }

  // The books close, and nothing is kept.
  void CheckRest() {
    FUZZ_CHECK(table_->jobs_outstanding() == 0);
    FUZZ_CHECK(stats_.embryonic == 0 && stats_.capturing == 0 && stats_.unnamed == 0);
    FUZZ_CHECK(stats_.captures_started == stats_.captures_finished);
    table_ = nullptr;
    FUZZ_CHECK(stats_.ended == 0 && budget_.used_bytes() == 0);
    absl::flat_hash_map<uint32_t, CountersByDirection> totals;
    books_.AddTo(totals);
    uint64_t counted = 0, saved = 0;
    for (const auto& [ifindex, row] : totals) {
      for (const CounterArray& counters : row) {
        for (int i = PH_KERNEL_COUNTERS; i < PH_COUNTERS; ++i) counted += counters[i];
        saved += counters[PH_SAVED];
      }
    }
    FUZZ_CHECK(counted == fed_);
    FUZZ_CHECK(saved == in_files_);
  }

  const uint8_t how_;
  MemoryBudget budget_;
  FlowLimit limit_;
  Books books_;
  FlowStats stats_;
  IgnoredKernel kernel_;
  std::deque<FileJob> jobs_;
  int64_t now_ns_ = 1'000'000 * kMillisecond;
  uint64_t fed_ = 0;
  uint64_t in_files_ = 0;
  std::unique_ptr<FlowTable> table_;
};

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers::fuzz;
  Input input(data, size);
  Shard(input).Run(input);
  return 0;
}
