/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The one parser: from the start of a frame to the end of its TCP header. XDP, TC and user space
 * run this same code; every read is checked by ph_read().
 */
#ifndef PACKET_HEADERS_PARSE_H_
#define PACKET_HEADERS_PARSE_H_

#include "packet_headers/contract.h"
#include "packet_headers/counters.h"
#include "packet_headers/flow_key.h"
#include "packet_headers/frame.h"
#include "packet_headers/header_record.h"

#define PH_ETHERTYPE_IPV4 0x0800
#define PH_ETHERTYPE_IPV6 0x86dd
#define PH_ETHERTYPE_VLAN 0x8100  /* IEEE 802.1Q, customer tag */
#define PH_ETHERTYPE_QINQ 0x88a8  /* IEEE 802.1ad, service tag */
#define PH_ETHERTYPE_QINQ1 0x9100 /* service tag before 802.1ad, still in use */

#define PH_MAX_VLAN_TAGS 2
#define PH_MAX_IPV6_EXTENSIONS 8

#define PH_IPPROTO_HOPOPTS 0
#define PH_IPPROTO_TCP 6
#define PH_IPPROTO_ROUTING 43
#define PH_IPPROTO_FRAGMENT 44
#define PH_IPPROTO_AH 51
#define PH_IPPROTO_DSTOPTS 60
#define PH_IPPROTO_MH 135

#define PH_IPV4_FRAGMENT_OFFSET 0x1fff
#define PH_IPV6_FRAGMENT_OFFSET 0xfff8

#define PH_TCP_FIN 0x01
#define PH_TCP_SYN 0x02
#define PH_TCP_RST 0x04
#define PH_TCP_ACK 0x10

struct ph_vlan_tag {
	__be16 tci_be;
	__be16 ethertype_be; /* of what follows the tag */
};

/* How IPv6 extension headers begin (RFC 8200, 4; AH: RFC 4302, 2). */
struct ph_ipv6_extension {
	__u8 next_header;
	__u8 length;	  /* in words of eight bytes behind the first; of four behind two in AH */
	__be16 offset_be; /* in Fragment only */
};

/* The fixed part of a TCP header (RFC 9293, 3.1), flags as one byte. */
struct ph_tcp {
	__be16 source_port_be;
	__be16 destination_port_be;
	__be32 sequence_be;
	__be32 acknowledgment_be;
	__u8 data_offset; /* in words of four bytes, in the upper half */
	__u8 flags;	  /* PH_TCP_* */
	__be16 window_be;
	__sum16 checksum_be;
	__be16 urgent_be;
};

PH_STATIC_ASSERT(sizeof(struct ph_tcp) == 20, "ph_tcp is the wire format");

/* Where the headers of a TCP packet are, in bytes from the start of the frame. */
struct ph_headers {
	__u16 l3_offset;
	__u16 l4_offset;
	__u16 length; /* to the end of the TCP header */
	__u8 is_ipv6;
	__u8 tcp_flags;
};

PH_STATIC_ASSERT(sizeof(struct ph_headers) == sizeof(__u64), "a function can return ph_headers");

/* A parser's place in a frame. Without CAP_PERFMON the verifier wants 64 bits on the stack. */
struct ph_cursor {
	struct ph_frame frame;
	__u64 offset;
	__u64 l3_end; /* where the IP packet says it ends; 0 if it doesn't (BIG TCP, RFC 2675) */
};

/* What to say of a frame in which the next bytes can't be read. */
static __ph_inline enum ph_counter ph_unreadable(const struct ph_cursor *cursor)
{
	return cursor->frame.is_direct ? PH_UNDECIDED : PH_TRUNCATED;
}

/* Copies the next bytes without moving; returns whether they could be read. */
static __ph_inline int ph_peek(const struct ph_cursor *cursor, void *to, __u32 bytes)
{
	return ph_read(cursor->frame, cursor->offset, to, bytes);
}

/*
 * The steps of ph_locate(). Each leaves the cursor behind what it read and returns PH_CAPTURED, or
 * the counter to which the packet goes.
 */

static __ph_inline enum ph_counter ph_locate_behind_ethernet(struct ph_cursor *cursor,
							     __be16 *ethertype_be)
{
	struct ethhdr ethernet;

	if (!ph_peek(cursor, &ethernet, sizeof(ethernet)))
		return ph_unreadable(cursor);
	*ethertype_be = ethernet.h_proto;
	cursor->offset += sizeof(ethernet);

	for (int i = 0; i < PH_MAX_VLAN_TAGS; i++) {
		struct ph_vlan_tag tag;

		if (*ethertype_be != ph_htons(PH_ETHERTYPE_VLAN) &&
		    *ethertype_be != ph_htons(PH_ETHERTYPE_QINQ) &&
		    *ethertype_be != ph_htons(PH_ETHERTYPE_QINQ1))
			break;
		if (cursor->frame.is_direct)
			return PH_UNDECIDED;
		if (!ph_peek(cursor, &tag, sizeof(tag)))
			return PH_TRUNCATED;
		*ethertype_be = tag.ethertype_be;
		cursor->offset += sizeof(tag);
	}
	return PH_CAPTURED;
}

