/*
 * Short TCP connections, as fast as the kernel makes them, from several processes at once.
 *   short serve ADDRESS FIRST_PORT PROCESSES
 *     Each process accepts on a port of its own, reads to the end and closes. Says "ready".
 *   short call ADDRESS FIRST_PORT PROCESSES SECONDS
 *     Each connects to a port of its own, sends 2000 bytes, ends and waits for the other's end.
 *     Says how many connections there were.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 2000, MOST_PROCESSES = 64 };

static char payload[SIZE];

static void must(int holds, const char *what)
{
	if (!holds) {
		perror(what);
		exit(1);
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static struct sockaddr_in address(char **arguments, int index)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)(atoi(arguments[1]) + index)),
		.sin_addr.s_addr = inet_addr(arguments[0]),
	};
}

static void read_to_end(int fd)
{
	char bytes[SIZE];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

static int listen_at(const struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	must(bind(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 && listen(fd, 1024) == 0,
	     "listen");
	return fd;
}

static void serve(int listener)
{
	while (1) {
		int fd = accept(listener, NULL, NULL);

		must(fd >= 0, "accept");
		read_to_end(fd);
		close(fd);
	}
}

static unsigned int call(const struct sockaddr_in *to, double seconds)
{
	double end = now() + seconds;
	unsigned int calls = 0;

	while (now() < end) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		must(connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0, "connect");
		must(write(fd, payload, SIZE) == SIZE && shutdown(fd, SHUT_WR) == 0, "send");
		read_to_end(fd);
		close(fd);
		calls++;
	}
	return calls;
}

int main(int argc, char **argv)
{
	int serves = argc == 5 && strcmp(argv[1], "serve") == 0;
	int calls = argc == 6 && strcmp(argv[1], "call") == 0;
	int processes = serves || calls ? atoi(argv[4]) : 0;
	unsigned int *made, sum = 0;
	int status, failures = 0;

	if (processes < 1 || processes > MOST_PROCESSES) {
		fputs("usage: see short.c\n", stderr);
		return 2;
	}
	made = mmap(NULL, MOST_PROCESSES * sizeof(*made), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(made != MAP_FAILED, "mmap");
	for (int i = 0; i < processes; i++) {
		struct sockaddr_in at = address(argv + 2, i);
		int listener = serves ? listen_at(&at) : -1;
		pid_t child = fork();

		must(child >= 0, "fork");
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (serves)
				serve(listener);
			made[i] = call(&at, atof(argv[5]));
			return 0;
		}
	}
	if (serves) {
		puts("ready");
		fflush(stdout);
	}
	while (wait(&status) > 0)
		failures += status != 0;
	for (int i = 0; i < processes; i++)
		sum += made[i];
	if (calls)
		printf("%u\n", sum);
	return failures > 0;
}
