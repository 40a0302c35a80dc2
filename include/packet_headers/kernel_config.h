/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What user space decides before the programs are loaded: constants to the verifier.
 */
#ifndef PACKET_HEADERS_KERNEL_CONFIG_H_
#define PACKET_HEADERS_KERNEL_CONFIG_H_

#include "packet_headers/contract.h"
#include "packet_headers/flow_key.h"

#define PH_MAX_SHARDS 64

/* What a run of ph_touch_ring takes of the ring: a page of the smallest size there is. */
#define PH_TOUCH_BYTES 4096

struct ph_kernel_config {
	struct ph_hash_seed hash_seed;
	__u32 shards;	    /* rings in use, 1 to PH_MAX_SHARDS */
	__u32 wakeup_bytes; /* a ring that comes to hold this wakes its reader at once */
	__u32 shed_bytes;   /* a ring holding more than this takes only what has a local socket */
};

#endif /* PACKET_HEADERS_KERNEL_CONFIG_H_ */
