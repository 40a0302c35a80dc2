/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The sockets of this host that packets belong to.
 */
#ifndef PACKET_HEADERS_BPF_SOCKET_BPF_H_
#define PACKET_HEADERS_BPF_SOCKET_BPF_H_

#include "packet_headers/parse.h"

#include <bpf/bpf_helpers.h>

/*
 * Whether the packet's 4-tuple is the socket's own: RSTs, and ACKs of TIME-WAIT before 6.13,
 * leave through a control socket that serves everybody. An AF_INET6 socket that speaks IPv4 keeps
 * both kinds of addresses, so what the packet is decides, not the socket's family. Volatile,
 * since the verifier takes each load from a socket only at a constant offset of its own.
 */
static __always_inline int ph_socket_owns(const volatile struct bpf_sock *sk,
					  const struct ph_flow_key *key, int is_ipv6)
{
	const __u32 *local = (const __u32 *)(const void *)key->local_addr;
	const __u32 *remote = (const __u32 *)(const void *)key->remote_addr;
	__u32 src_ip4 = sk->src_ip4;
	__u32 dst_ip4 = sk->dst_ip4;

	if (ph_htons(sk->src_port) != key->local_port_be || sk->dst_port != key->remote_port_be)
		return 0;
	if (!is_ipv6)
		return src_ip4 == local[3] && dst_ip4 == remote[3];
	return sk->src_ip6[0] == local[0] && sk->dst_ip6[0] == remote[0] &&
	       sk->src_ip6[1] == local[1] && sk->dst_ip6[1] == remote[1] &&
	       sk->src_ip6[2] == local[2] && sk->dst_ip6[2] == remote[2] &&
	       sk->src_ip6[3] == local[3] && sk->dst_ip6[3] == remote[3];
}

/*
 * The cookie of the local socket that sent the packet, or 0. A SYN-ACK is sent by a request socket
 * with the cookie that the accepted socket will inherit; as a SYN cookie it has no socket.
 */
static __always_inline __u64 ph_owner_cookie(struct __sk_buff *skb, const struct ph_flow_key *key,
					     int is_ipv6)
{
	const struct bpf_sock *sk = skb->sk;

	return sk && ph_socket_owns(sk, key, is_ipv6) ? bpf_get_socket_cookie(skb) : 0;
}

/*
 * Whether a local socket has the packet's 4-tuple: one that connects, is connected or was until a
 * moment ago (TIME-WAIT), or a request for one. A listener takes anybody's packet, so it says
 * nothing. `context` is a struct xdp_md or struct __sk_buff.
 */
static __always_inline int ph_has_socket(void *context, const struct ph_flow_key *key, int is_ipv6)
{
	const __u32 *local = (const __u32 *)(const void *)key->local_addr;
	const __u32 *remote = (const __u32 *)(const void *)key->remote_addr;
	struct bpf_sock_tuple tuple __attribute__((aligned(8))) = {};
	struct bpf_sock *sk;
	int is_listener;

	if (is_ipv6) {
		PH_STORE(__be16, &tuple.ipv6.dport, key->local_port_be);
		PH_STORE(__be16, &tuple.ipv6.sport, key->remote_port_be);
		PH_UNROLLED
		for (int i = 3; i >= 0; i--)
			PH_STORE(__be32, &tuple.ipv6.daddr[i], local[i]);
		PH_UNROLLED
		for (int i = 3; i >= 0; i--)
			PH_STORE(__be32, &tuple.ipv6.saddr[i], remote[i]);
		sk = bpf_skc_lookup_tcp(context, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS,
					0);
	} else {
		PH_STORE(__be16, &tuple.ipv4.dport, key->local_port_be);
		PH_STORE(__be16, &tuple.ipv4.sport, key->remote_port_be);
		PH_STORE(__be32, &tuple.ipv4.daddr, local[3]);
		PH_STORE(__be32, &tuple.ipv4.saddr, remote[3]);
		sk = bpf_skc_lookup_tcp(context, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS,
					0);
	}
	if (!sk)
		return 0;
	is_listener = sk->state == BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return !is_listener;
}

#endif /* PACKET_HEADERS_BPF_SOCKET_BPF_H_ */
