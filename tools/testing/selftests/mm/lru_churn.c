// SPDX-License-Identifier: GPL-2.0-only
/*
 * Anonymous folios wait in per-CPU batches before they are put on the LRU. What
 * dies meanwhile need not go there. Check that it does not (count how often the
 * lruvec lock is taken), and that whoever depends on folios being on the LRU
 * still finds those that were just populated: reclaim, migration, collapse,
 * seals, copy on write, KSM, soft offline, and the statistics of mlocked memory.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vm_util.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif

#define TRACEFS		"/sys/kernel/tracing/"
#define CGROUPS		"/sys/fs/cgroup/"

#define KPF_LRU		BIT_ULL(5)
#define KPF_ACTIVE	BIT_ULL(6)

/* What a batch holds, FOLIO_BATCH_SIZE. The kernel does not tell. */
#define BATCH		31UL

/* A multiple of it, and of 2 and 4; long enough to show a lock in ten batches. */
#define CYCLES		(BATCH * 20)
#define WARM_UP		(BATCH * 3)

#define MAX_LIVE	64
#define MAX_PAGES	64
#define MAX_HUGE	(32UL << 20)
#define TRIES		5
#define MANY_TRIES	15
#define ROUNDS		100
#define WAIT_TRIES	100	/* Of 10 ms each. */

