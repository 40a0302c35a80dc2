// kernel_bench [ROUNDS [PACKETS]]: what a packet costs the kernel, by BPF_PROG_TEST_RUN. Each hook,
// and bare programs beside it, gets so many packets in each round; the JSON has the nanoseconds a
// packet of every round. Fails if one packet went another way than it should. Needs root.

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "packet_headers/counters.h"
#include "packet_headers/header_record.h"
#include "packet_headers/kernel_config.h"
#include "packet_headers/settled_flow.h"
#include "tests/support/packet.h"
#include "user/base/named_thread.h"
#include "user/capture/bpf_ring.h"
#include "user/capture/kernel_counters.h"

// Behind the contract, whose types they use.
#include "bare.skel.h"
#include "packet_headers.skel.h"

namespace packet_headers {
namespace {

using testing::Bytes;
using testing::Packet;

constexpr uint32_t kRingBytes = 32 << 20;  // as -capture.ringsize makes it by default
constexpr uint32_t kLoopback = 1;          // the interface of a test run that names none
constexpr size_t kPayloadBytes = 1448;

// As the shard waits.
constexpr absl::Duration kReaderWait = absl::Milliseconds(3);

[[noreturn, gnu::format(printf, 1, 2)]] void Fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("kernel_bench: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  std::exit(1);
}

// Reads the ring from a thread of its own, as a shard does.
class Reader {
 public:
  explicit Reader(BpfRing& ring) : ring_(ring), thread_(StartThread("reader", [this] { Run(); })) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    stop_ = true;
    thread_.join();
  }

  // Waits until the ring is empty; the records since the last call.
  uint64_t Take() {
    while (ring_.used_bytes() > 0) absl::SleepFor(absl::Milliseconds(1));
    const uint64_t records = records_;
    return records - std::exchange(taken_, records);
  }

 private:
  void Run() {
    while (!stop_) {
      ring_.Wait(kReaderWait);
      ring_.Drain(SIZE_MAX, [this](absl::Span<const RecordBytes> records) {
        // Each cache line comes to this processor, as it would for a shard.
        for (const auto& [data, size] : records) {
          for (size_t at = 0; at < size; at += 64) {
            static_cast<void>(*(static_cast<const volatile char*>(data) + at));
          }
        }
        records_ += records.size();
      });
    }
  }

  BpfRing& ring_;
  std::atomic<uint64_t> records_{0};
  uint64_t taken_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Hook {
  const char* program;
  ph_direction direction;
  bool is_ethernet;
};

constexpr Hook kHooks[] = {
    {"ph_tc_in_eth", PH_INGRESS, true},  {"ph_tc_out_eth", PH_EGRESS, true},
    {"ph_tc_in_ip", PH_INGRESS, false},  {"ph_tc_out_ip", PH_EGRESS, false},
    {"ph_xdp_in_eth", PH_INGRESS, true},
};

Packet Begin(bool is_ethernet, bool is_ipv6) {
  Packet packet;
  if (is_ethernet) packet.Ethernet();
  return is_ipv6 ? packet.Ipv6("2001:db8::1", "2001:db8:ffff::2")
                 : packet.Ipv4("192.0.2.1", "198.51.100.2");
}

// The socket of a test run has the packet's addresses and ports of 0: behind Ethernet that packet
// has a cookie at egress. The flow with port 1 is settled.
Packet Segment(bool is_ethernet, bool is_ipv6, bool is_settled) {
  return Begin(is_ethernet, is_ipv6).Tcp(is_settled ? 1 : 0, 0).Timestamps().Payload(kPayloadBytes);
}

// One program and what it is given.
struct Subject {
  std::string program;
  std::string packet;
  int fd;
  Bytes frame;
  bool any_settled = false;
  bool makes_record = false;
  ph_direction direction = PH_INGRESS;
  int counter = -1;  // where the packets go; a bare program counts none
  std::vector<double> ns = {};
};

class Kernel {
 public:
  Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  ~Kernel() {
    bare_bpf::destroy(bare_);
    packet_headers_bpf::destroy(hooks_);
  }

  std::vector<Subject> Subjects() const;

  // Runs each packet through the subject's program, on this many CPUs at once. Nanoseconds a
  // packet.
  double Run(const Subject& subject, uint32_t packets, int cpus = 1);

