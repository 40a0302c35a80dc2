#include "tests/support/flow_fixture.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "absl/strings/str_cat.h"
#include "tests/support/catch.h"
#include "user/output/pcap.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kStartNs = 5000 * kSecond;
constexpr int64_t kTimerStepNs = 50 * kMillisecond;
constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

bool IsIpv6(const Tuple& tuple) { return tuple.local.find(':') != std::string::npos; }

Packet PacketOf(const Segment& segment, ph_direction direction) {
  const Tuple& tuple = segment.tuple;
  const bool out = direction == PH_EGRESS;
  const std::string& source = out ? tuple.local : tuple.remote;
  const std::string& destination = out ? tuple.remote : tuple.local;
  Packet packet;
  if (segment.link_layer == PH_LINK_ETHERNET) packet.Ethernet();
  IsIpv6(tuple) ? packet.Ipv6(source, destination) : packet.Ipv4(source, destination);
  packet.Tcp(out ? tuple.local_port : tuple.remote_port, out ? tuple.remote_port : tuple.local_port)
      .Flags(segment.flags)
      .Seq(segment.seq)
      .Ack(segment.ack)
      .TcpOptions(segment.options);
  return packet;
}

}  // namespace

std::vector<char> RecordOf(const Packet& packet, ph_direction direction,
                           const ph_header_record& about) {
  const Bytes frame = packet.bytes();
  const ph_flow_key key = packet.key(direction);
  std::vector<char> record(sizeof(ph_header_record) + packet.header_length());
  ph_header_record header = about;
  header.flow_hash = ph_flow_hash(&key, &kSeed);
  header.wire_len = static_cast<uint32_t>(frame.size());
  header.header_len = static_cast<uint16_t>(packet.header_length());
  header.l3_offset = static_cast<uint16_t>(packet.l3_offset());
  header.l4_offset = static_cast<uint16_t>(packet.l4_offset());
  header.direction = direction;
  header.tcp_flags = packet.tcp_flags();
  std::memcpy(record.data(), &header, sizeof(header));
  std::copy_n(frame.begin(), packet.header_length(), record.begin() + sizeof(header));
  return record;
}

std::vector<uint32_t> Seqs(const SavedFlow& flow) {
  std::vector<uint32_t> seqs;
  for (const PcapRecord& record : flow.records) {
    const Bytes& bytes = record.bytes;
    const size_t ip_at = flow.link_type == LinkType::kEthernet ? 14 : 0;
    const size_t tcp_at = ip_at + (bytes.at(ip_at) >> 4 == 6 ? 40 : (bytes[ip_at] & 0xf) * 4);
    if (bytes.size() < tcp_at + 20) FAIL("a record of " << flow.uuid << " holds no TCP header");
    uint32_t seq_be;
    std::memcpy(&seq_be, bytes.data() + tcp_at + 4, sizeof(seq_be));
    seqs.push_back(ntohl(seq_be));
  }
  return seqs;
}

FlowOptions DefaultFlowOptions() {
  FlowOptions options;
  options.capture_duration_ns = 60 * kSecond;
  options.flow_timeout_ns = 30 * kSecond;
  options.uuid_wait_ns = 5 * kSecond;
  options.max_header_bytes = 256;
  options.max_idle_bytes = 1 << 20;
  options.max_embryonic_flows = 1000;
  options.max_embryonic_bytes = 1 << 20;
  options.max_ended_flows = 1000;
  options.max_recent_cookies = 100'000;
  options.max_announcements = 1000;
  options.name_flow = [](const Flow& flow) { return absl::StrCat("flow_", flow.cookie); };
  return options;
}

FlowFixture::FlowFixture(const FlowOptions& options, int64_t memory_bytes, int64_t most_flows)
    : budget_(memory_bytes),
      limit_(most_flows),
      now_ns_(kStartNs),
      table_(std::make_unique<FlowTable>(
          options, /*shard=*/3, kStartNs, budget_, limit_, books_, stats_, kernel_,
          [this](FileJob job) { jobs_.push_back(std::move(job)); })) {}