static __ph_inline enum ph_counter ph_locate_behind_ipv4(struct ph_cursor *cursor)
{
	struct iphdr ip;
	__u64 header_bytes, total_bytes;

	if (!ph_peek(cursor, &ip, sizeof(ip)))
		return ph_unreadable(cursor);
	header_bytes = ip.ihl * 4;
	total_bytes = ph_ntohs(ip.tot_len);
	if (ip.version != 4 || header_bytes < sizeof(ip) ||
	    (total_bytes && total_bytes < header_bytes))
		return PH_MALFORMED_IP;
	if (ip.protocol != PH_IPPROTO_TCP)
		return PH_NOT_TCP;
	if (ip.frag_off & ph_htons(PH_IPV4_FRAGMENT_OFFSET))
		return PH_FRAGMENT;
	cursor->l3_end = total_bytes ? cursor->offset + total_bytes : 0;
	if (cursor->frame.is_direct) {
		if (header_bytes != sizeof(ip))
			return PH_UNDECIDED;
		header_bytes = sizeof(ip);
	}
	cursor->offset += header_bytes;
	return PH_CAPTURED;
}

/*
 * The ways through the extension headers multiply, and before Linux 6.16 the verifier gives up on
 * them without CAP_PERFMON. So what an extension header is and how long is computed, not branched
 * on. Numbers are those of a byte.
 */

/* 1 if they are equal, else 0. */
static __ph_inline __u64 ph_equal(__u64 one, __u64 other)
{
	__u64 difference = one ^ other;

	ph_hide(difference);
	return (difference - 1) >> 63;
}

#define PH_IPV6_EXTENSIONS_BELOW_64                                                                \
	(1ULL << PH_IPPROTO_HOPOPTS | 1ULL << PH_IPPROTO_ROUTING | 1ULL << PH_IPPROTO_FRAGMENT |   \
	 1ULL << PH_IPPROTO_AH | 1ULL << PH_IPPROTO_DSTOPTS)

/* 1 or 0. */
static __ph_inline __u64 ph_is_ipv6_extension(__u64 next_header)
{
	__u64 is_below_64;

	ph_hide(next_header);
	is_below_64 = (next_header - 64) >> 63;
	return (PH_IPV6_EXTENSIONS_BELOW_64 >> (next_header & 63) & is_below_64) |
	       ph_equal(next_header, PH_IPPROTO_MH);
}

static __ph_inline enum ph_counter ph_locate_behind_extension(struct ph_cursor *cursor,
							      __u64 *next_header)
{
	struct ph_ipv6_extension extension;
	__u64 is_fragment = ph_equal(*next_header, PH_IPPROTO_FRAGMENT);
	__u64 is_ah = ph_equal(*next_header, PH_IPPROTO_AH);
	__u64 length;

	if (!ph_peek(cursor, &extension, sizeof(extension)))
		return PH_TRUNCATED;
	*next_header = extension.next_header;
	if (extension.offset_be & ph_htons(PH_IPV6_FRAGMENT_OFFSET) & -is_fragment)
		return PH_FRAGMENT;
	/* The second byte of Fragment says nothing: it is eight bytes. */
	length = extension.length & (is_fragment - 1);
	cursor->offset += (length + 1 + is_ah) << (3 - is_ah);
	return cursor->offset <= PH_MAX_HEADER_BYTES ? PH_CAPTURED : PH_HEADER_TOO_LONG;
}

static __ph_inline enum ph_counter ph_locate_behind_ipv6(struct ph_cursor *cursor)
{
	struct ipv6hdr ip;
	__u64 next_header;

	if (!ph_peek(cursor, &ip, sizeof(ip)))
		return ph_unreadable(cursor);
	if (ip.version != 6)
		return PH_MALFORMED_IP;
	next_header = ip.nexthdr;
	cursor->offset += sizeof(ip);
	cursor->l3_end = ip.payload_len ? cursor->offset + ph_ntohs(ip.payload_len) : 0;

	PH_UNROLLED
	for (int i = 0; i < PH_MAX_IPV6_EXTENSIONS; i++) {
		enum ph_counter result;

		if (!ph_is_ipv6_extension(next_header))
			break;
		if (cursor->frame.is_direct)
			return PH_UNDECIDED;
		result = ph_locate_behind_extension(cursor, &next_header);
		if (result != PH_CAPTURED)
			return result;
	}
	if (ph_is_ipv6_extension(next_header))
		return PH_HEADER_TOO_LONG;
	return next_header == PH_IPPROTO_TCP ? PH_CAPTURED : PH_NOT_TCP;
}

