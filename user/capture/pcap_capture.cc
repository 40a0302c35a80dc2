#include "user/capture/pcap_capture.h"

#include <net/if_arp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "user/base/clock.h"
#include "user/capture/frame_record.h"
#include "user/capture/pcap_tap.h"

namespace packet_headers {
namespace {

constexpr size_t kMostOwners = 65'536;

// CLOCK_REALTIME and CLOCK_MONOTONIC are slewed alike, so their difference changes only when the
// wall clock is stepped. What is less than this is the error of a reading.
constexpr int64_t kSmallestStepNs = 100'000;
constexpr int64_t kOffsetIntervalNs = 10'000'000;

constexpr int64_t kSmallestBufferBytes = 2 << 20;

// A round looks at every tap, so with many of them there are fewer rounds.
constexpr absl::Duration kPausePerTap = absl::Microseconds(10);

// Frames that one tap may give in a round, so that those without a record can't go on for ever.
constexpr size_t kMostFrames = 65'536;

constexpr int64_t kDroppedIntervalNs = 1'000'000'000;

// However the clocks were stepped, a packet has not waited longer.
constexpr int64_t kLongestWaitNs = 10'000'000'000;

}  // namespace

// What is read of one handle. The handle is stopped from the main thread, everything else is the
// shard's thread's.
struct PcapCapture::Tap {
  bool has_record() const { return next < records.size(); }

  std::unique_ptr<PcapTap> pcap;
  uint32_t ifindex;
  std::vector<ph_direction> directions;  // on loopback a frame goes out and comes in
  std::atomic<bool> is_stopped{false};

  std::vector<FrameRecord> records;  // of the frame read last, one for each direction
  size_t next = 0;                   // the first of them that was not used
  int64_t time_ns = 0;               // their time
  bool is_ending = false;            // it was stopped before this round
  size_t frames = 0;                 // that it gave in this round
};

class PcapCapture::Link : public HookLink {
 public:
  Link(Tap* tap, int64_t& open_taps) : tap_(tap), open_taps_(open_taps) { ++open_taps_; }
  ~Link() override {
    --open_taps_;
    tap_->pcap->Stop();
    // From here on the tap is the shard's thread's alone.
    tap_->is_stopped.store(true, std::memory_order_release);
  }