static void *anon(size_t pages, int flags)
{
	return mmap(NULL, pages * psize(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void unmap(void *addr, size_t pages)
{
	munmap(addr, pages * psize());
}

/* Which CPUs we may use, in order. */
static int nth_cpu(int nth)
{
	static cpu_set_t allowed;
	int cpu;

	if (!CPU_COUNT(&allowed) && sched_getaffinity(0, sizeof(allowed), &allowed))
		return -1;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && !nth--)
			return cpu;
	return -1;
}

static int nr_cpus(void)
{
	int nr = 0;

	while (nth_cpu(nr) >= 0)
		nr++;
	return nr;
}

static bool run_on(int nth)
{
	int cpu = nth_cpu(nth);
	cpu_set_t set;

	if (cpu < 0)
		return false;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

static bool put(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY);
	ssize_t ret;

	if (fd < 0)
		return false;
	ret = write(fd, val, strlen(val));
	close(fd);
	return ret == (ssize_t)strlen(val);
}

/* Contents: each word tells the page it is in. */

static void fill(char *addr, size_t pages)
{
	uint64_t *p = (uint64_t *)addr;
	size_t i, words = psize() / sizeof(*p);

	for (i = 0; i < pages * words; i++)
		p[i] = i / words + 1;
}

static bool intact(const char *addr, size_t pages)
{
	const uint64_t *p = (const uint64_t *)addr;
	size_t i, words = psize() / sizeof(*p);

	for (i = 0; i < pages * words; i++)
		if (p[i] != i / words + 1)
			return false;
	return true;
}

/* Empty the batches of this CPU, as munlock() does before and after its walk. */
static bool drain(void)
{
	void *p = anon(1, 0);
	bool ok = p != MAP_FAILED && !mlock(p, psize()) && !munlock(p, psize());

	unmap(p, 1);
	return ok;
}

/*
 * How often: count calls with the kernel's function profiler
 */

/* All that takes the lruvec lock for a folio. */
static const char * const lockers[] = {
	"folio_lruvec_lock", "folio_lruvec_lock_irq", "folio_lruvec_lock_irqsave",
};

/* Holds no lock of ours but must be counted, or the profiler counts nothing. */
#define WITNESS		"populate_vma_page_range"

static bool trace_starts_with(const char *file, const char *val)
{
	char path[128], buf[64] = "";

	snprintf(path, sizeof(path), TRACEFS "%s", file);
	return read_file(path, buf, sizeof(buf)) && !strncmp(buf, val, strlen(val));
}

/* Nobody else profiles or filters functions, so we know what to go back to. */
static bool tracing_is_unused(void)
{
	return trace_starts_with("function_profile_enabled", "0") &&
	       trace_starts_with("set_ftrace_filter", "#### all functions enabled ####") &&
	       trace_starts_with("current_tracer", "nop");
}

static bool add_filter(const char *name)
{
	int fd = open(TRACEFS "set_ftrace_filter", O_WRONLY | O_APPEND);
	bool ok;

	if (fd < 0)
		return false;
	/* Without the line's end, it is close() that looks the name up. */
	ok = dprintf(fd, "%s\n", name) > 0;
	close(fd);
	return ok;
}

static bool profile(bool on)
{
	return put(TRACEFS "function_profile_enabled", on ? "1" : "0");
}

static void forget_filter(void)
{
	int fd = open(TRACEFS "set_ftrace_filter", O_WRONLY | O_TRUNC);

	if (fd >= 0)
		close(fd);
}

struct hits {
	unsigned long locks;
	unsigned long witness;
};

/* Of this CPU. It starts at zero whenever the profile is enabled. */
static bool read_hits(struct hits *hits)
{
	char path[128], line[256], name[64];
	unsigned long nr;
	FILE *f;

	memset(hits, 0, sizeof(*hits));
	snprintf(path, sizeof(path), TRACEFS "trace_stat/function%d", sched_getcpu());
	f = fopen(path, "r");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %63s %lu", name, &nr) != 2)
			continue;
		/* The kernel truncates names. */
		if (!strncmp(name, "folio_lruvec_lock", 17))
			hits->locks += nr;
		else if (!strncmp(name, WITNESS, strlen(name)))
			hits->witness += nr;
	}
	fclose(f);
	return true;
}

/* How a cycle gets its pages. */
enum way {
	POPULATE,	/* mmap(MAP_POPULATE) */
	MADVISE,	/* mmap(), MADV_POPULATE_WRITE */
	TOUCH,		/* mmap(), a store to each page */
	LOCKED,		/* mmap(MAP_LOCKED) */
	WILLNEED,	/* mmap(), a store to each page, MADV_WILLNEED */
};

/* The oldest of the live areas goes before a new one comes. */
struct churn {
	enum way way;
	size_t pages;
	size_t live;
	size_t next;
	bool failed;
	char *area[MAX_LIVE];
};

static char *get_area(enum way way, size_t pages)
{
	int flags = way == POPULATE ? MAP_POPULATE : way == LOCKED ? MAP_LOCKED : 0;
	char *p = anon(pages, flags);
	size_t i;

	if (p == MAP_FAILED)
		return NULL;
	if (way == MADVISE && madvise(p, pages * psize(), MADV_POPULATE_WRITE))
		return NULL;
	for (i = 0; i < pages; i++)
		p[i * psize()] = 1;
	if (way == WILLNEED && madvise(p, pages * psize(), MADV_WILLNEED))
		return NULL;
	return p;
}

static void cycle(struct churn *c)
{
	char **slot = &c->area[c->next++ % c->live];

	if (*slot)
		unmap(*slot, c->pages);
	*slot = get_area(c->way, c->pages);
	c->failed |= !*slot;
	/* With one live area nothing outlives its cycle. */
	if (c->live == 1 && *slot) {
		unmap(*slot, c->pages);
		*slot = NULL;
	}
}

static void cycles(struct churn *c, size_t nr)
{
	while (nr--)
		cycle(c);
}

FIXTURE(lru_churn_locks)
{
	bool on;
};

FIXTURE_VARIANT(lru_churn_locks)
{
	int gen;	/* Of lru_gen: all of it, or none. */
};

FIXTURE_VARIANT_ADD(lru_churn_locks, classic)
{
	.gen = 0,
};

FIXTURE_VARIANT_ADD(lru_churn_locks, mglru)
{
	.gen = 7,
};

#define LRU_GEN	"/sys/kernel/mm/lru_gen/enabled"

static int lru_gen(void)
{
	char buf[16] = "";

	if (!read_file(LRU_GEN, buf, sizeof(buf)))
		return 0;
	return strtol(buf, NULL, 0);
}

static bool set_lru_gen(int gen)
{
	return put(LRU_GEN, gen ? "7" : "0") && !lru_gen() == !gen;
}

/* What it was before the tests. */
static int saved_gen;

/* Why nothing can be counted, and what to do about it; or NULL. */
static const char *cannot_count(void)
{
	size_t i;

	if (access(TRACEFS "function_profile_enabled", W_OK))
		return "no function profiler: needs root, tracefs, CONFIG_FUNCTION_PROFILER";
	if (!tracing_is_unused())
		return "the function tracer or its profiler is in use: switch it off";
	for (i = 0; i < ARRAY_SIZE(lockers); i++)
		if (!add_filter(lockers[i]))
			return "the lruvec lock is taken inline: needs CONFIG_MEMCG";
	return add_filter(WITNESS) ? NULL : "no " WITNESS " to trace: teach this test its new name";
}

FIXTURE_SETUP(lru_churn_locks)
{
	const char *why;

	if (lru_gen() != variant->gen && !set_lru_gen(variant->gen))
		SKIP(return, "no lru_gen to switch: needs root and CONFIG_LRU_GEN");
	self->on = tracing_is_unused();
	why = cannot_count();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(run_on(0));
}

/* In the parent, which survives whatever may happen to the test. */
FIXTURE_TEARDOWN_PARENT(lru_churn_locks)
{
	if (self->on) {
		profile(false);
		forget_filter();
	}
	set_lru_gen(saved_gen);
}

/*
 * The profiler does not tell tasks apart, others on this CPU can add to the
 * count, never reduce it: the least of some counts is ours. More are in vain
 * once there is one that is no more than it should be.
 */
static unsigned long count(struct __test_metadata *_metadata, enum way way,
			   size_t pages, size_t live, unsigned long wanted)
{
	struct churn c = { .way = way, .pages = pages, .live = live };
	unsigned long least = -1UL;
	struct hits hits;
	int i;

	ASSERT_TRUE(drain());
	cycles(&c, WARM_UP);
	for (i = 0; i < MANY_TRIES && least > wanted; i++) {
		ASSERT_TRUE(profile(true));
		cycles(&c, CYCLES);
		ASSERT_TRUE(profile(false));
		ASSERT_TRUE(read_hits(&hits));
		if (way == POPULATE || way == LOCKED)
			ASSERT_GE(hits.witness, CYCLES);
		if (hits.locks < least)
			least = hits.locks;
	}
	ASSERT_FALSE(c.failed);
	TH_LOG("%lu locks in %lu cycles of %zu pages", least, CYCLES, pages);
	return least;
}

#define ASSERT_LOCKS(cmp, way, pages, live, wanted)			\
do {									\
	const unsigned long _wanted = wanted;				\
									\
	ASSERT_##cmp(count(_metadata, way, pages, live, _wanted), _wanted); \
} while (0)

/* The reported case: it took the lock twice, once to add and once to remove. */
TEST_F(lru_churn_locks, populate_1)
{
	ASSERT_LOCKS(EQ, POPULATE, 1, 1, 0);
}

TEST_F(lru_churn_locks, populate_4)
{
	ASSERT_LOCKS(EQ, POPULATE, 4, 1, 0);
}

TEST_F(lru_churn_locks, populate_16)
{
	ASSERT_LOCKS(EQ, POPULATE, 16, 1, 0);
}

/* Almost a batch, all of it alive when the batch is full. */
TEST_F(lru_churn_locks, populate_30)
{
	ASSERT_LOCKS(LE, POPULATE, 30, 1, CYCLES / 10);
}

/* Bulk: whoever populates that much drains, but not batch by batch before. */
TEST_F(lru_churn_locks, populate_64)
{
	struct utsname system;

	ASSERT_EQ(uname(&system), 0);
	if (!strcmp(system.machine, "s390x"))
		SKIP(return, "s390 gathers no pages, each is freed by itself: use another machine");
	ASSERT_LOCKS(LE, POPULATE, 64, 1, CYCLES * 4);
}

TEST_F(lru_churn_locks, madv_populate_1)
{
	ASSERT_LOCKS(EQ, MADVISE, 1, 1, 0);
}

/* The folio that is being added does not fill the batch. */
TEST_F(lru_churn_locks, touch_1)
{
	ASSERT_LOCKS(EQ, TOUCH, 1, 1, 0);
}

TEST_F(lru_churn_locks, touch_16)
{
	ASSERT_LOCKS(EQ, TOUCH, 16, 1, 0);
}

/* What is there need not be read from swap, nor go to the LRU for it. */
TEST_F(lru_churn_locks, willneed_1)
{
	ASSERT_LOCKS(EQ, WILLNEED, 1, 1, 0);
}

/* Fifteen that live are kept for those that die: none goes to the LRU. */
TEST_F(lru_churn_locks, sixteen_alive)
{
	ASSERT_LOCKS(EQ, POPULATE, 1, 16, 0);
}

/* Mlocked memory is drained, to be counted: one lock to add, one to remove. */
TEST_F(lru_churn_locks, map_locked_1)
{
	ASSERT_LOCKS(EQ, LOCKED, 1, 1, 2 * CYCLES);
}

/* What survives is inserted by the batch, no sooner and no later. */
TEST_F(lru_churn_locks, survivors)
{
	const size_t warm = BATCH, nr = BATCH * 8;
	unsigned long least = -1UL;
	struct hits hits;
	size_t i;
	int try;

	for (try = 0; try < MANY_TRIES && least > nr / BATCH; try++) {
		size_t pages = warm + nr;
		char *p = anon(pages, 0);

		ASSERT_NE(p, MAP_FAILED);
		/* Large folios are not what we count. Without THPs there are none. */
		ASSERT_TRUE(!madvise(p, pages * psize(), MADV_NOHUGEPAGE) || errno == EINVAL);
		ASSERT_TRUE(drain());
		for (i = 0; i < warm; i++)
			p[i * psize()] = 1;
		ASSERT_TRUE(profile(true));
		for (; i < pages; i++)
			p[i * psize()] = 1;
		ASSERT_TRUE(profile(false));
		ASSERT_TRUE(read_hits(&hits));
		unmap(p, pages);
		if (hits.locks < least)
			least = hits.locks;
	}
	TH_LOG("%lu locks for %zu pages that survive", least, nr);
	ASSERT_EQ(least, nr / BATCH);
}

/*
 * What must work on pages that were just populated, and may be in a batch
 */

FIXTURE(lru_churn)
{
	size_t pages;
	size_t len;
	char *addr;
	int pagemap;
	int kpageflags;
};

FIXTURE_VARIANT(lru_churn)
{
	size_t pages;
};

FIXTURE_VARIANT_ADD(lru_churn, 1)
{
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn, 16)
{
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn, 30)
{
	.pages = 30,
};

FIXTURE_VARIANT_ADD(lru_churn, 64)
{
	.pages = 64,
};

FIXTURE_SETUP(lru_churn)
{
	self->pages = variant->pages;
	self->len = self->pages * psize();
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->pagemap, 0);
	self->kpageflags = open("/proc/kpageflags", O_RDONLY);
	/* Nothing migrates us away from our batch. */
	ASSERT_TRUE(run_on(0));
	ASSERT_TRUE(drain());
	self->addr = anon(self->pages, MAP_POPULATE);
	ASSERT_NE(self->addr, MAP_FAILED);
	fill(self->addr, self->pages);
}

