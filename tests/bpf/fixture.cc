#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <random>
#include <utility>

#include "packet_headers.skel.h"
#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

constexpr size_t kFrameRoom = 1 << 16;

uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

ph_kernel_config Config(const KernelOptions& options) {
  ph_kernel_config config = {};
  std::mt19937 random(1);
  for (uint32_t& word : config.hash_seed.words) word = static_cast<uint32_t>(random());
  config.shards = options.shards;
  config.wakeup_bytes = options.wakeup_bytes;
  config.shed_bytes = options.shed_bytes;
  return config;
}

}  // namespace

packet_headers_bpf* LoadPrograms(const ph_kernel_config& config, uint32_t ring_bytes,
                                 std::vector<int>& ring_fds) {
  packet_headers_bpf* const skeleton = packet_headers_bpf::open();
  if (skeleton == nullptr) return nullptr;
  skeleton->rodata->config = config;
  int error = bpf_map__set_max_entries(skeleton->maps.ph_rings, config.shards);
  if (error == 0) error = packet_headers_bpf::load(skeleton);
  for (uint32_t shard = 0; error == 0 && shard < config.shards; shard++) {
    const int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ph_ring", 0, 0, ring_bytes, nullptr);
    if (fd < 0) {
      error = -errno;
      break;
    }
    ring_fds.push_back(fd);
    error = bpf_map__update_elem(skeleton->maps.ph_rings, &shard, sizeof(shard), &fd, sizeof(fd),
                                 BPF_ANY);
  }
  if (error == 0) return skeleton;
  packet_headers_bpf::destroy(skeleton);
  errno = -error;
  return nullptr;
}

std::string Text(const Counters& counters) {
  static constexpr const char* kNames[] = {"seen", "captured",
#define NAME(enumerator, name, meaning) #name,
                                           PH_KERNEL_REASONS(NAME)
#undef NAME
  };
  std::string text;
  for (size_t i = 0; i < counters.size(); i++) {
    if (counters[i] == 0) continue;
    if (!text.empty()) text += ", ";
    text += std::string(kNames[i]) + " " + std::to_string(counters[i]);
  }
  return text;
}

Kernel::Kernel(const KernelOptions& options) : config_(Config(options)) {
  std::vector<int> ring_fds;
  skeleton_.reset(LoadPrograms(config_, options.ring_bytes, ring_fds));
  if (skeleton_ == nullptr) FAIL("the programs can't be loaded: " << std::strerror(errno));
  wakeups_.Reset(epoll_create1(EPOLL_CLOEXEC));
  for (const int fd : ring_fds) {
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLET;
    REQUIRE(epoll_ctl(wakeups_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    absl::StatusOr<std::unique_ptr<BpfRing>> ring = BpfRing::Open(UniqueFd(fd));
    REQUIRE(ring.ok());
    rings_.push_back(*std::move(ring));
  }
  counters_.emplace(bpf_map__fd(skeleton_->maps.ph_counters),
                    bpf_map__fd(skeleton_->maps.ph_counters_2nd));
  CountInterface(kLoopback);
}

void Kernel::Free::operator()(packet_headers_bpf* skeleton) const {
  packet_headers_bpf::destroy(skeleton);
}

void Kernel::CountInterface(uint32_t ifindex) { REQUIRE(counters_->Begin(ifindex).ok()); }

Outcome Kernel::Run(const Hook& hook, const Bytes& frame, const Metadata& metadata) {
  static Bytes* const room = new Bytes(kFrameRoom);
  const uint32_t frame_bytes = static_cast<uint32_t>(frame.size());
  __sk_buff skb = {};
  skb.ifindex = metadata.ifindex;
  skb.gso_size = metadata.gso_size;
  skb.gso_segs = metadata.gso_segs;
  xdp_md xdp = {};
  xdp.data_end = frame_bytes;
  xdp.ingress_ifindex = metadata.ifindex;
  LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_out = room->data(),
              .data_size_in = frame_bytes, .data_size_out = kFrameRoom);
  if (hook.is_xdp()) {
    opts.ctx_in = &xdp;
    opts.ctx_size_in = sizeof(xdp);
  } else {
    opts.ctx_in = &skb;
    opts.ctx_size_in = sizeof(skb);
  }
  const bpf_program* const program =
      bpf_object__find_program_by_name(skeleton_->obj, hook.name.c_str());
  Outcome outcome;
  outcome.not_before_ns = MonotonicNs();
  outcome.error = bpf_prog_test_run_opts(bpf_program__fd(program), &opts);
  outcome.not_after_ns = MonotonicNs();
  outcome.verdict = static_cast<int>(opts.retval);
  outcome.untouched =
      opts.data_size_out == frame.size() && std::equal(frame.begin(), frame.end(), room->begin());
  return outcome;
}

void Kernel::TouchRing(uint32_t shard) {
  rings_[shard]->Touch(bpf_program__fd(skeleton_->progs.ph_touch_ring), shard);
}

Counters Kernel::ReadCounters(const Hook& hook) const {
  const CountersByDirection all = counters_->Read(kLoopback);
  Counters counters;
  std::copy_n(all[hook.direction].begin(), counters.size(), counters.begin());
  return counters;
}

Counters Kernel::TakeCounters(const Hook& hook, uint32_t ifindex) {
  const CountersByDirection all = counters_->Read(ifindex);
  Counters counters;
  std::copy_n(all[hook.direction].begin(), counters.size(), counters.begin());
  counters_->Forget(ifindex);
  CountInterface(ifindex);
  return counters;
}

std::vector<Record> Kernel::Drain(uint32_t shard) {
  std::vector<Record> records;
  rings_.at(shard)->Drain(SIZE_MAX, [&records](absl::Span<const RecordBytes> some) {
    for (const RecordBytes& record : some) records.emplace_back(record.data, record.size);
  });
  return records;
}

std::vector<Record> Kernel::Drain() {
  std::vector<Record> records;
  for (uint32_t shard = 0; shard < rings_.size(); shard++) {
    for (Record& record : Drain(shard)) records.push_back(std::move(record));
  }
  return records;
}

bool Kernel::IsReaderWoken(int timeout_ms) {
  epoll_event event;
  return epoll_wait(wakeups_.get(), &event, 1, timeout_ms) == 1;
}

void Kernel::Settle(const ph_flow_key& key) {
  const ph_settled_flow flow = {};
  REQUIRE(bpf_map__update_elem(skeleton_->maps.ph_settled, &key, sizeof(key), &flow, sizeof(flow),
                               BPF_ANY) == 0);
  skeleton_->bss->any_settled = 1;
}

bool Kernel::FindSettled(const ph_flow_key& key, ph_settled_flow* flow) const {
  return bpf_map__lookup_elem(skeleton_->maps.ph_settled, &key, sizeof(key), flow, sizeof(*flow),
                              0) == 0;
}

}  // namespace packet_headers::testing
