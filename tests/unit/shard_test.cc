// Shards with their real threads and a real publisher, between other threads that announce, look
// and change. Compiled a second time for the thread sanitizer.

#include "user/flow/shard.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"
#include "tests/support/packet.h"
#include "tests/support/scratch_directory.h"
#include "user/base/clock.h"
#include "user/identity/uuid.h"
#include "user/output/data_directory.h"

namespace packet_headers::testing {
namespace {

constexpr uint32_t kShards = 3;
constexpr uint64_t kFlows = 200;  // of each shard
constexpr uint64_t kPackets = 4;  // of each flow
constexpr uint32_t kInterface = 2;

// The tuple of one of the flows of all shards.
Tuple TupleOf(uint64_t cookie) {
  return {.remote = absl::StrCat("198.51.", cookie / 200, ".", cookie % 200 + 1)};
}

std::vector<char> RecordOf(const Tuple& tuple, ph_direction direction, uint8_t flags, uint32_t seq,
                           uint32_t ack, uint64_t cookie) {
  const bool out = direction == PH_EGRESS;
  const Packet packet =
      Packet()
          .Ethernet()
          .Ipv4(out ? tuple.local : tuple.remote, out ? tuple.remote : tuple.local)
          .Tcp(out ? tuple.local_port : tuple.remote_port,
               out ? tuple.remote_port : tuple.local_port)
          .Flags(flags)
          .Seq(seq)
          .Ack(ack);
  ph_header_record about = {};
  about.socket_cookie = cookie;
  about.ifindex = kInterface;
  return testing::RecordOf(packet, direction, about);
}

// What tcp-info would say of the same flow.
KeyedAnnouncement AnnouncementOf(uint64_t cookie) {
  const Tuple tuple = TupleOf(cookie);
  ph_header_record record;
  std::memcpy(&record, RecordOf(tuple, PH_EGRESS, kAck, 0, 0, cookie).data(), sizeof(record));
  auto announcement = std::make_shared<Announcement>();
  announcement->cookie = cookie;
  announcement->key = tuple.key();
  announcement->date = absl::CivilDay(2026, 11, 21);
  announcement->uuid = UuidFromCookie("told", cookie);
  return {announcement->key, record.flow_hash, std::move(announcement)};
}

TEST_CASE("A shard waits for a batch, but not until its ring fills up", "[shard]") {
  const absl::Duration wait = absl::Milliseconds(12);
  CHECK(NextWait(wait, 0, 0) == 2 * wait);
  CHECK(NextWait(wait, 8'191, 124'999) == 2 * wait);
  CHECK(NextWait(wait, 8'192, 0) == wait);
  CHECK(NextWait(wait, 0, 125'000) == wait);
  CHECK(NextWait(wait, 16'384, 250'000) == wait);
  CHECK(NextWait(wait, 16'385, 0) == wait / 2);
  CHECK(NextWait(wait, 0, 250'001) == wait / 2);
  CHECK(NextWait(absl::Milliseconds(48), 0, 0) == absl::Milliseconds(48));
  CHECK(NextWait(absl::Milliseconds(3), 100'000, 0) == absl::Milliseconds(3));
  CHECK(NextWait(absl::ZeroDuration(), 0, 0) == absl::Milliseconds(3));
}

// Gives a few records at a time, of flows that a host accepts, and says when all were taken.
class ScriptedSource : public RecordSource {
 public:
  explicit ScriptedSource(uint64_t first_cookie) {
    for (uint64_t cookie = first_cookie; cookie < first_cookie + kFlows; ++cookie) {
      const Tuple tuple = TupleOf(cookie);
      Add(tuple, PH_INGRESS, kSyn, 100, 0, 0);
      Add(tuple, PH_EGRESS, kSynAck, 900, 101, cookie);
      Add(tuple, PH_INGRESS, kAck, 101, 901, 0);
      Add(tuple, PH_EGRESS, kRst, 901, 101, cookie);
    }
  }

  void Wait(absl::Duration) override { std::this_thread::yield(); }

  size_t Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) override {
    // All packets of a flow come at one time, however long this thread has to wait meanwhile.
    const auto now_ns = static_cast<uint64_t>(MonotonicNow());
    size_t records = 0;
    for (; records < std::min<size_t>(most, kPackets) && !script_.empty(); ++records) {
      std::vector<char> record = std::move(script_.front());
      script_.pop_front();
      std::memcpy(record.data() + offsetof(ph_header_record, time_ns), &now_ns, sizeof(now_ns));
      const RecordBytes bytes = {record.data(), record.size()};
      use({&bytes, 1});
    }
    if (script_.empty()) {
      const std::scoped_lock lock(mutex_);
      is_over_ = true;
      over_.notify_all();
    }
    return records;
  }

  void WaitForEnd() {
    std::unique_lock lock(mutex_);
    over_.wait(lock, [this] { return is_over_; });
  }

 private:
  void Add(const Tuple& tuple, ph_direction direction, uint8_t flags, uint32_t seq, uint32_t ack,
           uint64_t cookie) {
    script_.push_back(RecordOf(tuple, direction, flags, seq, ack, cookie));
  }

  std::deque<std::vector<char>> script_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable over_;
  bool is_over_ = false;
};

// What main does for a shard that tells of settled flows, from any thread.
struct CountingKernel : KernelFlows {
  void Settle(const ph_flow_key&, bool) override { ++settled; }
  void Unsettle(const ph_flow_key&) override { ++unsettled; }
  std::atomic<uint64_t> settled{0};
  std::atomic<uint64_t> unsettled{0};
};

// Does the same over and over until it goes.
class Repeating {
 public:
  template <typename Work>
  explicit Repeating(Work work)
      : thread_([this, work = std::move(work)] {
          uint64_t turn = 0;
          do {
            work(turn++);
          } while (!stop_.load());
        }) {}
  ~Repeating() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void RunShards(bool stream, Naming naming) {
  const ScratchDirectory scratch;
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(scratch.Path());
  REQUIRE(directory.ok());
  MemoryBudget budget(int64_t{64} << 20);
  FlowLimit limit(0);
  CountingKernel kernel;
  UuidPrefix prefix("host_1");
  FlowOptions options = DefaultFlowOptions();
  options.stream = stream;
  options.naming = naming;
  // So that some end while others begin.
  options.capture_duration_ns = 20 * kMillisecond;
  options.flow_timeout_ns = 20 * kMillisecond;
  options.uuid_wait_ns = 10 * kMillisecond;
  options.name_flow = [&prefix](const Flow& flow) {
    return UuidFromCookie(prefix.Get(), flow.cookie);
  };
  {
    Publisher publisher(*std::move(directory), /*snaplen=*/256, Compression::kNone);
    std::deque<ScriptedSource> sources;
    std::deque<Shard> shards;
    for (uint32_t i = 0; i < kShards; ++i) {
      ScriptedSource& source = sources.emplace_back(1 + i * kFlows);
      shards.emplace_back(i, options, source, budget, limit, kernel, publisher,
                          std::make_shared<const LocalAddresses>());
    }
    std::vector<KeyedAnnouncement> announcements;
    for (uint64_t cookie = 1; cookie <= kShards * kFlows; ++cookie) {
      announcements.push_back(AnnouncementOf(cookie));
    }
    std::atomic<uint64_t> looks{0};
    {
      const Repeating announcer([&](uint64_t turn) {
        // Of flows that there will be, that there are and that there were.
        const uint64_t flow = turn % announcements.size();
        shards[flow / kFlows].Announce(announcements[flow]);
        prefix.Learn(absl::StrCat("host_", turn % 2));
      });
      const Repeating scraper([&](uint64_t) {
        absl::flat_hash_map<uint32_t, CountersByDirection> totals;
        int64_t flows = 0;
        for (const Shard& shard : shards) {
          shard.books().AddTo(totals);
          flows += shard.stats().capturing + shard.stats().embryonic;
        }
        looks += flows >= 0 && publisher.stats().files_failed == 0 && publisher.waiting() < 10'000;
        looks += budget.used_bytes() >= 0;
      });
      const Repeating surveyor([&](uint64_t turn) {
        FlowSurvey& survey = shards[turn % kShards].survey();
        looks += survey.Take().has_value();
        survey.Ask({.order = static_cast<FlowQuery::Order>(turn % 3), .most = 5});
        looks += !publisher.recent_files().Get().empty();
      });
      const Repeating watcher([&](uint64_t turn) {
        auto addresses = std::make_shared<LocalAddresses>();
        addresses->insert(MappedAddress{static_cast<uint8_t>(turn)});
        for (Shard& shard : shards) shard.set_local_addresses(addresses);
      });
      for (ScriptedSource& source : sources) source.WaitForEnd();
    }
    CHECK(looks > 0);
    for (Shard& shard : shards) shard.BeginToFinish();
    absl::flat_hash_map<uint32_t, CountersByDirection> totals;
    for (Shard& shard : shards) {
      shard.Finish();
      shard.books().AddTo(totals);
    }
    for (const CounterArray& counters : totals[kInterface]) {
      CHECK(counters[PH_SAVED] == kShards * kFlows * kPackets / 2);
    }
    CHECK(publisher.stats().files_published == kShards * kFlows);
    CHECK(publisher.stats().files_failed == 0);
  }
  CHECK(scratch.Files().size() == kShards * kFlows);
}

TEST_CASE("Shards save every flow while others announce, look and change", "[shard]") {
  RunShards(/*stream=*/false, Naming::kOwn);
}

TEST_CASE("Shards that stream do, too", "[shard]") {
  RunShards(/*stream=*/true, Naming::kAnnouncedOrOwn);
}

TEST_CASE("An inbox gives what it took, in order, whoever puts", "[shard]") {
  constexpr uint32_t kPutters = 3;
  constexpr uint64_t kEach = 2000;
  Inbox inbox(/*most=*/64);
  std::vector<std::thread> putters;
  for (uint32_t putter = 0; putter < kPutters; ++putter) {
    putters.emplace_back([&inbox, putter] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        auto announcement = std::make_shared<Announcement>();
        announcement->cookie = i;
        while (!inbox.TryPut({{}, putter, announcement})) std::this_thread::yield();
      }
    });
  }
  std::vector<uint64_t> last(kPutters);
  bool in_order = true;
  for (uint64_t taken = 0; taken < kPutters * kEach;) {
    for (const KeyedAnnouncement& keyed : inbox.Take()) {
      in_order &= keyed.announcement->cookie == ++last[keyed.flow_hash];
      ++taken;
    }
  }
  for (std::thread& putter : putters) putter.join();
  CHECK(in_order);
  CHECK(inbox.Take().empty());
}

TEST_CASE("A queue of jobs loses none between its threads", "[shard]") {
  constexpr uint64_t kJobs = 3000;
  FileJobQueue queue;
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> takers;
  for (int i = 0; i < 2; ++i) {
    takers.emplace_back([&queue, &sum] {
      while (true) {
        const std::vector<FileJob> jobs = queue.WaitAndTake(16);
        if (jobs.empty()) return;  // closed
        for (const FileJob& job : jobs) sum += job.flow_id;
      }
    });
  }
  std::thread putter([&queue] {
    for (uint64_t id = 1; id <= kJobs; id += 2) queue.Put({.flow_id = id});
  });
  for (uint64_t id = 2; id <= kJobs; id += 2) queue.Put({.flow_id = id});
  putter.join();
  queue.Close();
  for (std::thread& taker : takers) taker.join();
  CHECK(sum == kJobs * (kJobs + 1) / 2);
  CHECK(queue.size() == 0);
}

}  // namespace
}  // namespace packet_headers::testing
