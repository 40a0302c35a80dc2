/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What lets the headers of this folder compile as BPF C and as C++: the fixed-width types and
 * packet formats of the kernel, byte order, inlining and layout checks.
 */
#ifndef PACKET_HEADERS_CONTRACT_H_
#define PACKET_HEADERS_CONTRACT_H_

#ifdef __bpf__

#include "vmlinux.h"

#include <bpf/bpf_endian.h>

#define ph_ntohs(x) bpf_ntohs(x)
#define ph_htons(x) bpf_htons(x)
#define ph_htonl(x) bpf_htonl(x)
#define __ph_inline inline __attribute__((always_inline))
#define PH_STATIC_ASSERT(condition, message) _Static_assert(condition, message)

/*
 * Without CAP_PERFMON the verifier up to Linux 6.1 takes no part of eight bytes of the stack once
 * their beginning was written by itself, unless all eight are written before: so what shares them
 * is stored one by one, from the last to the first.
 */
#define PH_STORE(type, at, value) (*(volatile type *)(at) = (value))
#define PH_STORE_WORDS(at, first, second)                                                          \
	do {                                                                                       \
		PH_STORE(__u32, (at) + 4, second);                                                 \
		PH_STORE(__u32, at, first);                                                        \
	} while (0)

#else

#include <arpa/inet.h>
#include <endian.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#define ph_ntohs(x) ntohs(x)
#define ph_htons(x) htons(x)
#define ph_htonl(x) htonl(x)
#define __ph_inline inline __attribute__((always_inline))
#define PH_STATIC_ASSERT(condition, message) static_assert(condition, message)
#define PH_STORE(type, at, value)                                                                  \
	do {                                                                                       \
		type ph_stored = (value);                                                          \
		__builtin_memcpy(at, &ph_stored, sizeof(ph_stored));                               \
	} while (0)
/* At once, as keys are compared: the processor can't hand on two stores to one load. */
#define PH_STORE_WORDS(at, first, second)                                                          \
	PH_STORE(__be64, at, htobe64((__u64)ntohl(first) << 32 | ntohl(second)))

#endif

/* Hides from the compiler what a variable holds, so that it makes no branch of arithmetic. */
#define ph_hide(variable) __asm__ volatile("" : "+r"(variable))

/* For loops whose counter the verifier loses sight of. */
#if defined(__clang__)
#define PH_UNROLLED _Pragma("unroll")
#else
#define PH_UNROLLED
#endif

enum ph_direction {
	PH_INGRESS = 0,
	PH_EGRESS = 1,
};
#define PH_DIRECTIONS 2

/* What the frames of an interface begin with. */
enum ph_link_layer {
	PH_LINK_ETHERNET = 0,
	PH_LINK_IP = 1,
};

#endif /* PACKET_HEADERS_CONTRACT_H_ */