FlowFixture::~FlowFixture() noexcept(false) {
  if (std::uncaught_exceptions() > 0) return;
  hold_jobs_ = false;
  Finish();
  CheckBooks();
  CHECK(table_->jobs_outstanding() == 0);
  CHECK(stats_.embryonic == 0);
  CHECK(stats_.capturing == 0);
  CHECK(stats_.captures_started == stats_.captures_finished);
  table_ = nullptr;
  CHECK(stats_.ended == 0);
  CHECK(budget_.used_bytes() == 0);
}

void FlowFixture::Feed(const Segment& segment, ph_direction direction) {
  now_ns_ = segment.at_ns < 0 ? now_ns_ + kMillisecond : std::max(now_ns_, segment.at_ns);
  ph_header_record about = {};
  about.time_ns = segment.at_ns < 0 ? now_ns_ : segment.at_ns;
  about.socket_cookie = segment.cookie;
  about.ifindex = segment.ifindex;
  about.link_layer = segment.link_layer;
  const std::vector<char> record = RecordOf(PacketOf(segment, direction), direction, about);
  FeedBytes(record.data(), record.size());
}

void FlowFixture::FeedBytes(const void* data, size_t size) {
  const auto* record = static_cast<const ph_header_record*>(data);
  const bool readable = size >= sizeof(*record) && record->direction <= PH_EGRESS;
  ++fed_[{readable ? record->ifindex : 0, readable ? record->direction : 0}];
  ++fed_total_;
  const RecordBytes bytes = {data, size};
  table_->OnRecords({&bytes, 1});
  ReturnJobs();
}

void FlowFixture::Announce(const Told& told) {
  auto announcement = std::make_shared<Announcement>();
  announcement->key = told.tuple.key();
  announcement->cookie = told.cookie;
  announcement->time_ns = told.at_ns < 0 ? now_ns_ : told.at_ns;
  announcement->date = told.date;
  announcement->uuid = told.uuid;
  const Tuple& tuple = told.tuple;
  const Tuple reversed = {tuple.remote, tuple.remote_port, tuple.local, tuple.local_port};
  for (const ph_flow_key& key : {reversed.key(), tuple.key()}) {
    table_->OnAnnouncement({key, ph_flow_hash(&key, &kSeed), announcement});
  }
  ReturnJobs();
}

void FlowFixture::Own(uint64_t cookie, int64_t until_ns, const Tuple& tuple) {
  const ph_flow_key key = tuple.key();
  table_->OnOwner({key, ph_flow_hash(&key, &kSeed), cookie, until_ns});
  ReturnJobs();
}

void FlowFixture::Accept(uint64_t cookie, const Tuple& tuple) {
  In({.flags = kSyn, .seq = 100, .tuple = tuple});
  Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = cookie, .tuple = tuple});
  In({.seq = 101, .ack = 901, .tuple = tuple});
}

void FlowFixture::Connect(uint64_t cookie, const Tuple& tuple) {
  Out({.flags = kSyn, .seq = 900, .cookie = cookie, .tuple = tuple});
  In({.flags = kSynAck, .seq = 100, .ack = 901, .tuple = tuple});
  Out({.seq = 901, .ack = 101, .cookie = cookie, .tuple = tuple});
}

void FlowFixture::Close(uint64_t cookie, const Tuple& tuple) {
  In({.flags = kFin, .seq = 102, .ack = 901, .tuple = tuple});
  Out({.seq = 902, .ack = 103, .cookie = cookie, .tuple = tuple});
  Out({.flags = kFin, .seq = 903, .ack = 103, .cookie = cookie, .tuple = tuple});
  In({.seq = 103, .ack = 904, .tuple = tuple});
}

void FlowFixture::Wait(int64_t ns) {
  const int64_t until_ns = now_ns_ + ns;
  while (now_ns_ < until_ns) {
    now_ns_ = std::min(now_ns_ + kTimerStepNs, until_ns);
    table_->Advance(now_ns_);
    ReturnJobs();
  }
}

