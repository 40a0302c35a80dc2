#include "user/capture/kernel_counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"

namespace packet_headers {
namespace {

void Add(const ph_kernel_counters& from, CounterArray& to) {
  const auto* fields = reinterpret_cast<const __u64*>(&from);
  for (int counter = 0; counter < PH_KERNEL_COUNTERS; ++counter) to[counter] += fields[counter];
}

ph_interface_direction KeyOf(uint32_t ifindex, int direction) {
  return {ifindex, static_cast<__u32>(direction)};
}

}  // namespace

absl::Status KernelCounters::WriteRow(uint32_t row, uint32_t owner) {
  const std::vector<ph_counter_row> fresh(libbpf_num_possible_cpus(), {owner, 0, {}});
  if (bpf_map_update_elem(rows_map_, &row, fresh.data(), BPF_ANY) != 0) {
    return absl::ErrnoToStatus(errno, "write a row of counters");
  }
  owners_[row] = owner;
  return absl::OkStatus();
}

absl::Status KernelCounters::Begin(uint32_t ifindex) {
  for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
    const ph_interface_direction key = KeyOf(ifindex, direction);
    const uint32_t row = ph_counter_row_of(key);
    if (owners_[row] == ifindex) continue;
    if (owners_[row] == 0) {
      const absl::Status status = WriteRow(row, ifindex);
      if (!status.ok()) return status;
      continue;
    }
    const std::vector<ph_kernel_counters> zeros(libbpf_num_possible_cpus());
    if (bpf_map_update_elem(more_map_, &key, zeros.data(), BPF_NOEXIST) != 0 && errno != EEXIST) {
      return absl::ErrnoToStatus(errno, absl::StrCat("make counters of interface ", ifindex));
    }
  }
  return absl::OkStatus();
}

CountersByDirection KernelCounters::Read(uint32_t ifindex) const {
  CountersByDirection counters = {};
  for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
    const ph_interface_direction key = KeyOf(ifindex, direction);
    const uint32_t row = ph_counter_row_of(key);
    std::vector<ph_counter_row> rows(libbpf_num_possible_cpus());
    if (bpf_map_lookup_elem(rows_map_, &row, rows.data()) == 0 && rows[0].ifindex == ifindex) {
      for (const ph_counter_row& cpu : rows) Add(cpu.counters, counters[direction]);
      continue;
    }
    std::vector<ph_kernel_counters> more(libbpf_num_possible_cpus());
    if (bpf_map_lookup_elem(more_map_, &key, more.data()) != 0) continue;
    for (const ph_kernel_counters& cpu : more) Add(cpu, counters[direction]);
  }
  return counters;
}

void KernelCounters::Forget(uint32_t ifindex) {
  for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
    const ph_interface_direction key = KeyOf(ifindex, direction);
    const uint32_t row = ph_counter_row_of(key);
    if (owners_[row] == ifindex) {
      WriteRow(row, 0).IgnoreError();
    } else {
      bpf_map_delete_elem(more_map_, &key);
    }
  }
}

}  // namespace packet_headers
