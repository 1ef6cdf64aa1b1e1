// SPDX-License-Identifier: GPL-2.0
/*
 * fault_swapin - threads swap in what other threads swap out
 *
 * A region of anonymous memory, filled with what does not compress to nothing.
 * Some threads call MADV_PAGEOUT for it, again and again, others read a byte of
 * each page. So swap-ins meet folios that are locked: by reads of other threads,
 * which take long, and by reclaim, which does not.
 *
 *	-S DEVICE	where to swap to: a block device, WHOSE CONTENTS ARE LOST, or
 *			/dev/zramN, not in use; without -S the swap that is there
 *	-s MIB		size of the region (100)
 *	-o THREADS	threads that swap out (5)
 *	-i THREADS	threads that swap in (5)
 *	-T SECONDS	how long (30)
 *	-c CLUSTER	vm.page-cluster meanwhile; 0: no readahead of swap
 *
 * Prints lines "metric NAME VALUE": rounds of the readers, the pages that they
 * read by the pages of the region; swap-ins, of PSWPIN; retries-per-swapin, those
 * of faults that had to wait and lost their lock; and what became of the others.
 * /proc/vmstat counts the whole machine: let nothing else run.
 *
 * Needs root and CONFIG_PER_VMA_LOCK_STATS; ends with status 4 (skip) without
 * them. Restores the settings and switches the device off.
 */
#define _GNU_SOURCE
#include "workload.h"
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>

#define CLUSTER "/proc/sys/vm/page-cluster"

static const char *device;
static long mib = 100, outs = 5, ins = 5, seconds = 30, cluster = -1;
static char old_cluster[32];
static bool swapping;
static size_t page, size;
static char *region;

static atomic_bool stop;
static atomic_long pages_read;

/* /dev/zram0 -> /sys/block/zram0/FILE; false if it is no zram. */
static bool zram_file(char *path, size_t len, const char *file)
{
	if (!device || strncmp(device, "/dev/zram", 9))
		return false;
	snprintf(path, len, "/sys/block/%s/%s", device + 5, file);
	return true;
}

static void restore(void)
{
	char path[128];

	if (swapping && swapoff(device))
		fprintf(stderr, "swapoff %s: %s\n", device, strerror(errno));
	if (swapping && zram_file(path, sizeof(path), "reset"))
		write_text(path, "1");
	if (old_cluster[0])
		write_text(CLUSTER, old_cluster);
}

/* The header of a swap area, as mkswap makes it. */
static void make_swap_area(void)
{
	int fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	uint32_t *info;
	uint64_t bytes;
	char *header = calloc(1, page);

	if (fd < 0 || !header || ioctl(fd, BLKGETSIZE64, &bytes))
		quit(EXIT_SKIP, "%s: %s; name a block device that is not in use", device,
		     strerror(errno));
	if (bytes < 2 * size)
		quit(EXIT_SKIP, "%s is smaller than twice the region", device);
	info = (uint32_t *)(header + 1024);
	info[0] = 1;
	info[1] = bytes / page - 1;
	memcpy(header + page - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, header, page, 0) != (ssize_t)page || fsync(fd))
		die(device);
	close(fd);
	free(header);
}

static void start_swap(void)
{
	char path[128];

	if (device && zram_file(path, sizeof(path), "disksize") &&
	    !write_number(path, 4 * size))
		quit(EXIT_SKIP, "%s: %s; name a zram that is not in use", path, strerror(errno));
	if (device) {
		make_swap_area();
		if (swapon(device, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK))
			quit(EXIT_SKIP, "swapon %s: %s; run as root", device, strerror(errno));
		swapping = true;
	}
	if (cluster >= 0) {
		if (!read_text(CLUSTER, old_cluster, sizeof(old_cluster)) ||
		    !write_number(CLUSTER, cluster)) {
			restore();
			quit(EXIT_SKIP, CLUSTER " cannot be set; run as root");
		}
	}
}

static uint64_t content(size_t at)
{
	return at * 0x9e3779b97f4a7c15ULL + 1;
}

static void fill(void)
{
	region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED)
		die("mmap");
	madvise(region, size, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += page)
		for (size_t i = 0; i < page / 4; i += sizeof(uint64_t))
			*(uint64_t *)(region + at + i) = content(at + i);
}

static void *swap_out(void *arg)
{
	(void)arg;
	while (!stop)
		if (madvise(region, size, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
	return NULL;
}

static void *swap_in(void *arg)
{
	/* Where a thread begins: they do not all want the same page. */
	size_t at = (long)arg * (size / ins) / page * page;

	while (!stop) {
		if (load((uint64_t *)(region + at)) != content(at))
			quit(EXIT_FAILURE, "wrong data at %#zx", at);
		pages_read++;
		at = (at + page) % size;
	}
	return NULL;
}

static void work(void)
{
	pthread_t *ids = calloc(outs + ins, sizeof(*ids));
	long swapins, waited;
	struct waits waits;
	uint64_t begin;

	if (!ids)
		die("calloc");
	fill();
	if (madvise(region, size, MADV_PAGEOUT))
		die("MADV_PAGEOUT");
	waits = read_waits();
	swapins = vm_counter("pswpin");
	for (long n = 0; n < outs + ins; n++)
		if (pthread_create(&ids[n], NULL, n < outs ? swap_out : swap_in,
				   (void *)(n < outs ? n : n - outs)))
			die("pthread_create");
	begin = now();
	sleep(seconds);
	stop = true;
	for (long n = 0; n < outs + ins; n++)
		pthread_join(ids[n], NULL);

	swapins = vm_counter("pswpin") - swapins;
	if (swapins < 1)
		quit(EXIT_SKIP, "nothing was swapped in; -S names a device to swap to");
	printf("metric ms %.0f\n", (now() - begin) / 1e6);
	printf("metric rounds %.2f\n", (double)pages_read / (size / page));
	printf("metric swap-ins %ld\n", swapins);
	waited = read_waits().retried - waits.retried;
	print_waits(waits);
	printf("metric retries-per-swapin %.4f\n", (double)waited / swapins);
}

int main(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "S:s:o:i:T:c:")) != -1) {
		if (opt == 'S')
			device = optarg;
		else if (opt == 's')
			mib = to_number(optarg, 1, 1 << 20);
		else if (opt == 'o')
			outs = to_number(optarg, 0, 1000);
		else if (opt == 'i')
			ins = to_number(optarg, 1, 1000);
		else if (opt == 'T')
			seconds = to_number(optarg, 1, 86400);
		else if (opt == 'c')
			cluster = to_number(optarg, 0, 10);
		else
			return EXIT_FAILURE;
	}
	page = sysconf(_SC_PAGESIZE);
	size = mib * MiB;
	need_counters();
	start_swap();
	return run_and_restore(work, restore);
}