FIXTURE_TEARDOWN(lru_churn)
{
	if (self->kpageflags >= 0)
		close(self->kpageflags);
	close(self->pagemap);
	munmap(self->addr, self->len);
}

static size_t nr_swapped(int pagemap, char *addr, size_t pages)
{
	size_t i, nr = 0;

	for (i = 0; i < pages; i++)
		nr += pagemap_is_swapped(pagemap, addr + i * psize());
	return nr;
}

static bool has_swap(void)
{
	char line[256];
	FILE *f = fopen("/proc/swaps", "r");
	int lines = 0;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		lines++;
	fclose(f);
	return lines > 1;
}

#define NO_KPAGEFLAGS	"no /proc/kpageflags: needs root and CONFIG_PROC_PAGE_MONITOR"
#define NO_SWAP	"no swap space: swapon a disk, or a file on one"

/* By one request: pages that it does not find on the LRU remain. */
static bool page_out(int pagemap, char *addr, size_t pages)
{
	int i;

	if (madvise(addr, pages * psize(), MADV_PAGEOUT))
		return false;
	/* It may be under writeback still. */
	for (i = 0; i < WAIT_TRIES; i++) {
		if (nr_swapped(pagemap, addr, pages) == pages)
			return true;
		usleep(10000);
	}
	return false;
}

/* Every page goes out at the first request. */
TEST_F(lru_churn, pageout)
{
	if (!has_swap())
		SKIP(return, NO_SWAP);
	ASSERT_TRUE(page_out(self->pagemap, self->addr, self->pages));
	ASSERT_TRUE(intact(self->addr, self->pages));
}

static bool has_flag(int pagemap, int kpageflags, char *addr, uint64_t flag)
{
	unsigned long pfn = pagemap_get_pfn(pagemap, addr);
	uint64_t flags = 0;

	return pfn != -1UL && !pageflags_get(pfn, kpageflags, &flags) && (flags & flag);
}

/* Every page is found on the LRU, and not on an active list. */
TEST_F(lru_churn, cold)
{
	char *p;

	if (self->kpageflags < 0)
		SKIP(return, NO_KPAGEFLAGS);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_COLD), 0);
	for (p = self->addr; p < self->addr + self->len; p += psize()) {
		ASSERT_TRUE(has_flag(self->pagemap, self->kpageflags, p, KPF_LRU));
		ASSERT_FALSE(has_flag(self->pagemap, self->kpageflags, p, KPF_ACTIVE));
	}
	ASSERT_TRUE(intact(self->addr, self->pages));
}

TEST_F(lru_churn, collapse)
{
	size_t huge = read_pmd_pagesize();
	char *area, *addr;

	if (!huge)
		SKIP(return, "no huge pages: needs CONFIG_TRANSPARENT_HUGEPAGE");
	if (huge > MAX_HUGE)
		SKIP(return, "THPs are of more than 32 MB: use a kernel with smaller pages");
	area = anon(2 * huge / psize(), 0);
	ASSERT_NE(area, MAP_FAILED);
	addr = (char *)(((uintptr_t)area + huge - 1) & ~(huge - 1));
	ASSERT_EQ(madvise(addr, huge, MADV_NOHUGEPAGE), 0);
	ASSERT_EQ(madvise(addr, self->len, MADV_POPULATE_WRITE), 0);
	fill(addr, self->pages);
	ASSERT_EQ(madvise(addr, huge, MADV_HUGEPAGE), 0);
	ASSERT_EQ(madvise(addr, huge, MADV_COLLAPSE), 0);
	ASSERT_TRUE(check_huge_anon(addr, 1, huge));
	ASSERT_TRUE(intact(addr, self->pages));
	munmap(area, 2 * huge);
}

/* Does a node have memory? A list like "0-1,3" says so. */
static bool has_node(int node)
{
	FILE *f = fopen("/sys/devices/system/node/has_memory", "r");
	int first, last, read;
	bool found = false;

	if (!f)
		return false;
	while (!found && (read = fscanf(f, "%d-%d", &first, &last)) > 0) {
		found = node == first || (read == 2 && node > first && node <= last);
		if (fgetc(f) != ',')
			break;
	}
	fclose(f);
	return found;
}

#define NO_CPUS	"one CPU: use a machine, or an affinity, with two or more"
#define NO_NODES	"one NUMA node: boot with numa=fake=2, or on a machine with two"

/* Which nodes the pages are on, or errors. */
static long move_pages_to(char *addr, size_t pages, const int *nodes, int *status)
{
	void *where[MAX_PAGES];
	size_t i;

	for (i = 0; i < pages; i++)
		where[i] = addr + i * psize();
	return syscall(__NR_move_pages, 0, pages, where, nodes, status, MPOL_MF_MOVE);
}

static bool all_on(char *addr, size_t pages, int node)
{
	int status[MAX_PAGES];
	size_t i;

	if (move_pages_to(addr, pages, NULL, status))
		return false;
	for (i = 0; i < pages; i++)
		if (status[i] != node)
			return false;
	return true;
}

TEST_F(lru_churn, move_pages)
{
	int nodes[MAX_PAGES], status[MAX_PAGES];
	int node;
	size_t i;

	if (!has_node(0) || !has_node(1))
		SKIP(return, NO_NODES);
	/* There, where nothing is to be done if they are; and back. */
	for (node = 1; node >= 0; node--) {
		for (i = 0; i < self->pages; i++)
			nodes[i] = node;
		ASSERT_EQ(move_pages_to(self->addr, self->pages, nodes, status), 0);
		ASSERT_TRUE(all_on(self->addr, self->pages, node));
	}
	ASSERT_TRUE(intact(self->addr, self->pages));
}

/* Strictly: a page that cannot be moved fails the call. */
TEST_F(lru_churn, mbind)
{
	unsigned long mask;

	if (!has_node(0) || !has_node(1))
		SKIP(return, NO_NODES);
	for (mask = 2; mask; mask >>= 1) {
		ASSERT_EQ(syscall(__NR_mbind, self->addr, self->len, MPOL_BIND, &mask,
				  8 * sizeof(mask), MPOL_MF_MOVE | MPOL_MF_STRICT), 0);
		ASSERT_TRUE(all_on(self->addr, self->pages, mask / 2));
	}
	ASSERT_TRUE(intact(self->addr, self->pages));
}

/* Each page has the references that it should have, or the seal is refused. */
TEST_F(lru_churn, memfd_seal)
{
	int fd = memfd_create("lru_churn", MFD_ALLOW_SEALING);
	char *p;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, self->len), 0);
	p = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	fill(p, self->pages);
	munmap(p, self->len);
	ASSERT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	p = mmap(NULL, self->len, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	ASSERT_TRUE(intact(p, self->pages));
	munmap(p, self->len);
	close(fd);
}

