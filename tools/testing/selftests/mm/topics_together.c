// SPDX-License-Identifier: GPL-2.0-only
/*
 * mremap() that relocates anonymous memory, ksmd, faults that wait for swap,
 * and memory that is populated and unmapped at once depend on the same page
 * tables, reverse mappings and batches. Run them together, and check that
 * contents are exact and that counters come back.
 *
 * Threads use memory while another moves it to and fro. While it is away, what
 * they do raises SIGSEGV, and they try again where it is then. No thread maps
 * anything but at a fixed address, for the hole could be taken otherwise.
 *
 * Where mremap() knows no MREMAP_RELOCATE_ANON, plain moves have to do the
 * same, but for the number of mappings. The settings in sysfs are put back by
 * the parent of the tests.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "slow_device.h"
#include "vm_util.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MREMAP_RELOCATE_ANON
#define MREMAP_RELOCATE_ANON	8
#endif

#define KNOBS		"/sys/kernel/mm/mremap/"
#define KSM		"/sys/kernel/mm/ksm/"
#define TRACEFS		"/sys/kernel/tracing/"
#define INSTANCE	TRACEFS "instances/topics_together/"
#define CGROUPS		"/sys/fs/cgroup/"
#define COMPACT		"/proc/sys/vm/compact_memory"
#define TAINTED		"/proc/sys/kernel/tainted"

#define NO_ROOT		"not root: run as root"
#define NO_KSM		"no " KSM ": build the kernel with CONFIG_KSM"
#define NO_SWAP		"no swap space: swapon a disk, or a file on one"
#define NO_CGROUP	"no memory cgroup: mount cgroup2 at " CGROUPS ", with CONFIG_MEMCG"
#define NO_EVENTS	"no rmap events in " TRACEFS ": mount it, or use a kernel that has them"
#define NO_KNOBS	"no " KNOBS ": use a kernel that can relocate"
#define NO_4K		"pages are not of 4K: the limit is for such a kernel"
#define NO_THP		"no THPs: build the kernel with CONFIG_TRANSPARENT_HUGEPAGE"
#define NO_FLAG		"no MREMAP_RELOCATE_ANON: use a kernel that has it"
#define NO_ROOM		"a page table maps too much for 32 bits: use a kernel with smaller pages"
#define NOT_64_BIT	"addresses have 32 bits: build it for 64"
#define LARGE_THP	"THPs are of more than 32 MB: use a kernel with smaller pages"

#define TEST_SECONDS	300
#define RACE_SECONDS	4
#define MIN_ROUNDS	5	/* However slow it is. */
#define WAIT_MS		20000	/* For what has to come, sooner or later. */
#define MERGE_MS	100	/* For ksmd to begin. */

#define MB		0x100000UL
#define NR_SLOTS	10
#define NR_MERGED	48	/* Fewer than max_page_sharing. */
#define NR_SWAPPED	128
#define NR_WHOLE	1024	/* With pages of 4K two page tables. */
#define MAX_PAGES	1024
#define MAX_RANGES	2
#define MAX_WORKERS	8
#define MAX_CHILDREN	3

/* Of memory, of which the ranges alone take more. */
#define LIMIT		(6 * (long)MB)
#define LIMIT_TEXT	"6M"

#define SWAP_SIZE	(16 * MB)	/* Or more, if pages are large. */
#define FILE_SIZE	(1 * MB)
#define MAX_HUGE	(32 * MB)
#define SLOW_MS		2
#define HELD_MS		3600000	/* Until the test lets it go. */

#define BATCH		31	/* What a batch of the LRU holds. */
#define CHARGED		64	/* What a CPU charges in advance. */

#define NOBODY		65534

/* TAINT_BAD_PAGE and TAINT_WARN: the kernel has found something. */
#define TAINT_MASK	(BIT_ULL(5) | BIT_ULL(9))

#define MOVE		(MREMAP_MAYMOVE | MREMAP_FIXED)

struct knob {
	const char *path;
	const char *value;	/* For the tests; NULL: each sets it. */
};

/* In the order of setting. Nothing must be merged when some of these are set. */
static const struct knob knobs[] = {
	{ KSM "run", "2" },
	{ KSM "advisor_mode", "none" },
	{ KSM "pages_to_scan", "1000" },
	{ KSM "sleep_millisecs", "1" },
	{ KSM "smart_scan", "0" },
	{ KSM "use_zero_pages", "0" },
	{ KSM "max_page_sharing", "256" },
	{ KSM "merge_across_nodes", "1" },
	{ KNOBS "relocate_max_kb", "0" },
	{ KNOBS "relocate_anon", NULL },
};

#define NR_KNOBS	ARRAY_SIZE(knobs)

/* As main() found them; empty if there is no such file. */
static char saved[NR_KNOBS][32];

/*
 * Memory that is at one of two places. The first word of a page counts how
 * often it was written to, which one thread does; the others tell where they
 * are. Children have a copy of this as of the fork.
 */
struct range {
	char *places[2];
	char *at;		/* Where it is, or is about to be. */
	size_t nr;
	uint32_t tag;		/* Of the first page. */
	bool same;		/* All pages are alike, for ksmd. */
	unsigned long moves;
	uint32_t writes[MAX_PAGES];
};

struct worker {
	pthread_t thread;
	void (*step)(struct worker *w);
	struct range *r;
	size_t first, stride;	/* The pages that it writes to. */
	char *slot;
	unsigned int seed;
	unsigned long steps;
};

static struct range ranges[MAX_RANGES];
static struct worker workers[MAX_WORKERS];
static unsigned int nr_workers;
static bool stop;
static int move_flags;
static char *area;

/* The first thing that was wrong. */
static const char *wrong;
static const char *wrong_at;

/*
 * Files, without stdio: it may map memory
 */

/* Of some files in /proc, a read gives no more than a page. */
static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t got;

	if (fd < 0)
		return false;
	while (len < size - 1 && (got = read(fd, text + len, size - 1 - len)) > 0)
		len += got;
	close(fd);
	text[len] = '\0';
	return len > 0;
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = write(fd, text, strlen(text));
	close(fd);
	return len == (ssize_t)strlen(text);
}

/* The number behind a name, -1 if it is not there. */
static long read_field(const char *path, const char *name)
{
	static char text[65536];
	char *line = text;
	size_t len = strlen(name);

	if (!read_text(path, text, sizeof(text)))
		return -1;
	while (line && (strncmp(line, name, len) || !strchr(" :", line[len]))) {
		line = strchr(line, '\n');
		line += !!line;
	}
	return line ? atol(line + len + 1) : -1;
}

static long read_long(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) ? atol(text) : -1;
}

/* Of "never [merge] always", only what is chosen. */
static void keep_choice(char *text)
{
	char *open = strchr(text, '['), *close = strchr(text, ']');

	text[strcspn(text, "\n")] = '\0';
	if (!open || !close)
		return;
	*close = '\0';
	memmove(text, open + 1, close - open);
}

static void save_settings(void)
{
	size_t i;

	for (i = 0; i < NR_KNOBS; i++) {
		if (!read_text(knobs[i].path, saved[i], sizeof(saved[i])))
			saved[i][0] = '\0';
		keep_choice(saved[i]);
	}
}

