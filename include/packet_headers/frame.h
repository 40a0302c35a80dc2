/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How the parser reads a frame: from a socket buffer or an XDP buffer in the kernel, from memory
 * in user space.
 *
 * In the kernel every read is a helper call. Direct packet access at an offset that the verifier
 * doesn't know needs CAP_PERFMON, and it can't see headers that lie beyond the linear part.
 */
#ifndef PACKET_HEADERS_FRAME_H_
#define PACKET_HEADERS_FRAME_H_

#include "packet_headers/contract.h"

#ifdef __bpf__

#include <bpf/bpf_helpers.h>

struct ph_frame {
	void *context; /* struct xdp_md or struct __sk_buff */
	int is_xdp;    /* known when the program is compiled: each type has helpers of its own */
};

/* Copies `bytes` bytes at `offset`; returns whether the frame has them. */
static __ph_inline int ph_read(struct ph_frame frame, __u32 offset, void *to, __u32 bytes)
{
	return !(frame.is_xdp ? bpf_xdp_load_bytes(frame.context, offset, to, bytes)
			      : bpf_skb_load_bytes(frame.context, offset, to, bytes));
}

#else

#include <string.h>

struct ph_frame {
	const void *data;
	__u32 length; /* bytes */
};

/* Copies `bytes` bytes at `offset`; returns whether the frame has them. */
static __ph_inline int ph_read(struct ph_frame frame, __u32 offset, void *to, __u32 bytes)
{
	if (offset > frame.length || bytes > frame.length - offset)
		return 0;
	memcpy(to, (const __u8 *)frame.data + offset, bytes);
	return 1;
}

#endif

#endif /* PACKET_HEADERS_FRAME_H_ */