/* What the child sees and does to it; the exit status of the child. */
static int child_writes(char *addr, size_t pages)
{
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		if (!intact(addr, pages))
			_exit(1);
		memset(addr, 0xff, pages * psize());
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

TEST_F(lru_churn, fork_child_copies)
{
	ASSERT_EQ(child_writes(self->addr, self->pages), 0);
	ASSERT_TRUE(intact(self->addr, self->pages));
}

/* When the child is gone, a write takes the page and does not copy it. */
TEST_F(lru_churn, fork_then_reuse)
{
	unsigned long pfn[MAX_PAGES];
	size_t i;

	for (i = 0; i < self->pages; i++) {
		pfn[i] = pagemap_get_pfn(self->pagemap, self->addr + i * psize());
		ASSERT_NE(pfn[i], -1UL);
		if (!pfn[i])
			SKIP(return, "page frames are hidden: needs CAP_SYS_ADMIN");
	}
	ASSERT_EQ(child_writes(self->addr, self->pages), 0);
	fill(self->addr, self->pages);
	for (i = 0; i < self->pages; i++)
		ASSERT_EQ(pagemap_get_pfn(self->pagemap, self->addr + i * psize()), pfn[i]);
	ASSERT_TRUE(intact(self->addr, self->pages));
}

#define KSM_RUN		"/sys/kernel/mm/ksm/run"

TEST_F(lru_churn, ksm)
{
	char *other;

	if (access(KSM_RUN, W_OK))
		SKIP(return, "no KSM: needs root and CONFIG_KSM");
	other = anon(self->pages, MAP_POPULATE);
	ASSERT_NE(other, MAP_FAILED);
	memset(self->addr, 0x5a, self->len);
	memset(other, 0x5a, self->len);
	ASSERT_EQ(madvise(self->addr, self->len, MADV_MERGEABLE), 0);
	ASSERT_EQ(madvise(other, self->len, MADV_MERGEABLE), 0);
	ASSERT_EQ(ksm_start(), 0);
	EXPECT_EQ(ksm_get_self_merging_pages(), 2 * self->pages);
	EXPECT_EQ(ksm_stop(), 0);
	unmap(other, self->pages);
}

TEST_F(lru_churn, soft_offline)
{
	size_t i;

	if (access("/sys/kernel/debug/hwpoison/unpoison-pfn", W_OK))
		SKIP(return, "cannot unpoison: root, modprobe hwpoison_inject and debugfs needed");
	for (i = 0; i < self->pages; i++) {
		char *p = self->addr + i * psize();
		unsigned long pfn = pagemap_get_pfn(self->pagemap, p);
		int ret = madvise(p, psize(), MADV_SOFT_OFFLINE);

		EXPECT_EQ(ret, 0);
		if (ret)
			break;
		/* It moved, and what it was on is given back. */
		EXPECT_NE(pagemap_get_pfn(self->pagemap, p), pfn);
		EXPECT_EQ(unpoison_memory(pfn), 0);
	}
	ASSERT_TRUE(intact(self->addr, self->pages));
}

/*
 * What a memory cgroup says and does
 */

struct memcg {
	char dir[96];
	char other[104];	/* Where a test needs two. */
	int file;		/* See flush_stats(). */
};

static bool cgroup_path(char *path, size_t size, const char *dir, const char *file)
{
	return snprintf(path, size, "%s/%s", dir, file) < (int)size;
}

static bool cgroup_put_text(const char *dir, const char *file, const char *text)
{
	char path[160];

	return cgroup_path(path, sizeof(path), dir, file) && put(path, text);
}

static bool cgroup_put(const char *dir, const char *file, unsigned long val)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", val);
	return cgroup_put_text(dir, file, text);
}

static bool cgroup_enter(const char *dir)
{
	return cgroup_put(dir, "cgroup.procs", 0);
}

/* The value of a key in a flat keyed file; of the whole file without a key. */
static long cgroup_get(const char *dir, const char *file, const char *key)
{
	char path[160], line[256], name[64];
	long val = -1, found;
	FILE *f;

	if (!cgroup_path(path, sizeof(path), dir, file))
		return -1;
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (val < 0 && fgets(line, sizeof(line), f)) {
		if (!key)
			val = strtol(line, NULL, 10);
		else if (sscanf(line, "%63s %ld", name, &found) == 2 && !strcmp(name, key))
			val = found;
	}
	fclose(f);
	return val;
}

/* Tasks leave a cgroup when they have exited, which their parent need not see. */
static bool cgroup_remove(const char *dir)
{
	int i;

	for (i = 0; i < WAIT_TRIES; i++) {
		if (!rmdir(dir) || errno != EBUSY)
			break;
		usleep(10000);
	}
	return access(dir, F_OK);
}

#define NO_MEMCG	"no memory cgroups: needs root, CONFIG_MEMCG, cgroup2 at " CGROUPS

static size_t flush_pages(void)
{
	return 64 * 4 * sysconf(_SC_NPROCESSORS_CONF);
}

/* Why there can be none, and what to do about it; or NULL. */
static const char *memcg_setup(struct memcg *cg)
{
	snprintf(cg->dir, sizeof(cg->dir), CGROUPS "lru_churn.%d", getpid());
	if (!put(CGROUPS "cgroup.subtree_control", "+memory") || mkdir(cg->dir, 0755)) {
		cg->dir[0] = 0;
		return NO_MEMCG;
	}
	cg->file = memfd_create("flush", 0);
	return NULL;
}

static bool memcg_add_other(struct memcg *cg)
{
	snprintf(cg->other, sizeof(cg->other), "%s.other", cg->dir);
	return !mkdir(cg->other, 0755);
}

static bool memcg_teardown(struct memcg *cg)
{
	bool ok;

	if (!cg->dir[0])
		return true;
	put(CGROUPS "cgroup.procs", "0");
	ok = cgroup_remove(cg->dir);
	return (!cg->other[0] || cgroup_remove(cg->other)) && ok;
}

/* Give the file its pages, which are charged to us. */
static bool fill_file(int fd, size_t pages)
{
	char *buf = calloc(1, psize());
	bool ok = fd >= 0 && buf;
	size_t i;

	for (i = 0; ok && i < pages; i++)
		ok = pwrite(fd, buf, psize(), i * psize()) == (ssize_t)psize();
	free(buf);
	return ok;
}

/*
 * Statistics of a cgroup are flushed for a reader when there were many updates,
 * 64 for each CPU, or after two seconds. Make many by mapping pages of a file
 * and unmapping them, which puts no folio in a batch that waits for the LRU
 * and drains none.
 */
static bool flush_stats(int fd, size_t pages)
{
	char *p = mmap(NULL, pages * psize(), PROT_READ, MAP_SHARED, fd, 0);
	size_t i;

	if (p == MAP_FAILED)
		return false;
	for (i = 0; i < pages; i++)
		FORCE_READ(p[i * psize()]);
	return !munmap(p, pages * psize());
}

static long unevictable_pages(const char *dir, int fd)
{
	if (!flush_stats(fd, flush_pages()))
		return -1;
	return cgroup_get(dir, "memory.stat", "unevictable") / (long)psize();
}

/* The ways to lock memory that was populated before, or is thereby. */
enum lock_way {
	BY_MAP_LOCKED,
	BY_MLOCK,
	BY_MLOCK_ELSEWHERE,	/* On another CPU; exact when all have drained. */
	BY_MLOCK2,
	BY_MLOCK2_ONFAULT,
	BY_MADV_POPULATE,	/* After mlock2(ONFAULT) of what is empty. */
	BY_MCL_FUTURE,
};

/*
 * A task that locks memory when told so. It is not us, because with MCL_FUTURE
 * all we map to read the statistics would be locked as well.
 */