static bool set_for_tests(void)
{
	size_t i;

	for (i = 0; i < NR_KNOBS; i++)
		if (saved[i][0] && knobs[i].value &&
		    !write_text(knobs[i].path, knobs[i].value))
			return false;
	return true;
}

/* In reverse: pages_to_scan can only be set without an advisor. */
static bool restore_settings(void)
{
	bool ok = true;
	size_t i;

	if (saved[0][0])
		ok = write_text(KSM "run", "2");
	for (i = NR_KNOBS; i-- > 0;)
		if (saved[i][0])
			ok &= write_text(knobs[i].path, saved[i]);
	return ok;
}

/* What a kernel does not have it does not need. */
static bool set_mode(const char *mode)
{
	return !saved[NR_KNOBS - 1][0] || write_text(KNOBS "relocate_anon", mode);
}

static bool has_knobs(void)
{
	return saved[NR_KNOBS - 1][0];
}

static bool has_flag(void)
{
	char *p = mmap(NULL, psize(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has = sys_mremap(p, psize(), psize(), MREMAP_MAYMOVE | MREMAP_RELOCATE_ANON,
			      NULL) == p;

	munmap(p, psize());
	return has;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

static bool has_swap(void)
{
	char text[1024];

	return read_text("/proc/swaps", text, sizeof(text)) &&
	       strchr(text, '\n') && strchr(text, '\n')[1];
}

/*
 * Contents
 */

static size_t bytes(const struct range *r)
{
	return r->nr * psize();
}

static uint64_t word(const struct range *r, size_t page, size_t i)
{
	uint64_t tag = r->tag + (r->same ? 0 : page);

	return tag << 32 | (i ? i : r->writes[page]);
}

static void fill_page(struct range *r, size_t page)
{
	uint64_t *p = (uint64_t *)(r->at + page * psize());
	size_t i;

	for (i = 0; i < psize() / sizeof(*p); i++)
		p[i] = word(r, page, i);
}

static void note_wrong(const char *what, const char *at)
{
	const char *none = NULL;

	if (__atomic_compare_exchange_n(&wrong, &none, what, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		wrong_at = at;
}

/* While a thread is where the memory may be away. */
static __thread sigjmp_buf away;
static __thread bool expecting;

static void on_segv(int sig)
{
	if (expecting)
		siglongjmp(away, 1);
	signal(sig, SIG_DFL);
}

static void handle_segv(void)
{
	/* Not blocked in its handler: to leave it takes no system call. */
	struct sigaction sa = { .sa_handler = on_segv, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &sa, NULL);
}

static volatile uint64_t *where(const struct range *r, size_t page)
{
	char *at = __atomic_load_n(&r->at, __ATOMIC_ACQUIRE);

	return (uint64_t *)(at + page * psize());
}

/*
 * Not every machine of 32 bits has atomic accesses of 64. These are two there, and
 * need not be one: the half with the tag never changes.
 */
static uint64_t load(const struct range *r, size_t page, size_t i)
{
	uint64_t value;

	while (sigsetjmp(away, 0))
		sched_yield();
	expecting = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	value = where(r, page)[i];
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	expecting = false;
	return value;
}

static void store(const struct range *r, size_t page, uint64_t value)
{
	while (sigsetjmp(away, 0))
		sched_yield();
	expecting = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*where(r, page) = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	expecting = false;
}

static bool page_ok(const struct range *r, size_t page)
{
	size_t i;

	for (i = 0; i < psize() / sizeof(uint64_t); i++)
		if (load(r, page, i) != word(r, page, i))
			return false;
	return true;
}

static void check_page(const struct range *r, size_t page)
{
	if (!page_ok(r, page))
		note_wrong("contents", (char *)where(r, page));
}

static void write_once(struct range *r, size_t page, uint32_t writes)
{
	if (load(r, page, 0) != word(r, page, 0))
		note_wrong("an earlier write was lost", (char *)where(r, page));
	store(r, page, (uint64_t)(word(r, page, 0) >> 32) << 32 | writes);
	r->writes[page] = writes;
	if (load(r, page, 0) != word(r, page, 0))
		note_wrong("a write was lost", (char *)where(r, page));
}

/* What ksmd is to merge becomes what it was. */
static void write_page(struct range *r, size_t page)
{
	write_once(r, page, r->writes[page] + 1);
	if (r->same)
		write_once(r, page, r->writes[page] - 1);
}

static void write_range(struct range *r)
{
	size_t page;

	for (page = 0; page < r->nr; page++)
		write_page(r, page);
}

static void check_range(const struct range *r)
{
	size_t page;

	for (page = 0; page < r->nr; page++)
		check_page(r, page);
}

/*
 * Mappings
 */

/*
 * What a page full of entries maps. A page table maps that, or a part of it: those of
 * ppc64 are smaller than a page of 64K.
 */
static size_t table_size(void)
{
	return psize() * (psize() / sizeof(void *));
}

static size_t slot_size(void)
{
	return 4 * table_size();
}

static char *slot(int n)
{
	return area + n * slot_size();
}

/* A size of 0 has more than 32 bits. */
static bool has_room(void)
{
	return table_size() - 1 < SIZE_MAX / 32 / NR_SLOTS;
}

/* Nothing in one slot is a neighbour of what is in another. */
static bool reserve_area(void)
{
	area = mmap(NULL, NR_SLOTS * slot_size() + table_size(), PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return false;
	area += -(uintptr_t)area & (table_size() - 1);
	return true;
}

static char *map_at(char *addr, size_t len, int flags)
{
	return mmap(addr, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
}

static bool map_small(char *addr, size_t len)
{
	if (map_at(addr, len, 0) != addr)
		return false;
	return !madvise(addr, len, MADV_NOHUGEPAGE) || errno == EINVAL;
}

/*
 * A page right below each place, of the same VMA if moves are relocations. No
 * other page is like it.
 */
static bool map_neighbours(struct range *r)
{
	size_t i;

	for (i = 0; i < 2; i++) {
		char *addr = r->places[i] - psize();

		if (!map_small(addr, psize()))
			return false;
		*(char **)addr = addr;
	}
	return true;
}

static bool map_range(struct range *r)
{
	size_t page;

	r->at = r->places[0];
	if (!map_neighbours(r) || !map_small(r->at, bytes(r)))
		return false;
	for (page = 0; page < r->nr; page++)
		fill_page(r, page);
	return true;
}

/*
 * Both places span two page tables, which they divide in different ways. So no
 * page table moves as a whole.
 */
static bool map_split(struct range *r, int nr_slot, size_t nr, uint32_t tag)
{
	r->nr = nr;
	r->tag = tag;
	r->places[0] = slot(nr_slot) + table_size() - nr / 2 * psize();
	r->places[1] = slot(nr_slot + 1) + table_size() - nr / 3 * psize();
	return map_range(r);
}

/* Page tables move as a whole, unless it is a relocation. */
static bool map_whole(struct range *r, int nr_slot, size_t nr, uint32_t tag)
{
	r->nr = nr;
	r->tag = tag;
	r->places[0] = slot(nr_slot) + table_size();
	r->places[1] = slot(nr_slot + 1) + table_size();
	return map_range(r);
}

static bool move_range(struct range *r)
{
	char *to = r->places[r->at == r->places[0]];

	if (sys_mremap(r->at, bytes(r), bytes(r), MOVE | move_flags, to) != to)
		return false;
	__atomic_store_n(&r->at, to, __ATOMIC_RELEASE);
	r->moves++;
	return true;
}

/* How many VMAs there are in a slot, those without access aside. */
static int count_slot(char *at)
{
	unsigned long from = (unsigned long)at, start, end;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], perms[8];
	int nr = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 &&
		    strncmp(perms, "---", 3) && start < from + slot_size() &&
		    end > from)
			nr++;
	fclose(f);
	return nr;
}

/* With the neighbour, where it is now. */
static int count_range(const struct range *r)
{
	return count_slot(r->at - ((r->at - area) % slot_size()));
}

/*
 * Threads
 */

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		w->step(w);
		w->steps++;
	}
	return NULL;
}

static struct worker *add_worker(struct __test_metadata *_metadata,
				 void (*step)(struct worker *w))
{
	struct worker *w = &workers[nr_workers];

	ASSERT_LT(nr_workers, MAX_WORKERS);
	*w = (struct worker){ .step = step, .stride = 1, .seed = ++nr_workers };
	return w;
}

static void add_writer(struct __test_metadata *_metadata,
		       void (*step)(struct worker *w), struct range *r,
		       size_t first, size_t stride)
{
	struct worker *w = add_worker(_metadata, step);

	w->r = r;
	w->first = first;
	w->stride = stride;
}

static void start_workers(struct __test_metadata *_metadata)
{
	unsigned int i;

	for (i = 0; i < nr_workers; i++)
		ASSERT_EQ(pthread_create(&workers[i].thread, NULL, worker_main,
					 &workers[i]), 0);
}

static void stop_workers(struct __test_metadata *_metadata)
{
	unsigned int i;

	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr_workers; i++) {
		ASSERT_EQ(pthread_join(workers[i].thread, NULL), 0);
		EXPECT_GT(workers[i].steps, 0);
	}
}

static size_t random_page(struct worker *w)
{
	size_t nr = (w->r->nr - w->first + w->stride - 1) / w->stride;

	return w->first + rand_r(&w->seed) % nr * w->stride;
}

static void write_step(struct worker *w)
{
	size_t page = random_page(w);

	check_page(w->r, page);
	write_page(w->r, page);
}

/* ksmd merges what does not change for a while. */
static void write_now_and_then(struct worker *w)
{
	write_step(w);
	usleep(2000);
}

static void move_step(struct worker *w)
{
	if (!move_range(w->r))
		note_wrong("mremap() failed", w->r->at);
	check_page(w->r, random_page(w));
	write_page(w->r, random_page(w));
	usleep(1000);
}

/* Populated, now and then locked, used and unmapped. */
static void churn_step(struct worker *w)
{
	static const size_t sizes[] = { 1, 16, 31, 64, 200 };
	size_t nr = sizes[w->steps % ARRAY_SIZE(sizes)], len = nr * psize(), i;
	int flags = w->steps % 7 ? MAP_POPULATE : MAP_LOCKED;
	char *p = map_at(w->slot, len, flags);

	if (p == MAP_FAILED) {
		note_wrong("mmap() failed", w->slot);
		return;
	}
	for (i = 0; i < nr; i++) {
		if (*(uint64_t *)(p + i * psize()))
			note_wrong("a new page is not empty", p + i * psize());
		*(uint64_t *)(p + i * psize()) = i + 1;
	}
	for (i = 0; i < nr; i++)
		if (*(uint64_t *)(p + i * psize()) != i + 1)
			note_wrong("contents", p + i * psize());
	munmap(p, len);
}

static void add_churner(struct __test_metadata *_metadata, int nr_slot)
{
	add_worker(_metadata, churn_step)->slot = slot(nr_slot);
}

/*
 * A memory cgroup of the test
 */

struct cgroup {
	char path[64];
};

static bool enter_cgroup(struct cgroup *c)
{
	char procs[96];

	write_text(CGROUPS "cgroup.subtree_control", "+memory");
	snprintf(c->path, sizeof(c->path), CGROUPS "topics_together-%d", getpid());
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", c->path);
	if (mkdir(c->path, 0755)) {
		c->path[0] = '\0';
		return false;
	}
	if (write_text(procs, "0"))
		return true;
	rmdir(c->path);
	return false;
}

/* By the parent, when all that was in it is dead. */
static void remove_cgroup(struct cgroup *c)
{
	int tries;

	for (tries = 0; c->path[0] && tries < 100 && rmdir(c->path); tries++)
		usleep(10000);
}

static char *cgroup_file(const struct cgroup *c, const char *name)
{
	static __thread char path[96];

	snprintf(path, sizeof(path), "%s/%s", c->path, name);
	return path;
}

static bool cgroup_set(const struct cgroup *c, const char *name, const char *value)
{
	return write_text(cgroup_file(c, name), value);
}

static long cgroup_get(const struct cgroup *c, const char *name)
{
	return read_long(cgroup_file(c, name));
}

static long cgroup_field(const struct cgroup *c, const char *name, const char *field)
{
	return read_field(cgroup_file(c, name), field);
}

static const struct cgroup *reclaimed;	/* By reclaim_step() */

/* Out of memory, and out of the swap cache, once they are written. */
static void reclaim_step(struct worker *w)
{
	madvise(__atomic_load_n(&w->r->at, __ATOMIC_RELAXED), bytes(w->r),
		MADV_PAGEOUT);
	cgroup_set(reclaimed, "memory.reclaim", "1M swappiness=max");
	usleep(10000);
}

/*
 * Trace events, in an instance of the test
 */

static const char * const systems[] = { "rmap", "fault_retry", "mremap" };

static bool start_tracing(void)
{
	size_t i;

	if (access(TRACEFS "events/rmap", F_OK) ||
	    (mkdir(INSTANCE, 0755) && errno != EEXIST))
		return false;
	/* Keep what comes first: there is no gap in it. */
	if (!write_text(INSTANCE "tracing_on", "0") ||
	    !write_text(INSTANCE "trace", "") ||
	    !write_text(INSTANCE "buffer_size_kb", "1024") ||
	    !write_text(INSTANCE "options/overwrite", "0") ||
	    !write_text(INSTANCE "trace_clock", "mono"))
		return false;
	for (i = 0; i < ARRAY_SIZE(systems); i++) {
		char path[96];

		snprintf(path, sizeof(path), INSTANCE "events/%s/enable", systems[i]);
		write_text(path, "1");
	}
	return write_text(INSTANCE "tracing_on", "1");
}

static void remove_tracing(void)
{
	write_text(INSTANCE "tracing_on", "0");
	write_text(INSTANCE "events/enable", "0");
	rmdir(INSTANCE);
}

#define WALK_LEN	32

struct event {
	int pid;
	int cpu;
	double time;
	char name[32];
	char walk[WALK_LEN];
};

/* Where " [CPU]" begins, with three digits or more. */
static const char *find_cpu(const char *line)
{
	int cpu;

	while ((line = strstr(line, " [")) && sscanf(line, " [%d]", &cpu) != 1)
		line++;
	return line;
}

/* "COMM-PID [CPU] FLAGS TIME: NAME: ... walk=...", and COMM may be anything. */
static bool parse_event(const char *line, struct event *ev)
{
	const char *cpu = find_cpu(line), *dash, *walk;

	if (line[0] == '#' || !cpu)
		return false;
	for (dash = cpu; dash > line && *dash != '-'; dash--)
		;
	ev->pid = atoi(dash + 1);
	if (sscanf(cpu, " [%d] %*s %lf: %31[^:]:", &ev->cpu, &ev->time, ev->name) != 3)
		return false;
	walk = strstr(cpu, "walk=");
	ev->walk[0] = '\0';
	if (walk)
		sscanf(walk, "walk=%31s", ev->walk);
	return true;
}

/* Did this CPU's buffer overflow? */
static bool events_dropped(int cpu)
{
	char path[96];

	snprintf(path, sizeof(path), INSTANCE "per_cpu/cpu%d/stats", cpu);
	return read_field(path, "dropped events") > 0;
}

#define MAX_CPUS	256
#define MAX_TASKS	1024
#define BEGAN_BEFORE	"?"

struct trace {
	double end;		/* Nothing is missing until then. */
	unsigned long walks, moves, waits;
	unsigned int nr_tasks;
	struct {
		int pid;
		char walk[WALK_LEN];	/* Empty: none. */
	} tasks[MAX_TASKS];
};

static FILE *open_trace(void)
{
	return fopen(INSTANCE "trace", "r");
}

/* The last event of the first CPU that lost some. */
static bool find_end(struct trace *t)
{
	static double last[MAX_CPUS];
	FILE *f = open_trace();
	char line[512];
	struct event ev;
	int cpu;

	if (!f)
		return false;
	memset(last, 0, sizeof(last));
	while (fgets(line, sizeof(line), f))
		if (parse_event(line, &ev) && ev.cpu < MAX_CPUS)
			last[ev.cpu] = ev.time;
	fclose(f);
	t->end = 1e18;
	for (cpu = 0; cpu < MAX_CPUS; cpu++)
		if (last[cpu] && last[cpu] < t->end && events_dropped(cpu))
			t->end = last[cpu];
	return true;
}

/* The walk that a task is in; *fresh if it was not seen before. */
static char *walk_of(struct trace *t, int pid, bool *fresh)
{
	unsigned int i;

	*fresh = false;
	for (i = 0; i < t->nr_tasks; i++)
		if (t->tasks[i].pid == pid)
			return t->tasks[i].walk;
	if (t->nr_tasks == MAX_TASKS)
		return NULL;
	*fresh = true;
	t->tasks[t->nr_tasks].pid = pid;
	return t->tasks[t->nr_tasks++].walk;
}

/* Walks of a task begin and end in turns. It may be in one when tracing begins. */
static bool walk_in_order(struct trace *t, const struct event *ev)
{
	bool fresh, known;
	char *walk = walk_of(t, ev->pid, &fresh);

	if (!walk)
		return true;
	if (!strcmp(ev->name, "rmap_walk_start")) {
		if (walk[0])
			return false;
		snprintf(walk, WALK_LEN, "%s", ev->walk);
		return true;
	}
	known = !strcmp(walk, ev->walk);
	if (fresh)
		snprintf(walk, WALK_LEN, BEGAN_BEFORE);
	if (!known && strcmp(walk, BEGAN_BEFORE))
		return false;
	if (!strcmp(ev->name, "rmap_walk_end")) {
		walk[0] = '\0';
		t->walks += known;
	}
	return true;
}

static bool event_in_order(struct trace *t, const struct event *ev)
{
	t->moves += !strcmp(ev->name, "mremap_relocate");
	t->waits += !strcmp(ev->name, "mm_fault_retry");
	return !ev->walk[0] || walk_in_order(t, ev);
}

static void read_trace(struct __test_metadata *_metadata, struct trace *t)
{
	char line[512];
	struct event ev;
	FILE *f;

	ASSERT_TRUE(write_text(INSTANCE "tracing_on", "0"));
	ASSERT_TRUE(find_end(t));
	f = open_trace();
	ASSERT_NE(f, NULL);
	while (fgets(line, sizeof(line), f)) {
		if (!parse_event(line, &ev) || ev.time > t->end)
			continue;
		ASSERT_TRUE(event_in_order(t, &ev))
			TH_LOG("out of order: %s", line);
	}
	fclose(f);
	TH_LOG("%lu walks, %lu moves, %lu waits", t->walks, t->moves, t->waits);
}

/* There must be moves, if any are relocated, and what the test makes for sure. */
static void check_trace(struct __test_metadata *_metadata, bool walks, bool waits)
{
	static struct trace t;

	read_trace(_metadata, &t);
	if (has_knobs())
		EXPECT_GT(t.moves, 0);
	if (walks)
		EXPECT_GT(t.walks, 0);
	if (waits)
		EXPECT_GT(t.waits, 0);
}

/*
 * The races
 */

FIXTURE(together)
{
	struct cgroup cgroup;
	struct dev dev;
	unsigned long taint;
	bool tracing;
};

FIXTURE_VARIANT(together)
{
	const char *mode;	/* Of relocate_anon. */
	int flags;
	bool traced;
};

FIXTURE_VARIANT_ADD(together, asked)
{
	.mode = "never",
	.flags = MREMAP_RELOCATE_ANON,
};

FIXTURE_VARIANT_ADD(together, always)
{
	.mode = "always",
};

FIXTURE_VARIANT_ADD(together, asked_traced)
{
	.mode = "never",
	.flags = MREMAP_RELOCATE_ANON,
	.traced = true,
};

FIXTURE_VARIANT_ADD(together, always_traced)
{
	.mode = "always",
	.traced = true,
};

FIXTURE_SETUP(together)
{
	if (geteuid())
		SKIP(return, NO_ROOT);
	if (variant->traced && access(TRACEFS "events/rmap", F_OK))
		SKIP(return, NO_EVENTS);
	if (!has_room())
		SKIP(return, NO_ROOM);
	self->taint = read_long(TAINTED);
	ASSERT_TRUE(set_mode(variant->mode));
	/* Without the flag it is a plain move that has to be exact. */
	move_flags = has_flag() ? variant->flags : 0;
	ASSERT_TRUE(reserve_area());
	handle_segv();
	self->tracing = variant->traced;
	if (self->tracing)
		ASSERT_TRUE(start_tracing());
}

/* In the parent, which survives whatever may happen to the test. */
FIXTURE_TEARDOWN_PARENT(together)
{
	remove_device(&self->dev);
	remove_cgroup(&self->cgroup);
	if (self->tracing)
		remove_tracing();
	/* If it is not, the kernel has complained. */
	EXPECT_EQ(read_long(TAINTED) & TAINT_MASK & ~self->taint, 0);
}

#define TOGETHER(name)	TEST_F_TIMEOUT(together, name, TEST_SECONDS)

/* Is a move a relocation, where it can be one? */
static bool relocates(const char *mode)
{
	return move_flags || (has_knobs() && !strcmp(mode, "always"));
}

static void check_vmas(struct __test_metadata *_metadata, const char *mode)
{
	size_t i;

	/* What moves without is one VMA with its neighbour or not. */
	for (i = 0; relocates(mode) && i < MAX_RANGES && ranges[i].nr; i++)
		EXPECT_EQ(count_range(&ranges[i]), 1);
}

static void check_all(struct __test_metadata *_metadata)
{
	size_t i;

	for (i = 0; i < MAX_RANGES && ranges[i].nr; i++) {
		check_range(&ranges[i]);
		TH_LOG("range %zu: %lu moves", i, ranges[i].moves);
	}
	ASSERT_EQ(wrong, NULL)
		TH_LOG("%s, at %p", wrong, wrong_at);
}

/*
 * ksmd
 */

static long own_ksm(const char *name)
{
	return read_field("/proc/self/ksm_stat", name);
}

/*
 * So many pages are merged in the end, and ksmd knows so many. What it says at
 * first may be of the time before it looked: a page is merged in the second scan.
 */
static void wait_for_ksm(struct __test_metadata *_metadata, long merging, long items)
{
	const uint64_t end = now_ms() + WAIT_MS;
	const long scans = read_long(KSM "full_scans") + 4;
	long now_merging, now_items;

	do {
		usleep(10000);
		now_merging = own_ksm("ksm_merging_pages");
		now_items = own_ksm("ksm_rmap_items");
	} while ((read_long(KSM "full_scans") < scans || now_merging != merging ||
		  now_items != items) && now_ms() < end);
	EXPECT_EQ(now_merging, merging);
	EXPECT_EQ(now_items, items);
}

static bool ksmd_begins(void)
{
	uint64_t end = now_ms() + MERGE_MS;

	while (own_ksm("ksm_merging_pages") <= 0 && now_ms() < end)
		usleep(1000);
	return own_ksm("ksm_merging_pages") > 0;
}

static bool advise(const struct range *r, int advice)
{
	size_t i;

	for (i = 0; i < 2; i++)
		if (madvise(r->places[i] - psize(), psize(), advice))
			return false;
	return !madvise(r->at, bytes(r), advice);
}

static void map_for_ksm(struct __test_metadata *_metadata)
{
	ranges[0].same = true;
	ASSERT_TRUE(map_split(&ranges[0], 0, NR_MERGED, 0x1000));
	ASSERT_TRUE(map_split(&ranges[1], 2, NR_MERGED, 0x2000));
	ASSERT_TRUE(advise(&ranges[0], MADV_MERGEABLE));
	ASSERT_TRUE(advise(&ranges[1], MADV_MERGEABLE));
}

#define KSM_ITEMS	(2 * (NR_MERGED + 2))

/*
 * ksmd wants the pages that move, and a thread writes to them. A page that was
 * relocated must be found by its new place, or it is never merged again. Kills
 * reloc-keeps-the-index and reloc-keeps-the-anon-vma.
 */
TOGETHER(ksm)
{
	unsigned int round = 0, merged = 0;
	uint64_t end;

	if (access(KSM "run", W_OK))
		SKIP(return, NO_KSM);
	map_for_ksm(_metadata);
	ASSERT_TRUE(write_text(KSM "run", "1"));
	add_writer(_metadata, write_now_and_then, &ranges[0], 0, 1);
	add_writer(_metadata, write_now_and_then, &ranges[1], 0, 1);
	start_workers(_metadata);
	end = now_ms() + RACE_SECONDS * 1000;
	for (; now_ms() < end || round < MIN_ROUNDS; round++) {
		merged += round % 4 == 0 && ksmd_begins();
		ASSERT_TRUE(move_range(&ranges[0]));
		ASSERT_TRUE(move_range(&ranges[1]));
	}
	stop_workers(_metadata);
	EXPECT_GT(merged, 0);
	check_all(_metadata);
	wait_for_ksm(_metadata, NR_MERGED, KSM_ITEMS);

	/* What is merged now is unmerged by the move. */
	ASSERT_TRUE(move_range(&ranges[0]));
	ASSERT_TRUE(move_range(&ranges[1]));
	check_vmas(_metadata, variant->mode);
	check_all(_metadata);
	wait_for_ksm(_metadata, NR_MERGED, KSM_ITEMS);

	ASSERT_TRUE(advise(&ranges[0], MADV_UNMERGEABLE));
	ASSERT_TRUE(advise(&ranges[1], MADV_UNMERGEABLE));
	wait_for_ksm(_metadata, 0, 0);
	check_all(_metadata);
	if (self->tracing)
		check_trace(_metadata, false, false);
}

/*
 * Faults that wait for swap
 */

static size_t nr_swapped(const struct range *r)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t page, nr = 0;

	for (page = 0; page < r->nr; page++)
		nr += pagemap_is_swapped(pagemap, r->at + page * psize());
	close(pagemap);
	return nr;
}

/*
 * Reclaim finds all pages where they are now. First they leave the batches of
 * all CPUs, which compaction drains.
 */
static void all_swap_out(struct __test_metadata *_metadata, struct range *r)
{
	uint64_t end = now_ms() + WAIT_MS;

	do {
		write_text(COMPACT, "1");
		ASSERT_EQ(madvise(r->at, bytes(r), MADV_PAGEOUT), 0);
		usleep(10000);
	} while (nr_swapped(r) < r->nr && now_ms() < end);
	EXPECT_EQ(nr_swapped(r), r->nr);
}

static const char *slow_swap(struct dev *d)
{
	const size_t least = 4 * NR_SWAPPED * psize();
	const char *why = make_swap_device(d, least > SWAP_SIZE ? least : SWAP_SIZE);

	if (why)
		return why;
	if (swap_on(d) || set_delays(d, SLOW_MS, 0))
		return "no swap on a dm-delay device: build the kernel with CONFIG_DM_DELAY";
	return NULL;
}

/*
 * Two threads use pages that are read from a slow device, while these move and
 * are reclaimed. A folio in the swap cache that has its old place is copied by
 * the fault. Kills reloc-ignores-the-swap-cache (by ksm_swpin_copy), and
 * reloc-keeps-the-index and reloc-keeps-the-anon-vma: pages of which reclaim
 * does not find the mapping stay in memory.
 */
TOGETHER(swap)
{
	const char *why = slow_swap(&self->dev);
	struct range *r = &ranges[0];
	unsigned int round = 0;
	uint64_t end;
	long copies;

	/* Not before: the pages of the device must not be reclaimed, too. */
	if (!why && !enter_cgroup(&self->cgroup))
		why = NO_CGROUP;
	if (why)
		SKIP(return, "%s", why);
	reclaimed = &self->cgroup;
	ASSERT_TRUE(map_split(r, 0, NR_SWAPPED, 0x1000));
	copies = read_field("/proc/vmstat", "ksm_swpin_copy");
	add_writer(_metadata, write_step, r, 0, 2);
	add_writer(_metadata, write_step, r, 1, 2);
	add_writer(_metadata, reclaim_step, r, 0, 1);
	start_workers(_metadata);
	end = now_ms() + RACE_SECONDS * 1000;
	for (; now_ms() < end || round < MIN_ROUNDS; round++) {
		ASSERT_TRUE(move_range(r));
		usleep(round % 8 * 500);
	}
	stop_workers(_metadata);
	ASSERT_EQ(set_delays(&self->dev, 0, 0), 0);
	check_vmas(_metadata, variant->mode);
	all_swap_out(_metadata, r);
	check_all(_metadata);
	EXPECT_EQ(read_field("/proc/vmstat", "ksm_swpin_copy"), copies);
	if (self->tracing)
		check_trace(_metadata, true, true);
}

/*
 * Reclaim
 */

struct usage {
	long current, tables, unevictable, mlocked;
};

static void read_usage(const struct cgroup *c, struct usage *u)
{
	u->current = cgroup_get(c, "memory.current");
	u->tables = cgroup_field(c, "memory.stat", "pagetables");
	u->unevictable = cgroup_field(c, "memory.stat", "unevictable");
	u->mlocked = read_field("/proc/meminfo", "Mlocked");
}

/* What waits in each CPU's batches, is charged in advance, and some slab. */
static long charged_slack(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) * (BATCH + CHARGED) * psize() + MB;
}

