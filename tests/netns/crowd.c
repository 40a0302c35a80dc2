/*
 * Many TCP peers in one: handshakes from bare frames, as many at once as one listener bears.
 *   crowd connect INTERFACE HOST_MAC HOST PORT FLOWS SECONDS open|reset
 *     from 10.8.0.0/16, which the host reaches through INTERFACE and nobody owns, until FLOWS were
 *     answered, for at most SECONDS; says how many were. With reset each is reset at once.
 *   crowd accept
 *     accepts on the listening socket that is standard input, and closes, until it is killed.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	UNANSWERED = 2048, /* SYNs under way at most */
	BATCH = 128,
	FRAME = sizeof(struct ether_header) + sizeof(struct iphdr) + sizeof(struct tcphdr),
	FIRST_PORT = 10000,
	ISN = 1000,
};
static const uint32_t NETWORK = 10U << 24 | 8U << 16;

static struct ether_header ethernet;
static uint32_t host_be;
static uint16_t port_be;

static struct batch {
	int fd;
	unsigned int frames;
	uint8_t bytes[BATCH][FRAME];
} outgoing;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static uint32_t add(uint32_t sum, const void *bytes, size_t size)
{
	uint16_t word;

	for (size_t at = 0; at < size; at += 2) {
		memcpy(&word, (const uint8_t *)bytes + at, 2);
		sum += word;
	}
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void flush(void)
{
	struct mmsghdr messages[BATCH] = {};
	struct iovec pieces[BATCH];
	int sent = 0;

	for (unsigned int i = 0; i < outgoing.frames; i++) {
		pieces[i] = (struct iovec){ outgoing.bytes[i], FRAME };
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while ((unsigned int)sent < outgoing.frames) {
		int more = sendmmsg(outgoing.fd, messages + sent, outgoing.frames - sent, 0);

		if (more <= 0) {
			perror("sendmmsg");
			exit(1);
		}
		sent += more;
	}
	outgoing.frames = 0;
}

/* The number of a flow is in its address and, 16 bits further up, in its port. */
static void send_segment(uint32_t number, uint32_t sequence, uint32_t acknowledged, uint8_t flags)
{
	uint8_t *frame = outgoing.bytes[outgoing.frames++];
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = htons(sizeof(ip) + sizeof(struct tcphdr)),
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.saddr = htonl(NETWORK | (number & 0xffff)),
		.daddr = host_be,
	};
	struct tcphdr tcp = {
		.th_sport = htons(FIRST_PORT + (number >> 16)),
		.th_dport = port_be,
		.th_seq = htonl(sequence),
		.th_ack = htonl(acknowledged),
		.th_off = sizeof(tcp) / 4,
		.th_flags = flags,
		.th_win = htons(65535),
	};

	ip.check = folded(add(0, &ip, sizeof(ip)));
	tcp.th_sum = folded(add(add(htons(IPPROTO_TCP) + htons(sizeof(tcp)), &ip.saddr, 8), &tcp,
				sizeof(tcp)));
	memcpy(frame, &ethernet, sizeof(ethernet));
	memcpy(frame + sizeof(ethernet), &ip, sizeof(ip));
	memcpy(frame + sizeof(ethernet) + sizeof(ip), &tcp, sizeof(tcp));
	if (outgoing.frames == BATCH)
		flush();
}

/* Whether the frame is a SYN-ACK of the host; then it is answered. */
static int answer(const uint8_t *frame, int reset)
{
	struct iphdr ip;
	struct tcphdr tcp;
	uint32_t number;

	memcpy(&ip, frame + sizeof(ethernet), sizeof(ip));
	memcpy(&tcp, frame + sizeof(ethernet) + sizeof(ip), sizeof(tcp));
	if (ip.protocol != IPPROTO_TCP || ip.saddr != host_be || tcp.th_sport != port_be ||
	    tcp.th_flags != (TH_SYN | TH_ACK))
		return 0;
	number = (ntohl(ip.daddr) & 0xffff) | (uint32_t)(ntohs(tcp.th_dport) - FIRST_PORT) << 16;
	send_segment(number, ISN + 1, ntohl(tcp.th_seq) + 1, TH_ACK);
	if (reset)
		send_segment(number, ISN + 1, 0, TH_RST);
	return 1;
}

static uint32_t connect_all(uint32_t flows, double seconds, int reset)
{
	static uint8_t frames[BATCH][256];
	struct mmsghdr messages[BATCH] = {};
	struct iovec pieces[BATCH];
	uint32_t sent = 0, answered = 0, lost = 0;
	double end = now() + seconds, heard = now();

	for (int i = 0; i < BATCH; i++) {
		pieces[i] = (struct iovec){ frames[i], sizeof(frames[i]) };
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (answered < flows && now() < end) {
		double asked = now();
		int received = recvmmsg(outgoing.fd, messages, BATCH, MSG_DONTWAIT, NULL);

		for (int i = 0; i < received; i++)
			answered += answer(frames[i], reset);
		if (received > 0)
			heard = asked;
		for (int i = 0; i < BATCH && sent - lost < flows &&
				sent - answered - lost < UNANSWERED; i++)
			send_segment(sent++, ISN, 0, TH_SYN);
		flush();
		/* Who got no answer for a while gets none; another takes the place. */
		if (asked - heard > 0.2) {
			lost = sent - answered;
			heard = asked;
		}
	}
	return answered;
}

static int run_connect(char **arguments)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex(arguments[0]),
	};
	int room = 64 << 20;

	memcpy(ethernet.ether_dhost, ether_aton(arguments[1]), ETH_ALEN);
	ethernet.ether_shost[0] = 2;
	ethernet.ether_type = htons(ETHERTYPE_IP);
	host_be = inet_addr(arguments[2]);
	port_be = htons((uint16_t)atoi(arguments[3]));
	outgoing.fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
	setsockopt(outgoing.fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(outgoing.fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		perror("bind");
		return 1;
	}
	printf("%u\n", connect_all((uint32_t)atoi(arguments[4]), atof(arguments[5]),
				   strcmp(arguments[6], "reset") == 0));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 9 && strcmp(argv[1], "connect") == 0)
		return run_connect(argv + 2);
	if (argc == 2 && strcmp(argv[1], "accept") == 0) {
		while (1) {
			int fd = accept(STDIN_FILENO, NULL, NULL);

			if (fd >= 0)
				close(fd);
		}
	}
	fputs("usage: see crowd.c\n", stderr);
	return 2;
}
