/*
 * To be preloaded: what the wall clock and the boot-time clock tell is moved by what the file
 * CLOCK_OFFSETS says, two numbers of 64 bits, in ns, at any time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offsets;

__attribute__((constructor)) static void map_offsets(void)
{
	const char *path = getenv("CLOCK_OFFSETS");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped;

	if (fd < 0)
		abort();
	mapped = mmap(NULL, 2 * sizeof(*offsets), PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		abort();
	close(fd);
	offsets = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	const int64_t second = 1000000000;
	int result = (int)syscall(SYS_clock_gettime, clock, now);
	int64_t moved;

	if (result != 0 || !offsets || (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME))
		return result;
	moved = now->tv_sec * second + now->tv_nsec + offsets[clock == CLOCK_BOOTTIME];
	now->tv_sec = moved / second;
	now->tv_nsec = moved % second;
	return 0;
}
