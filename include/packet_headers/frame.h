/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How the parser reads a frame: from a socket buffer or an XDP buffer in the kernel, from memory
 * in user space.
 */
#ifndef PACKET_HEADERS_FRAME_H_
#define PACKET_HEADERS_FRAME_H_

#include "packet_headers/contract.h"

#ifdef __bpf__

#include <bpf/bpf_helpers.h>

/*
 * A direct frame is read straight from memory: fast, but only in its linear part, and only at
 * offsets that are known when the program is compiled, since without CAP_PERFMON the verifier
 * takes no others. An indirect one is read through helpers, which see everything. `is_xdp` and
 * `is_direct` are known when the program is compiled.
 */
struct ph_frame {
	void *context; /* struct xdp_md or struct __sk_buff */
	const void *data;
	const void *data_end;
	__u64 length; /* bytes, also of those beyond data_end */
	int is_xdp;
	int is_direct;
};

/* Copies `bytes` bytes at `offset`; returns whether they could be read. */
static __ph_inline int ph_read(struct ph_frame frame, __u64 offset, void *to, __u32 bytes)
{
	if (frame.is_direct) {
		const void *start = frame.data + offset;

		if (start + bytes > frame.data_end)
			return 0;
		__builtin_memcpy(to, __builtin_assume_aligned(start, 4), bytes);
		return 1;
	}
	return !(frame.is_xdp ? bpf_xdp_load_bytes(frame.context, offset, to, bytes)
			      : bpf_skb_load_bytes(frame.context, offset, to, bytes));
}

#else

#include <string.h>

struct ph_frame {
	const void *data;
	__u64 length;  /* bytes */
	int is_direct; /* as in the kernel; here the compiler then knows the offsets */
};

/* Copies `bytes` bytes at `offset`; returns whether the frame has them. */
static __ph_inline int ph_read(struct ph_frame frame, __u64 offset, void *to, __u32 bytes)
{
	if (offset > frame.length || bytes > frame.length - offset)
		return 0;
	memcpy(to, (const __u8 *)frame.data + offset, bytes);
	return 1;
}

#endif

#endif /* PACKET_HEADERS_FRAME_H_ */
