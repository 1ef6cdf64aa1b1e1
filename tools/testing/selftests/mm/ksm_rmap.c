// SPDX-License-Identifier: GPL-2.0-only
/*
 * A KSM page is mapped at addresses that have nothing to do with each other.
 * The reverse mapping finds them by what ksmd noted when it merged them, so it
 * has to stay right whatever then happens to the mappings. Check that each
 * mapping of a KSM page is found after splits and merges of VMAs, fork(),
 * mremap() and swapping, that no more VMAs are visited than necessary, and
 * that a memory failure is told to those who map the page, and to nobody else.
 *
 * ksmd runs only when a test asks for it, one scan at a time. The settings of
 * KSM are put back afterwards, but what others have merged is unmerged.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "vm_util.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MPOL_MF_MOVE_ALL
#define MPOL_MF_MOVE_ALL	4
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#endif

#define KPF_WRITEBACK		BIT_ULL(8)
#define KPF_SWAPCACHE		BIT_ULL(13)
#define KPF_KSM			BIT_ULL(21)

#define KSM			"/sys/kernel/mm/ksm/"
#define PAGE_IDLE		"/sys/kernel/mm/page_idle/bitmap"
#define TRACEFS			"/sys/kernel/tracing/"
#define INSTANCE		TRACEFS "instances/ksm_rmap/"

#define NO_SWAP		"no swap space: swapon a disk, or a file on one"
#define NOT_CACHED	"no swap cache on this swap space: swapon a disk, not zram"
#define NO_EVENTS	"no rmap events in " TRACEFS ": mount it, or use a kernel that has them"
#define NO_ROOM		"pages are too large for 32 bits: use a kernel with smaller pages"

#define TEST_SECONDS		300
#define WAIT_SECONDS		60
#define MAX_ATTEMPTS		100	/* Of 10 ms: it may be under writeback. */
#define MAX_SCANS		6	/* Two suffice to merge. */

#define NR_SLOTS		6
#define SLOT_PAGES		(sizeof(void *) < 8 ? 4096UL : 65536UL)
#define MAX_PLACES		64
#define MAX_AGENTS		4
#define MANY_VMAS		4000	/* Debug kernels look at all for each split. */

/* What a page is filled with. */
enum tags {
	SAME = 1,
	OTHER,
	UNIQUE,		/* And whatever follows. */
};

enum op {
	INTACT,		/* Whether the page at addr has the tag. */
	TOUCH,		/* Read the page past the TLB. */
	MOVE,		/* mremap() to dest. */
	POISONED,	/* Whether reading the page at addr raises SIGBUS. */
	SIGNALS,	/* How many SIGBUS came. */
};

struct order {
	enum op op;
	char *addr;
	char *dest;
	size_t len;
	int tag;
};

/* A child that does to its own memory what it is ordered to. */
struct agent {
	pid_t pid;
	int orders;
	int answers;
	int pagemap;
};

/* Where a page is mapped: in the test itself, if agent is NULL. */
struct place {
	struct agent *agent;
	char *addr;
};

struct knob {
	const char *name;
	const char *value;	/* For the tests; NULL: leave it alone. */
};

/* In the order of setting. */
static const struct knob knobs[] = {
	{ "advisor_mode", "none" },
	{ "pages_to_scan", "1000000000" },
	{ "sleep_millisecs", NULL },
	{ "smart_scan", "0" },
	{ "use_zero_pages", "0" },
	{ "max_page_sharing", "256" },
	{ "merge_across_nodes", "1" },
};

#define NR_KNOBS	ARRAY_SIZE(knobs)

/* As main() found them; empty if there is no such file. */
static char saved[NR_KNOBS][32];
static char saved_run[32];

/*
 * area: NR_SLOTS slots without access, SLOT_PAGES each, to map regions in.
 * Regions in different slots are never neighbours.
 */
struct env {
	size_t page;
	char *area;
	char *scratch;
	int pagemap;
	int kpageflags;
	int page_idle;
	int nodes[2];
	unsigned long poisoned;
	unsigned int nr_places;
	struct place places[MAX_PLACES];
	unsigned int nr_agents;
	struct agent agents[MAX_AGENTS];
};

/*
 * Settings
 */

/* The first line of a file. */
static bool read_text(const char *path, char *text, size_t size)
{
	if (!read_file(path, text, size))
		return false;
	text[strcspn(text, "\n")] = '\0';
	return true;
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t len;

	if (fd < 0)
		return false;
	len = write(fd, text, strlen(text));
	close(fd);
	return len == (ssize_t)strlen(text);
}

static bool read_knob(const char *name, char *text, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), KSM "%s", name);
	return read_text(path, text, size);
}

static bool write_knob(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), KSM "%s", name);
	return write_text(path, text);
}

static long read_count(const char *name)
{
	char text[32];

	return read_knob(name, text, sizeof(text)) ? atol(text) : -1;
}

/* Of "[none] scan-time", only what is chosen. */
static void keep_choice(char *text)
{
	char *open = strchr(text, '['), *close = strchr(text, ']');

	if (!open || !close)
		return;
	*close = '\0';
	memmove(text, open + 1, close - open);
}

static bool save_settings(void)
{
	unsigned int i;

	for (i = 0; i < NR_KNOBS; i++) {
		if (!read_knob(knobs[i].name, saved[i], sizeof(saved[i])))
			saved[i][0] = '\0';
		keep_choice(saved[i]);
	}
	return read_knob("run", saved_run, sizeof(saved_run));
}

/* Nothing must be merged when some of these are set. */
static bool set_for_tests(void)
{
	unsigned int i;

	if (!write_knob("run", "2") || !write_knob("run", "0"))
		return false;
	for (i = 0; i < NR_KNOBS; i++)
		if (saved[i][0] && knobs[i].value &&
		    !write_knob(knobs[i].name, knobs[i].value))
			return false;
	return true;
}

/* In reverse: pages_to_scan can only be set without an advisor. */
static bool restore_settings(void)
{
	bool ok = write_knob("run", "2") && write_knob("run", "0");
	unsigned int i;

	for (i = NR_KNOBS; i-- > 0;)
		if (saved[i][0])
			ok &= write_knob(knobs[i].name, saved[i]);
	return ok & write_knob("run", saved_run);
}

/*
 * Have ksmd scan everything exactly once. It does so when it wakes up, as
 * pages_to_scan is large, and it wakes up when sleep_millisecs changes.
 */
static void wake_ksmd(void)
{
	static bool odd;

	odd = !odd;
	write_knob("sleep_millisecs", odd ? "3600001" : "3600000");
}

static bool scan_once(void)
{
	long before = read_count("full_scans");
	bool scanned = false;
	int i;

	wake_ksmd();
	if (!write_knob("run", "1"))
		return false;
	for (i = 1; i <= WAIT_SECONDS * 200 && !scanned; i++) {
		usleep(5000);
		scanned = read_count("full_scans") > before;
		/* It was not asleep yet when it was woken up. */
		if (!scanned && i % 200 == 0)
			wake_ksmd();
	}
	/* Waits for the end of the scan. */
	return write_knob("run", "0") && scanned;
}

/*
 * Memory, of the test and of its agents
 */

static uint64_t word(int tag, size_t i)
{
	return (uint64_t)tag << 32 | i;
}

static void fill(char *addr, int tag)
{
	uint64_t *p = (uint64_t *)addr;
	size_t i;

	for (i = 0; i < psize() / sizeof(*p); i++)
		p[i] = word(tag, i);
}

