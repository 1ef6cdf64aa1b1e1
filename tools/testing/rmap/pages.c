// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

#include "pages.h"
#include "system.h"

#define PRESENT		0x8000000000000000ULL
#define PFN_MASK	((1ULL << 55) - 1)

const char * const type_names[NR_TYPES] = { "ksm", "anon", "file", "split" };

static long page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static bool read_entry(const char *path, uint64_t index, uint64_t *entry)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && pread(fd, entry, 8, index * 8) == 8;

	if (fd >= 0)
		close(fd);
	return ok;
}

uint64_t pfn_of(const void *address)
{
	uint64_t entry;

	if (!read_entry("/proc/self/pagemap", (uintptr_t)address / page_size(), &entry))
		fail("can't read /proc/self/pagemap: %s", strerror(errno));
	return entry & PRESENT ? entry & PFN_MASK : 0;
}

uint64_t mappings_of(uint64_t pfn)
{
	uint64_t count;

	return read_entry("/proc/kpagecount", pfn, &count) ? count : ~0ULL;
}

unsigned long mappings_wanted(const struct pages *pages)
{
	if (pages->type == TYPE_SPLIT)
		return 1;
	return pages->sharers * (pages->type == TYPE_KSM ? 1 + pages->children : 1);
}

/*
 * Memory between two guard pages: a neighbour would lend its anon_vma, and with
 * it VMAs that are not ours to count.
 */