void FlowFixture::Finish() {
  table_->FinishAll();
  ReturnJobs();
}

void FlowFixture::HoldJobs(bool hold) {
  ReturnJobs();
  hold_jobs_ = hold;
  ReturnJobs();
}

void FlowFixture::ReturnJobs() {
  if (hold_jobs_) return;
  for (FileJob& job : std::exchange(jobs_, {})) {
    TakeJob(job);
    job.saved = !files_fail_;
    table_->OnJobDone(std::move(job));
  }
}

void FlowFixture::TakeJob(FileJob& job) {
  const auto [place, is_new] = open_files_.try_emplace(job.flow_id, files_.size());
  if (is_new)
    files_.push_back({job.uuid, job.date, job.link_type, 0, false, job.end, job.key, {}, {}});
  SavedFlow& file = files_[place->second];
  if (file.uuid != job.uuid || file.date != job.date || file.is_last) {
    FAIL("a job of " << job.uuid << " contradicts those before it");
  }
  ++file.jobs;
  file.is_last = job.last;
  file.end = job.end;
  job.records.ForEachPiece(
      [&file](absl::string_view bytes) { file.bytes.append(bytes.data(), bytes.size()); });
  if (!job.last) return;

  int64_t last_time_ns = 0;
  OrderPcapRecords(absl::MakeSpan(file.bytes), 0, &last_time_ns);
  file.records = ReadPcapRecords(file.bytes);
  uint64_t packets = 0;
  for (const PacketCounts::OfInterface& interface : job.packets.interfaces()) {
    packets += interface.packets[PH_INGRESS] + interface.packets[PH_EGRESS];
  }
  if (packets != file.records.size()) {
    FAIL(job.uuid << " counts " << packets << " packets and has " << file.records.size());
  }
}

const std::vector<SavedFlow>& FlowFixture::files() { return files_; }

const SavedFlow& FlowFixture::FileOf(uint64_t cookie) {
  const std::string uuid = absl::StrCat("flow_", cookie);
  const SavedFlow* found = nullptr;
  for (const SavedFlow& file : files_) {
    if (file.uuid != uuid) continue;
    if (found != nullptr) FAIL("there are two files of " << uuid);
    found = &file;
  }
  if (found == nullptr || !found->is_last) FAIL("there is no whole file of " << uuid);
  return *found;
}

std::vector<std::string> FlowFixture::uuids() {
  std::vector<std::string> uuids;
  for (const SavedFlow& file : files_) uuids.push_back(file.uuid);
  return uuids;
}

uint64_t FlowFixture::Count(ph_counter counter) const {
  absl::flat_hash_map<uint32_t, CountersByDirection> totals;
  books_.AddTo(totals);
  uint64_t count = 0;
  for (const auto& [ifindex, row] : totals) {
    count += row[PH_INGRESS][counter] + row[PH_EGRESS][counter];
  }
  return count;
}

CountersByDirection FlowFixture::CountsOf(uint32_t ifindex) const {
  absl::flat_hash_map<uint32_t, CountersByDirection> totals;
  books_.AddTo(totals);
  return totals[ifindex];
}

void FlowFixture::CheckBooks() const {
  absl::flat_hash_map<uint32_t, CountersByDirection> totals;
  books_.AddTo(totals);
  std::map<std::pair<uint32_t, int>, uint64_t> counted;
  for (const auto& [ifindex, row] : totals) {
    for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
      uint64_t packets = 0;
      for (int counter = PH_KERNEL_COUNTERS; counter < PH_COUNTERS; ++counter) {
        packets += row[direction][counter];
      }
      if (packets > 0) counted[{ifindex, direction}] = packets;
    }
  }
  CHECK(counted == fed_);
  uint64_t in_files = 0;
  for (const SavedFlow& file : files_) in_files += file.records.size();
  CHECK(in_files == Count(PH_SAVED) + Count(PH_WRITE_ERROR));
}

}  // namespace packet_headers::testing