static bool intact(char *addr, int tag)
{
	uint64_t *p = (uint64_t *)addr;
	size_t i;

	for (i = 0; i < psize() / sizeof(*p); i++)
		if (p[i] != word(tag, i))
			return false;
	return true;
}

/* Without THPs pages are small anyway. */
static bool have_small_pages(char *addr, size_t len)
{
	return !madvise(addr, len, MADV_NOHUGEPAGE) || errno == EINVAL;
}

#define FLUSH_PAGES	1024UL			/* That are written to. */
#define FLUSH_RANGE	((1UL << 21) + 1)	/* And one so far behind, if there is room. */

static char *map_for_flush(size_t *len)
{
	const size_t pages[] = { sizeof(void *) < 8 ? FLUSH_PAGES : FLUSH_RANGE, FLUSH_PAGES };
	char *buf = MAP_FAILED;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(pages) && buf == MAP_FAILED; i++) {
		*len = pages[i] * psize();
		buf = mmap(NULL, *len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	return buf != MAP_FAILED && have_small_pages(buf, *len) ? buf : NULL;
}

/*
 * page_idle clears the accessed bit but leaves the TLB alone, and an access
 * through the TLB does not set the bit again. To write-protect so much at once
 * flushes all of it. What counts is the range from the first page to the last: arm64
 * flushes a page table's worth page by page, and 2^21 pages by FEAT_TLBIRANGE.
 */
static bool flush_tlb(void)
{
	static size_t len;
	static char *buf;

	if (!buf)
		buf = map_for_flush(&len);
	if (!buf)
		return false;
	memset(buf, 1, FLUSH_PAGES * psize());
	buf[len - 1] = 1;
	return !mprotect(buf, len, PROT_READ) &&
	       !mprotect(buf, len, PROT_READ | PROT_WRITE);
}

static int nr_signals;
static int reading;
static sigjmp_buf after_read;

static void on_sigbus(int sig)
{
	if (__atomic_load_n(&reading, __ATOMIC_RELAXED))
		siglongjmp(after_read, 1);
	__atomic_fetch_add(&nr_signals, 1, __ATOMIC_RELAXED);
}

static bool poisoned(char *addr)
{
	bool raised = false;

	if (sigsetjmp(after_read, 1)) {
		raised = true;
	} else {
		__atomic_store_n(&reading, 1, __ATOMIC_SEQ_CST);
		FORCE_READ(*addr);
	}
	__atomic_store_n(&reading, 0, __ATOMIC_SEQ_CST);
	return raised;
}

static int execute(const struct order *o)
{
	switch (o->op) {
	case INTACT:
		return intact(o->addr, o->tag);
	case TOUCH:
		if (!flush_tlb())
			return 0;
		FORCE_READ(*o->addr);
		return 1;
	case MOVE:
		return sys_mremap(o->addr, o->len, o->len,
				  MREMAP_MAYMOVE | MREMAP_FIXED, o->dest) == o->dest;
	case POISONED:
		return poisoned(o->addr);
	case SIGNALS:
		return __atomic_load_n(&nr_signals, __ATOMIC_RELAXED);
	}
	return -1;
}

static void obey(int orders, int answers)
{
	struct order o;

	while (read(orders, &o, sizeof(o)) == sizeof(o)) {
		int answer = execute(&o);

		if (write(answers, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
	_exit(0);
}

/* What an order gave: negative when the agent did not live to tell. */
static int ask(struct agent *agent, struct order o)
{
	int answer;

	if (!agent)
		return execute(&o);
	if (write(agent->orders, &o, sizeof(o)) != sizeof(o) ||
	    read(agent->answers, &answer, sizeof(answer)) != sizeof(answer))
		return -1;
	return answer;
}

#define ASK(_agent, ...) ask(_agent, (struct order){ __VA_ARGS__ })

static struct agent *fork_agent(struct __test_metadata *_metadata, struct env *e)
{
	struct agent *agent = &e->agents[e->nr_agents];
	int orders[2], answers[2];
	char path[64];
	pid_t pid;

	ASSERT_LT(e->nr_agents, MAX_AGENTS);
	ASSERT_EQ(pipe(orders), 0);
	ASSERT_EQ(pipe(answers), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(orders[1]);
		close(answers[0]);
		obey(orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	agent->pid = pid;
	agent->orders = orders[1];
	agent->answers = answers[0];
	snprintf(path, sizeof(path), "/proc/%d/pagemap", agent->pid);
	agent->pagemap = open(path, O_RDONLY);
	ASSERT_GE(agent->pagemap, 0);
	e->nr_agents++;
	return agent;
}

static char *slot(struct env *e, int n)
{
	return e->area + n * SLOT_PAGES * e->page;
}

static char *map_at(struct env *e, char *addr, size_t nr, int fd, off_t offset)
{
	int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
	size_t len = nr * e->page;
	char *map = mmap(addr, len, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (map == MAP_FAILED || !have_small_pages(map, len) ||
	    madvise(map, len, MADV_MERGEABLE))
		return NULL;
	return map;
}

static char *map_slot(struct env *e, int n, size_t nr)
{
	return map_at(e, slot(e, n), nr, -1, 0);
}

static void fill_range(struct env *e, char *addr, size_t nr, int tag)
{
	size_t i;

	for (i = 0; i < nr; i++)
		fill(addr + i * e->page, tag);
}

static void fill_unique(struct env *e, char *addr, size_t nr)
{
	static int next = UNIQUE;
	size_t i;

	for (i = 0; i < nr; i++)
		fill(addr + i * e->page, next++);
}

static bool move(char *addr, char *to, size_t len)
{
	return ASK(NULL, MOVE, addr, to, len);
}

/*
 * Places, and what the kernel says of the pages there
 */

static void add_place(struct __test_metadata *_metadata, struct env *e,
		      struct agent *agent, char *addr)
{
	ASSERT_LT(e->nr_places, MAX_PLACES);
	e->places[e->nr_places++] = (struct place){ agent, addr };
}

static void add_places(struct __test_metadata *_metadata, struct env *e,
		       struct agent *agent, char *addr, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		add_place(_metadata, e, agent, addr + i * e->page);
}

static uint64_t entry_at(struct env *e, struct place *p)
{
	return pagemap_get_entry(p->agent ? p->agent->pagemap : e->pagemap, p->addr);
}

/* 0 when no page is there. */
static unsigned long pfn_at(struct env *e, struct place *p)
{
	uint64_t entry = entry_at(e, p);

	return entry & PM_PRESENT ? PAGEMAP_PFN(entry) : 0;
}

static unsigned long own_pfn(struct env *e, char *addr)
{
	struct place p = { NULL, addr };

	return pfn_at(e, &p);
}

static bool swapped(struct env *e, char *addr)
{
	return pagemap_is_swapped(e->pagemap, addr);
}

static uint64_t flags_of(struct env *e, unsigned long pfn)
{
	uint64_t flags = 0;

	return pfn && !pageflags_get(pfn, e->kpageflags, &flags) ? flags : 0;
}

static bool is_ksm(struct env *e, unsigned long pfn)
{
	return flags_of(e, pfn) & KPF_KSM;
}

/* The one KSM page at all places, or 0. */
static unsigned long shared_pfn(struct env *e)
{
	unsigned long pfn = pfn_at(e, &e->places[0]);
	unsigned int i;

	for (i = 1; i < e->nr_places; i++)
		if (pfn_at(e, &e->places[i]) != pfn)
			return 0;
	return is_ksm(e, pfn) ? pfn : 0;
}

static void merge(struct __test_metadata *_metadata, struct env *e)
{
	int i;

	for (i = 0; i < MAX_SCANS && !shared_pfn(e); i++)
		ASSERT_TRUE(scan_once());
	ASSERT_NE(shared_pfn(e), 0)
		TH_LOG("%u pages were not merged in %d scans", e->nr_places, i);
}

/* Merge nr pages that are all the same. */
static char *merged_slot(struct __test_metadata *_metadata, struct env *e,
			 int n, size_t nr)
{
	char *addr = map_slot(e, n, nr);

	ASSERT_NE(addr, NULL);
	fill_range(e, addr, nr, SAME);
	add_places(_metadata, e, NULL, addr, nr);
	merge(_metadata, e);
	return addr;
}

/*
 * Ways to have the kernel walk the reverse mapping
 */

static long move_to(struct env *e, char *addr, int node, int *status)
{
	void *pages[] = { addr };

	return syscall(SYS_move_pages, 0, 1, pages, node < 0 ? NULL : &node,
		       status, MPOL_MF_MOVE_ALL);
}

/*
 * Only pages that arrived on their LRU list can be isolated, or be marked
 * idle. Any move makes the kernel drain all that is on its way there.
 */
static bool drain_lru(struct env *e)
{
	int node, status;

	if (move_to(e, e->scratch, -1, &node) || node < 0)
		return false;
	return !move_to(e, e->scratch, node, &status);
}

static bool idle_io(struct env *e, unsigned long pfn, bool set, bool *idle)
{
	uint64_t bits = 1ULL << pfn % 64;
	off_t at = pfn / 64 * sizeof(bits);

	if (set)
		return pwrite(e->page_idle, &bits, sizeof(bits), at) == sizeof(bits);
	if (pread(e->page_idle, &bits, sizeof(bits), at) != sizeof(bits))
		return false;
	*idle = bits >> pfn % 64 & 1;
	return true;
}

static bool set_idle(struct env *e, unsigned long pfn)
{
	return idle_io(e, pfn, true, NULL);
}

static bool get_idle(struct env *e, unsigned long pfn)
{
	bool idle = false;

	return idle_io(e, pfn, false, &idle) && idle;
}

/* An access at this place, and at no other, is noticed. */
static void access_is_seen(struct __test_metadata *_metadata, struct env *e,
			   struct place *p)
{
	unsigned long pfn = pfn_at(e, p);

	ASSERT_NE(pfn, 0);
	ASSERT_TRUE(drain_lru(e));
	ASSERT_TRUE(set_idle(e, pfn));
	ASSERT_TRUE(get_idle(e, pfn))
		TH_LOG("the page does not stay idle without an access");
	ASSERT_EQ(ASK(p->agent, TOUCH, p->addr), 1);
	ASSERT_FALSE(get_idle(e, pfn))
		TH_LOG("an access at %p, of process %d, was not seen", p->addr,
		       p->agent ? p->agent->pid : getpid());
}

static bool soft_offline(struct env *e, char *addr)
{
	unsigned long pfn = own_pfn(e, addr);

	if (madvise(addr, e->page, MADV_SOFT_OFFLINE))
		return false;
	/* It is free now, give it back. */
	unpoison_memory(pfn);
	return own_pfn(e, addr) != pfn;
}

static bool move_to_other_node(struct env *e, char *addr)
{
	int from, status = -1;

	if (move_to(e, addr, -1, &from) || from < 0)
		return false;
	return !move_to(e, addr, e->nodes[from == e->nodes[0]], &status) &&
	       status >= 0 && status != from;
}

enum trigger {
	PAGE_IDLE_BITMAP,
	SOFT_OFFLINE,
	MOVE_PAGES,
	PAGE_OUT,
};

static bool migrate(struct env *e, enum trigger way, char *addr)
{
	int i;

	for (i = 0; i < MAX_ATTEMPTS; i++) {
		drain_lru(e);
		if (way == SOFT_OFFLINE ? soft_offline(e, addr) :
					  move_to_other_node(e, addr))
			return true;
		usleep(10000);
	}
	return false;
}

static bool page_goes_out(struct env *e, char *addr)
{
	int i;

	for (i = 0; i < MAX_ATTEMPTS; i++) {
		drain_lru(e);
		if (madvise(addr, e->page, MADV_PAGEOUT))
			return false;
		if (swapped(e, addr))
			return true;
		usleep(10000);
	}
	return false;
}

static void all_intact(struct __test_metadata *_metadata, struct env *e, int tag)
{
	unsigned int i;

	for (i = 0; i < e->nr_places; i++)
		ASSERT_EQ(ASK(e->places[i].agent, INTACT, e->places[i].addr,
			      .tag = tag), 1)
			TH_LOG("place %u has changed", i);
}

/* The page at addr migrates, and all places follow. */
static void all_follow(struct __test_metadata *_metadata, struct env *e,
		       enum trigger way, char *addr)
{
	unsigned long old = own_pfn(e, addr), new;
	unsigned int i;

	ASSERT_TRUE(migrate(e, way, addr))
		TH_LOG("the page cannot be migrated: %s", strerror(errno));
	new = own_pfn(e, addr);
	ASSERT_NE(new, 0);
	ASSERT_NE(new, old);
	for (i = 0; i < e->nr_places; i++)
		ASSERT_EQ(pfn_at(e, &e->places[i]), new)
			TH_LOG("place %u did not follow", i);
}

/* The walk finds each place that the KSM page is mapped at. */
static void all_found(struct __test_metadata *_metadata, struct env *e,
		      enum trigger way)
{
	unsigned int i;

	ASSERT_NE(shared_pfn(e), 0);
	ASSERT_EQ(e->places[0].agent, NULL);
	if (way == PAGE_IDLE_BITMAP)
		for (i = 0; i < e->nr_places; i++)
			access_is_seen(_metadata, e, &e->places[i]);
	else
		all_follow(_metadata, e, way, e->places[0].addr);
	ASSERT_NE(shared_pfn(e), 0);
	all_intact(_metadata, e, SAME);
}

/*
 * What the kernel and the machine must have
 */

/* The first and the last node with memory, from a list like "0-1,3". */
static bool two_nodes(struct env *e)
{
	char text[64], *last;

	if (!read_text("/sys/devices/system/node/has_memory", text, sizeof(text)))
		return false;
	last = text + strlen(text);
	while (last > text && last[-1] != ',' && last[-1] != '-')
		last--;
	e->nodes[0] = atoi(text);
	e->nodes[1] = atoi(last);
	return e->nodes[0] != e->nodes[1];
}

static bool has_swap(void)
{
	FILE *f = fopen("/proc/swaps", "r");
	char line[256];
	int lines = 0;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		lines++;
	fclose(f);
	return lines > 1;
}

/* Why a way does not work here, or NULL. */
static const char *lacks_way(struct env *e, enum trigger way)
{
	switch (way) {
	case PAGE_IDLE_BITMAP:
		e->page_idle = open(PAGE_IDLE, O_RDWR);
		return e->page_idle < 0 ? "no " PAGE_IDLE
			": build the kernel with CONFIG_IDLE_PAGE_TRACKING" : NULL;
	case SOFT_OFFLINE:
		return access("/proc/sys/vm/memory_failure_recovery", F_OK) ?
			"no MADV_SOFT_OFFLINE: build the kernel with CONFIG_MEMORY_FAILURE" : NULL;
	case MOVE_PAGES:
		return two_nodes(e) ? NULL :
			"only one NUMA node has memory: boot with numa=fake=2 (CONFIG_NUMA_EMU)";
	case PAGE_OUT:
		return NULL;
	}
	return "unknown way";
}

static const char *lacks(struct env *e)
{
	char text[32];

	if (geteuid())
		return "not root, who alone sees page frame numbers: run as root";
	if (!read_knob("run", text, sizeof(text)))
		return "no " KSM ": build the kernel with CONFIG_KSM";
	e->kpageflags = open("/proc/kpageflags", O_RDONLY);
	if (e->kpageflags < 0)
		return "no /proc/kpageflags: build the kernel with CONFIG_PROC_PAGE_MONITOR";
	if (syscall(__NR_move_pages, 0, 0UL, NULL, NULL, NULL, 0))
		return "no move_pages(): build the kernel with CONFIG_NUMA and CONFIG_MIGRATION";
	return NULL;
}

static const char *setup(struct __test_metadata *_metadata, struct env *e)
{
	size_t len = NR_SLOTS * SLOT_PAGES * psize();
	const char *why;

	e->page = psize();
	if (SIZE_MAX / 8 / NR_SLOTS / e->page < SLOT_PAGES)
		return NO_ROOM;
	e->scratch = mmap(NULL, e->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(e->scratch, MAP_FAILED);
	e->area = mmap(NULL, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(e->area, MAP_FAILED);
	why = lacks(e);
	if (why)
		return why;
	e->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(e->pagemap, 0);
	ASSERT_TRUE(set_for_tests());
	return NULL;
}

/* Runs in the parent, so that a test that crashes is cleaned up after, too. */
static void teardown(struct __test_metadata *_metadata, struct env *e)
{
	unsigned int i;

	for (i = 0; i < e->nr_agents; i++)
		kill(e->agents[i].pid, SIGKILL);
	if (e->poisoned)
		unpoison_memory(e->poisoned);
}

/*
 * All mappings of a KSM page are found
 */

FIXTURE(ksm_rmap)
{
	struct env e;
};

FIXTURE_VARIANT(ksm_rmap)
{
	enum trigger way;
};

FIXTURE_VARIANT_ADD(ksm_rmap, page_idle)
{
	.way = PAGE_IDLE_BITMAP,
};

FIXTURE_VARIANT_ADD(ksm_rmap, soft_offline)
{
	.way = SOFT_OFFLINE,
};

FIXTURE_VARIANT_ADD(ksm_rmap, move_pages)
{
	.way = MOVE_PAGES,
};

FIXTURE_SETUP(ksm_rmap)
{
	const char *why = lacks_way(&self->e, variant->way);

	if (!why)
		why = setup(_metadata, &self->e);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(ksm_rmap)
{
	teardown(_metadata, &self->e);
}

#define KSM_TEST(fixture, name)	TEST_F_TIMEOUT(fixture, name, TEST_SECONDS)

KSM_TEST(ksm_rmap, plain)
{
	struct env *e = &self->e;

	merged_slot(_metadata, e, 0, 8);
	all_found(_metadata, e, variant->way);
}

/* The same page in VMAs that have nothing in common. */
KSM_TEST(ksm_rmap, regions)
{
	struct env *e = &self->e;
	int i;

	for (i = 0; i < 4; i++) {
		char *addr = map_slot(e, i, 8);

		ASSERT_NE(addr, NULL);
		fill_unique(e, addr, 8);
		fill(addr + i * e->page, SAME);
		add_place(_metadata, e, NULL, addr + i * e->page);
	}
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/*
 * VMAs are split, and merge again
 */

/* Every other page of a range gets a VMA of its own, as do those between. */
static bool mprotect_split(struct env *e, char *addr, size_t nr)
{
	size_t i;

	for (i = 1; i < nr; i += 2)
		if (mprotect(addr + i * e->page, e->page, PROT_READ))
			return false;
	return true;
}

static bool madvise_split(struct env *e, char *addr, size_t nr)
{
	size_t i;

	for (i = 1; i < nr; i += 2)
		if (madvise(addr + i * e->page, e->page, MADV_DONTDUMP))
			return false;
	return true;
}

/*
 * Put SAME into a page of every stride, in a region that need not be populated
 * otherwise.
 */
static char *sparse_slot(struct __test_metadata *_metadata, struct env *e,
			 int n, size_t nr, size_t stride)
{
	char *addr = map_slot(e, n, nr);
	size_t i;

	ASSERT_NE(addr, NULL);
	for (i = stride - 1; i < nr; i += stride) {
		fill(addr + i * e->page, SAME);
		add_place(_metadata, e, NULL, addr + i * e->page);
	}
	return addr;
}

KSM_TEST(ksm_rmap, mprotect_split_then_merge)
{
	struct env *e = &self->e;
	char *addr = sparse_slot(_metadata, e, 0, 4000, 250);

	ASSERT_TRUE(mprotect_split(e, addr, 4000));
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, merge_then_mprotect_split)
{
	struct env *e = &self->e;
	char *addr = sparse_slot(_metadata, e, 0, 4000, 250);

	merge(_metadata, e);
	ASSERT_TRUE(mprotect_split(e, addr, 4000));
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, merge_then_madvise_split)
{
	struct env *e = &self->e;
	char *addr = sparse_slot(_metadata, e, 0, 4000, 250);

	merge(_metadata, e);
	ASSERT_TRUE(madvise_split(e, addr, 4000));
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, vmas_merge_again)
{
	struct env *e = &self->e;
	char *addr = sparse_slot(_metadata, e, 0, 400, 25);

	ASSERT_TRUE(mprotect_split(e, addr, 400));
	merge(_metadata, e);
	ASSERT_EQ(mprotect(addr, 400 * e->page, PROT_READ | PROT_WRITE), 0);
	all_found(_metadata, e, variant->way);
}

/* What is left of a VMA whose head and middle were unmapped. */
KSM_TEST(ksm_rmap, munmap_around)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 16);

	ASSERT_NE(addr, NULL);
	fill_unique(e, addr, 16);
	fill_range(e, addr + 4 * e->page, 2, SAME);
	fill_range(e, addr + 12 * e->page, 2, SAME);
	add_places(_metadata, e, NULL, addr + 4 * e->page, 2);
	add_places(_metadata, e, NULL, addr + 12 * e->page, 2);
	merge(_metadata, e);
	ASSERT_EQ(munmap(addr, 4 * e->page), 0);
	ASSERT_EQ(munmap(addr + 8 * e->page, 2 * e->page), 0);
	all_found(_metadata, e, variant->way);
}

/*
 * fork()
 */

KSM_TEST(ksm_rmap, merge_then_fork)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	int i;

	for (i = 0; i < 3; i++)
		add_places(_metadata, e, fork_agent(_metadata, e), addr, 4);
	all_found(_metadata, e, variant->way);
}

/* Parent and child each have their own items for what was merged. */
KSM_TEST(ksm_rmap, fork_then_merge)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 4);
	struct agent *child;

	ASSERT_NE(addr, NULL);
	fill_range(e, addr, 4, SAME);
	child = fork_agent(_metadata, e);
	add_places(_metadata, e, NULL, addr, 4);
	add_places(_metadata, e, child, addr, 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, fork_then_split)
{
	struct env *e = &self->e;
	char *addr = sparse_slot(_metadata, e, 0, 400, 25);

	merge(_metadata, e);
	add_places(_metadata, e, fork_agent(_metadata, e), addr + 24 * e->page, 1);
	add_places(_metadata, e, fork_agent(_metadata, e), addr + 399 * e->page, 1);
	ASSERT_TRUE(mprotect_split(e, addr, 400));
	all_found(_metadata, e, variant->way);
}

/* The items are of the parent, which does not map the page there any more. */
KSM_TEST(ksm_rmap, fork_then_parent_mremap)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	struct agent *child = fork_agent(_metadata, e);

	/* So that the test itself still maps the page, which it migrates. */
	e->nr_places = 1;
	add_places(_metadata, e, child, addr, 4);
	ASSERT_TRUE(move(addr + e->page, slot(e, 1), 3 * e->page));
	all_found(_metadata, e, variant->way);
	/* What moved comes back in. */
	add_places(_metadata, e, NULL, slot(e, 1), 3);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, fork_then_child_mremap)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	struct agent *child = fork_agent(_metadata, e);
	struct agent *sibling = fork_agent(_metadata, e);

	ASSERT_EQ(ASK(child, MOVE, addr + e->page, slot(e, 1), 2 * e->page), 1);
	add_places(_metadata, e, child, addr, 1);
	add_places(_metadata, e, child, addr + 3 * e->page, 1);
	add_places(_metadata, e, sibling, addr, 4);
	all_found(_metadata, e, variant->way);
	add_places(_metadata, e, child, slot(e, 1), 2);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/* The child's VMA covers the old address with what was elsewhere before. */
KSM_TEST(ksm_rmap, fork_then_child_swaps_pages)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	struct agent *child = fork_agent(_metadata, e);

	ASSERT_EQ(ASK(child, MOVE, addr, slot(e, 1), e->page), 1);
	ASSERT_EQ(ASK(child, MOVE, addr + e->page, addr, e->page), 1);
	ASSERT_EQ(ASK(child, MOVE, slot(e, 1), addr + e->page, e->page), 1);
	add_places(_metadata, e, child, addr, 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/*
 * mremap()
 */

KSM_TEST(ksm_rmap, mremap_then_merge)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 4);

	ASSERT_NE(addr, NULL);
	fill_range(e, addr, 4, SAME);
	ASSERT_TRUE(move(addr, slot(e, 1), 4 * e->page));
	add_places(_metadata, e, NULL, slot(e, 1), 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/* Its offset differs from its address, and from that of the parts. */
KSM_TEST(ksm_rmap, mremap_then_merge_then_split)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 16);

	ASSERT_NE(addr, NULL);
	fill_range(e, addr, 16, SAME);
	ASSERT_TRUE(move(addr, slot(e, 1), 16 * e->page));
	add_places(_metadata, e, NULL, slot(e, 1), 16);
	merge(_metadata, e);
	ASSERT_TRUE(mprotect_split(e, slot(e, 1), 16));
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, mremap_then_merge_then_fork)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 4);

	ASSERT_NE(addr, NULL);
	fill_range(e, addr, 4, SAME);
	ASSERT_TRUE(move(addr, slot(e, 1), 4 * e->page));
	add_places(_metadata, e, NULL, slot(e, 1), 4);
	merge(_metadata, e);
	add_places(_metadata, e, fork_agent(_metadata, e), slot(e, 1), 4);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, merge_then_mremap)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);

	ASSERT_TRUE(move(addr, slot(e, 1), 4 * e->page));
	e->nr_places = 0;
	add_places(_metadata, e, NULL, slot(e, 1), 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, merge_then_mremap_part)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 8);

	ASSERT_TRUE(move(addr + 2 * e->page, slot(e, 1) + e->page, 4 * e->page));
	e->nr_places = 2;
	add_places(_metadata, e, NULL, addr + 6 * e->page, 2);
	all_found(_metadata, e, variant->way);
	add_places(_metadata, e, NULL, slot(e, 1) + e->page, 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, mremap_back)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);

	ASSERT_TRUE(move(addr, slot(e, 1), 4 * e->page));
	ASSERT_TRUE(move(slot(e, 1), addr, 4 * e->page));
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/* Onto a page that is merged itself. */
KSM_TEST(ksm_rmap, mremap_onto_merged)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);

	ASSERT_TRUE(move(addr + e->page, addr + 2 * e->page, e->page));
	e->nr_places = 1;
	add_places(_metadata, e, NULL, addr + 2 * e->page, 2);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/* What stays behind is filled anew, and is merged again. */
