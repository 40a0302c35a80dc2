/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The key of a flow, its hash and its shard: the same in the kernel and in user space.
 */
#ifndef PACKET_HEADERS_FLOW_KEY_H_
#define PACKET_HEADERS_FLOW_KEY_H_

#include "packet_headers/contract.h"

/*
 * A TCP 4-tuple as the local socket sees it: `local` is the source of an egress packet and the
 * destination of an ingress packet, so both directions of a flow have the same key, and the two
 * sockets of a loopback connection have two keys. Addresses and ports are in network byte order;
 * an IPv4 address is mapped into IPv6 (RFC 4291, 2.5.5.2).
 */
struct ph_flow_key {
	__u8 local_addr[16];
	__u8 remote_addr[16];
	__be16 local_port_be;
	__be16 remote_port_be;
} __attribute__((aligned(4)));

/* The key as the hash reads it. */
typedef __u32 __attribute__((may_alias)) ph_key_word;

PH_STATIC_ASSERT(sizeof(struct ph_flow_key) == 36, "ph_flow_key has no padding");

/*
 * Where both ports are, the local one first. They are stored at once, as the hash reads them: the
 * processor can't hand on two stores to one load, and would wait until they are in its cache.
 */
static __ph_inline ph_key_word *ph_ports_of(struct ph_flow_key *key)
{
	return (ph_key_word *)(void *)&key->local_port_be;
}

static __ph_inline void ph_map_ipv4(__u8 *address, __be32 ipv4)
{
	__builtin_memset(address, 0, 8);
	PH_STORE_WORDS(address + 8, ph_htonl(0xffff), ipv4);
}

/* Random words, drawn once at start, that make the hash unpredictable to remote peers. */
struct ph_hash_seed {
	__u32 words[10];
};

/* One step of NH: the product of two words, each displaced by a secret one. */
static __ph_inline __u64 ph_nh(__u32 a, __u32 seed_a, __u32 b, __u32 seed_b)
{
	return (__u64)(__u32)(a + seed_a) * (__u32)(b + seed_b);
}

/*
 * NH, the universal hash of UMAC (RFC 4418, 5.2), then a bijective mix so that every bit of the
 * result is usable. The seed is volatile since the BPF compiler must not take it for the zeros
 * that it is before user space sets it. For two different keys chosen without knowledge of the seed
 * the results of NH are equal with a probability of at most 2^-32.
 */
static __ph_inline __u32 ph_flow_hash(const struct ph_flow_key *key,
				      const volatile struct ph_hash_seed *seed)
{
	const ph_key_word *word = (const ph_key_word *)(const void *)key;
	const volatile __u32 *secret = seed->words;
	__u64 hash = ph_nh(word[0], secret[0], word[1], secret[1]) +
		     ph_nh(word[2], secret[2], word[3], secret[3]) +
		     ph_nh(word[4], secret[4], word[5], secret[5]) +
		     ph_nh(word[6], secret[6], word[7], secret[7]) +
		     ph_nh(word[8], secret[8], 0, secret[9]);

	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ULL;
	return (__u32)(hash >> 32);
}

/* The shard of a flow, in [0, shards). */
static __ph_inline __u32 ph_shard_of(__u32 flow_hash, __u32 shards)
{
	return (__u32)(((__u64)flow_hash * shards) >> 32);
}

#endif /* PACKET_HEADERS_FLOW_KEY_H_ */