struct locker {
	pid_t pid;
	int orders;	/* Written by us: which CPU to run on, or STOP. */
	int answers;	/* Read by us: whether it worked. */
};

#define STOP	(-1)

static int map_flags(enum lock_way way)
{
	if (way == BY_MAP_LOCKED)
		return MAP_LOCKED;
	return way == BY_MCL_FUTURE || way == BY_MADV_POPULATE ? 0 : MAP_POPULATE;
}

static int lock_pages(enum lock_way way, char *p, size_t len)
{
	if (way == BY_MLOCK || way == BY_MLOCK_ELSEWHERE)
		return mlock(p, len);
	if (syscall(__NR_mlock2, p, len, way == BY_MLOCK2 ? 0 : MLOCK_ONFAULT))
		return -1;
	return way == BY_MADV_POPULATE ? madvise(p, len, MADV_POPULATE_WRITE) : 0;
}

static char *get_locked(enum lock_way way, size_t pages, int cpu)
{
	const bool locked = way == BY_MAP_LOCKED || way == BY_MCL_FUTURE;
	char *p = anon(pages, map_flags(way));

	if (p == MAP_FAILED || locked)
		return p;
	if (way == BY_MLOCK_ELSEWHERE && !run_on((cpu + 1) % nr_cpus()))
		return MAP_FAILED;
	return lock_pages(way, p, pages * psize()) ? MAP_FAILED : p;
}

/* Lock at one order, unmap at the next. */
static void lock_and_unmap(enum lock_way way, size_t pages, int orders, int answers)
{
	char *p = MAP_FAILED;
	int cpu;

	if (way == BY_MCL_FUTURE && mlockall(MCL_FUTURE))
		_exit(1);
	while (read(orders, &cpu, sizeof(cpu)) == sizeof(cpu) && cpu != STOP) {
		bool ok = run_on(cpu);

		if (p == MAP_FAILED) {
			p = get_locked(way, pages, cpu);
			ok &= p != MAP_FAILED;
		} else {
			unmap(p, pages);
			p = MAP_FAILED;
			/* What was munlocked waits in a batch of its own. */
			ok &= drain();
			ok &= run_on((cpu + 1) % nr_cpus()) && drain();
		}
		if (write(answers, &ok, sizeof(ok)) != sizeof(ok))
			_exit(1);
	}
	_exit(0);
}

static bool start_locker(struct locker *l, enum lock_way way, size_t pages)
{
	int orders[2], answers[2];

	if (pipe(orders) || pipe(answers))
		return false;
	l->pid = fork();
	if (!l->pid)
		lock_and_unmap(way, pages, orders[0], answers[1]);
	close(orders[0]);
	close(answers[1]);
	l->orders = orders[1];
	l->answers = answers[0];
	return l->pid > 0;
}

static bool order(struct locker *l, int cpu)
{
	bool ok = false;

	return write(l->orders, &cpu, sizeof(cpu)) == sizeof(cpu) &&
	       read(l->answers, &ok, sizeof(ok)) == sizeof(ok) && ok;
}

static bool stop_locker(struct locker *l)
{
	const int stop = STOP;
	int status;

	if (write(l->orders, &stop, sizeof(stop)) != sizeof(stop))
		return false;
	return waitpid(l->pid, &status, 0) == l->pid && !status;
}

FIXTURE(lru_churn_unevictable)
{
	struct memcg cg;
};

FIXTURE_VARIANT(lru_churn_unevictable)
{
	enum lock_way way;
	size_t pages;
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, map_locked_1)
{
	.way = BY_MAP_LOCKED,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, map_locked_16)
{
	.way = BY_MAP_LOCKED,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, map_locked_64)
{
	.way = BY_MAP_LOCKED,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_1)
{
	.way = BY_MLOCK,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_16)
{
	.way = BY_MLOCK,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_64)
{
	.way = BY_MLOCK,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_elsewhere_1)
{
	.way = BY_MLOCK_ELSEWHERE,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_elsewhere_16)
{
	.way = BY_MLOCK_ELSEWHERE,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock_elsewhere_64)
{
	.way = BY_MLOCK_ELSEWHERE,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_1)
{
	.way = BY_MLOCK2,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_16)
{
	.way = BY_MLOCK2,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_64)
{
	.way = BY_MLOCK2,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_onfault_1)
{
	.way = BY_MLOCK2_ONFAULT,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_onfault_16)
{
	.way = BY_MLOCK2_ONFAULT,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mlock2_onfault_64)
{
	.way = BY_MLOCK2_ONFAULT,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, madv_populate_1)
{
	.way = BY_MADV_POPULATE,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, madv_populate_16)
{
	.way = BY_MADV_POPULATE,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, madv_populate_64)
{
	.way = BY_MADV_POPULATE,
	.pages = 64,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mcl_future_1)
{
	.way = BY_MCL_FUTURE,
	.pages = 1,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mcl_future_16)
{
	.way = BY_MCL_FUTURE,
	.pages = 16,
};

FIXTURE_VARIANT_ADD(lru_churn_unevictable, mcl_future_64)
{
	.way = BY_MCL_FUTURE,
	.pages = 64,
};

FIXTURE_SETUP(lru_churn_unevictable)
{
	const char *why;

	if (variant->way == BY_MLOCK_ELSEWHERE && nr_cpus() < 2)
		SKIP(return, NO_CPUS);
	why = memcg_setup(&self->cg);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(cgroup_enter(self->cg.dir));
	ASSERT_TRUE(fill_file(self->cg.file, flush_pages()));
}

FIXTURE_TEARDOWN(lru_churn_unevictable)
{
	EXPECT_TRUE(memcg_teardown(&self->cg));
}

/* Locked memory is counted to the page, and no longer when it is gone. */
TEST_F_TIMEOUT(lru_churn_unevictable, exact, 300)
{
	const struct memcg *cg = &self->cg;
	const int nr = nr_cpus();
	struct locker l;
	int i;

	ASSERT_TRUE(start_locker(&l, variant->way, variant->pages));
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_TRUE(order(&l, i % nr));
		if (variant->way == BY_MLOCK_ELSEWHERE)
			ASSERT_TRUE(put("/proc/sys/vm/drop_caches", "1"));
		ASSERT_EQ(unevictable_pages(cg->dir, cg->file), variant->pages) {
			TH_LOG("locked, round %d", i);
		}
		ASSERT_TRUE(order(&l, i % nr));
		ASSERT_EQ(unevictable_pages(cg->dir, cg->file), 0) {
			TH_LOG("unmapped, round %d", i);
		}
	}
	ASSERT_TRUE(stop_locker(&l));
}

/*
 * Two cgroups that share the batch of a CPU: each is uncharged what it was charged
 */

/* What a CPU may have charged in advance or hold in its batch, in pages. */
#define RESERVE	(64 + BATCH)

FIXTURE(lru_churn_shared)
{
	struct memcg cg;
};

FIXTURE_SETUP(lru_churn_shared)
{
	const char *why = memcg_setup(&self->cg);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(memcg_add_other(&self->cg));
}

FIXTURE_TEARDOWN(lru_churn_shared)
{
	EXPECT_TRUE(memcg_teardown(&self->cg));
}