KSM_TEST(ksm_rmap, mremap_dontunmap)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	size_t len = 4 * e->page;

	ASSERT_EQ(sys_mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED |
			     MREMAP_DONTUNMAP, slot(e, 1)), slot(e, 1));
	fill_range(e, addr, 4, SAME);
	add_places(_metadata, e, NULL, slot(e, 1), 4);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/* A private mapping of a file, whose offset has nothing to do with addresses. */
KSM_TEST(ksm_rmap, private_file)
{
	struct env *e = &self->e;
	int fd = memfd_create("ksm_rmap", 0);
	char *addr;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, 64 * e->page), 0);
	addr = map_at(e, slot(e, 0), 16, fd, 37 * e->page);
	ASSERT_NE(addr, NULL);
	fill_unique(e, addr, 16);
	fill_range(e, addr + 3 * e->page, 4, SAME);
	add_places(_metadata, e, NULL, addr + 3 * e->page, 4);
	merge(_metadata, e);
	ASSERT_TRUE(mprotect_split(e, addr, 16));
	all_found(_metadata, e, variant->way);
}

/*
 * More ways to lose a page, or to have it again
 */

/* There is a KSM page for each two mappings. All of them are found. */
KSM_TEST(ksm_rmap, max_page_sharing)
{
	struct env *e = &self->e;
	char *addr = map_slot(e, 0, 8);
	size_t i, j;

	ASSERT_NE(addr, NULL);
	ASSERT_TRUE(write_knob("max_page_sharing", "2"));
	fill_range(e, addr, 8, SAME);
	for (i = 0; i < MAX_SCANS; i++)
		ASSERT_TRUE(scan_once());
	for (i = 0; i < 8; i++) {
		unsigned long pfn = own_pfn(e, addr + i * e->page);

		ASSERT_TRUE(is_ksm(e, pfn));
		e->nr_places = 0;
		add_place(_metadata, e, NULL, addr + i * e->page);
		for (j = 0; j < 8; j++)
			if (j != i && own_pfn(e, addr + j * e->page) == pfn)
				add_place(_metadata, e, NULL, addr + j * e->page);
		ASSERT_EQ(e->nr_places, 2);
		all_found(_metadata, e, variant->way);
	}
}

