// SPDX-License-Identifier: GPL-2.0
/*
 * fault_minor - what does a page fault cost that does not wait?
 *
 * The hot path, which must not pay for what is done about faults that wait:
 * anonymous pages, pages of tmpfs that are in memory (sixteen at a time, by
 * fault-around), and copies of these on write. All from user mode, under the
 * per-VMA lock.
 *
 *	-s MIB		size of the region (8)
 *	-n ROUNDS	how often it is faulted in (20)
 *
 * Prints lines "metric NAME VALUE": nanoseconds for a fault of each kind, the
 * least of all rounds, for interrupts add to the others. Under QEMU's
 * "-icount shift=0,sleep=off" these are instructions, of the program and of the
 * kernel together. Changes no settings.
 */
#define _GNU_SOURCE
#include "workload.h"
#include <sys/mman.h>

enum kind { ANON, FILE_READ, FILE_COPY, KINDS };

static const char * const names[KINDS] = { "anon", "tmpfs-read", "tmpfs-copy" };
static long mib = 8, rounds = 20;
static size_t page, size;

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Nanoseconds for one fault; maps the region anew, so that all of it faults. */
static double fault_in(enum kind kind, int fd)
{
	int prot = PROT_READ | (kind == FILE_READ ? 0 : PROT_WRITE);
	int flags = MAP_PRIVATE | (kind == ANON ? MAP_ANONYMOUS : 0);
	char *p = mmap(NULL, size, prot, flags, kind == ANON ? -1 : fd, 0);
	uint64_t begin, end;
	long faults;

	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, size, MADV_NOHUGEPAGE);
	faults = minor_faults();
	begin = now();
	for (size_t at = 0; at < size; at += page) {
		if (kind == FILE_READ)
			load(p + at);
		else
			store(p + at, 1);
	}
	end = now();
	faults = minor_faults() - faults;
	munmap(p, size);
	if (!faults)
		quit(EXIT_FAILURE, "no faults were counted");
	return (double)(end - begin) / faults;
}

int main(int argc, char **argv)
{
	int fd, opt;

	while ((opt = getopt(argc, argv, "s:n:")) != -1) {
		if (opt == 's')
			mib = to_number(optarg, 1, 4096);
		else if (opt == 'n')
			rounds = to_number(optarg, 1, 100000);
		else
			return EXIT_FAILURE;
	}
	page = sysconf(_SC_PAGESIZE);
	size = mib * MiB;
	fd = memfd_create("fault_minor", MFD_CLOEXEC);
	if (fd < 0 || fallocate(fd, 0, 0, size))
		die("memfd_create");
	for (int kind = 0; kind < KINDS; kind++) {
		double least = 1e18;

		for (long i = 0; i < rounds; i++) {
			double ns = fault_in(kind, fd);

			least = ns < least ? ns : least;
		}
		printf("metric ns-per-%s-fault %.2f\n", names[kind], least);
	}
	return EXIT_SUCCESS;
}