/* In turns with another: a cycle each, until told to stop. */
static void churn_in_turns(const char *dir, int in, int out)
{
	struct churn c = { .way = POPULATE, .pages = 1, .live = 1 };
	char turn;

	if (!cgroup_enter(dir) || !run_on(0))
		_exit(1);
	while (read(in, &turn, 1) == 1) {
		cycle(&c);
		if (write(out, &turn, 1) != 1)
			break;
	}
	_exit(c.failed);
}

TEST_F(lru_churn_shared, each_is_uncharged)
{
	const char * const dirs[] = { self->cg.dir, self->cg.other };
	const long slack = (RESERVE + MAX_PAGES) * nr_cpus();
	int in[2][2], out[2][2], status, i;
	pid_t pids[2];
	char turn = 0;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(pipe2(in[i], O_CLOEXEC), 0);
		ASSERT_EQ(pipe2(out[i], O_CLOEXEC), 0);
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i]) {
			/* Its end of file is what tells the task to stop. */
			close(in[0][1]);
			close(in[i][1]);
			churn_in_turns(dirs[i], in[i][0], out[i][1]);
		}
	}
	ASSERT_TRUE(run_on(0));
	for (i = 0; i < 4 * slack; i++) {
		ASSERT_EQ(write(in[i % 2][1], &turn, 1), 1);
		ASSERT_EQ(read(out[i % 2][0], &turn, 1), 1);
	}
	for (i = 0; i < 2; i++)
		EXPECT_LE(cgroup_get(dirs[i], "memory.current", NULL) / (long)psize(), slack);
	for (i = 0; i < 2; i++) {
		close(in[i][1]);
		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0);
	}
}

/* Why they can't be read, or NULL. */
static const char *open_page_flags(int *pagemap, int *kpageflags)
{
	*pagemap = open("/proc/self/pagemap", O_RDONLY);
	*kpageflags = open("/proc/kpageflags", O_RDONLY);
	return *pagemap < 0 || *kpageflags < 0 ? NO_KPAGEFLAGS : NULL;
}

static size_t nr_on_lru(int pagemap, int kpageflags, char *addr, size_t pages)
{
	size_t i, nr = 0;

	for (i = 0; i < pages; i++)
		nr += has_flag(pagemap, kpageflags, addr + i * psize(), KPF_LRU);
	return nr;
}

/*
 * What MADV_WILLNEED reads from swap
 */

FIXTURE(lru_churn_willneed)
{
	struct memcg cg;
	int pagemap, kpageflags;
};

FIXTURE_SETUP(lru_churn_willneed)
{
	const char *why;

	if (!has_swap())
		SKIP(return, NO_SWAP);
	why = open_page_flags(&self->pagemap, &self->kpageflags);
	/* No tear-down follows a skip. */
	if (!why)
		why = memcg_setup(&self->cg);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(cgroup_enter(self->cg.dir));
	ASSERT_TRUE(run_on(0));
}

FIXTURE_TEARDOWN(lru_churn_willneed)
{
	EXPECT_TRUE(memcg_teardown(&self->cg));
}

/*
 * Pages that were written to swap stay in memory until they are reclaimed, and a
 * few may remain: those were put on the LRU long ago. How many bytes do?
 */
static long drop_swap_cache(const char *dir)
{
	long left = -1;
	int i;

	/* The statistics may be two seconds old. */
	for (i = 0; i < 3 * WAIT_TRIES; i++) {
		/* It fails if there is not so much to reclaim. */
		cgroup_put(dir, "memory.reclaim", MAX_PAGES * psize());
		left = cgroup_get(dir, "memory.stat", "swapcached");
		if (left <= 0)
			break;
		usleep(10000);
	}
	return left;
}

/* It is on the LRU, where it is found if it must go again. */
TEST_F(lru_churn_willneed, on_lru)
{
	const long pages = 16;
	char *addr;
	long left;

	addr = anon(pages, 0);
	ASSERT_NE(addr, MAP_FAILED);
	fill(addr, pages);
	ASSERT_TRUE(page_out(self->pagemap, addr, pages));
	left = drop_swap_cache(self->cg.dir);
	ASSERT_GE(left, 0);
	ASSERT_LE(left, pages * psize() / 2);
	ASSERT_EQ(madvise(addr, pages * psize(), MADV_WILLNEED), 0);
	ASSERT_TRUE(intact(addr, pages));
	ASSERT_EQ(nr_on_lru(self->pagemap, self->kpageflags, addr, pages), pages);
	unmap(addr, pages);
}

/*
 * A cgroup at its limit, with dead pages in the batches of all CPUs
 */

#define LIVE	16UL
#define SPARE	(2 * LIVE)

FIXTURE(lru_churn_limit)
{
	struct memcg cg;
};