/*
 * A page that migrated to another node has its place in that node's tree from
 * the next scan on.
 */
KSM_TEST(ksm_rmap, merge_within_nodes)
{
	struct env *e = &self->e;
	cpu_set_t allowed, first;
	int cpu = 0;

	/* All pages on one node. */
	ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	ASSERT_EQ(sched_setaffinity(0, sizeof(first), &first), 0);
	ASSERT_TRUE(write_knob("merge_across_nodes", "0"));
	merged_slot(_metadata, e, 0, 4);
	all_found(_metadata, e, variant->way);
	ASSERT_TRUE(scan_once());
	all_found(_metadata, e, variant->way);
}

/* What was written to is not found, and is again once it is merged again. */
KSM_TEST(ksm_rmap, write_then_merge)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);

	fill(addr + e->page, OTHER);
	e->nr_places = 1;
	add_places(_metadata, e, NULL, addr + 2 * e->page, 2);
	all_found(_metadata, e, variant->way);
	fill(addr + e->page, SAME);
	add_place(_metadata, e, NULL, addr + e->page);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

KSM_TEST(ksm_rmap, unmergeable)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	size_t i;

	ASSERT_EQ(madvise(addr + e->page, 2 * e->page, MADV_UNMERGEABLE), 0);
	all_intact(_metadata, e, SAME);
	for (i = 1; i < 3; i++) {
		e->nr_places = 0;
		add_place(_metadata, e, NULL, addr + i * e->page);
		ASSERT_FALSE(is_ksm(e, own_pfn(e, addr + i * e->page)));
		if (variant->way == PAGE_IDLE_BITMAP)
			access_is_seen(_metadata, e, &e->places[0]);
		else
			all_follow(_metadata, e, variant->way, addr + i * e->page);
	}
	e->nr_places = 0;
	add_place(_metadata, e, NULL, addr);
	add_place(_metadata, e, NULL, addr + 3 * e->page);
	all_found(_metadata, e, variant->way);
}