static bool usage_is_back(const struct usage *now, const struct usage *start)
{
	return now->current <= start->current + charged_slack() &&
	       now->tables <= start->tables + 16 * (long)psize() &&
	       now->unevictable <= start->unevictable &&
	       now->mlocked <= start->mlocked;
}

/*
 * What waits in batches is bounded. Unless they are drained, which any migration
 * does, what was mlocked may still count as such.
 */
static void wait_for_usage(struct __test_metadata *_metadata,
			   const struct cgroup *c, const struct usage *start)
{
	uint64_t end = now_ms() + WAIT_MS;
	struct usage now;

	read_usage(c, &now);
	EXPECT_LE(now.current, start->current + charged_slack());
	do {
		write_text(COMPACT, "1");
		usleep(10000);
		read_usage(c, &now);
	} while (!usage_is_back(&now, start) && now_ms() < end);
	EXPECT_LE(now.current, start->current + charged_slack());
	EXPECT_LE(now.tables, start->tables + 16 * (long)psize());
	EXPECT_LE(now.unevictable, start->unevictable);
	EXPECT_LE(now.mlocked, start->mlocked);
}

/*
 * Some of it goes to swap before there is a limit: the kernel calls the OOM killer
 * when all of the memory that it may use is being written.
 */
static void limit_memory(struct __test_metadata *_metadata, const struct cgroup *c)
{
	uint64_t end = now_ms() + WAIT_MS;

	while (cgroup_get(c, "memory.current") > LIMIT - (long)MB && now_ms() < end) {
		cgroup_set(c, "memory.reclaim", "1M");
		usleep(10000);
	}
	ASSERT_LE(cgroup_get(c, "memory.current"), LIMIT - (long)MB);
	ASSERT_TRUE(cgroup_set(c, "memory.max", LIMIT_TEXT));
}

