/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel says of one captured packet: a fixed part, then the bytes of its headers from
 * the start of the frame to the end of the TCP header, and not one byte more.
 */
#ifndef PACKET_HEADERS_HEADER_RECORD_H_
#define PACKET_HEADERS_HEADER_RECORD_H_

#include "packet_headers/contract.h"

/* Packets whose headers are longer are counted (header_too_long), not captured. */
#define PH_MAX_HEADER_BYTES 520

/*
 * Records are reserved in these sizes of header bytes. With the fixed part and the ring's own
 * eight bytes the first makes two cache lines and holds Ethernet, IPv4 and TCP with timestamps;
 * the second makes three and holds the same over IPv6 with VLAN tags and SACK blocks.
 */
#define PH_HEADER_CLASS_0 72
#define PH_HEADER_CLASS_1 136
#define PH_HEADER_CLASS_2 264
#define PH_HEADER_CLASS_3 PH_MAX_HEADER_BYTES

/* The class of so many header bytes. */
static __ph_inline __u32 ph_class_of(__u32 header_bytes)
{
	return header_bytes <= PH_HEADER_CLASS_0   ? PH_HEADER_CLASS_0
	       : header_bytes <= PH_HEADER_CLASS_1 ? PH_HEADER_CLASS_1
	       : header_bytes <= PH_HEADER_CLASS_2 ? PH_HEADER_CLASS_2
						   : PH_HEADER_CLASS_3;
}

struct ph_header_record {
	__u64 time_ns;	     /* CLOCK_MONOTONIC */
	__u64 socket_cookie; /* of the local socket that owns the flow; 0: the hook knew none */
	__u32 flow_hash;     /* ph_flow_hash() of the key */
	__u32 ifindex;
	__u32 wire_len;	      /* bytes of the frame as the hook saw it, without a stripped tag */
	__u16 header_len;     /* valid bytes behind this struct; those up to the class are zero */
	__u16 l3_offset;      /* of the IP header, from the start of the frame */
	__u16 l4_offset;      /* of the TCP header, from the start of the frame */
	__u16 gso_size;	      /* payload of each segment of an aggregate; 0: one segment */
	__u16 gso_segs;	      /* segments in an aggregate; 0 or 1: one segment */
	__u16 vlan_tci;	      /* of the tag that the kernel had stripped, host order */
	__be16 vlan_proto_be; /* its TPID; 0: none was stripped */
	__u8 direction;	      /* enum ph_direction */
	__u8 link_layer;      /* enum ph_link_layer */
	__u8 tcp_flags;	      /* PH_TCP_* */
	__u8 reserved[3];     /* zero; fills the struct to eight bytes */
	__u8 headers[];
};

PH_STATIC_ASSERT(sizeof(struct ph_header_record) == 48, "ph_header_record has no hidden padding");
PH_STATIC_ASSERT((8 + sizeof(struct ph_header_record) + PH_HEADER_CLASS_0) % 64 == 0,
		 "the common record fills whole cache lines");

#endif /* PACKET_HEADERS_HEADER_RECORD_H_ */