/*
 * Swapping
 */

/*
 * Have one place left, and page that out. MADV_PAGEOUT leaves pages alone that
 * are mapped more than once. The folio stays in the swap cache: returns its
 * page frame number.
 */
static unsigned long page_out(struct __test_metadata *_metadata, struct env *e,
			      char *addr)
{
	unsigned long pfn = own_pfn(e, addr);

	ASSERT_TRUE(is_ksm(e, pfn));
	ASSERT_TRUE(page_goes_out(e, addr))
		TH_LOG("a KSM page that is mapped once was not paged out");
	return pfn;
}

static bool in_swap_cache(struct env *e, unsigned long pfn)
{
	const uint64_t both = KPF_KSM | KPF_SWAPCACHE;

	return (flags_of(e, pfn) & both) == both;
}

/* Swapped out once, it is mapped by three processes when it is read again. */
KSM_TEST(ksm_rmap, swap_out_then_fork)
{
	struct env *e = &self->e;
	struct agent *first, *second;
	char *addr;

	if (!has_swap())
		SKIP(return, NO_SWAP);
	addr = merged_slot(_metadata, e, 0, 3);
	fill(addr, OTHER);
	fill(addr + 2 * e->page, OTHER);
	if (!in_swap_cache(e, page_out(_metadata, e, addr + e->page)))
		SKIP(return, NOT_CACHED);
	first = fork_agent(_metadata, e);
	second = fork_agent(_metadata, e);
	e->nr_places = 0;
	add_place(_metadata, e, NULL, addr + e->page);
	add_place(_metadata, e, first, addr + e->page);
	add_place(_metadata, e, second, addr + e->page);
	all_intact(_metadata, e, SAME);
	all_found(_metadata, e, variant->way);
}

