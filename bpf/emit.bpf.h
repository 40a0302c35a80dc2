/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The one way of a parsed packet to user space. Each function returns the counter to which the
 * packet goes.
 */
#ifndef PACKET_HEADERS_BPF_EMIT_BPF_H_
#define PACKET_HEADERS_BPF_EMIT_BPF_H_

#include "maps.bpf.h"
#include "packet_headers/header_record.h"
#include "packet_headers/parse.h"
#include "socket.bpf.h"

/* What a hook knows of a packet beside its bytes; fields as in struct ph_header_record. */
struct ph_packet {
	__u64 socket_cookie;
	__u32 ifindex;
	__u32 wire_len;
	__u16 gso_size;
	__u16 gso_segs;
	__u16 vlan_tci;
	__be16 vlan_proto_be;
	__u8 direction;
	__u8 link_layer;
};

/*
 * Copies the headers straight from the linear part of the frame, and zeroes behind them. `length`
 * and `capacity` are constants. Returns 0 if the linear part is shorter.
 */
static __always_inline int ph_copy_direct(__u8 *to, struct ph_frame frame, const __u32 length,
					  const __u32 capacity)
{
	const void *from = frame.data;
	__u32 at = 0;

	if (from + length > frame.data_end)
		return 0;
#pragma unroll
	for (; at + 8 <= length; at += 8)
		*(__u64 *)(to + at) = *(const __u64 *)(from + at);
#pragma unroll
	for (; at + 2 <= length; at += 2)
		*(__u16 *)(to + at) = *(const __u16 *)(from + at);
#pragma unroll
	for (; at % 8; at += 2)
		*(__u16 *)(to + at) = 0;
#pragma unroll
	for (; at < capacity; at += 8)
		*(__u64 *)(to + at) = 0;
	return 1;
}

/* Bytes of IP and TCP headers with nothing between, and of the timestamp option. */
#define PH_IPV4_BYTES (sizeof(struct iphdr) + sizeof(struct ph_tcp))
#define PH_IPV6_BYTES (sizeof(struct ipv6hdr) + sizeof(struct ph_tcp))
#define PH_TIMESTAMP_BYTES 12

/* `stored_length` is the same in the record. `link_layer` and `capacity` are constants. */
static __always_inline int ph_copy_headers(__u8 *to, struct ph_frame frame, __u64 length,
					   const __u16 *stored_length,
					   const enum ph_link_layer link_layer,
					   const __u32 capacity)
{
	/* The lengths of nearly all packets are worth a copy of their own. */
#define PH_TRY_DIRECT(link, l2_bytes, l3_bytes)                                                    \
	if (link_layer == (link) && ph_class_of((l2_bytes) + (l3_bytes)) == capacity &&            \
	    length == (l2_bytes) + (l3_bytes) &&                                                   \
	    ph_copy_direct(to, frame, (l2_bytes) + (l3_bytes), capacity))                          \
		return 1;
#define PH_TRY_LINK(link, l2_bytes)                                                                \
	PH_TRY_DIRECT(link, l2_bytes, PH_IPV4_BYTES)                                               \
	PH_TRY_DIRECT(link, l2_bytes, PH_IPV4_BYTES + PH_TIMESTAMP_BYTES)                          \
	PH_TRY_DIRECT(link, l2_bytes, PH_IPV6_BYTES)                                               \
	PH_TRY_DIRECT(link, l2_bytes, PH_IPV6_BYTES + PH_TIMESTAMP_BYTES)
	PH_TRY_LINK(PH_LINK_ETHERNET, sizeof(struct ethhdr))
	PH_TRY_LINK(PH_LINK_IP, 0)
#undef PH_TRY_LINK
#undef PH_TRY_DIRECT
	__builtin_memset(to, 0, capacity);
	frame.is_direct = 0;
	/*
	 * For the verifier: it learns no lower bound from a comparison with zero up to Linux 6.1,
	 * so there is one by arithmetic that changes no length; and without CAP_PERFMON it goes on
	 * behind a comparison of constants as if it had come out otherwise, so the length is one
	 * that it can't know.
	 */
	length = *(const volatile __u16 *)stored_length;
	length = ((length - 1) & 1023) + 1;
	barrier_var(length);
	return length <= capacity && ph_read(frame, 0, to, length);
}

