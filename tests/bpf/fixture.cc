#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
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

int Append(void* records, void* data, size_t bytes) {
  static_cast<std::vector<Record>*>(records)->emplace_back(data, bytes);
  return 0;
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
  for (const int fd : ring_fds) {
    readers_.emplace_back(ring_buffer__new(fd, Append, &records_, nullptr));
    REQUIRE(readers_.back() != nullptr);
    close(fd);  // the array of rings and the reader's mapping hold the ring
  }
  CountInterface(kLoopback);
}

void Kernel::Free::operator()(packet_headers_bpf* skeleton) const {
  packet_headers_bpf::destroy(skeleton);
}

void Kernel::Free::operator()(ring_buffer* reader) const { ring_buffer__free(reader); }

void Kernel::CountInterface(uint32_t ifindex) {
  const std::vector<ph_kernel_counters> zeros(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (const uint32_t direction : {PH_INGRESS, PH_EGRESS}) {
    const ph_interface_direction key = {ifindex, direction};
    REQUIRE(bpf_map__update_elem(skeleton_->maps.ph_counters, &key, sizeof(key), zeros.data(),
                                 zeros.size() * sizeof(zeros[0]), BPF_ANY) == 0);
  }
}

Outcome Kernel::Run(const Hook& hook, const Bytes& frame, const __sk_buff* context) {
  static Bytes* const room = new Bytes(kFrameRoom);
  __sk_buff context_in = context != nullptr ? *context : __sk_buff{};
  LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_out = room->data(),
              .data_size_in = static_cast<uint32_t>(frame.size()), .data_size_out = kFrameRoom,
              .ctx_in = context != nullptr ? &context_in : nullptr,
              .ctx_size_in = context != nullptr ? static_cast<uint32_t>(sizeof(context_in)) : 0);
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

Counters Kernel::TakeCounters(const Hook& hook, uint32_t ifindex) {
  std::vector<Counters> of_cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
  const size_t bytes = of_cpus.size() * sizeof(of_cpus[0]);
  const ph_interface_direction key = {ifindex, hook.direction};
  const bpf_map* const map = skeleton_->maps.ph_counters;
  if (bpf_map__lookup_elem(map, &key, sizeof(key), of_cpus.data(), bytes, 0) != 0) {
    FAIL("no counters of interface " << ifindex);
  }
  Counters sum = {};
  for (Counters& of_cpu : of_cpus) {
    for (size_t i = 0; i < sum.size(); i++) sum[i] += of_cpu[i];
    of_cpu.fill(0);
  }
  if (bpf_map__update_elem(map, &key, sizeof(key), of_cpus.data(), bytes, BPF_ANY) != 0) {
    FAIL("counters of interface " << ifindex << ": " << std::strerror(errno));
  }
  return sum;
}

std::vector<Record> Kernel::Drain(uint32_t shard) {
  REQUIRE(ring_buffer__consume(readers_.at(shard).get()) >= 0);
  return std::exchange(records_, {});
}

std::vector<Record> Kernel::Drain() {
  for (const auto& reader : readers_) {
    if (ring_buffer__consume(reader.get()) < 0) FAIL("a ring can't be read");
  }
  return std::exchange(records_, {});
}

bool Kernel::IsReaderWoken(int timeout_ms) {
  for (const auto& reader : readers_) {
    epoll_event event;
    if (epoll_wait(ring_buffer__epoll_fd(reader.get()), &event, 1, timeout_ms) == 1) return true;
  }
  return false;
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
