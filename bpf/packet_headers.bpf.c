// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The hooks. Each looks at a packet, counts it once, and lets it pass unchanged.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "emit.bpf.h"
#include "maps.bpf.h"
#include "packet_headers/parse.h"
#include "socket.bpf.h"

/* Go on as if we were not here: TCX_NEXT, and TC_ACT_UNSPEC under clsact. */
#define PH_TCX_NEXT -1

/*
 * One increment for each counter, which the barrier keeps from becoming one with a computed
 * address: without CAP_PERFMON the verifier takes no map offset that varies by path.
 */
static __always_inline void ph_count(__u32 ifindex, enum ph_direction direction,
				     enum ph_counter counter)
{
	struct ph_interface_direction key __attribute__((aligned(8)));
	struct ph_kernel_counters *counters;
	struct ph_counter_row *row;
	__u32 row_of_key;

	PH_STORE(__u64, &key, 0);
	PH_STORE(__u32, &key.direction, direction);
	PH_STORE(__u32, &key.ifindex, ifindex);
	row_of_key = ph_counter_row_of(key);
	row = bpf_map_lookup_elem(&ph_counters, &row_of_key);
	if (row && row->ifindex == ifindex)
		counters = &row->counters;
	else
		counters = bpf_map_lookup_elem(&ph_counters_2nd, &key);
	if (!counters)
		return;
	counters->seen++;
	switch (counter) {
	case PH_CAPTURED:
		counters->captured++;
		barrier();
		break;
#define PH_COUNT(enumerator, name, meaning)                                                        \
	case enumerator:                                                                           \
		counters->name++;                                                                  \
		barrier();                                                                         \
		break;
		PH_KERNEL_REASONS(PH_COUNT)
#undef PH_COUNT
	default:
		break;
	}
}

/* ph_locate() as one word: the headers, or the counter if their length is 0. */
union ph_located {
	struct ph_headers headers;
	struct {
		__u16 counter;
		__u16 zero[3];
	};
	__u64 word;
};

static __always_inline __u64 ph_locate_indirect(struct ph_frame frame, __u32 link_layer)
{
	union ph_located located = {};
	enum ph_counter result = ph_locate(frame, link_layer, &located.headers);

	if (result != PH_CAPTURED) {
		located.word = 0;
		located.counter = result;
	}
	return located.word;
}

/*
 * Global, so that the verifier looks into each once and not again on every path that leads there.
 */

__noinline __u64 ph_locate_in_skb(struct __sk_buff *skb, __u32 link_layer)
{
	struct ph_frame frame = {.context = skb, .length = skb->len};

	return ph_locate_indirect(frame, link_layer);
}

__noinline __u64 ph_locate_in_xdp(struct xdp_md *xdp)
{
	struct ph_frame frame = {
		.context = xdp,
		.length = bpf_xdp_get_buff_len(xdp),
		.is_xdp = 1,
	};

	return ph_locate_indirect(frame, PH_LINK_ETHERNET);
}

/* Most frames are decided by reading them directly. */
static __always_inline enum ph_counter ph_parse(struct ph_frame frame,
						enum ph_link_layer link_layer,
						enum ph_direction direction,
						struct ph_headers *headers, struct ph_flow_key *key)
{
	union ph_located located;
	enum ph_counter result;

	frame.is_direct = 1;
	result = ph_locate(frame, link_layer, headers);
	if (result == PH_CAPTURED)
		return ph_read_key(frame, headers, direction, key) ? PH_CAPTURED : PH_TRUNCATED;
	if (result != PH_UNDECIDED)
		return result;

	frame.is_direct = 0;
	located.word = frame.is_xdp ? ph_locate_in_xdp(frame.context)
				    : ph_locate_in_skb(frame.context, link_layer);
	if (!located.headers.length)
		return located.counter;
	*headers = located.headers;
	return ph_read_key(frame, headers, direction, key) ? PH_CAPTURED : PH_TRUNCATED;
}

