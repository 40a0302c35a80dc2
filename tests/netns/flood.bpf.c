// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Makes each frame that it is run on another packet of a flood, and passes it to the stack. The
 * frames are those that user space made, or what an earlier run made of them.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "packet_headers/contract.h"

/* Offsets are from the start of the frame; 0: there is none. */
const volatile __u32 frame_bytes;
const volatile __u32 source_at;	  /* the four bytes of the source address that vary, or 0 */
const volatile __u32 ip_check_at; /* of an IPv4 header */
const volatile __u32 port_at;	  /* the source port or, in a scan, the destination port */
const volatile __u32 sequence_at; /* of a TCP header */
const volatile __u32 check_at;	  /* of a TCP or UDP header */
const volatile __u32 is_scan;

/* What the checksums add up to where all that varies is 0. */
const volatile __u32 ip_sum;
const volatile __u32 sum;

/* Frames so far; one CPU sends. */
__u64 sent;

#define MOST_BYTES 128

static __always_inline __u16 ph_fold(__u32 total)
{
	total = (total & 0xffff) + (total >> 16);
	return ~((total & 0xffff) + (total >> 16));
}

SEC("xdp")
int ph_flood(struct xdp_md *xdp)
{
	void *frame = (void *)(long)xdp->data;
	__u32 random = bpf_get_prandom_u32();
	__u32 total = sum;
	__u16 port;

	if (frame + frame_bytes > (void *)(long)xdp->data_end || frame_bytes > MOST_BYTES)
		return XDP_PASS;
	if (source_at) {
		__u16 high = random, low = random >> 16;

		/* IPv4: 16.0.0.0/4, in which no address is special */
		if (ip_check_at)
			high = (high & ph_htons(0x0fff)) | ph_htons(0x1000);
		*(__u16 *)(frame + source_at) = high;
		*(__u16 *)(frame + source_at + 2) = low;
		total += high + low;
		if (ip_check_at)
			*(__u16 *)(frame + ip_check_at) = ph_fold(ip_sum + high + low);
	}
	if (port_at) {
		random = bpf_get_prandom_u32();
		port = is_scan ? ph_htons(sent) : random;
		*(__u16 *)(frame + port_at) = port;
		total += port;
	}
	if (sequence_at) {
		*(__u16 *)(frame + sequence_at) = random >> 16;
		total += random >> 16;
	}
	if (check_at)
		*(__u16 *)(frame + check_at) = ph_fold(total);
	sent++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
