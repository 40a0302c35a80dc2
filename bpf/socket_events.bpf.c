// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Tells of every TCP socket of one network namespace that opens or closes. An object of its own,
 * since a tracepoint takes CAP_PERFMON and the types of the running kernel, which the hooks do
 * without.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "packet_headers/socket_event.h"

/* The inode number of the network namespace. Set by user space before the program is loaded. */
const volatile __u32 netns_inode;

/* Events for which the ring had no room. */
__u64 ring_full;

/* Its size is set by user space. Its reader is woken when it has nothing more to read. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ph_socket_events SEC(".maps");

/*
 * Neither on the way to being open nor closed. A socket need not pass ESTABLISHED: one that was
 * accepted by TCP Fast Open can be closed before the handshake ends.
 */
static __always_inline int ph_is_open(int state)
{
	const __u32 open = 1 << BPF_TCP_ESTABLISHED | 1 << BPF_TCP_FIN_WAIT1 |
			   1 << BPF_TCP_FIN_WAIT2 | 1 << BPF_TCP_CLOSE_WAIT |
			   1 << BPF_TCP_LAST_ACK | 1 << BPF_TCP_CLOSING;

	return open >> (state & 31) & 1;
}

static __always_inline void ph_copy_ipv6(__u8 *address, const struct in6_addr *ipv6)
{
	__u32 *words = (__u32 *)(void *)address;

	words[0] = ipv6->in6_u.u6_addr32[0];
	words[1] = ipv6->in6_u.u6_addr32[1];
	words[2] = ipv6->in6_u.u6_addr32[2];
	words[3] = ipv6->in6_u.u6_addr32[3];
}

/*
 * The local port is the inet socket's: that of sock_common is 0 by the time of a close. The
 * addresses of an AF_INET6 socket that speaks IPv4 are mapped ones.
 */
static __always_inline void ph_socket_key(struct tcp_sock *tcp, struct ph_flow_key *key)
{
	struct inet_sock *inet = &tcp->inet_conn.icsk_inet;
	struct sock_common *common = &inet->sk.__sk_common;

	if (common->skc_family == AF_INET6) {
		ph_copy_ipv6(key->local_addr, &common->skc_v6_rcv_saddr);
		ph_copy_ipv6(key->remote_addr, &common->skc_v6_daddr);
	} else {
		ph_map_ipv4(key->local_addr, common->skc_rcv_saddr);
		ph_map_ipv4(key->remote_addr, common->skc_daddr);
	}
	key->local_port_be = inet->inet_sport;
	key->remote_port_be = common->skc_dport;
}

/* The arguments of the tracepoint: a socket, its old state, its new state. */
SEC("tp_btf/inet_sock_set_state")
int ph_socket_state(const __u64 *arguments)
{
	struct sock *sk = (struct sock *)arguments[0];
	int was_open = ph_is_open((int)arguments[1]);
	int is_open = ph_is_open((int)arguments[2]);
	struct ph_socket_event *event;
	struct ph_flow_key key = {};
	struct tcp_sock *tcp;

	if (was_open == is_open)
		return 0;
	if (sk->__sk_common.skc_net.net->ns.inum != netns_inode)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 0;
	event = bpf_ringbuf_reserve(&ph_socket_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&ring_full, 1);
		return 0;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->socket_cookie = bpf_get_socket_cookie(sk);
	ph_socket_key(tcp, &key);
	event->key = key;
	event->bound_ifindex = sk->__sk_common.skc_bound_dev_if;
	event->kind = is_open ? PH_SOCKET_OPEN : PH_SOCKET_CLOSE;
	__builtin_memset(event->reserved, 0, sizeof(event->reserved));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