/* What comes back is not merged by itself; then it is merged with others. */
KSM_TEST(ksm_rmap, swap_out_then_merge)
{
	struct env *e = &self->e;
	char *addr;

	if (!has_swap())
		SKIP(return, NO_SWAP);
	addr = merged_slot(_metadata, e, 0, 3);
	fill(addr, OTHER);
	fill(addr + 2 * e->page, OTHER);
	page_out(_metadata, e, addr + e->page);
	fill(addr, SAME);
	fill(addr + 2 * e->page, SAME);
	all_intact(_metadata, e, SAME);
	merge(_metadata, e);
	all_found(_metadata, e, variant->way);
}

/*
 * A KSM page that is in the swap cache only. Where it is mapped again, it has
 * to be found.
 */

FIXTURE(swap_cache)
{
	struct env e;
	char *addr;	/* Of three pages; the one between is in the cache. */
	unsigned long pfn;	/* of that one */
};

FIXTURE_VARIANT(swap_cache)
{
	enum trigger way;
};

FIXTURE_VARIANT_ADD(swap_cache, page_idle)
{
	.way = PAGE_IDLE_BITMAP,
};

FIXTURE_VARIANT_ADD(swap_cache, soft_offline)
{
	.way = SOFT_OFFLINE,
};

FIXTURE_VARIANT_ADD(swap_cache, page_out)
{
	.way = PAGE_OUT,
};

FIXTURE_VARIANT_ADD(swap_cache, move_pages)
{
	.way = MOVE_PAGES,
};

/* What is left at the outer places is other pages, and items for the old. */
FIXTURE_SETUP(swap_cache)
{
	struct env *e = &self->e;
	const char *why = lacks_way(e, variant->way);

	if (!why)
		why = has_swap() ? setup(_metadata, e) : NO_SWAP;
	if (why)
		SKIP(return, "%s", why);
	self->addr = merged_slot(_metadata, e, 0, 3);
	fill(self->addr, OTHER);
	fill(self->addr + 2 * e->page, OTHER);
	self->pfn = page_out(_metadata, e, self->addr + e->page);
	if (!in_swap_cache(e, self->pfn))
		SKIP(return, NOT_CACHED);
}

FIXTURE_TEARDOWN_PARENT(swap_cache)
{
	teardown(_metadata, &self->e);
}

/* The one page at addr is found, be it a KSM page or not. */
static void page_found(struct __test_metadata *_metadata, struct env *e,
		       enum trigger way, char *addr)
{
	e->nr_places = 0;
	add_place(_metadata, e, NULL, addr);
	all_intact(_metadata, e, SAME);
	if (way == PAGE_IDLE_BITMAP) {
		access_is_seen(_metadata, e, &e->places[0]);
	} else if (way == PAGE_OUT) {
		ASSERT_TRUE(page_goes_out(e, addr))
			TH_LOG("the page cannot be paged out");
	} else {
		all_follow(_metadata, e, way, addr);
	}
	all_intact(_metadata, e, SAME);
}

/* Where it was before, it is what the items say. */
KSM_TEST(swap_cache, read)
{
	struct env *e = &self->e;

	page_found(_metadata, e, variant->way, self->addr + e->page);
}

/* There is an item for the new address, of the same page, with another offset. */
KSM_TEST(swap_cache, mremap_onto_once_merged)
{
	struct env *e = &self->e;
	char *to = self->addr + 2 * e->page;

	ASSERT_TRUE(move(self->addr + e->page, to, e->page));
	page_found(_metadata, e, variant->way, to);
}

/* There is no item for the new address. */
KSM_TEST(swap_cache, mremap)
{
	struct env *e = &self->e;

	ASSERT_TRUE(move(self->addr + e->page, slot(e, 1), e->page));
	page_found(_metadata, e, variant->way, slot(e, 1));
}

/*
 * The KSM page has no user any more. What is written stays in the swap cache, where
 * only reclaim would free it.
 */
KSM_TEST(swap_cache, mremap_frees_the_shared)
{
	struct env *e = &self->e;
	int i;

	for (i = 0; flags_of(e, self->pfn) & KPF_WRITEBACK; i++) {
		ASSERT_LT(i, WAIT_SECONDS * 200);
		usleep(5000);
	}
	ASSERT_TRUE(move(self->addr + e->page, slot(e, 1), e->page));
	for (i = 0; i < MAX_SCANS && is_ksm(e, self->pfn); i++) {
		ASSERT_TRUE(drain_lru(e));
		ASSERT_TRUE(scan_once());
	}
	ASSERT_FALSE(is_ksm(e, self->pfn))
		TH_LOG("page %lx has flags %llx", self->pfn,
		       (unsigned long long)flags_of(e, self->pfn));
	page_found(_metadata, e, variant->way, slot(e, 1));
}

/* There is an item for the new address when it is merged there. */
KSM_TEST(swap_cache, mremap_then_merge)
{
	struct env *e = &self->e;

	ASSERT_TRUE(move(self->addr + e->page, slot(e, 1), e->page));
	fill(self->addr, SAME);
	fill(self->addr + 2 * e->page, SAME);
	e->nr_places = 0;
	add_place(_metadata, e, NULL, self->addr);
	add_place(_metadata, e, NULL, self->addr + 2 * e->page);
	add_place(_metadata, e, NULL, slot(e, 1));
	merge(_metadata, e);
	all_intact(_metadata, e, SAME);
	/* MADV_PAGEOUT leaves alone what is mapped three times. */
	if (variant->way != PAGE_OUT)
		all_found(_metadata, e, variant->way);
}