 private:
  Tap* const tap_;
  int64_t& open_taps_;
};

absl::StatusOr<std::unique_ptr<PcapCapture>> PcapCapture::Open(
    const ph_hash_seed& seed, int64_t buffer_bytes, std::unique_ptr<SocketOwners> owners) {
  const UniqueFd probe(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!probe.valid() && errno == EPERM) {
    return absl::PermissionDeniedError(absl::StrCat("capture with libpcap: ", kNeedsNetRaw));
  }
  UniqueFd arrived(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!arrived.valid()) return absl::ErrnoToStatus(errno, "make an eventfd");
  return std::unique_ptr<PcapCapture>(
      new PcapCapture(seed, buffer_bytes, std::move(owners), std::move(arrived)));
}

PcapCapture::PcapCapture(const ph_hash_seed& seed, int64_t buffer_bytes,
                         std::unique_ptr<SocketOwners> owners, UniqueFd arrived)
    : seed_(seed),
      buffer_bytes_(buffer_bytes),
      owners_(std::move(owners)),
      arrived_(std::move(arrived)),
      cache_(kMostOwners, seed,
             [this](const ph_flow_key& key, uint32_t ifindex) {
               return owners_->CookieOf(key, ifindex);
             }),
      polled_{{arrived_.get(), POLLIN, 0}} {}

PcapCapture::~PcapCapture() = default;

absl::StatusOr<Attachment> PcapCapture::Attach(const NetworkInterface& interface) {
  Attachment attachment = {Hook::kPcap, Hook::kPcap, nullptr, nullptr};
  const bool is_loopback = interface.hardware_type == ARPHRD_LOOPBACK;
  absl::StatusOr<std::unique_ptr<HookLink>> ingress = AttachTap(
      interface, is_loopback ? std::vector{PH_EGRESS, PH_INGRESS} : std::vector{PH_INGRESS});
  if (!ingress.ok()) return ingress.status();
  attachment.ingress = *std::move(ingress);
  if (is_loopback) return attachment;
  absl::StatusOr<std::unique_ptr<HookLink>> egress = AttachTap(interface, {PH_EGRESS});
  if (!egress.ok()) return egress.status();
  attachment.egress = *std::move(egress);
  return attachment;
}

absl::StatusOr<std::unique_ptr<HookLink>> PcapCapture::AttachTap(
    const NetworkInterface& interface, std::vector<ph_direction> directions) {
  absl::StatusOr<std::unique_ptr<PcapTap>> pcap = PcapTap::Open(
      interface, directions.back(),
      std::min(buffer_bytes_, std::max(buffer_bytes_ / (open_taps_ + 1), kSmallestBufferBytes)));
  if (!pcap.ok()) return pcap.status();
  auto tap = std::make_unique<Tap>();
  tap->pcap = *std::move(pcap);
  tap->ifindex = interface.ifindex;
  tap->records = std::vector<FrameRecord>(directions.size(), FrameRecord(seed_));
  tap->next = tap->records.size();
  tap->directions = std::move(directions);
  auto link = std::make_unique<Link>(tap.get(), open_taps_);
  const std::scoped_lock lock(mutex_);
  arrivals_.push_back(std::move(tap));
  eventfd_write(arrived_.get(), 1);
  return link;
}

void PcapCapture::Sweep(int64_t, int64_t) {
  // Closing waits for the kernel, which the shard's thread had better not.
  std::vector<std::unique_ptr<Tap>> closing;
  const std::scoped_lock lock(mutex_);
  closing.swap(retired_);
}

void PcapCapture::TakeArrivals() {
  std::vector<std::unique_ptr<Tap>> arrivals;
  {
    const std::scoped_lock lock(mutex_);
    if (arrivals_.empty()) return;
    arrivals.swap(arrivals_);
    eventfd_t count;
    eventfd_read(arrived_.get(), &count);
  }
  for (std::unique_ptr<Tap>& tap : arrivals) {
    polled_.push_back({tap->pcap->fd(), POLLIN, 0});
    taps_.push_back(std::move(tap));
  }
}

void PcapCapture::FollowWallClock(int64_t now_ns) {
  if (now_ns < next_offset_ns_) return;
  next_offset_ns_ = now_ns + kOffsetIntervalNs;
  const int64_t offset_ns = WallOffset();
  if (std::abs(offset_ns - wall_offset_ns_) >= kSmallestStepNs) wall_offset_ns_ = offset_ns;
}

void PcapCapture::Wait(absl::Duration most) {
  if (more_) return;
  const int most_ms = static_cast<int>(absl::ToInt64Milliseconds(most));
  const bool is_woken = poll(polled_.data(), polled_.size(), most_ms) > 0;
  if (is_woken) absl::SleepFor(kPausePerTap * taps_.size());
}

void PcapCapture::ReadDepartures() {
  if (owners_ == nullptr) return;
  owners_->ReadDepartures([this](const ph_flow_key& key, uint64_t cookie) {
    const int64_t now_ns = MonotonicNow();  // after the last of its packets
    if (cache_.OnDeparture(key, cookie, now_ns)) {
      late_owners_.push_back({key, ph_flow_hash(&key, &seed_), cookie, now_ns});
    }
  });
}

// The packets of all taps in the order of their times. What came before the round began is in the
// kernel's buffers, so a round ends there: of what comes later a tap may have less than another.
size_t PcapCapture::Drain(size_t most, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) {
  TakeArrivals();
  const int64_t now_ns = MonotonicNow();
  FollowWallClock(now_ns);
  ReadDepartures();

  const auto is_later = [](const Tap* a, const Tap* b) { return a->time_ns > b->time_ns; };
  const auto enter = [&](Tap& tap) {
    if (!tap.has_record()) ReadOn(tap, now_ns);
    // Of a tap that was stopped nothing comes later.
    if (!tap.has_record() || (tap.time_ns > now_ns && !tap.is_ending)) return;
    waiting_.push_back(&tap);
    std::push_heap(waiting_.begin(), waiting_.end(), is_later);
  };
  // All of them: while the kernel writes a packet, poll() is silent on those before it.
  for (const auto& owned : taps_) {
    Tap& tap = *owned;
    tap.is_ending = tap.is_stopped.load(std::memory_order_acquire);
    tap.frames = 0;
    // What an earlier round left was there before this one, whatever the clocks say.
    tap.time_ns = std::min(tap.time_ns, now_ns);
    enter(tap);
  }
  size_t used = 0;
  for (; used < most && !waiting_.empty(); ++used) {
    std::pop_heap(waiting_.begin(), waiting_.end(), is_later);
    Tap& tap = *waiting_.back();
    waiting_.pop_back();
    Use(tap, use);
    enter(tap);
  }
  waiting_.clear();

  if (now_ns >= next_dropped_ns_) {
    next_dropped_ns_ = now_ns + kDroppedIntervalNs;
    for (const auto& tap : taps_) CountDropped(*tap);
  }
  Retire();
  more_ =
      std::any_of(taps_.begin(), taps_.end(), [](const auto& tap) { return tap->has_record(); });
  drained_bytes_.store(std::exchange(round_bytes_, 0), std::memory_order_relaxed);
  return used;
}

void PcapCapture::ReadOn(Tap& tap, int64_t now_ns) {
  const auto read = [&](const Frame& frame, int64_t wall_ns) {
    round_bytes_ += frame.captured_bytes;
    tap.time_ns = std::max(wall_ns - wall_offset_ns_, now_ns - kLongestWaitNs);
    if (tap.is_ending) tap.time_ns = std::min(tap.time_ns, now_ns);
    for (size_t i = 0; i < tap.records.size(); ++i) {
      const ph_counter counter = tap.records[i].Read(frame, tap.directions[i]);
      books_.Count(tap.ifindex, tap.directions[i], PH_SEEN);
      books_.Count(tap.ifindex, tap.directions[i], counter);
      if (counter == PH_CAPTURED) tap.next = 0;
    }
  };
  while (!tap.has_record() && (tap.frames < kMostFrames || tap.is_ending) && tap.pcap->Read(read)) {
    ++tap.frames;
  }
}

void PcapCapture::Use(Tap& tap, absl::FunctionRef<void(absl::Span<const RecordBytes>)> use) {
  FrameRecord& made = tap.records[tap.next++];
  made.record().time_ns = static_cast<uint64_t>(tap.time_ns);
  made.record().ifindex = tap.ifindex;
  if (owners_ != nullptr) made.record().socket_cookie = cache_.CookieFor(made.key(), made.record());
  const RecordBytes bytes = {made.data(), made.size()};
  use({&bytes, 1});
}

void PcapCapture::CountDropped(Tap& tap) {
  const uint64_t dropped = tap.pcap->TakeDropped();
  for (const ph_direction direction : tap.directions) {
    books_.Count(tap.ifindex, direction, PH_SEEN, dropped);
    books_.Count(tap.ifindex, direction, PH_RING_FULL, dropped);
  }
}

void PcapCapture::Retire() {
  for (size_t i = 0; i < taps_.size();) {
    if (!taps_[i]->is_ending || taps_[i]->has_record()) {
      ++i;
      continue;
    }
    CountDropped(*taps_[i]);
    const std::scoped_lock lock(mutex_);
    retired_.push_back(std::move(taps_[i]));
    taps_.erase(taps_.begin() + i);
    polled_.erase(polled_.begin() + i + 1);
  }
}

}  // namespace packet_headers