static char *map(unsigned long count, int flags, int fd)
{
	long size = count * page_size();
	char *guard = mmap(NULL, size + 2 * page_size(), PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p = guard + page_size();

	if (guard == MAP_FAILED ||
	    mmap(p, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

static void unmap(char *p, unsigned long count)
{
	munmap(p - page_size(), (count + 2) * page_size());
}

static char *nth_page(const struct pages *pages, unsigned long n)
{
	return pages->region + n * page_size();
}

/* The page of a sharer: they are spread evenly over the region. */
static char *sharer(const struct pages *pages, unsigned long n)
{
	return nth_page(pages, n * pages->region_pages / pages->sharers);
}

/*
 * An anon_vma with many VMAs: a VMA gets it at the first fault and is then
 * split, for every second page differs in protection.
 */
static void split(const struct pages *pages)
{
	for (unsigned long i = 1; i < pages->region_pages; i += 2) {
		if (mprotect(nth_page(pages, i), page_size(), PROT_READ))
			fail("mprotect: %s; is vm.max_map_count below -n?", strerror(errno));
		if (i % 4096 == 1) {
			stop_if_asked();
			progress("%s: %lu of %lu VMAs", type_names[pages->type], i, pages->vmas);
		}
	}
}

static bool merged(const struct pages *pages, uint64_t *pfn)
{
	*pfn = pfn_of(pages->page);
	for (unsigned long i = 0; *pfn && i < pages->sharers; i++)
		if (pfn_of(sharer(pages, i)) != *pfn)
			return false;
	return *pfn;
}

static unsigned long scans(void)
{
	return read_number("/sys/kernel/mm/ksm/full_scans");
}

static void wait_for_scans(unsigned long wanted)
{
	unsigned long begin = scans();
	uint64_t until = deadline();

	while (scans() - begin < wanted)
		wait_a_little(until, "a scan by ksmd");
}

/*
 * ksmd merges two equal pages, never one alone: a page beside the region makes
 * the first pair, and goes.  Two more scans forget it.
 */
static void merge(const struct pages *pages)
{
	char *partner = map(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint64_t until = deadline(), pfn;

	memcpy(partner, pages->page, page_size());
	if (madvise(partner, page_size(), MADV_MERGEABLE))
		fail("madvise: %s", strerror(errno));
	set_ksm("run", 1);
	progress("ksm: ksmd has %lu pages to join", pages->sharers);
	while (!merged(pages, &pfn) || pfn_of(partner) != pfn)
		wait_a_little(until, "merging");
	unmap(partner, 1);
	wait_for_scans(2);
	/* It holds references while it scans; this waits until it does not. */
	set_ksm("run", 0);
}

/* It runs for so many full scans, from the first to the last of them. */
void scan_by_ksmd(unsigned long nr)
{
	set_ksm("run", 1);
	wait_for_scans(nr);
	set_ksm("run", 0);
}

static void build_region(struct pages *pages, bool ksm)
{
	static unsigned int round;
	unsigned int seed = getpid() * 1000 + ++round;

	pages->region_pages = pages->vmas;
	pages->region = map(pages->vmas, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pages->page = pages->region;
	if (ksm && madvise(pages->region, pages->vmas * page_size(), MADV_MERGEABLE))
		fail("madvise(MADV_MERGEABLE): %s", strerror(errno));
	for (unsigned long i = 0; i < (ksm ? pages->sharers : 1); i++)
		for (long at = 0; at < page_size(); at += sizeof(seed))
			memcpy((ksm ? sharer(pages, i) : pages->page) + at, &seed, sizeof(seed));
	split(pages);
	if (ksm)
		merge(pages);
}

static void child(const char *page, int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)*(volatile const char *)page;
	if (write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	for (;;)
		pause();
}

static void wait_until_ready(int fd, unsigned long wanted)
{
	uint64_t until = deadline();
	char byte[64];

	while (wanted) {
		struct pollfd poller = { .fd = fd, .events = POLLIN };
		ssize_t got = 0;

		if (poll(&poller, 1, 100) > 0)
			got = read(fd, byte, sizeof(byte));
		if (got > 0)
			wanted -= got;
		wait_a_little(until, "starting children");
	}
}

/* Children that have the page mapped, until drop_pages(). */
static void start_children(struct pages *pages, unsigned long count)
{
	int ready[2];

	pages->pids = calloc(count + 1, sizeof(*pages->pids));
	if (!pages->pids || pipe2(ready, O_CLOEXEC))
		fail("pipe: %s", strerror(errno));
	for (unsigned long i = 0; i < count; i++) {
		int pid = fork();

		stop_if_asked();
		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (!pid)
			child(pages->page, ready[1]);
		pages->pids[pages->nr_pids++] = pid;
		if (i % 64 == 0)
			progress("%s: %lu of %lu children", type_names[pages->type], i, count);
	}
	wait_until_ready(ready[0], count);
	close(ready[0]);
	close(ready[1]);
}

static void map_file(struct pages *pages)
{
	const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/rmap_benchmark.XXXXXX", folder);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		fail("can't make a file in %s: %s", folder, strerror(errno));
	unlink(path);
	if (ftruncate(fd, page_size()))
		fail("ftruncate: %s", strerror(errno));
	pages->region = map(1, MAP_SHARED, fd);
	close(fd);
}

static void build_page(struct pages *pages)
{
	if (pages->type == TYPE_FILE)
		map_file(pages);
	else
		pages->region = map(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pages->region_pages = 1;
	pages->page = pages->region;
	memset(pages->page, 1, page_size());
	start_children(pages, pages->sharers - 1);
}

void build_pages(struct pages *pages)
{
	uint64_t mappings;

	if (pages->type == TYPE_KSM || pages->type == TYPE_SPLIT)
		build_region(pages, pages->type == TYPE_KSM);
	else
		build_page(pages);
	if (pages->type == TYPE_KSM && pages->children)
		start_children(pages, pages->children);
	mappings = mappings_of(pfn_of(pages->page));
	if (mappings != ~0ULL && mappings != mappings_wanted(pages))
		fail("the %s page has %llu mappings instead of %lu", type_names[pages->type],
		     (unsigned long long)mappings, mappings_wanted(pages));
}

void drop_pages(struct pages *pages)
{
	for (unsigned long i = 0; i < pages->nr_pids; i++)
		kill(pages->pids[i], SIGKILL);
	for (unsigned long i = 0; i < pages->nr_pids; i++)
		waitpid(pages->pids[i], NULL, 0);
	free(pages->pids);
	pages->pids = NULL;
	pages->nr_pids = 0;
	if (pages->region)
		unmap(pages->region, pages->region_pages);
	pages->region = NULL;
}
