// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What the hooks are compared with: programs that return at once, and such that do one of the
 * things that a hook cannot do without, in the hooks' own maps.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "packet_headers/flow_key.h"
#include "packet_headers/header_record.h"
#include "packet_headers/settled_flow.h"

#define PH_TCX_NEXT -1

/* Each of the maps is a hook's, which user space puts in the place of this one. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} bare_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PH_MAX_SETTLED_FLOWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ph_flow_key);
	__type(value, struct ph_settled_flow);
} bare_settled SEC(".maps");

/* The flow that is looked up. */
const volatile struct ph_flow_key bare_key;

static __always_inline void bare_reserve(__u64 header_bytes)
{
	void *record =
		bpf_ringbuf_reserve(&bare_ring, sizeof(struct ph_header_record) + header_bytes, 0);

	if (record)
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

static __always_inline void bare_look_up(void)
{
	struct ph_settled_flow *flow;

	flow = bpf_map_lookup_elem(&bare_settled, (const void *)&bare_key);
	barrier_var(flow);
}

#define BARE_PROGRAMS(section, kind, context, verdict)                                             \
	SEC(section)                                                                               \
	int bare_##kind##_return(context __attribute__((unused)))                                  \
	{                                                                                          \
		return verdict;                                                                    \
	}                                                                                          \
                                                                                                   \
	SEC(section)                                                                               \
	int bare_##kind##_ring_ipv4(context __attribute__((unused)))                               \
	{                                                                                          \
		bare_reserve(PH_HEADER_CLASS_0);                                                   \
		return verdict;                                                                    \
	}                                                                                          \
                                                                                                   \
	SEC(section)                                                                               \
	int bare_##kind##_ring_ipv6(context __attribute__((unused)))                               \
	{                                                                                          \
		bare_reserve(PH_HEADER_CLASS_1);                                                   \
		return verdict;                                                                    \
	}                                                                                          \
                                                                                                   \
	SEC(section)                                                                               \
	int bare_##kind##_look_up(context __attribute__((unused)))                                 \
	{                                                                                          \
		bare_look_up();                                                                    \
		return verdict;                                                                    \
	}

BARE_PROGRAMS("tc", tc, struct __sk_buff *skb, PH_TCX_NEXT)
BARE_PROGRAMS("xdp.frags", xdp, struct xdp_md *xdp, XDP_PASS)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