 private:
  int Program(const bpf_object* object, const std::string& name) const {
    return bpf_program__fd(bpf_object__find_program_by_name(object, name.c_str()));
  }
  uint64_t Counted(const Subject& subject) const {
    return counters_->Read(kLoopback)[subject.direction][subject.counter];
  }

  packet_headers_bpf* hooks_;
  bare_bpf* bare_;
  std::unique_ptr<KernelCounters> counters_;
  std::unique_ptr<BpfRing> ring_;
  std::unique_ptr<Reader> reader_;
};

Kernel::Kernel() : hooks_(packet_headers_bpf::open()), bare_(bare_bpf::open()) {
  if (hooks_ == nullptr || bare_ == nullptr) Fail("open: %s", std::strerror(errno));
  ph_kernel_config& config = const_cast<ph_kernel_config&>(hooks_->rodata->config);
  config.hash_seed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
  config.shards = 1;
  config.wakeup_bytes = kRingBytes / 2;
  config.shed_bytes = kRingBytes / 4 * 3;
  bpf_map__set_max_entries(hooks_->maps.ph_rings, config.shards);
  if (const int error = packet_headers_bpf::load(hooks_); error != 0) {
    Fail("load the hooks: %s", std::strerror(-error));
  }
  const uint32_t shard = 0;
  const int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, kRingBytes, nullptr);
  if (ring < 0 ||
      bpf_map_update_elem(bpf_map__fd(hooks_->maps.ph_rings), &shard, &ring, BPF_ANY) != 0) {
    Fail("make a ring: %s", std::strerror(errno));
  }

  const_cast<ph_flow_key&>(bare_->rodata->bare_key) =
      Segment(true, false, /*is_settled=*/true).key(PH_INGRESS);
  bpf_map__reuse_fd(bare_->maps.bare_ring, ring);
  bpf_map__reuse_fd(bare_->maps.bare_settled, bpf_map__fd(hooks_->maps.ph_settled));
  if (const int error = bare_bpf::load(bare_); error != 0) {
    Fail("load the bare programs: %s", std::strerror(-error));
  }

  counters_ = std::make_unique<KernelCounters>(bpf_map__fd(hooks_->maps.ph_counters),
                                               bpf_map__fd(hooks_->maps.ph_counters_2nd));
  if (!counters_->Begin(kLoopback).ok()) Fail("make room for counters");
  absl::StatusOr<std::unique_ptr<BpfRing>> reader = BpfRing::Open(UniqueFd(ring));
  if (!reader.ok()) Fail("%s", reader.status().ToString().c_str());
  ring_ = *std::move(reader);
  reader_ = std::make_unique<Reader>(*ring_);

  for (const bool is_ipv6 : {false, true}) {
    const Packet packet = Segment(true, is_ipv6, /*is_settled=*/true);
    for (const ph_direction direction : {PH_INGRESS, PH_EGRESS}) {
      const ph_flow_key key = packet.key(direction);
      const ph_settled_flow flow = {};
      if (bpf_map_update_elem(bpf_map__fd(hooks_->maps.ph_settled), &key, &flow, BPF_ANY) != 0) {
        Fail("settle a flow: %s", std::strerror(errno));
      }
    }
  }
}

std::vector<Subject> Kernel::Subjects() const {
  std::vector<Subject> subjects;
  const Bytes frame = Segment(true, false, false).bytes();
  for (const std::string kind : {"tc", "xdp"}) {
    for (const std::string what : {"return", "ring_ipv4", "ring_ipv6", "look_up"}) {
      const std::string program = "bare_" + kind + "_" + what;
      subjects.push_back({.program = program,
                          .packet = "any",
                          .fd = Program(bare_->obj, program),
                          .frame = frame,
                          .makes_record = what.rfind("ring", 0) == 0});
    }
  }
  for (const Hook& hook : kHooks) {
    for (const bool is_ipv6 : {false, true}) {
      const std::string family = is_ipv6 ? "ipv6" : "ipv4";
      Subject subject = {.program = hook.program,
                         .packet = "captured_" + family,
                         .fd = Program(hooks_->obj, hook.program),
                         .frame = Segment(hook.is_ethernet, is_ipv6, false).bytes(),
                         .makes_record = true,
                         .direction = hook.direction,
                         .counter = PH_CAPTURED};
      subjects.push_back(subject);
      subject.packet = "captured_beside_settled_" + family;
      subject.any_settled = true;
      subjects.push_back(subject);
      subject.packet = "settled_" + family;
      subject.frame = Segment(hook.is_ethernet, is_ipv6, true).bytes();
      subject.makes_record = false;
      subject.counter = PH_SETTLED;
      subjects.push_back(subject);
      subject.packet = "not_tcp_" + family;
      subject.frame = Begin(hook.is_ethernet, is_ipv6).Udp(1, 2).Payload(kPayloadBytes).bytes();
      subject.counter = PH_NOT_TCP;
      subjects.push_back(subject);
    }
  }
  return subjects;
}

double Kernel::Run(const Subject& subject, uint32_t packets, int cpus) {
  hooks_->bss->any_settled = subject.any_settled;
  const uint64_t counted_before = subject.counter < 0 ? 0 : Counted(subject);
  std::atomic<uint64_t> ns{0};
  std::barrier start(cpus);
  std::vector<std::thread> threads;
  for (int cpu = 0; cpu < cpus; ++cpu) {
    threads.emplace_back([&, cpu] {
      cpu_set_t only;
      CPU_ZERO(&only);
      CPU_SET(cpu, &only);
      pthread_setaffinity_np(pthread_self(), sizeof(only), &only);
      LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = subject.frame.data(),
                  .data_size_in = static_cast<uint32_t>(subject.frame.size()),
                  .repeat = static_cast<int>(packets));
      start.arrive_and_wait();
      if (const int error = bpf_prog_test_run_opts(subject.fd, &opts); error != 0) {
        Fail("%s: test run: %s", subject.program.c_str(), std::strerror(-error));
      }
      ns += opts.duration;
    });
  }
  for (std::thread& thread : threads) thread.join();

