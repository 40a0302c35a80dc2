/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps, and what user space decides before the programs are loaded.
 */
#ifndef PACKET_HEADERS_BPF_MAPS_BPF_H_
#define PACKET_HEADERS_BPF_MAPS_BPF_H_

#include "packet_headers/counters.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/kernel_config.h"
#include "packet_headers/settled_flow.h"

#include <bpf/bpf_helpers.h>

const volatile struct ph_kernel_config config;

/* Nonzero while ph_settled may hold a flow: without one its look-up is skipped. */
__u32 any_settled;

/* The size of each ring and the number of rings are set by user space. */
struct ph_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PH_MAX_SHARDS);
	__type(key, __u32);
	__array(values, struct ph_ring);
} ph_rings SEC(".maps");

/* User space takes a row, or makes an entry in the map below, before it attaches. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PH_COUNTER_ROWS);
	__type(key, __u32);
	__type(value, struct ph_counter_row);
} ph_counters SEC(".maps");

/* Of interfaces whose row is another's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, PH_MAX_MORE_COUNTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ph_interface_direction);
	__type(value, struct ph_kernel_counters);
} ph_counters_2nd SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PH_MAX_SETTLED_FLOWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ph_flow_key);
	__type(value, struct ph_settled_flow);
} ph_settled SEC(".maps");

#endif /* PACKET_HEADERS_BPF_MAPS_BPF_H_ */
