/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where a packet can go. For every interface and direction, once everything has come to rest,
 *
 *	seen = captured + the reasons of the kernel
 *	captured = saved + the reasons of user space
 *
 * exactly. The names are the `reason` labels of packet_headers_packets_not_saved_total.
 */
#ifndef PACKET_HEADERS_COUNTERS_H_
#define PACKET_HEADERS_COUNTERS_H_

#include "packet_headers/contract.h"

/* X(enumerator, name, meaning) */
#define PH_KERNEL_REASONS(X)                                                                       \
	X(PH_NOT_IP, not_ip, "neither IPv4 nor IPv6")                                              \
	X(PH_NOT_TCP, not_tcp, "IP, but not TCP")                                                  \
	X(PH_FRAGMENT, fragment, "a later fragment: it holds no TCP header")                       \
	X(PH_TRUNCATED, truncated, "the frame ends within its headers")                            \
	X(PH_MALFORMED_IP, malformed_ip, "an IP header that contradicts itself")                   \
	X(PH_MALFORMED_TCP, malformed_tcp, "a TCP header that contradicts itself or its packet")   \
	X(PH_HEADER_TOO_LONG, header_too_long, "more headers than a record holds")                 \
	X(PH_SETTLED, settled, "of a flow whose capture had ended")                                \
	X(PH_SHED_SYN, shed_syn, "a connection attempt while the ring was nearly full")            \
	X(PH_SHED_STRAY, shed_stray, "of no local socket, while the ring was nearly full")         \
	X(PH_RING_FULL, ring_full, "the ring was full")

#define PH_USER_REASONS(X)                                                                         \
	X(PH_BAD_RECORD, bad_record, "a record that contradicts itself")                           \
	X(PH_LINK_MISMATCH, link_mismatch, "of a flow that began on another kind of link layer")   \
	X(PH_UNOWNED, unowned, "no local socket owns the flow")                                    \
	X(PH_NO_HANDSHAKE, no_handshake, "of a flow that began before the capture file")           \
	X(PH_INCOMPLETE_HANDSHAKE, incomplete_handshake, "an attempt that failed")                 \
	X(PH_UNANNOUNCED, unannounced, "of a flow that tcp-info did not announce in time")         \
	X(PH_EVICTED, evicted, "pushed out by newer connection attempts")                          \
	X(PH_LATE, late, "came after the flow's file was finished")                                \
	X(PH_FLOW_LIMIT, flow_limit, "of a flow above -maxflows")                                  \
	X(PH_MEMORY_LIMIT, memory_limit, "above -maxheap")                                         \
	X(PH_WRITE_ERROR, write_error, "the file could not be written")

#define PH_ENUMERATOR(enumerator, name, meaning) enumerator,
enum ph_counter {
	PH_SEEN,
	PH_CAPTURED,
	/* clang-format off */
	PH_KERNEL_REASONS(PH_ENUMERATOR)
	PH_KERNEL_COUNTERS,
	PH_SAVED = PH_KERNEL_COUNTERS,
	PH_USER_REASONS(PH_ENUMERATOR)
	PH_COUNTERS,
	/* clang-format on */
	PH_UNDECIDED, /* no counter: what the parser says of a frame that it must read otherwise */
#ifdef __bpf__
	/*
	 * Makes the type one of 64 bits: without CAP_PERFMON the verifier up to Linux 6.1 takes no
	 * half of a word on the stack, where the compiler puts results by and by.
	 */
	PH_WORD_WIDE = 1ULL << 32,
#endif
};
#undef PH_ENUMERATOR

/* The kernel's counters of one interface and direction, in the order of enum ph_counter. */
#define PH_FIELD(enumerator, name, meaning) __u64 name;
struct ph_kernel_counters {
	__u64 seen;
	__u64 captured;
	PH_KERNEL_REASONS(PH_FIELD)
};
#undef PH_FIELD

PH_STATIC_ASSERT(sizeof(struct ph_kernel_counters) == PH_KERNEL_COUNTERS * sizeof(__u64),
		 "one field for each counter of the kernel");

/* The key of the kernel's counters. */
struct ph_interface_direction {
	__u32 ifindex;
	__u32 direction; /* enum ph_direction */
};

/*
 * Looking up a hash table costs as much as parsing the packet, so an interface has its counters in
 * a row of an array that its ifindex selects, if it is the first that wants that row.
 */
#define PH_COUNTER_ROWS 1024
#define PH_MAX_MORE_COUNTERS 8192

struct ph_counter_row {
	__u32 ifindex; /* whose row it is; 0: nobody's */
	__u32 reserved;
	struct ph_kernel_counters counters;
};

static __ph_inline __u32 ph_counter_row_of(struct ph_interface_direction key)
{
	return (key.ifindex * PH_DIRECTIONS + key.direction) % PH_COUNTER_ROWS;
}

#endif /* PACKET_HEADERS_COUNTERS_H_ */