  const uint64_t all = uint64_t{packets} * cpus;
  const uint64_t records = reader_->Take();
  if (records != (subject.makes_record ? all : 0)) {
    Fail("%s, %s: %zu records of %zu packets", subject.program.c_str(), subject.packet.c_str(),
         static_cast<size_t>(records), static_cast<size_t>(all));
  }
  if (subject.counter >= 0 && Counted(subject) - counted_before != all) {
    Fail("%s, %s: not all are counted so", subject.program.c_str(), subject.packet.c_str());
  }
  return static_cast<double>(ns) / cpus;
}

nlohmann::json Measure(int rounds, uint32_t packets) {
  Kernel kernel;
  std::vector<Subject> subjects = kernel.Subjects();
  for (int round = -1; round < rounds; ++round) {
    for (Subject& subject : subjects) {
      const double ns = kernel.Run(subject, packets);
      if (round >= 0) subject.ns.push_back(ns);  // the first warms up
    }
    // So that nobody always comes behind the same.
    std::reverse(subjects.begin(), subjects.end());
  }
  nlohmann::json result = {{"packets", packets}, {"alone", nlohmann::json::array()}};
  for (const Subject& subject : subjects) {
    result["alone"].push_back(
        {{"program", subject.program}, {"packet", subject.packet}, {"ns", subject.ns}});
  }

  const int most_cpus = static_cast<int>(std::thread::hardware_concurrency());
  std::erase_if(subjects, [](const Subject& subject) {
    return subject.program != "bare_tc_ring_ipv4" &&
           (subject.program != "ph_tc_in_eth" || subject.packet != "captured_ipv4");
  });
  std::vector<std::vector<std::vector<double>>> ns(subjects.size(),
                                                   std::vector<std::vector<double>>(most_cpus));
  for (int round = 0; round < rounds; ++round) {
    for (int cpus = 1; cpus <= most_cpus; ++cpus) {
      for (size_t i = 0; i < subjects.size(); ++i) {
        ns[i][cpus - 1].push_back(kernel.Run(subjects[i], packets, cpus));
      }
    }
  }
  result["together"] = nlohmann::json::array();
  for (size_t i = 0; i < subjects.size(); ++i) {
    for (int cpus = 1; cpus <= most_cpus; ++cpus) {
      result["together"].push_back(
          {{"program", subjects[i].program}, {"cpus", cpus}, {"ns", ns[i][cpus - 1]}});
    }
  }
  return result;
}

}  // namespace
}  // namespace packet_headers

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 25;
  const int packets = argc > 2 ? std::atoi(argv[2]) : 100'000;
  if (argc > 3 || rounds < 1 || packets < 1) {
    std::fprintf(stderr, "usage: kernel_bench [ROUNDS [PACKETS]]\n");
    return 2;
  }
  std::puts(packet_headers::Measure(rounds, static_cast<uint32_t>(packets)).dump(2).c_str());
}
