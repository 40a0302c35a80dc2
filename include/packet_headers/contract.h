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
#define __ph_inline inline __attribute__((always_inline))
#define PH_STATIC_ASSERT(condition, message) _Static_assert(condition, message)

#else

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#define ph_ntohs(x) ntohs(x)
#define ph_htons(x) htons(x)
#define __ph_inline inline
#define PH_STATIC_ASSERT(condition, message) static_assert(condition, message)

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