static __always_inline enum ph_counter ph_emit_class(struct ph_frame frame,
						     const struct ph_headers *headers,
						     const struct ph_packet *packet, void *ring,
						     __u32 flow_hash, __u64 wakeup,
						     const __u32 capacity)
{
	__u64 now = bpf_ktime_get_ns();
	struct ph_header_record *record =
		bpf_ringbuf_reserve(ring, sizeof(struct ph_header_record) + capacity, 0);

	if (!record)
		return PH_RING_FULL;
	record->time_ns = now;
	record->socket_cookie = packet->socket_cookie;
	record->flow_hash = flow_hash;
	record->ifindex = packet->ifindex;
	record->wire_len = packet->wire_len;
	record->header_len = headers->length;
	record->l3_offset = headers->l3_offset;
	record->l4_offset = headers->l4_offset;
	record->gso_size = packet->gso_size;
	record->gso_segs = packet->gso_segs;
	record->vlan_tci = packet->vlan_tci;
	record->vlan_proto_be = packet->vlan_proto_be;
	record->direction = packet->direction;
	record->link_layer = packet->link_layer;
	record->tcp_flags = headers->tcp_flags;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
	if (!ph_copy_headers(record->headers, frame, headers->length, &record->header_len,
			     packet->link_layer, capacity)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return PH_TRUNCATED;
	}
	bpf_ringbuf_submit(record, wakeup);
	return PH_CAPTURED;
}

/* Whether the flow's capture has ended. A new connection attempt brings it back. */
static __always_inline int ph_is_settled(const struct ph_flow_key *key, __u8 tcp_flags)
{
	struct ph_settled_flow *flow;

	if (!any_settled)
		return 0;
	flow = bpf_map_lookup_elem(&ph_settled, key);
	if (!flow)
		return 0;
	if ((tcp_flags & (PH_TCP_SYN | PH_TCP_ACK)) == PH_TCP_SYN) {
		bpf_map_delete_elem(&ph_settled, key);
		return 0;
	}
	flow->packets++;
	return 1;
}

/*
 * Where a packet goes while its ring is filling up: what strangers send, and what it is answered
 * without a socket, must not displace the packets of connections. The socket is looked up here
 * only, for that costs more than all else.
 */
static __always_inline enum ph_counter ph_shed(struct ph_frame frame,
					       const struct ph_headers *headers,
					       const struct ph_flow_key *key,
					       const struct ph_packet *packet)
{
	if (packet->socket_cookie)
		return PH_CAPTURED;
	if ((headers->tcp_flags & (PH_TCP_SYN | PH_TCP_ACK)) == PH_TCP_SYN)
		return PH_SHED_SYN;
	return ph_has_socket(frame.context, key, headers->is_ipv6) ? PH_CAPTURED : PH_SHED_STRAY;
}

/*
 * A reader is woken by the records that make its ring half full, not by all beyond: that costs an
 * interrupt each. So many bytes are more than all processors can reserve at once.
 */
#define PH_WAKEUP_WINDOW (1 << 16)

static __always_inline enum ph_counter ph_emit(struct ph_frame frame,
					       const struct ph_headers *headers,
					       const struct ph_flow_key *key,
					       const struct ph_packet *packet)
{
	__u32 flow_hash, shard;
	__u64 used, wakeup;
	void *ring;

	flow_hash = ph_flow_hash(key, &config.hash_seed);
	shard = ph_shard_of(flow_hash, config.shards);
	ring = bpf_map_lookup_elem(&ph_rings, &shard);
	if (!ring)
		return PH_RING_FULL;

	used = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	wakeup = used - config.wakeup_bytes - 1 < PH_WAKEUP_WINDOW ? BPF_RB_FORCE_WAKEUP
								   : BPF_RB_NO_WAKEUP;
	if (used > config.shed_bytes) {
		enum ph_counter counter = ph_shed(frame, headers, key, packet);

		if (counter != PH_CAPTURED)
			return counter;
	}

	if (headers->length <= PH_HEADER_CLASS_0)
		return ph_emit_class(frame, headers, packet, ring, flow_hash, wakeup,
				     PH_HEADER_CLASS_0);
	if (headers->length <= PH_HEADER_CLASS_1)
		return ph_emit_class(frame, headers, packet, ring, flow_hash, wakeup,
				     PH_HEADER_CLASS_1);
	if (headers->length <= PH_HEADER_CLASS_2)
		return ph_emit_class(frame, headers, packet, ring, flow_hash, wakeup,
				     PH_HEADER_CLASS_2);
	return ph_emit_class(frame, headers, packet, ring, flow_hash, wakeup, PH_HEADER_CLASS_3);
}

#endif /* PACKET_HEADERS_BPF_EMIT_BPF_H_ */
