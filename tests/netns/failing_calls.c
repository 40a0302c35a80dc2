/*
 * Preloaded into the program under test: counts the calls that it makes from main() on, and lets
 * chosen ones fail. Told what to do, and asked what was done, through a file that both sides map
 * (FAILING_CALLS names it), so that it makes no system call of its own.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* faults.py has the same names in the same order. */
enum function {
	OPEN,
	WRITE,
	FSYNC,
	FDATASYNC,
	SYNCFS,
	RENAME,
	MKDIR,
	MMAP,
	MALLOC,
	FTRUNCATE,
	FUNCTIONS,
};

/* What the file holds. */
static struct control {
	/* Set by the test. */
	_Atomic uint32_t failing;    /* bits: 1 << enum function */
	_Atomic uint32_t nth;	     /* call of a function fails; 0 = every one */
	_Atomic uint32_t every;	     /* such call after the nth fails, too; 0 = none */
	_Atomic uint32_t error;	     /* the errno */
	_Atomic uint32_t only_files; /* others than of files of the data directory don't count */
	/* Set here. */
	_Atomic uint32_t failed;
	_Atomic uint32_t failed_files; /* of these, calls about files of the data directory */
	_Atomic uint32_t calls[FUNCTIONS];
} unused, *control = &unused;

static int in_main;

static int is_chosen(uint32_t call)
{
	uint32_t nth = control->nth, every = control->every;

	if (nth == 0 || call == nth)
		return 1;
	return every != 0 && call > nth && (call - nth) % every == 0;
}

/* Whether this call is to fail; errno says of what. */
static int fails(enum function function, int of_files)
{
	if (!in_main || (control->only_files && !of_files))
		return 0;
	uint32_t call = atomic_fetch_add(&control->calls[function], 1) + 1;

	if (!(control->failing & 1U << function) || !is_chosen(call))
		return 0;
	atomic_fetch_add(&control->failed, 1);
	if (of_files)
		atomic_fetch_add(&control->failed_files, 1);
	errno = (int)control->error;
	return 1;
}

/* Files and folders are reached by descriptors only in the data directory. */
static int is_of_files(int fd)
{
	struct stat status;
	int before = errno;
	int yes = fd > STDERR_FILENO && fstat(fd, &status) == 0 &&
		  (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));

	errno = before;
	return yes;
}

static int open_at(int folder, const char *path, int flags, va_list arguments)
{
	mode_t mode = 0;

	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
		mode = va_arg(arguments, mode_t);
	if (fails(OPEN, folder != AT_FDCWD && is_of_files(folder)))
		return -1;
	return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define DEFINE_OPEN(name)                                               \
	int name(const char *path, int flags, ...)                      \
	{                                                               \
		va_list arguments;                                      \
		int fd;                                                 \
		va_start(arguments, flags);                             \
		fd = open_at(AT_FDCWD, path, flags, arguments);         \
		va_end(arguments);                                      \
		return fd;                                              \
	}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPEN(__open_2)
DEFINE_OPEN(__open64_2)

#define DEFINE_OPENAT(name)                                             \
	int name(int folder, const char *path, int flags, ...)          \
	{                                                               \
		va_list arguments;                                      \
		int fd;                                                 \
		va_start(arguments, flags);                             \
		fd = open_at(folder, path, flags, arguments);           \
		va_end(arguments);                                      \
		return fd;                                              \
	}
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
DEFINE_OPENAT(__openat_2)
DEFINE_OPENAT(__openat64_2)

ssize_t write(int fd, const void *bytes, size_t size)
{
	return fails(WRITE, is_of_files(fd)) ? -1 : syscall(SYS_write, fd, bytes, size);
}

int fsync(int fd)
{
	return fails(FSYNC, is_of_files(fd)) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return fails(FDATASYNC, is_of_files(fd)) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int syncfs(int fd)
{
	return fails(SYNCFS, is_of_files(fd)) ? -1 : (int)syscall(SYS_syncfs, fd);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags)
{
	if (fails(RENAME, is_of_files(to_folder)))
		return -1;
	return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
	return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
	if (fails(RENAME, is_of_files(to_folder)))
		return -1;
	return (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
	return fails(MKDIR, is_of_files(folder)) ? -1 : (int)syscall(SYS_mkdirat, folder, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int ftruncate64(int fd, off64_t size)
{
	return fails(FTRUNCATE, is_of_files(fd)) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
	if (fails(MMAP, is_of_files(fd)))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

int mprotect(void *at, size_t size, int protection)
{
	return fails(MMAP, 0) ? -1 : (int)syscall(SYS_mprotect, at, size, protection);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap64(at, size, protection, flags, fd, offset);
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *bytes, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
	return fails(MALLOC, 0) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails(MALLOC, 0) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *bytes, size_t size)
{
	return fails(MALLOC, 0) ? NULL : __libc_realloc(bytes, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return fails(MALLOC, 0) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **bytes, size_t alignment, size_t size)
{
	if (fails(MALLOC, 0))
		return ENOMEM;
	*bytes = __libc_memalign(alignment, size);
	return *bytes ? 0 : ENOMEM;
}

static int (*real_main)(int, char **, char **);

static int counted_main(int argc, char **argv, char **environment)
{
	in_main = 1;
	return real_main(argc, argv, environment);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
		      void (*init)(void), void (*fini)(void), void (*ld_fini)(void), void *stack_end)
{
	int (*start)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
		     void (*)(void), void *) = dlsym(RTLD_NEXT, "__libc_start_main");
	const char *path = getenv("FAILING_CALLS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd >= 0) {
		void *mapped = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (mapped != MAP_FAILED)
			control = mapped;
		close(fd);
	}
	real_main = main;
	return start(counted_main, argc, argv, init, fini, ld_fini, stack_end);
}
