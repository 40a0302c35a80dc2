/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A flow that still sends packets after its capture ended: the kernel counts them and stops
 * sending records. The map's key is struct ph_flow_key.
 */
#ifndef PACKET_HEADERS_SETTLED_FLOW_H_
#define PACKET_HEADERS_SETTLED_FLOW_H_

#include "packet_headers/contract.h"

#define PH_MAX_SETTLED_FLOWS (1 << 18)

/* No time of the last packet: reading the clock would cost half of what a settled packet does. */
struct ph_settled_flow {
	__u64 packets; /* since it was settled; approximate when several CPUs handle the flow */
};

#endif /* PACKET_HEADERS_SETTLED_FLOW_H_ */