KSM_TEST(swap_cache, mremap_dontunmap)
{
	struct env *e = &self->e;
	char *addr = self->addr + e->page;

	ASSERT_EQ(sys_mremap(addr, e->page, e->page, MREMAP_MAYMOVE |
			     MREMAP_FIXED | MREMAP_DONTUNMAP, slot(e, 1)),
		  slot(e, 1));
	page_found(_metadata, e, variant->way, slot(e, 1));
}

/* The child's page table has a swap entry, too. */
KSM_TEST(swap_cache, fork_then_mremap)
{
	struct env *e = &self->e;
	struct agent *child = fork_agent(_metadata, e);

	ASSERT_TRUE(move(self->addr + e->page, slot(e, 1), e->page));
	ASSERT_EQ(ASK(child, INTACT, self->addr + e->page, .tag = SAME), 1);
	page_found(_metadata, e, variant->way, slot(e, 1));
}

/* ksmd may have a look at what moved, and must not take it for known. */
KSM_TEST(swap_cache, mremap_then_scan)
{
	struct env *e = &self->e;
	char *to = self->addr + 2 * e->page;

	ASSERT_TRUE(move(self->addr + e->page, to, e->page));
	ASSERT_TRUE(intact(to, SAME));
	ASSERT_TRUE(scan_once());
	ASSERT_TRUE(scan_once());
	page_found(_metadata, e, variant->way, to);
}

/* Nothing is merged in an area that is not to be, whether swapped or not. */
static void not_merged(struct __test_metadata *_metadata, struct env *e,
		       char *addr)
{
	ASSERT_TRUE(intact(addr, SAME));
	ASSERT_FALSE(is_ksm(e, own_pfn(e, addr)))
		TH_LOG("it is a KSM page still");
}

KSM_TEST(swap_cache, unmergeable)
{
	struct env *e = &self->e;

	ASSERT_EQ(madvise(self->addr, 3 * e->page, MADV_UNMERGEABLE), 0);
	not_merged(_metadata, e, self->addr + e->page);
	page_found(_metadata, e, variant->way, self->addr + e->page);
}

/* mremap() need not care in such an area. */
KSM_TEST(swap_cache, unmergeable_then_mremap)
{
	struct env *e = &self->e;
	char *addr = self->addr + e->page;

	ASSERT_EQ(madvise(self->addr, 3 * e->page, MADV_UNMERGEABLE), 0);
	ASSERT_TRUE(intact(addr, SAME));
	ASSERT_TRUE(move(addr, slot(e, 1), e->page));
	page_found(_metadata, e, variant->way, slot(e, 1));
	not_merged(_metadata, e, slot(e, 1));
}

KSM_TEST(swap_cache, memory_merge_off)
{
	struct env *e = &self->e;

	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		SKIP(return, "no PR_SET_MEMORY_MERGE: needs Linux 6.4 or later");
	ASSERT_EQ(prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0), 0);
	not_merged(_metadata, e, self->addr + e->page);
	page_found(_metadata, e, variant->way, self->addr + e->page);
}

/* All items are gone. */
KSM_TEST(swap_cache, unmerge_all)
{
	struct env *e = &self->e;

	ASSERT_TRUE(write_knob("run", "2"));
	not_merged(_metadata, e, self->addr + e->page);
	page_found(_metadata, e, variant->way, self->addr + e->page);
}

/*
 * What an item remembers while its page is merged shares memory with what
 * smart_scan counts while it is not.
 */

FIXTURE(smart_scan)
{
	struct env e;
};

FIXTURE_SETUP(smart_scan)
{
	const char *why = setup(_metadata, &self->e);

	if (why)
		SKIP(return, "%s", why);
	if (!write_knob("smart_scan", "1"))
		SKIP(return, "no smart_scan: needs Linux 6.7 or later");
}

FIXTURE_TEARDOWN_PARENT(smart_scan)
{
	teardown(_metadata, &self->e);
}

/*
 * A page that was merged and is written to is not an old page, which may be
 * skipped for long. ksmd takes a scan to learn its contents, may skip it once,
 * and has merged it in the next.
 */
KSM_TEST(smart_scan, no_skip_after_write)
{
	struct env *e = &self->e;
	char *addr = merged_slot(_metadata, e, 0, 4);
	int i;

	fill(addr + e->page, OTHER);
	ASSERT_TRUE(scan_once());
	ASSERT_FALSE(is_ksm(e, own_pfn(e, addr + e->page)));
	fill(addr + e->page, SAME);
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(scan_once());
	ASSERT_NE(shared_pfn(e), 0);
	all_intact(_metadata, e, SAME);
}

/*
 * Memory failures
 */

FIXTURE(memory_failure)
{
	struct env e;
	char *addr;	/* Two pages that are merged, two that are not. */
};

FIXTURE_SETUP(memory_failure)
{
	struct env *e = &self->e;
	struct sigaction action = {
		.sa_handler = on_sigbus,
		.sa_flags = SA_RESTART,
	};
	const char *why = lacks_way(e, SOFT_OFFLINE);

	if (!why)
		why = setup(_metadata, e);
	if (why)
		SKIP(return, "%s", why);
	/* For the agents, too: tell at once, not on access. */
	ASSERT_EQ(sigaction(SIGBUS, &action, NULL), 0);
	ASSERT_EQ(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0), 0);
	self->addr = map_slot(e, 0, 4);
	ASSERT_NE(self->addr, NULL);
	fill_unique(e, self->addr, 4);
	fill_range(e, self->addr, 2, SAME);
}

FIXTURE_TEARDOWN_PARENT(memory_failure)
{
	teardown(_metadata, &self->e);
}

static void merge_pair(struct __test_metadata *_metadata, struct env *e, char *addr)
{
	add_places(_metadata, e, NULL, addr, 2);
	merge(_metadata, e);
}

static void inject(struct __test_metadata *_metadata, struct env *e, char *addr)
{
	e->poisoned = own_pfn(e, addr);
	ASSERT_TRUE(drain_lru(e));
	ASSERT_EQ(madvise(addr, e->page, MADV_HWPOISON), 0);
}

static void is_told(struct __test_metadata *_metadata, struct agent *agent,
		    char *addr)
{
	ASSERT_GT(ASK(agent, SIGNALS), 0);
	ASSERT_EQ(ASK(agent, POISONED, addr), 1);
}

static void is_not_told(struct __test_metadata *_metadata, struct agent *agent,
			char *addr)
{
	ASSERT_EQ(ASK(agent, SIGNALS), 0);
	ASSERT_EQ(ASK(agent, INTACT, addr, .tag = SAME), 1);
}

KSM_TEST(memory_failure, all_who_map)
{
	struct env *e = &self->e;
	struct agent *first, *second;
	char *addr = self->addr;

	merge_pair(_metadata, e, addr);
	first = fork_agent(_metadata, e);
	second = fork_agent(_metadata, e);
	inject(_metadata, e, addr);
	is_told(_metadata, NULL, addr);
	is_told(_metadata, NULL, addr + e->page);
	is_told(_metadata, first, addr);
	is_told(_metadata, first, addr + e->page);
	is_told(_metadata, second, addr);
}

/* Each process has its own items. */
KSM_TEST(memory_failure, merged_after_fork)
{
	struct env *e = &self->e;
	struct agent *child = fork_agent(_metadata, e);

	add_places(_metadata, e, child, self->addr, 2);
	merge_pair(_metadata, e, self->addr);
	inject(_metadata, e, self->addr);
	is_told(_metadata, NULL, self->addr);
	is_told(_metadata, child, self->addr + e->page);
}

