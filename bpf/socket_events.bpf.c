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

struct ph_event_id {
	__u64 socket_cookie;
	__u64 kind; /* enum ph_socket_event_kind */
};

/*
 * What ph_socket_state has told and ph_socket_state_nested has not come to: one event a processor.
 * What that one never comes to, since it was left out itself, gives way to others. There are many
 * more places than processors, so that nothing gives way before: its event would be told twice.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct ph_event_id);
	__type(value, __u8);
	__uint(max_entries, 8192);
} ph_told SEC(".maps");

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

/*
 * Whether the socket opened or closed by this change of its state, and belongs to the namespace.
 * The arguments of the tracepoint: a socket, its old state, its new state.
 */
static __always_inline int ph_is_event(const __u64 *arguments)
{
	struct sock *sk = (struct sock *)arguments[0];

	return ph_is_open((int)arguments[1]) != ph_is_open((int)arguments[2]) &&
	       sk->__sk_common.skc_net.net->ns.inum == netns_inode;
}

static __always_inline struct ph_event_id ph_event_id_of(const __u64 *arguments)
{
	struct ph_event_id id = {
		.socket_cookie = bpf_get_socket_cookie((void *)arguments[0]),
		.kind = ph_is_open((int)arguments[2]) ? PH_SOCKET_OPEN : PH_SOCKET_CLOSE,
	};

	return id;
}

static __always_inline void ph_tell(const __u64 *arguments, const struct ph_event_id *id)
{
	struct sock *sk = (struct sock *)arguments[0];
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct ph_socket_event *event;
	struct ph_flow_key key = {};

	if (!tcp)
		return;
	event = bpf_ringbuf_reserve(&ph_socket_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&ring_full, 1);
		return;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->socket_cookie = id->socket_cookie;
	ph_socket_key(tcp, &key);
	event->key = key;
	event->bound_ifindex = sk->__sk_common.skc_bound_dev_if;
	event->kind = (__u32)id->kind;
	__builtin_memset(event->reserved, 0, sizeof(event->reserved));
	bpf_ringbuf_submit(event, 0);
}

/*
 * Tells of all events but those that Linux 6.1 and newer leave it out of: while it is at work for a
 * system call, an interrupt can bring packets that open or close other sockets.
 */
SEC("tp_btf/inet_sock_set_state")
int ph_socket_state(const __u64 *arguments)
{
	const __u8 is_told = 1;
	struct ph_event_id id;

	if (!ph_is_event(arguments))
		return 0;
	id = ph_event_id_of(arguments);
	ph_tell(arguments, &id);
	bpf_map_update_elem(&ph_told, &id, &is_told, BPF_ANY);
	return 0;
}

/*
 * Tells of those. It is attached behind the program above, so it comes to each event after it. Where
 * an interrupt finds it at work, that one is not, and tells: as long as interrupts alone come in
 * between, and none in between those, no event is left out by both.
 */
SEC("tp_btf/inet_sock_set_state")
int ph_socket_state_nested(const __u64 *arguments)
{
	struct ph_event_id id;

	if (!ph_is_event(arguments))
		return 0;
	id = ph_event_id_of(arguments);
	if (bpf_map_delete_elem(&ph_told, &id))
		ph_tell(arguments, &id);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