static __ph_inline enum ph_counter ph_locate_behind_tcp(struct ph_cursor *cursor,
							struct ph_headers *headers)
{
	struct ph_tcp tcp;
	__u64 header_bytes;

	if (!ph_peek(cursor, &tcp, sizeof(tcp)))
		return ph_unreadable(cursor);
	header_bytes = (tcp.data_offset >> 4) * 4;
	if (header_bytes < sizeof(tcp) ||
	    (cursor->l3_end && cursor->offset + header_bytes > cursor->l3_end))
		return PH_MALFORMED_TCP;
	headers->l4_offset = cursor->offset;
	headers->tcp_flags = tcp.flags;
	cursor->offset += header_bytes;
	headers->length = cursor->offset;
	if (cursor->offset > PH_MAX_HEADER_BYTES)
		return PH_HEADER_TOO_LONG;
	return cursor->offset <= cursor->frame.length ? PH_CAPTURED : PH_TRUNCATED;
}

/*
 * Fills `headers` and returns PH_CAPTURED, or returns the counter to which the packet goes.
 * PH_TRUNCATED says that the headers go on beyond the frame. Of a direct frame (see frame.h) that
 * is more than Ethernet, IP and TCP without anything between, or not linear, it says PH_UNDECIDED.
 */
static __ph_inline enum ph_counter ph_locate(struct ph_frame frame, enum ph_link_layer link_layer,
					     struct ph_headers *headers)
{
	struct ph_cursor cursor = {frame, 0, 0};
	enum ph_counter result;

	if (link_layer == PH_LINK_ETHERNET) {
		__be16 ethertype_be = 0;

		result = ph_locate_behind_ethernet(&cursor, &ethertype_be);
		if (result != PH_CAPTURED)
			return result;
		if (ethertype_be != ph_htons(PH_ETHERTYPE_IPV4) &&
		    ethertype_be != ph_htons(PH_ETHERTYPE_IPV6))
			return PH_NOT_IP;
		headers->is_ipv6 = ethertype_be == ph_htons(PH_ETHERTYPE_IPV6);
	} else {
		__u8 version;

		if (!ph_peek(&cursor, &version, 1))
			return ph_unreadable(&cursor);
		version >>= 4;
		if (version != 4 && version != 6)
			return PH_NOT_IP;
		headers->is_ipv6 = version == 6;
	}
	headers->l3_offset = cursor.offset;
	/* Two ways, so that the offset stays a constant of each in a direct frame. */
	if (headers->is_ipv6) {
		result = ph_locate_behind_ipv6(&cursor);
		return result == PH_CAPTURED ? ph_locate_behind_tcp(&cursor, headers) : result;
	}
	result = ph_locate_behind_ipv4(&cursor);
	return result == PH_CAPTURED ? ph_locate_behind_tcp(&cursor, headers) : result;
}

/* `ports_be` is both as they are in the TCP header; behind IP, in a direct frame. */
static __ph_inline int ph_read_ports(struct ph_frame frame, const struct ph_headers *headers,
				     __u64 ip_bytes, __be32 *ports_be)
{
	__u64 l4_offset =
		frame.is_direct ? headers->l3_offset + ip_bytes : (__u64)headers->l4_offset;

	return ph_read(frame, l4_offset, ports_be, sizeof(*ports_be));
}

/* The key of the flow whose headers ph_locate() found in the same frame; returns whether it is. */
static __ph_inline int ph_read_key(struct ph_frame frame, const struct ph_headers *headers,
				   enum ph_direction direction, struct ph_flow_key *key)
{
	__u8 *source = direction == PH_EGRESS ? key->local_addr : key->remote_addr;
	__u8 *destination = direction == PH_EGRESS ? key->remote_addr : key->local_addr;
	__be32 ports_be; /* source, destination */

	if (headers->is_ipv6) {
		struct ipv6hdr ip;

		if (!ph_read(frame, headers->l3_offset, &ip, sizeof(ip)) ||
		    !ph_read_ports(frame, headers, sizeof(ip), &ports_be))
			return 0;
		__builtin_memcpy(source, &ip.saddr, 16);
		__builtin_memcpy(destination, &ip.daddr, 16);
	} else {
		struct iphdr ip;

		if (!ph_read(frame, headers->l3_offset, &ip, sizeof(ip)) ||
		    !ph_read_ports(frame, headers, sizeof(ip), &ports_be))
			return 0;
		ph_map_ipv4(source, ip.saddr);
		ph_map_ipv4(destination, ip.daddr);
	}
	if (direction == PH_INGRESS)
		ports_be = ports_be << 16 | ports_be >> 16;
	PH_STORE(ph_key_word, ph_ports_of(key), ports_be);
	return 1;
}

#endif /* PACKET_HEADERS_PARSE_H_ */
