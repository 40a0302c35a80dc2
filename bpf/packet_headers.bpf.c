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

#define PH_TCX_NEXT -1 /* TCX_NEXT, and TC_ACT_UNSPEC under clsact: go on as if we were not here */

/*
 * One increment for each counter, which the barrier keeps from becoming one with a computed
 * address: without CAP_PERFMON the verifier takes no map offset that varies by path.
 */
static __always_inline void ph_count(__u32 ifindex, enum ph_direction direction,
				     enum ph_counter counter)
{
	struct ph_interface_direction key = {ifindex, direction};
	struct ph_kernel_counters *counters = bpf_map_lookup_elem(&ph_counters, &key);

	if (!counters)
		return;
	counters->seen++;
	switch (counter) {
	case PH_CAPTURED:
		counters->captured++;
		barrier();
		break;
#define PH_COUNT(enumerator, name, meaning)                                                       \
	case enumerator:                                                                          \
		counters->name++;                                                                 \
		barrier();                                                                        \
		break;
		PH_KERNEL_REASONS(PH_COUNT)
#undef PH_COUNT
	default:
		break;
	}
}

static __always_inline int ph_observe_skb(struct __sk_buff *skb, enum ph_direction direction,
					  enum ph_link_layer link_layer)
{
	struct ph_frame frame = {.context = skb, .is_xdp = 0};
	struct ph_headers headers;
	struct ph_packet packet = {
		.direction = direction,
		.link_layer = link_layer,
	};
	enum ph_counter counter;

	counter = ph_parse(frame, link_layer, direction, &headers);
	if (counter == PH_CAPTURED && ph_is_settled(&headers))
		counter = PH_SETTLED;
	if (counter == PH_CAPTURED) {
		packet.ifindex = skb->ifindex;
		packet.wire_len = skb->len;
		packet.gso_size = skb->gso_size;
		packet.gso_segs = skb->gso_segs;
		if (skb->vlan_present) {
			packet.vlan_tci = skb->vlan_tci;
			packet.vlan_proto_be = skb->vlan_proto;
		}
		if (direction == PH_EGRESS)
			packet.socket_cookie = ph_owner_cookie(skb, &headers);
		counter = ph_emit(frame, &headers, &packet);
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
	struct ph_frame frame = {.context = xdp, .is_xdp = 1};
	struct ph_headers headers;
	struct ph_packet packet = {
		.ifindex = ifindex,
		.direction = PH_INGRESS,
		.link_layer = PH_LINK_ETHERNET,
	};
	enum ph_counter counter;

	counter = ph_parse(frame, PH_LINK_ETHERNET, PH_INGRESS, &headers);
	if (counter == PH_CAPTURED && ph_is_settled(&headers))
		counter = PH_SETTLED;
	if (counter == PH_CAPTURED) {
		packet.wire_len = bpf_xdp_get_buff_len(xdp);
		counter = ph_emit(frame, &headers, &packet);
	}
	ph_count(ifindex, PH_INGRESS, counter);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