static __always_inline int ph_observe_skb(struct __sk_buff *skb, enum ph_direction direction,
					  enum ph_link_layer link_layer)
{
	struct ph_frame frame = {
		.context = skb,
		.data = (const void *)(long)skb->data,
		.data_end = (const void *)(long)skb->data_end,
		.length = skb->len,
	};
	struct ph_flow_key key = {};
	struct ph_headers headers = {};
	struct ph_packet packet = {
		.direction = direction,
		.link_layer = link_layer,
	};
	enum ph_counter counter;

	counter = ph_parse(frame, link_layer, direction, &headers, &key);
	if (counter == PH_CAPTURED && ph_is_settled(&key, headers.tcp_flags))
		counter = PH_SETTLED;
	if (counter == PH_CAPTURED) {
		packet.ifindex = skb->ifindex;
		packet.wire_len = frame.length;
		packet.gso_size = skb->gso_size;
		packet.gso_segs = skb->gso_segs;
		if (skb->vlan_present) {
			packet.vlan_tci = skb->vlan_tci;
			packet.vlan_proto_be = skb->vlan_proto;
		}
		if (direction == PH_EGRESS)
			packet.socket_cookie = ph_owner_cookie(skb, &key, headers.is_ipv6);
		counter = ph_emit(frame, &headers, &key, &packet);
	}
	ph_count(skb->ifindex, direction, counter);
	return PH_TCX_NEXT;
}

SEC("tc")
int ph_tc_in_eth(struct __sk_buff *skb)
{
	return ph_observe_skb(skb, PH_INGRESS, PH_LINK_ETHERNET);
}

SEC("tc")
int ph_tc_out_eth(struct __sk_buff *skb)
{
	return ph_observe_skb(skb, PH_EGRESS, PH_LINK_ETHERNET);
}

SEC("tc")
int ph_tc_in_ip(struct __sk_buff *skb)
{
	return ph_observe_skb(skb, PH_INGRESS, PH_LINK_IP);
}

SEC("tc")
int ph_tc_out_ip(struct __sk_buff *skb)
{
	return ph_observe_skb(skb, PH_EGRESS, PH_LINK_IP);
}

/* Needs Linux 5.18, for frames in several buffers and for their length. */
SEC("xdp.frags")
int ph_xdp_in_eth(struct xdp_md *xdp)
{
	__u32 ifindex = xdp->ingress_ifindex;
	struct ph_frame frame = {
		.context = xdp,
		.data = (const void *)(long)xdp->data,
		.data_end = (const void *)(long)xdp->data_end,
		.length = bpf_xdp_get_buff_len(xdp),
		.is_xdp = 1,
	};
	struct ph_flow_key key = {};
	struct ph_headers headers = {};
	struct ph_packet packet = {
		.ifindex = ifindex,
		.direction = PH_INGRESS,
		.link_layer = PH_LINK_ETHERNET,
	};
	enum ph_counter counter;

	counter = ph_parse(frame, PH_LINK_ETHERNET, PH_INGRESS, &headers, &key);
	if (counter == PH_CAPTURED && ph_is_settled(&key, headers.tcp_flags))
		counter = PH_SETTLED;
	if (counter == PH_CAPTURED) {
		packet.wire_len = frame.length;
		counter = ph_emit(frame, &headers, &key, &packet);
	}
	ph_count(ifindex, PH_INGRESS, counter);
	return XDP_PASS;
}

/*
 * Run by user space before it attaches: touches the next page of the ring of shard cb[0]. On some
 * virtual machines the first touch costs up to 0.1 ms, by which it would delay a packet.
 */
SEC("tc")
int ph_touch_ring(struct __sk_buff *skb)
{
	__u32 shard = skb->cb[0];
	void *ring = bpf_map_lookup_elem(&ph_rings, &shard);
	void *page;

	if (!ring)
		return PH_TCX_NEXT;
	page = bpf_ringbuf_reserve(ring, PH_TOUCH_BYTES - sizeof(__u64), 0);
	if (page)
		bpf_ringbuf_discard(page, BPF_RB_NO_WAKEUP);
	return PH_TCX_NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