static void unmap_all(struct __test_metadata *_metadata)
{
	ASSERT_EQ(munmap(area, NR_SLOTS * slot_size()), 0);
}

/*
 * More memory than the cgroup may have moves about, half of it in swap, while
 * other memory is populated, locked and unmapped. Nobody is killed, and nothing
 * remains. Kills reloc-keeps-the-index and reloc-keeps-the-anon-vma: what reclaim
 * does not find the mapping of fills the cgroup.
 */
TOGETHER(reclaim)
{
	struct usage start;
	uint64_t end;
	int i;

	if (psize() != 4096)
		SKIP(return, NO_4K);
	if (!has_swap())
		SKIP(return, NO_SWAP);
	if (!enter_cgroup(&self->cgroup))
		SKIP(return, NO_CGROUP);
	read_usage(&self->cgroup, &start);
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(map_whole(&ranges[i], 2 * i, NR_WHOLE, 0x1000 << i));
		add_writer(_metadata, move_step, &ranges[i], 0, 1);
	}
	for (i = 4; i < 7; i++)
		add_churner(_metadata, i);
	limit_memory(_metadata, &self->cgroup);
	start_workers(_metadata);
	for (end = now_ms() + RACE_SECONDS * 1000; now_ms() < end; usleep(50000))
		;
	stop_workers(_metadata);
	check_vmas(_metadata, variant->mode);
	check_all(_metadata);
	unmap_all(_metadata);
	EXPECT_EQ(cgroup_field(&self->cgroup, "memory.events", "oom_kill"), 0);
	EXPECT_EQ(read_field("/proc/self/status", "VmLck"), 0);
	EXPECT_LE(read_field("/proc/self/status", "VmSwap"), 1024);
	wait_for_usage(_metadata, &self->cgroup, &start);
	if (self->tracing)
		check_trace(_metadata, true, false);
}