FIXTURE_SETUP(lru_churn_limit)
{
	const char *why;

	if (nr_cpus() < 2)
		SKIP(return, NO_CPUS);
	why = memcg_setup(&self->cg);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(lru_churn_limit)
{
	EXPECT_TRUE(memcg_teardown(&self->cg));
}

/*
 * What was charged in advance, 64 pages for each CPU, would be a reserve. It is
 * given back when memory.high drops below what is used, which kills nobody.
 */
static bool give_back_reserve(const char *dir)
{
	cgroup_put(dir, "memory.swap.max", 0);
	return cgroup_put(dir, "memory.high", 0) &&
	       cgroup_put(dir, "memory.high", LONG_MAX);
}

static bool limit_to_current(const char *dir, unsigned long spare)
{
	return give_back_reserve(dir) &&
	       cgroup_put(dir, "memory.max", cgroup_get(dir, "memory.current", NULL) +
					     spare * psize());
}

/* Exits with whether all could be mapped; or is killed. */
static void churn_on_all_cpus(const char *dir, size_t spare, size_t live)
{
	const int nr = nr_cpus();
	struct churn c = { .way = POPULATE, .pages = LIVE, .live = 1 };
	int i;

	/* What the task itself needs is there before the limit is set. */
	if (!cgroup_enter(dir))
		_exit(2);
	for (i = 0; i < nr; i++) {
		run_on(i);
		cycle(&c);
		drain();
	}
	if (!limit_to_current(dir, spare))
		_exit(2);
	c.pages = live;
	for (i = 0; i < ROUNDS * nr; i++) {
		run_on(i % nr);
		cycles(&c, 2);
	}
	_exit(c.failed);
}

/* Whether the task that does so was killed; its status otherwise. */
static int churn_at_limit(const char *dir, size_t live, bool *killed)
{
	long kills = cgroup_get(dir, "memory.events", "oom_kill");
	int status = -1;
	pid_t pid;

	if (!cgroup_put(dir, "memory.max", LONG_MAX))
		return -1;
	pid = fork();
	if (!pid)
		churn_on_all_cpus(dir, SPARE, live);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	*killed = cgroup_get(dir, "memory.events", "oom_kill") != kills;
	return status;
}

/*
 * What lives at any time fits easily, but not together with as many dead pages
 * as the batches of the other CPUs can hold. Where these kill, they do not always.
 */
TEST_F_TIMEOUT(lru_churn_limit, dead_pages_do_not_kill, 120)
{
	bool killed;
	int try;

	for (try = 0; try < MANY_TRIES; try++) {
		ASSERT_EQ(churn_at_limit(self->cg.dir, LIVE, &killed), 0);
		ASSERT_FALSE(killed);
	}
}

/* The limit is one: who has more alive than that and all reserves is killed. */
TEST_F(lru_churn_limit, live_pages_do)
{
	bool killed;
	int status = churn_at_limit(self->cg.dir, SPARE + nr_cpus() * RESERVE, &killed);

	ASSERT_TRUE(killed);
	ASSERT_TRUE(WIFSIGNALED(status));
}

/* What is charged, by somebody whom reading it is not charged to. */
static long used_without_reserve(const char *dir)
{
	if (!give_back_reserve(dir))
		return -1;
	/* Other CPUs give theirs back by themselves. */
	usleep(100000);
	return cgroup_get(dir, "memory.current", NULL);
}

/* Where a task is. It waits without system calls, which would be charged. */
enum stage {
	BEGUN,
	WARM,
	GO_ON,
	LEFT_DEAD,
	END,
};

static enum stage *map_stage(void)
{
	return mmap(NULL, psize(), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

static void advance(enum stage *stage, enum stage from, enum stage to)
{
	while (__atomic_load_n(stage, __ATOMIC_ACQUIRE) != from)
		;
	__atomic_store_n(stage, to, __ATOMIC_RELEASE);
}

/* Waits for a task, which may be killed on the way. */
static bool await_stage(pid_t pid, enum stage *stage, enum stage wanted)
{
	siginfo_t info = { .si_pid = 0 };

	while (__atomic_load_n(stage, __ATOMIC_ACQUIRE) != wanted)
		if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid)
			return false;
	return true;
}

/* A task on CPU 1 that leaves dead pages in its batch. */
static void leave_dead(const char *dir, enum way way, enum stage *stage)
{
	struct churn c = { .way = way, .pages = LIVE, .live = 1 };

	/* What the task itself needs is there before it is counted. */
	c.failed = !cgroup_enter(dir) || !run_on(1);
	cycle(&c);
	c.failed |= !drain();
	advance(stage, BEGUN, WARM);
	advance(stage, GO_ON, GO_ON);
	cycle(&c);
	advance(stage, GO_ON, LEFT_DEAD);
	advance(stage, END, END);
	_exit(c.failed);
}

/* Sets a limit that has room for what lives, with half as many dead pages. */
static bool lower_limit(pid_t pid, const char *dir, enum stage *stage)
{
	long used;

	if (!await_stage(pid, stage, WARM))
		return false;
	used = used_without_reserve(dir);
	advance(stage, WARM, GO_ON);
	if (!await_stage(pid, stage, LEFT_DEAD))
		return false;
	return used >= 0 && used_without_reserve(dir) >= 0 &&
	       cgroup_put(dir, "memory.max", used + LIVE / 2 * psize());
}

/* What is dead in another CPU's batch kills nobody. */
static void lower_and_see(struct __test_metadata *_metadata, const char *dir, enum way way)
{
	enum stage *stage = map_stage();
	int try, status;
	bool lowered;
	pid_t pid;

	ASSERT_NE(stage, MAP_FAILED);
	ASSERT_TRUE(run_on(0));
	for (try = 0; try < TRIES; try++) {
		*stage = BEGUN;
		ASSERT_TRUE(cgroup_put(dir, "memory.max", LONG_MAX));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			leave_dead(dir, way, stage);
		lowered = lower_limit(pid, dir, stage);
		__atomic_store_n(stage, END, __ATOMIC_RELEASE);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(lowered);
		ASSERT_EQ(status, 0) {
			TH_LOG("try %d of %d", try, TRIES);
		}
	}
}

TEST_F(lru_churn_limit, lowered_after_touch)
{
	lower_and_see(_metadata, self->cg.dir, TOUCH);
}

TEST_F(lru_churn_limit, lowered_after_populate)
{
	lower_and_see(_metadata, self->cg.dir, POPULATE);
}

/* Fills a cgroup with what lives and cannot be swapped out. */
static void stay_alive(const char *dir, size_t pages, enum stage *stage)
{
	if (!cgroup_enter(dir) || !run_on(1) || !get_area(TOUCH, pages))
		_exit(1);
	advance(stage, BEGUN, WARM);
	advance(stage, END, END);
	_exit(0);
}

/* Draining does not help against what lives: somebody is killed, and the write ends. */
TEST_F_TIMEOUT(lru_churn_limit, lowered_below_live, 60)
{
	const size_t pages = 8 * RESERVE;
	const char *dir = self->cg.dir;
	enum stage *stage = map_stage();
	bool lowered;
	int status;
	pid_t pid;

	ASSERT_NE(stage, MAP_FAILED);
	ASSERT_TRUE(run_on(0));
	/* There may be no swap. */
	cgroup_put(dir, "memory.swap.max", 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		stay_alive(dir, pages, stage);
	lowered = await_stage(pid, stage, WARM) &&
		  cgroup_put(dir, "memory.max", pages / 2 * psize());
	__atomic_store_n(stage, END, __ATOMIC_RELEASE);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(lowered);
	ASSERT_TRUE(WIFSIGNALED(status));
}

/*
 * A CPU that a cpuset isolates: what was populated does not wait in its batches,
 * and nobody who is out of memory elsewhere has them drained
 */

FIXTURE(lru_churn_isolated)
{
	struct memcg cg;
	int pagemap, kpageflags;
};

FIXTURE_VARIANT(lru_churn_isolated)
{
	bool isolated;
};

FIXTURE_VARIANT_ADD(lru_churn_isolated, no)
{
	.isolated = false,
};

FIXTURE_VARIANT_ADD(lru_churn_isolated, yes)
{
	.isolated = true,
};

#define NO_ISOLATION	"no CPU to isolate: needs CONFIG_CPUSETS and CONFIG_CPU_ISOLATION, " \
			"and no isolcpus="

/* Follows what the kernel takes for isolated, which a cgroup's own files do not. */
#define ISOLATED_CPUS	"/sys/devices/virtual/workqueue/cpumask_isolated"

/* CPU 1 goes to this cgroup alone, and is out of the scheduling domains then. */
static bool isolate(const char *dir)
{
	char before[256] = "", after[256] = "";

	return put(CGROUPS "cgroup.subtree_control", "+cpuset") &&
	       cgroup_put(dir, "cpuset.cpus", nth_cpu(1)) &&
	       read_file(ISOLATED_CPUS, before, sizeof(before)) &&
	       cgroup_put_text(dir, "cpuset.cpus.partition", "isolated") &&
	       read_file(ISOLATED_CPUS, after, sizeof(after)) && strcmp(before, after);
}

FIXTURE_SETUP(lru_churn_isolated)
{
	const char *why;

	if (nr_cpus() < 2)
		SKIP(return, NO_CPUS);
	why = open_page_flags(&self->pagemap, &self->kpageflags);
	/* No tear-down follows a skip. */
	if (!why)
		why = memcg_setup(&self->cg);
	if (why)
		SKIP(return, "%s", why);
	if (variant->isolated && !isolate(self->cg.dir)) {
		memcg_teardown(&self->cg);
		SKIP(return, NO_ISOLATION);
	}
	ASSERT_TRUE(memcg_add_other(&self->cg));
}

FIXTURE_TEARDOWN(lru_churn_isolated)
{
	EXPECT_TRUE(memcg_teardown(&self->cg));
}

/* Others may drain now and then: what waits need not wait each time. */
TEST_F(lru_churn_isolated, populated)
{
	static const enum way ways[] = { POPULATE, MADVISE, WILLNEED };
	size_t i, nr;
	int try;

	ASSERT_TRUE(cgroup_enter(self->cg.dir));
	ASSERT_TRUE(run_on(1));
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		for (nr = 0, try = 0; try < TRIES; try++) {
			char *p;

			ASSERT_TRUE(drain());
			p = get_area(ways[i], 1);
			ASSERT_NE(p, NULL);
			nr += nr_on_lru(self->pagemap, self->kpageflags, p, 1);
			unmap(p, 1);
		}
		TH_LOG("way %d: %zu of %d on the LRU", ways[i], nr, TRIES);
		EXPECT_TRUE(variant->isolated ? nr == TRIES : nr < TRIES);
	}
}

/* On CPU 0, when told so. */
static void be_killed(const char *dir, enum stage *stage)
{
	const size_t pages = 4 * RESERVE;

	cgroup_put(dir, "memory.swap.max", 0);
	if (!cgroup_put(dir, "memory.max", pages / 2 * psize()) ||
	    !cgroup_enter(dir) || !run_on(0))
		_exit(2);
	advance(stage, BEGUN, WARM);
	advance(stage, GO_ON, END);
	_exit(!get_area(TOUCH, pages));
}

TEST_F(lru_churn_isolated, others_out_of_memory)
{
	enum stage *stage = map_stage();
	size_t nr, least = LIVE;
	int try, status;
	bool ready;
	pid_t pid;
	char *p;

	ASSERT_NE(stage, MAP_FAILED);
	ASSERT_TRUE(cgroup_enter(self->cg.dir));
	ASSERT_TRUE(run_on(1));
	for (try = 0; try < TRIES; try++) {
		*stage = BEGUN;
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			be_killed(self->cg.other, stage);
		ready = await_stage(pid, stage, WARM) && drain();
		p = get_area(TOUCH, LIVE);
		__atomic_store_n(stage, GO_ON, __ATOMIC_RELEASE);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(ready);
		ASSERT_NE(p, NULL);
		ASSERT_TRUE(WIFSIGNALED(status));
		nr = nr_on_lru(self->pagemap, self->kpageflags, p, LIVE);
		unmap(p, LIVE);
		TH_LOG("%zu of %lu were drained", nr, LIVE);
		EXPECT_TRUE(variant->isolated || nr == LIVE);
		if (nr < least)
			least = nr;
	}
	EXPECT_TRUE(!variant->isolated || !least);
}

/*
 * All at once. What is wrong with a page is found when it is freed or allocated:
 * the kernel says so, and this looks whether it did.
 */

#define STORMS		40
#define MAX_CHURNERS	16

FIXTURE(lru_churn_storm)
{
	int kmsg;
	pid_t churners[MAX_CHURNERS];
	int nr;
};

static const char * const complaints[] = {
	"BUG: ", "WARNING: ", "Bad page", "bad: scheduling", "INFO: task",
};

static bool kernel_complained(struct __test_metadata *_metadata, int kmsg)
{
	char line[1024];
	bool found = false;
	ssize_t len;
	size_t i;

	while ((len = read(kmsg, line, sizeof(line) - 1)) > 0 || errno == EPIPE) {
		line[len > 0 ? len : 0] = 0;
		errno = 0;
		for (i = 0; i < ARRAY_SIZE(complaints); i++) {
			if (!strstr(line, complaints[i]))
				continue;
			TH_LOG("%s", line);
			found = true;
		}
	}
	return found;
}

/* Any CPU, any size, any way; until killed. */
static void churn_at_random(unsigned int seed)
{
	struct churn c = { .live = 1 };

	for (;;) {
		c.way = rand_r(&seed) % (WILLNEED + 1);
		c.pages = 1 + rand_r(&seed) % MAX_PAGES;
		c.live = 1;
		run_on(rand_r(&seed) % nr_cpus());
		cycles(&c, 1 + rand_r(&seed) % (2 * BATCH));
	}
}

/* A cgroup that comes, has a task with pages in batches, and goes. */
static bool short_lived_cgroup(int nr)
{
	char dir[96];
	pid_t pid;
	int status = -1;

	snprintf(dir, sizeof(dir), CGROUPS "lru_churn.storm.%d.%d", getpid(), nr);
	if (mkdir(dir, 0755))
		return false;
	pid = fork();
	if (!pid) {
		struct churn c = { .way = POPULATE, .pages = 1 + nr % BATCH, .live = 4 };

		c.failed = !cgroup_enter(dir);
		cycles(&c, WARM_UP);
		_exit(c.failed);
	}
	return waitpid(pid, &status, 0) == pid && !status && cgroup_remove(dir);
}

/* What is not there cannot be disturbed: absent files are no failure. */
static void disturb(int nr)
{
	char online[96];

	put("/proc/sys/vm/drop_caches", "1");
	put("/proc/sys/vm/compact_memory", "1");
	snprintf(online, sizeof(online), "/sys/devices/system/cpu/cpu%d/online",
		 nth_cpu(nr_cpus() - 1));
	put(online, nr % 2 ? "1" : "0");
}

/* mbind(MOVE) and move_pages() disable the batches while they run. */
static bool move_about(void)
{
	unsigned long mask = 1 | (has_node(1) ? 2 : 0);
	char *p = anon(MAX_PAGES, MAP_POPULATE);
	bool ok;

	if (p == MAP_FAILED)
		return false;
	/* Without NUMA there is no mbind(). */
	ok = !syscall(__NR_mbind, p, MAX_PAGES * psize(), MPOL_INTERLEAVE, &mask,
		      8 * sizeof(mask), MPOL_MF_MOVE) || !has_node(0);
	unmap(p, MAX_PAGES);
	return ok;
}

FIXTURE_SETUP(lru_churn_storm)
{
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (self->kmsg < 0 || geteuid())
		SKIP(return, "cannot read kernel messages, nor switch CPUs off: needs root");
	if (!put(CGROUPS "cgroup.subtree_control", "+memory"))
		SKIP(return, NO_MEMCG);
	ASSERT_GE(lseek(self->kmsg, 0, SEEK_END), 0);
	/* Before CPUs go, see which there are. */
	self->nr = nr_cpus() * 2;
	if (self->nr > MAX_CHURNERS)
		self->nr = MAX_CHURNERS;
}

/* In the parent, which survives whatever may happen to the test. */
FIXTURE_TEARDOWN_PARENT(lru_churn_storm)
{
	int i;

	for (i = 0; i < self->nr; i++)
		if (self->churners[i] > 0)
			kill(self->churners[i], SIGKILL);
	disturb(1);
}

TEST_F_TIMEOUT(lru_churn_storm, all_at_once, 800)
{
	int i, status;

	for (i = 0; i < self->nr; i++) {
		/* What the child wrote to the fixture we would see. */
		pid_t pid = fork();

		ASSERT_GE(pid, 0);
		if (!pid)
			churn_at_random(i);
		self->churners[i] = pid;
	}
	for (i = 0; i < STORMS; i++) {
		disturb(i);
		EXPECT_TRUE(short_lived_cgroup(i));
		EXPECT_TRUE(move_about());
	}
	for (i = 0; i < self->nr; i++) {
		/* None has died of it. */
		EXPECT_EQ(waitpid(self->churners[i], &status, WNOHANG), 0);
		kill(self->churners[i], SIGKILL);
		EXPECT_EQ(waitpid(self->churners[i], &status, 0), self->churners[i]);
		self->churners[i] = 0;
	}
	ASSERT_FALSE(kernel_complained(_metadata, self->kmsg));
}

int main(int argc, char **argv)
{
	/* Whatever happens to a test, its parent puts it back. */
	saved_gen = lru_gen();
	return test_harness_run(argc, argv);
}
