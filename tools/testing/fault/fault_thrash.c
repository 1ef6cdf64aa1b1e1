// SPDX-License-Identifier: GPL-2.0
/*
 * fault_thrash - threads fault in files that do not fit into their memcg
 *
 * Each thread has a file of its own, and maps it, reads a byte of each page, and
 * unmaps it, round after round, in a memcg that holds a fraction of the files.
 * What a fault has read may be reclaimed before the fault is retried, then it is
 * read again; and each mmap() and munmap() of the other threads stands in the way
 * of a retry that needs mmap_lock. The files are written, not sparse: holes would
 * be filled without a read.
 *
 *	-d DIR		where the files are made (.); on a disk, not on tmpfs
 *	-n THREADS	threads, and files (48)
 *	-s MIB		size of each file (2)
 *	-m MIB		limit of the memcg (24)
 *	-T SECONDS	how long (30)
 *	-r		read in random order (MADV_RANDOM): no readahead
 *
 * Prints lines "metric NAME VALUE": rounds of all threads; major-faults, those of
 * the process; gone, reads in vain: a fault counts one PGMAJFAULT for each time
 * that it finds no folio, and is one major fault at its end, so the difference is
 * the retries that found the folio gone; gone-percent, of the waits without a
 * lock (retries and resumed faults). /proc/vmstat counts the whole machine: let
 * nothing else run.
 *
 * Needs root, cgroup2 at /sys/fs/cgroup, and CONFIG_PER_VMA_LOCK_STATS; ends with
 * status 4 (skip) without them. Restores the memcg and removes the files.
 */
#define _GNU_SOURCE
#include "workload.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CGROUPS "/sys/fs/cgroup/"
#define GROUP CGROUPS "fault_thrash/"

static const char *dir = ".";
static long threads = 48, file_mib = 2, limit_mib = 24, seconds = 30;
static int advice = MADV_NORMAL;
static bool had_memory;
static size_t page;

static atomic_bool stop;
static atomic_long rounds;

static void file_name(char *path, size_t size, long n)
{
	snprintf(path, size, "%s/fault_thrash.%ld", dir, n);
}

static void write_file(long n)
{
	char path[4096], *block = malloc(MiB);
	int fd;

	file_name(path, sizeof(path), n);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (!block || fd < 0)
		die(path);
	memset(block, n + 1, MiB);
	for (long i = 0; i < file_mib; i++)
		if (write(fd, block, MiB) != (ssize_t)MiB)
			die(path);
	if (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die(path);
	close(fd);
	free(block);
}

static void restore(void)
{
	char path[4096];

	for (long n = 0; n < threads; n++) {
		file_name(path, sizeof(path), n);
		unlink(path);
	}
	rmdir(GROUP);
	if (!had_memory)
		write_text(CGROUPS "cgroup.subtree_control", "-memory");
}

static void make_group(void)
{
	char text[256] = "";

	if (!read_text(CGROUPS "cgroup.controllers", text, sizeof(text)) ||
	    !strstr(text, "memory"))
		quit(EXIT_SKIP, "no memory controller at " CGROUPS "; mount cgroup2, CONFIG_MEMCG");
	text[0] = '\0';
	read_text(CGROUPS "cgroup.subtree_control", text, sizeof(text));
	had_memory = strstr(text, "memory");
	if ((!had_memory && !write_text(CGROUPS "cgroup.subtree_control", "+memory")) ||
	    (mkdir(GROUP, 0755) && errno != EEXIST))
		quit(EXIT_SKIP, GROUP " cannot be made; run as root");
	if (!write_number(GROUP "memory.max", limit_mib * MiB)) {
		restore();
		quit(EXIT_SKIP, GROUP "memory.max cannot be set; run as root");
	}
	/* The process itself stays in memory. */
	write_text(GROUP "memory.swap.max", "0");
}

static void *reader(void *arg)
{
	size_t size = file_mib * MiB;
	long n = (long)arg;
	char path[4096];
	int fd;

	file_name(path, sizeof(path), n);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	while (!stop) {
		char *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED || madvise(p, size, advice))
			die("mmap");
		for (size_t at = 0; at < size && !stop; at += page)
			if (load(p + at) != (char)(n + 1))
				quit(EXIT_FAILURE, "wrong data in %s", path);
		munmap(p, size);
		if (!stop)
			rounds++;
	}
	close(fd);
	return NULL;
}

static void work(void)
{
	long reads, gone, waited;
	struct rusage usage;
	struct waits waits;
	uint64_t begin;
	pthread_t *ids = calloc(threads, sizeof(*ids));

	for (long n = 0; n < threads; n++)
		write_file(n);
	if (!ids || !write_number(GROUP "cgroup.procs", getpid()))
		die(GROUP "cgroup.procs");
	waits = read_waits();
	reads = vm_counter("pgmajfault");
	getrusage(RUSAGE_SELF, &usage);
	gone = usage.ru_majflt;

	for (long n = 0; n < threads; n++)
		if (pthread_create(&ids[n], NULL, reader, (void *)n))
			die("pthread_create");
	begin = now();
	sleep(seconds);
	stop = true;
	for (long n = 0; n < threads; n++)
		pthread_join(ids[n], NULL);

	getrusage(RUSAGE_SELF, &usage);
	reads = vm_counter("pgmajfault") - reads;
	gone = reads - (usage.ru_majflt - gone);
	printf("metric ms %.0f\n", (now() - begin) / 1e6);
	printf("metric rounds %ld\n", (long)rounds);
	printf("metric major-faults %ld\n", reads - gone);
	printf("metric gone %ld\n", gone);
	waited = print_waits(waits);
	printf("metric gone-percent %.3f\n", waited ? 100.0 * gone / waited : 0);
}

int main(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "d:n:s:m:T:r")) != -1) {
		if (opt == 'd')
			dir = optarg;
		else if (opt == 'n')
			threads = to_number(optarg, 1, 10000);
		else if (opt == 's')
			file_mib = to_number(optarg, 1, 4096);
		else if (opt == 'm')
			limit_mib = to_number(optarg, 2, 1 << 20);
		else if (opt == 'T')
			seconds = to_number(optarg, 1, 86400);
		else if (opt == 'r')
			advice = MADV_RANDOM;
		else
			return EXIT_FAILURE;
	}
	page = sysconf(_SC_PAGESIZE);
	need_counters();
	make_group();
	return run_and_restore(work, restore);
}
