/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel says of a TCP socket that opened or closed.
 */
#ifndef PACKET_HEADERS_SOCKET_EVENT_H_
#define PACKET_HEADERS_SOCKET_EVENT_H_

#include "packet_headers/contract.h"
#include "packet_headers/flow_key.h"

enum ph_socket_event_kind {
	PH_SOCKET_OPEN = 0,  /* the handshake is over, or the socket goes on without its end */
	PH_SOCKET_CLOSE = 1, /* of a socket that was open; TIME-WAIT counts as closed */
};

struct ph_socket_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 socket_cookie;
	struct ph_flow_key key;
	__u32 bound_ifindex; /* of the device that the socket is bound to; 0: none */
	__u32 kind;	     /* enum ph_socket_event_kind */
	__u8 reserved[4];    /* zero; fills the struct to eight bytes */
};

PH_STATIC_ASSERT(sizeof(struct ph_socket_event) == 64, "ph_socket_event has no hidden padding");

#endif /* PACKET_HEADERS_SOCKET_EVENT_H_ */