/*
 * Children
 */

/* Of a page that somebody may have been writing to when we were forked. */
static bool copy_ok(struct range *r, size_t page)
{
	uint32_t writes = load(r, page, 0);

	if (writes + 1 - r->writes[page] > 2)
		return false;
	r->writes[page] = writes;
	return page_ok(r, page);
}

/* Its copy is what it was, and belongs to it: it can be moved and written to. */
static int use_copy(struct range *r)
{
	size_t page;

	for (page = 0; page < r->nr; page++)
		if (!copy_ok(r, page))
			return 1;
	if (!move_range(r))
		return 2;
	write_range(r);
	if (!move_range(r))
		return 3;
	check_range(r);
	return wrong ? 4 : 0;
}

static pid_t fork_user(struct __test_metadata *_metadata)
{
	pid_t pid = fork();
	int status;

	ASSERT_GE(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	status = use_copy(&ranges[0]);
	_exit(status ? status : use_copy(&ranges[1]));
}

static void reap(struct __test_metadata *_metadata, int *nr_children, int most)
{
	int status;

	while (*nr_children && waitpid(-1, &status, *nr_children > most ? 0 : WNOHANG) > 0) {
		ASSERT_EQ(status, 0);
		--*nr_children;
	}
}

/* What a child shares must not get another place: it does not merge. */
static void move_shared(struct __test_metadata *_metadata)
{
	int hold[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(hold[1]);
		if (read(hold[0], &byte, 1))
			_exit(5);
		_exit(use_copy(&ranges[0]));
	}
	ASSERT_TRUE(move_range(&ranges[0]));
	EXPECT_EQ(count_range(&ranges[0]), 2);
	close(hold[0]);
	close(hold[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

/*
 * fork() while pages are merged, moved, written to and populated. Children look
 * at their copies, use them, and exit while the parent moves its own. Kills
 * reloc-takes-shared-pages.
 */
TOGETHER(fork)
{
	int nr_children = 0;
	unsigned int round = 0;
	uint64_t end;

	if (access(KSM "run", W_OK))
		SKIP(return, NO_KSM);
	map_for_ksm(_metadata);
	ASSERT_TRUE(write_text(KSM "run", "0"));
	move_shared(_metadata);
	ASSERT_TRUE(write_text(KSM "run", "1"));
	add_writer(_metadata, write_now_and_then, &ranges[0], 0, 1);
	add_writer(_metadata, write_now_and_then, &ranges[1], 0, 1);
	add_churner(_metadata, 4);
	start_workers(_metadata);
	end = now_ms() + RACE_SECONDS * 1000;
	for (; now_ms() < end || round < MIN_ROUNDS; round++) {
		if (round % 4 == 0) {
			ksmd_begins();
			fork_user(_metadata);
			nr_children++;
		}
		ASSERT_TRUE(move_range(&ranges[0]));
		ASSERT_TRUE(move_range(&ranges[1]));
		reap(_metadata, &nr_children, MAX_CHILDREN);
	}
	stop_workers(_metadata);
	reap(_metadata, &nr_children, 0);
	EXPECT_EQ(nr_children, 0);
	check_all(_metadata);
	/* A page that merged with a child's copy stays merged after the child's exit. */
	write_range(&ranges[0]);
	write_range(&ranges[1]);
	wait_for_ksm(_metadata, NR_MERGED, KSM_ITEMS);
	if (self->tracing)
		check_trace(_metadata, false, false);
}

/*
 * What anybody can reach
 */

FIXTURE(exposure)
{
	struct cgroup cgroup;
	struct dev dev;
};

FIXTURE_SETUP(exposure)
{
	if (geteuid())
		SKIP(return, NO_ROOT);
	if (!has_room())
		SKIP(return, NO_ROOM);
	ASSERT_TRUE(set_mode("never"));
	ASSERT_TRUE(reserve_area());
}

FIXTURE_TEARDOWN_PARENT(exposure)
{
	remove_device(&self->dev);
	remove_cgroup(&self->cgroup);
}

/* What a child without privileges returns, -1 if it died. */
static int as_nobody(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setgid(NOBODY) || setuid(NOBODY))
			_exit(100);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static bool denied(const char *path, int how)
{
	int fd = open(path, how | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EACCES;
}

static int open_knobs(void)
{
	if (!denied(KNOBS "relocate_anon", O_WRONLY))
		return 1;
	if (!denied(KNOBS "relocate_max_kb", O_WRONLY))
		return 2;
	return !denied(KNOBS "stats/relocated", O_WRONLY);
}

TEST_F(exposure, knobs_are_roots)
{
	if (!has_knobs())
		SKIP(return, NO_KNOBS);
	EXPECT_EQ(as_nobody(open_knobs), 0);
}

static int open_events(void)
{
	if (!denied(TRACEFS "events/rmap/enable", O_WRONLY))
		return 1;
	if (!denied(TRACEFS "events/fault_retry/enable", O_WRONLY))
		return 2;
	if (!denied(TRACEFS "events/mremap/enable", O_WRONLY))
		return 3;
	return !denied(TRACEFS "trace_pipe", O_RDONLY);
}

/* Events have page frame numbers, and the addresses of others. */
TEST_F(exposure, events_are_roots)
{
	struct stat st;

	if (access(TRACEFS "events/rmap", F_OK))
		SKIP(return, NO_EVENTS);
	if (stat(TRACEFS, &st) || st.st_mode & 0007)
		SKIP(return, TRACEFS " is open to all: mount it without mode=");
	EXPECT_EQ(as_nobody(open_events), 0);
}

static bool invalid(char *from, size_t old, size_t new, int flags, char *to)
{
	return sys_mremap(from, old, new, flags | MREMAP_RELOCATE_ANON, to) ==
		MAP_FAILED && errno == EINVAL;
}

static int try_flags(void)
{
	size_t page = psize();
	char *from = slot(0), *to = slot(1);

	if (!map_small(from, 2 * page))
		return 1;
	if (!invalid(from, page, page, 0, to))
		return 8;
	if (!invalid(from, page, page, MREMAP_FIXED, to))
		return 2;
	if (!invalid(from, page, page, MREMAP_DONTUNMAP, to))
		return 3;
	if (!invalid(from, 2 * page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, to))
		return 4;
	if (!invalid(from, page, page, MREMAP_RELOCATE_ANON << 1, to))
		return 5;
	if (!invalid(from, page, page, MOVE, to + 1))
		return 6;
	if (!invalid(from, 2 * page, 2 * page, MOVE, from + page))
		return 7;
	return invalid(from, page, page, MOVE, to);
}

/* What is refused is refused with the flag, and so is the flag where nothing may move. */
TEST_F(exposure, invalid_flags)
{
	if (!has_flag())
		SKIP(return, NO_FLAG);
	EXPECT_EQ(as_nobody(try_flags), 0);
}

static long status_field(const char *name)
{
	return read_field("/proc/self/status", name);
}

static bool limit(int resource, unsigned long value)
{
	struct rlimit limit = { value, value };

	return !setrlimit(resource, &limit);
}

static bool grows(char *from, size_t len, char *to)
{
	return sys_mremap(from, len, 2 * len, MOVE | MREMAP_RELOCATE_ANON, to) == to;
}

/* At its limits, a process may still move what it has, and no more. */
static int move_at_limits(void)
{
	size_t len = 16 * psize();
	char *from = slot(0), *to = slot(1);
	long size;

	if (munmap(area, NR_SLOTS * slot_size()) || !map_small(from, len) ||
	    !limit(RLIMIT_MEMLOCK, len) || mlock(from, len))
		return 1;
	if (grows(from, len, to) || errno != EAGAIN)
		return 2;
	size = status_field("VmSize");
	if (!limit(RLIMIT_AS, size << 10))
		return 3;
	if (sys_mremap(from, len, len, MOVE | MREMAP_RELOCATE_ANON, to) != to)
		return 4;
	if (status_field("VmSize") != size || status_field("VmLck") != len >> 10)
		return 5;
	if (munlock(to, len) || status_field("VmLck"))
		return 6;
	return grows(to, len, from) || errno != ENOMEM;
}

TEST_F(exposure, limits_hold)
{
	if (!has_flag())
		SKIP(return, NO_FLAG);
	EXPECT_EQ(as_nobody(move_at_limits), 0);
}

/*
 * A hint must not take more than there is: a move of whole page tables needs no
 * memory, so nobody is to be killed for a relocation that needs some.
 */
#define NR_TABLES	512

/* Powerpc has two MMUs. That with a hash table, of addresses, moves no page tables. */
static bool has_radix_mmu(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "MMU", 3) && strstr(line, ": Radix");
	if (f)
		fclose(f);
	return found;
}

/* Whether the kernel selects HAVE_MOVE_PMD. Where not, any move needs memory. */
static bool moves_tables(void)
{
	static const char * const machines[] = { "x86_64", "aarch64", "riscv64" };
	struct utsname system;
	size_t i;

	if (uname(&system))
		return false;
	for (i = 0; i < sizeof(machines) / sizeof(*machines); i++)
		if (!strcmp(system.machine, machines[i]))
			return true;
	return !strncmp(system.machine, "ppc64", 5) && has_radix_mmu();
}

static void touch_tables(char *addr)
{
	size_t i;

	for (i = 0; i < NR_TABLES; i++)
		addr[i * table_size()] = 1;
}

static char *reserve_tables(void)
{
	size_t len = NR_TABLES * table_size();
	char *p = mmap(NULL, 3 * len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return p + (-(uintptr_t)p & (len - 1));
}

static bool move_tables(char *from, char *to, int flags)
{
	size_t len = NR_TABLES * table_size();

	return sys_mremap(from, len, len, MOVE | flags, to) == to && to[0] == 1;
}

/* First without asking: that is what it is compared with. */
static int move_without_memory(const struct cgroup *c)
{
	size_t len = NR_TABLES * table_size();
	char *from = reserve_tables(), text[32];
	char *to = from + len;

	if (!from || !map_small(from, len))
		return 1;
	touch_tables(from);
	snprintf(text, sizeof(text), "%ld",
		 cgroup_get(c, "memory.current") + (CHARGED + BATCH) * (long)psize());
	if (!cgroup_set(c, "memory.max", text))
		return 2;
	if (!move_tables(from, to, 0) || !move_tables(to, from, 0))
		return 3;
	if (cgroup_field(c, "memory.events", "oom"))
		return 4;
	return !move_tables(from, to, MREMAP_RELOCATE_ANON);
}

TEST_F(exposure, asking_kills_nobody)
{
	int status;
	pid_t pid;

	if (sizeof(void *) < 8)
		SKIP(return, NOT_64_BIT);
	/* So many tables would be more than the kernel lets anybody commit. */
	if (table_size() > MAX_HUGE)
		SKIP(return, LARGE_THP);
	if (!moves_tables())
		SKIP(return, "page tables are not moved as a whole here: use another machine");
	if (!has_flag())
		SKIP(return, NO_FLAG);
	if (!enter_cgroup(&self->cgroup))
		SKIP(return, NO_CGROUP);
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(move_without_memory(&self->cgroup));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(cgroup_field(&self->cgroup, "memory.events", "oom_kill"), 0);
}

/*
 * A relocation of huge pages has a page table in reserve for each, in case that
 * it is split, and gives them back. Kills an mremap_relocate_free_spares() that
 * does nothing.
 */
#define NR_HUGE		4
#define NR_MOVES	64

TEST_F(exposure, reserve_is_given_back)
{
	size_t len = NR_HUGE * read_pmd_pagesize(), i;
	char *places[2], *from;
	long tables;

	if (!has_flag())
		SKIP(return, NO_FLAG);
	if (!len)
		SKIP(return, NO_THP);
	if (len > NR_HUGE * MAX_HUGE)
		SKIP(return, LARGE_THP);
	if (!enter_cgroup(&self->cgroup))
		SKIP(return, NO_CGROUP);
	from = mmap(NULL, 3 * len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(from, MAP_FAILED);
	places[0] = from + (-(uintptr_t)from & (len - 1));
	places[1] = places[0] + len;
	ASSERT_EQ(map_at(places[0], len, 0), places[0]);
	if (madvise(places[0], len, MADV_HUGEPAGE))
		SKIP(return, NO_THP);
	memset(places[0], 1, len);

	tables = cgroup_field(&self->cgroup, "memory.stat", "pagetables");
	for (i = 0; i < NR_MOVES; i++)
		ASSERT_EQ(sys_mremap(places[i & 1], len, len,
				     MOVE | MREMAP_RELOCATE_ANON,
				     places[~i & 1]), places[~i & 1]);
	EXPECT_LT(cgroup_field(&self->cgroup, "memory.stat", "pagetables"),
		  tables + NR_HUGE * NR_MOVES / 2 * (long)psize());
	for (i = 0; i < len; i += psize())
		ASSERT_EQ(places[0][i], 1);
}

/*
 * A process with a fault that is held up by a device, and a thread that changes
 * the VMA meanwhile. It writes a byte to @steps before and after.
 */

static void *touch_main(void *arg)
{
	FORCE_READ(*(char *)arg);
	return NULL;
}

static void be_a_victim(struct dev *d, char *map, int steps)
{
	uint64_t end = now_ms() + WAIT_MS;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pthread_create(&thread, NULL, touch_main, map))
		_exit(1);
	while (!nr_held(d) && now_ms() < end)
		usleep(1000);
	if (write(steps, "1", 1) != 1)
		_exit(2);
	if (mprotect(map + FILE_SIZE / 2, psize(), PROT_NONE))
		_exit(3);
	if (write(steps, "2", 1) != 1)
		_exit(4);
	pthread_join(thread, NULL);
	_exit(0);
}

static bool step_comes(int steps)
{
	struct pollfd fd = { .fd = steps, .events = POLLIN };
	char byte;

	return poll(&fd, 1, WAIT_MS) == 1 && read(steps, &byte, 1) == 1;
}

/* Reads what ps and others read; in a process of its own, for it may hang. */
static bool can_be_read(pid_t victim, const char *name)
{
	uint64_t end = now_ms() + WAIT_MS;
	char path[64], text[256];
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		snprintf(path, sizeof(path), "/proc/%d/%s", victim, name);
		_exit(!read_text(path, text, sizeof(text)));
	}
	while (pid > 0 && !waitpid(pid, &status, WNOHANG) && now_ms() < end)
		usleep(1000);
	if (pid > 0 && status < 0)
		kill(pid, SIGKILL);
	return !status;
}

/*
 * Who reads a slow file is in nobody's way: neither of who changes its mappings
 * nor, behind that, of who looks at them from outside. Kills
 * fault-waits-with-lock.
 */
TEST_F_TIMEOUT(exposure, slow_reader_blocks_nobody, TEST_SECONDS)
{
	const char *why = make_swap_device(&self->dev, FILE_SIZE);
	int steps[2], status, fd;
	char *map;
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	fd = open(self->dev.node, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	map = mmap(NULL, FILE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(map, MAP_FAILED);
	ASSERT_EQ(ioctl(fd, BLKFLSBUF), 0);
	ASSERT_EQ(set_delays(&self->dev, HELD_MS, 0), 0);
	ASSERT_EQ(pipe2(steps, O_CLOEXEC), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		be_a_victim(&self->dev, map, steps[1]);

	EXPECT_TRUE(step_comes(steps[0]));
	EXPECT_GT(nr_held(&self->dev), 0);
	EXPECT_TRUE(can_be_read(pid, "maps"));
	EXPECT_TRUE(can_be_read(pid, "cmdline"));
	EXPECT_TRUE(step_comes(steps[0]));

	ASSERT_EQ(set_delays(&self->dev, 0, 0), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	close(fd);
}

static pid_t harness;

static void pass_on(int sig)
{
	kill(harness, sig);
}

/* Whatever happens to the tests, their parent puts the settings back. */
int main(int argc, char **argv)
{
	int status;

	if (geteuid())
		return test_harness_run(argc, argv);
	save_settings();
	if (!set_for_tests())
		ksft_exit_fail_msg("the settings could not be made\n");
	harness = fork();
	if (harness < 0)
		ksft_exit_fail_perror("fork");
	if (!harness)
		return test_harness_run(argc, argv);
	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	while (waitpid(harness, &status, 0) < 0 && errno == EINTR)
		;
	if (!restore_settings())
		ksft_exit_fail_msg("the settings could not be restored\n");
	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}