/* The offset of the page differs from its address. */
KSM_TEST(memory_failure, merged_after_mremap)
{
	struct env *e = &self->e;
	struct agent *child;
	char *addr = slot(e, 1);

	ASSERT_TRUE(move(self->addr, addr, 4 * e->page));
	merge_pair(_metadata, e, addr);
	child = fork_agent(_metadata, e);
	ASSERT_TRUE(mprotect_split(e, addr, 4));
	inject(_metadata, e, addr + e->page);
	is_told(_metadata, NULL, addr);
	is_told(_metadata, child, addr + e->page);
}

/* A process that moved such pages has copies, but still a VMA for the old. */
KSM_TEST(memory_failure, moved_away)
{
	struct env *e = &self->e;
	struct agent *child, *other;
	char *addr = self->addr;

	merge_pair(_metadata, e, addr);
	child = fork_agent(_metadata, e);
	other = fork_agent(_metadata, e);
	ASSERT_EQ(ASK(child, MOVE, addr, slot(e, 1), 4 * e->page), 1);
	inject(_metadata, e, addr);
	is_told(_metadata, NULL, addr);
	is_told(_metadata, other, addr);
	is_not_told(_metadata, child, slot(e, 1));
}

/* The address is that of another page of the same region. */
KSM_TEST(memory_failure, moved_away_and_replaced)
{
	struct env *e = &self->e;
	struct agent *child;
	char *addr = self->addr;

	merge_pair(_metadata, e, addr);
	child = fork_agent(_metadata, e);
	ASSERT_EQ(ASK(child, MOVE, addr, slot(e, 1), 2 * e->page), 1);
	ASSERT_EQ(ASK(child, MOVE, addr + 2 * e->page, addr, 2 * e->page), 1);
	inject(_metadata, e, addr);
	is_told(_metadata, NULL, addr);
	is_not_told(_metadata, child, slot(e, 1));
}

/*
 * How many VMAs a walk visits
 */

FIXTURE(visits)
{
	struct env e;
	bool instance;
	unsigned int nr;
};

FIXTURE_VARIANT(visits)
{
	size_t vmas;
};

FIXTURE_VARIANT_ADD(visits, few_vmas)
{
	.vmas = 100,
};

FIXTURE_VARIANT_ADD(visits, many_vmas)
{
	.vmas = MANY_VMAS,
};

/* Merged pages in the middle of as many VMAs as wanted, one anon_vma. */
FIXTURE_SETUP(visits)
{
	struct env *e = &self->e;
	const char *why = lacks_way(e, PAGE_IDLE_BITMAP);
	char *addr;

	if (!why)
		why = setup(_metadata, e);
	if (why)
		SKIP(return, "%s", why);
	if (access(TRACEFS "events/rmap", F_OK))
		SKIP(return, NO_EVENTS);
	self->instance = !mkdir(INSTANCE, 0700) || errno == EEXIST;
	ASSERT_TRUE(self->instance);
	addr = sparse_slot(_metadata, e, 0, variant->vmas, variant->vmas / 16);
	self->nr = e->nr_places;
	ASSERT_TRUE(mprotect_split(e, addr, variant->vmas));
	merge(_metadata, e);
}

FIXTURE_TEARDOWN_PARENT(visits)
{
	if (self->instance)
		EXPECT_EQ(rmdir(INSTANCE), 0);
	teardown(_metadata, &self->e);
}

/* What the events said of the walks of one page. */
struct walks {
	unsigned int walks;
	unsigned int lookups;	/* Each takes the lock. */
	unsigned long vmas;
	unsigned long most;	/* VMAs in one look-up */
};

/* Only this process, and of its walks only those of KSM pages. */
static bool trace_start(void)
{
	char text[64];

	snprintf(text, sizeof(text), "%d", getpid());
	return write_text(INSTANCE "events/rmap/filter", "kind == 2") &&
	       write_text(INSTANCE "set_event_pid", text) &&
	       write_text(INSTANCE "trace", "\n") &&
	       write_text(INSTANCE "events/rmap/enable", "1");
}

static void add_event(struct walks *w, const char *line, unsigned long *before)
{
	const char *field = strstr(line, " vmas=");
	unsigned long vmas = field ? strtoul(field + 6, NULL, 10) : 0;

	if (strstr(line, "rmap_walk_start:")) {
		*before = 0;
	} else if (strstr(line, "rmap_walk_lock:")) {
		w->lookups++;
		*before = vmas;
	} else if (strstr(line, "rmap_walk_unlock:")) {
		if (vmas - *before > w->most)
			w->most = vmas - *before;
	} else if (strstr(line, "rmap_walk_end:")) {
		w->walks++;
		w->vmas += vmas;
	}
}

static bool trace_stop(struct walks *w)
{
	unsigned long before = 0;
	char line[512];
	FILE *f;

	memset(w, 0, sizeof(*w));
	if (!write_text(INSTANCE "events/rmap/enable", "0"))
		return false;
	f = fopen(INSTANCE "trace", "r");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (line[0] != '#')
			add_event(w, line, &before);
	fclose(f);
	return true;
}

/* One walk, for the page that is at all places. */
static void walk_once(struct __test_metadata *_metadata, struct env *e,
		      struct walks *w)
{
	unsigned long pfn = shared_pfn(e);

	ASSERT_NE(pfn, 0);
	ASSERT_TRUE(drain_lru(e));
	ASSERT_TRUE(trace_start());
	ASSERT_TRUE(set_idle(e, pfn));
	ASSERT_TRUE(trace_stop(w));
	ASSERT_EQ(w->walks, 1);
}

/* No other process maps the page, so nothing is looked up for them. */
KSM_TEST(visits, one_per_lookup)
{
	struct walks w;

	walk_once(_metadata, &self->e, &w);
	EXPECT_EQ(w.most, 1);
	EXPECT_EQ(w.vmas, self->nr);
	EXPECT_EQ(w.lookups, self->nr);
}

/* There is a VMA for each child, and the walk goes round twice. */
KSM_TEST(visits, one_per_process)
{
	struct env *e = &self->e;
	struct walks w;

	fork_agent(_metadata, e);
	fork_agent(_metadata, e);
	walk_once(_metadata, e, &w);
	EXPECT_EQ(w.most, 3);
	EXPECT_EQ(w.vmas, 2 * 3 * self->nr);
	EXPECT_EQ(w.lookups, 2 * self->nr);
}

/* One walk unmaps the old page everywhere, another one maps the new one. */
KSM_TEST(visits, migration)
{
	struct env *e = &self->e;
	const char *why = lacks_way(e, SOFT_OFFLINE);
	struct walks w;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(drain_lru(e));
	ASSERT_TRUE(trace_start());
	ASSERT_TRUE(soft_offline(e, e->places[0].addr));
	ASSERT_TRUE(trace_stop(&w));
	EXPECT_GE(w.walks, 2);
	EXPECT_EQ(w.most, 1);
	EXPECT_EQ(w.vmas, w.walks * self->nr);
	EXPECT_EQ(w.lookups, w.walks * self->nr);
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

	if (geteuid() || !save_settings())
		return test_harness_run(argc, argv);
	harness = fork();
	if (harness < 0)
		ksft_exit_fail_perror("fork");
	if (!harness)
		return test_harness_run(argc, argv);
	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	while (waitpid(harness, &status, 0) < 0 && errno == EINTR)
		;
	rmdir(INSTANCE);
	if (!restore_settings())
		ksft_exit_fail_msg("the settings of KSM could not be restored\n");
	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}
