// SPDX-License-Identifier: GPL-2.0-only
/*
 * mremap() can relocate anonymous memory: give its pages the page offset of
 * their new address, so that the mapping merges with its neighbours there.
 * Check that mappings merge where they should and nowhere else, that nothing
 * but their number differs from a plain move, and that the reverse mapping of
 * a page that was relocated leads to it.
 *
 * A test that wants a relocation fails on a kernel without it. What a plain
 * move gives has to be the same there.
 *
 * The settings in sysfs are put back by the parent of the tests.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <mm/gup_test.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "fail_nth.h"
#include "vm_util.h"
#include "page_table.h"
#include "hugepage_settings.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MREMAP_RELOCATE_ANON
#define MREMAP_RELOCATE_ANON	8
#endif
#ifndef MPOL_MF_MOVE_ALL
#define MPOL_MF_MOVE_ALL	4
#endif

#define KPF_ANON		BIT_ULL(12)
#define KPF_SWAPCACHE		BIT_ULL(13)

#define KNOBS			"/sys/kernel/mm/mremap/"
#define STATS			KNOBS "stats/"
#define KSM			"/sys/kernel/mm/ksm/"
#define THP			"/sys/kernel/mm/transparent_hugepage/"
#define PAGE_IDLE		"/sys/kernel/mm/page_idle/bitmap"
#define DEBUGFS			"/sys/kernel/debug/"
#define GUP_TEST		DEBUGFS "gup_test"
#define SPLIT_HUGE_PAGES	DEBUGFS "split_huge_pages"
#define COMPACT			"/proc/sys/vm/compact_memory"
#define NUMA_BALANCING		"/proc/sys/kernel/numa_balancing"
#define CGROUPS			"/sys/fs/cgroup/"

#define NO_SWAP		"no swap space: swapon a disk, or a file on one"
#define ONE_NODE	"only one NUMA node has memory: boot with numa=fake=2 (CONFIG_NUMA_EMU)"
#define NO_OFFLINE	"no MADV_SOFT_OFFLINE: build the kernel with CONFIG_MEMORY_FAILURE"
#define NO_GUARDS	"no guard regions: they are in v6.13 and later"
#define NO_64_BITS	"addresses have 32 bits: build it for 64"
#define NO_UPPER	"no room for two upper tables: use a kernel with longer addresses"
#define FRAGMENTS	"page tables are cut from larger pages: use a kernel with pages of 4K"

#define NO_SOFT_DIRTY	"no soft-dirty bits: build the kernel with CONFIG_MEM_SOFT_DIRTY"
#define NO_LARGE_CACHE	"no large folio in the swap cache: swapon a disk with free space"
#define NO_CACHE	"no swap cache on this swap space: swapon a disk, not zram"
#define NO_ORDER	"no THPs of order %d: build with CONFIG_TRANSPARENT_HUGEPAGE, pages of 4K"
#define NO_GUP_TEST	"no " GUP_TEST ": build with CONFIG_GUP_TEST, mount debugfs"

#define TAINT_WARN		BIT_ULL(9)

#define TEST_SECONDS		300
#define RACE_SECONDS		3
#define RACE_PATIENCE		60	/* Until one was relocated, if it is busy. */
#define MIN_ROUNDS		5	/* However slow it is. */
#define OLD_ROUNDS		16
#define GIVEN_ROUNDS		64
#define MAX_ATTEMPTS		100	/* Of 10 ms: it may be under writeback. */
#define MAX_SWEEPS		20
#define MAX_FOLIO_SIZE		(4UL << 20)
#define NR_SLOTS		6
#define MAX_PAGES		4096
#define MAX_PAGE_SIZE		(256 << 10)
#define MAX_CHILDREN		4

#define MOVE	(MREMAP_MAYMOVE | MREMAP_FIXED)

enum mode {
	NEVER,
	MERGE,
	ALWAYS,
};

static const char * const modes[] = { "never", "merge", "always" };

/* As main() found them; empty if there is no such file. */
static char saved_mode[64], saved_max_kb[32], saved_balancing[32];

/* A page that we have written to, and that mremap() may move. */
struct page {
	char *addr;
	unsigned long pfn;	/* 0 if it may be anywhere. */
	int tag;
};

/* Sums of what /proc/self/smaps says of the area. */
static const char * const smaps_fields[] = {
	"Rss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty",
	"Anonymous", "LazyFree", "Swap", "Locked",
};

#define NR_SMAPS_FIELDS	ARRAY_SIZE(smaps_fields)

struct smaps {
	unsigned long kb[NR_SMAPS_FIELDS];
};

/* A child that says whether our pages are as they were when it was forked. */
struct child {
	pid_t pid;
	int hold;
	int pagemap;
};

/*
 * area: NR_SLOTS slots without access, each aligned to the size of a page
 * table. What is mapped in different slots is never a neighbour.
 */
struct env {
	size_t page;
	size_t table;		/* What a page table maps, see table_size(). */
	size_t slot;
	char *area;
	char *scratch;
	int pagemap;
	int kpageflags;
	int nodes[2];
	long ksm_copies;
	unsigned int nr_children;
	struct child children[MAX_CHILDREN];
	size_t nr_pages;
	struct page pages[MAX_PAGES];
};

/*
 * Files
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

/* Of "never [merge] always", only what is chosen. */
static void keep_choice(char *text)
{
	char *open = strchr(text, '['), *close = strchr(text, ']');

	if (!open || !close)
		return;
	*close = '\0';
	memmove(text, open + 1, close - open);
}

/* Pages are to stay where they are unless a test moves them. */
static void stop_numa_balancing(void)
{
	if (!read_text(NUMA_BALANCING, saved_balancing, sizeof(saved_balancing)) ||
	    !write_text(NUMA_BALANCING, "0"))
		saved_balancing[0] = '\0';
}

static bool restore_numa_balancing(void)
{
	return !saved_balancing[0] || write_text(NUMA_BALANCING, saved_balancing);
}

static bool save_settings(void)
{
	if (!read_text(KNOBS "relocate_anon", saved_mode, sizeof(saved_mode)) ||
	    !read_text(KNOBS "relocate_max_kb", saved_max_kb, sizeof(saved_max_kb)))
		return false;
	keep_choice(saved_mode);
	return true;
}

static bool restore_settings(void)
{
	if (!restore_numa_balancing())
		return false;
	if (!saved_mode[0])
		return true;
	return write_text(KNOBS "relocate_anon", saved_mode) &&
	       write_text(KNOBS "relocate_max_kb", saved_max_kb);
}

/* A kernel that cannot relocate has nothing to set. The test will tell. */
static bool set_mode(enum mode mode)
{
	if (!saved_mode[0])
		return true;
	return write_text(KNOBS "relocate_max_kb", "0") &&
	       write_text(KNOBS "relocate_anon", modes[mode]);
}

/* -1 if the kernel does not count that. */
static long read_stat(const char *name)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), STATS "%s", name);
	return read_text(path, text, sizeof(text)) ? atol(text) : -1;
}

static long read_vmstat(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	long value, result = -1;
	char line[128], key[64];

	if (!f)
		return -1;
	while (result < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %ld", key, &value) == 2 && !strcmp(key, name))
			result = value;
	fclose(f);
	return result;
}

/*
 * Contents: each word tells the page it is in and where
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

static bool intact(const char *addr, int tag)
{
	const uint64_t *p = (const uint64_t *)addr;
	size_t i;

	for (i = 0; i < psize() / sizeof(*p); i++)
		if (p[i] != word(tag, i))
			return false;
	return true;
}

static unsigned long pfn_of(int pagemap, char *addr)
{
	uint64_t entry = pagemap_get_entry(pagemap, addr);

	return entry & PM_PRESENT ? PAGEMAP_PFN(entry) : 0;
}

static unsigned long own_pfn(struct env *e, char *addr)
{
	return pfn_of(e->pagemap, addr);
}

static bool swapped(struct env *e, char *addr)
{
	return pagemap_is_swapped(e->pagemap, addr);
}

/* Forget the pages in a range that is about to be unmapped or overwritten. */
static void forget(struct env *e, char *addr, size_t nr)
{
	size_t i = 0;

	while (i < e->nr_pages) {
		char *at = e->pages[i].addr;

		if (at >= addr && at < addr + nr * e->page)
			e->pages[i] = e->pages[--e->nr_pages];
		else
			i++;
	}
}

/* What is in these pages is to stay in them, wherever they are. */
static void put(struct __test_metadata *_metadata, struct env *e, char *addr,
		size_t nr)
{
	static int next_tag = 1;
	size_t i;

	forget(e, addr, nr);
	ASSERT_LE(e->nr_pages + nr, MAX_PAGES);
	for (i = 0; i < nr; i++, addr += e->page) {
		fill(addr, next_tag);
		e->pages[e->nr_pages++] = (struct page){
			addr, own_pfn(e, addr), next_tag++
		};
	}
}

/* The page frames have changed, and may. */
static void note_pfns(struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		e->pages[i].pfn = own_pfn(e, e->pages[i].addr);
}

static bool contents_ok(struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		if (!intact(e->pages[i].addr, e->pages[i].tag))
			return false;
	return true;
}

/* All is where it should be, and none of it is a copy. */
static void verify(struct __test_metadata *_metadata, struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++) {
		struct page *p = &e->pages[i];
		unsigned long pfn = own_pfn(e, p->addr);

		if (p->pfn && pfn)
			ASSERT_EQ(pfn, p->pfn)
				TH_LOG("the page at %p was copied", p->addr);
		ASSERT_TRUE(intact(p->addr, p->tag))
			TH_LOG("the page at %p is wrong", p->addr);
	}
	ASSERT_EQ(read_vmstat("ksm_swpin_copy"), e->ksm_copies);
}

/*
 * Mappings
 */

static char *slot(struct env *e, int n)
{
	return e->area + n * e->slot;
}

static bool in_area(struct env *e, unsigned long start, unsigned long end)
{
	return start >= (unsigned long)e->area &&
	       end <= (unsigned long)e->area + NR_SLOTS * e->slot;
}

/* How many VMAs there are in the range, those without access aside. */
static int count_vmas(char *addr, size_t len)
{
	unsigned long from = (unsigned long)addr, start, end;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], perms[8];
	int nr = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 &&
		    strncmp(perms, "---", 3) && start < from + len && end > from)
			nr++;
	fclose(f);
	return nr;
}

static int count_slot(struct env *e, int n)
{
	return count_vmas(slot(e, n), e->slot);
}

static void add_smaps_field(struct smaps *s, const char *line)
{
	unsigned long kb;
	char name[32];
	size_t i;

	if (sscanf(line, "%31[^:]: %lu kB", name, &kb) != 2)
		return;
	for (i = 0; i < NR_SMAPS_FIELDS; i++)
		if (!strcmp(name, smaps_fields[i]))
			s->kb[i] += kb;
}

static void read_smaps(struct __test_metadata *_metadata, struct env *e,
		       struct smaps *s)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool inside = false;
	char line[512];

	ASSERT_NE(f, NULL);
	memset(s, 0, sizeof(*s));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = in_area(e, start, end);
		else if (inside)
			add_smaps_field(s, line);
	}
	fclose(f);
}

/* The first field that differs, or the empty string. */
static const char *changed_field(const struct smaps *a, const struct smaps *b)
{
	size_t i;

	for (i = 0; i < NR_SMAPS_FIELDS; i++)
		if (a->kb[i] != b->kb[i])
			return smaps_fields[i];
	return "";
}

static void *try_map(struct env *e, char *addr, size_t nr, int prot)
{
	return mmap(addr, nr * e->page, prot,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static char *map_huge(struct __test_metadata *_metadata, struct env *e,
		      char *addr, size_t nr)
{
	ASSERT_EQ(try_map(e, addr, nr, PROT_READ | PROT_WRITE), addr);
	return addr;
}

/* Of small pages. */
static char *map(struct __test_metadata *_metadata, struct env *e, char *addr,
		 size_t nr)
{
	map_huge(_metadata, e, addr, nr);
	if (thp_available())
		ASSERT_EQ(madvise(addr, nr * e->page, MADV_NOHUGEPAGE), 0);
	return addr;
}

static char *map_put(struct __test_metadata *_metadata, struct env *e,
		     char *addr, size_t nr)
{
	map(_metadata, e, addr, nr);
	put(_metadata, e, addr, nr);
	return addr;
}

static void note_move(struct env *e, char *from, size_t nr, char *to)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++) {
		char *at = e->pages[i].addr;

		if (at >= from && at < from + nr * e->page)
			e->pages[i].addr += to - from;
	}
}

static void move_only(struct __test_metadata *_metadata, struct env *e,
		      char *from, size_t nr, char *to)
{
	size_t len = nr * e->page;

	ASSERT_EQ(sys_mremap(from, len, len, MOVE, to), to)
		TH_LOG("mremap(): %s", strerror(errno));
	note_move(e, from, nr, to);
}

/* To where nothing is, so that all that smaps counts remains. */
static void move(struct __test_metadata *_metadata, struct env *e, char *from,
		 size_t nr, char *to)
{
	struct smaps before, after;

	read_smaps(_metadata, e, &before);
	move_only(_metadata, e, from, nr, to);
	read_smaps(_metadata, e, &after);
	ASSERT_STREQ(changed_field(&before, &after), "");
	ASSERT_EQ(count_vmas(from, nr * e->page), 0);
}

/*
 * Children
 */

/* Checks its copy of our pages when it is told to end. */
static struct child *fork_child(struct __test_metadata *_metadata, struct env *e)
{
	struct child *c = &e->children[e->nr_children];
	char path[64], byte;
	int hold[2];

	ASSERT_LT(e->nr_children, MAX_CHILDREN);
	ASSERT_EQ(pipe(hold), 0);
	c->pid = fork();
	ASSERT_GE(c->pid, 0);
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(hold[1]);
		if (read(hold[0], &byte, 1) < 0)
			_exit(2);
		_exit(!contents_ok(e));
	}
	close(hold[0]);
	c->hold = hold[1];
	snprintf(path, sizeof(path), "/proc/%d/pagemap", c->pid);
	c->pagemap = open(path, O_RDONLY);
	ASSERT_GE(c->pagemap, 0);
	e->nr_children++;
	return c;
}

static void wait_exit_0(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(WEXITSTATUS(status), 0);
}

static void end_child(struct __test_metadata *_metadata, struct child *c)
{
	close(c->hold);
	close(c->pagemap);
	wait_exit_0(_metadata, c->pid);
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

static const char *setup(struct __test_metadata *_metadata, struct env *e,
			 enum mode mode)
{
	size_t len;

	if (geteuid())
		return "not root, who alone sees page frame numbers: run as root";
	e->page = psize();
	e->table = table_size();
	/* A size of 0 has more than 32 bits. */
	if (e->table - 1 >= SIZE_MAX / 32 / NR_SLOTS)
		return NO_ROOM;
	e->slot = 4 * e->table;
	len = NR_SLOTS * e->slot + e->table;
	e->area = mmap(NULL, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(e->area, MAP_FAILED);
	e->area += -(uintptr_t)e->area & (e->table - 1);
	e->scratch = mmap(NULL, e->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(e->scratch, MAP_FAILED);
	e->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(e->pagemap, 0);
	e->kpageflags = open("/proc/kpageflags", O_RDONLY);
	if (e->kpageflags < 0)
		return "no /proc/kpageflags: build the kernel with CONFIG_PROC_PAGE_MONITOR";
	e->ksm_copies = read_vmstat("ksm_swpin_copy");
	ASSERT_TRUE(set_mode(mode));
	return NULL;
}

#define RELOCATE_TEST(fixture, name)	TEST_F_TIMEOUT(fixture, name, TEST_SECONDS)

/*
 * How many VMAs there are after moves that are all in vain today, and some that
 * are not
 */

FIXTURE(table)
{
	struct env e;
};

FIXTURE_VARIANT(table)
{
	enum mode mode;
};

FIXTURE_VARIANT_ADD(table, never)
{
	.mode = NEVER,
};

FIXTURE_VARIANT_ADD(table, merge)
{
	.mode = MERGE,
};

FIXTURE_VARIANT_ADD(table, always)
{
	.mode = ALWAYS,
};

FIXTURE_SETUP(table)
{
	const char *why = setup(_metadata, &self->e, variant->mode);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(table)
{
	thp_restore_settings();
}

#define VMAS(addr, nr, never, merge, always)				\
do {									\
	const int wanted[] = { never, merge, always };			\
									\
	ASSERT_EQ(count_vmas(addr, (nr) * self->e.page),		\
		  wanted[variant->mode]);				\
	verify(_metadata, &self->e);					\
} while (0)

RELOCATE_TEST(table, away_and_back)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);

	move(_metadata, e, a + e->page, 1, slot(e, 1));
	move(_metadata, e, slot(e, 1), 1, a + e->page);
	VMAS(a, 3, 1, 1, 1);
}

RELOCATE_TEST(table, faulted_while_away)
{
	struct env *e = &self->e;
	char *a = map(_metadata, e, slot(e, 0), 3), *b = slot(e, 1);

	move(_metadata, e, a + e->page, 1, b);
	put(_metadata, e, b, 1);
	move(_metadata, e, b, 1, a + e->page);
	VMAS(a, 3, 3, 1, 1);
	put(_metadata, e, a, 1);
	put(_metadata, e, a + 2 * e->page, 1);
	verify(_metadata, e);
}

RELOCATE_TEST(table, faulted_while_away_and_rest_before)
{
	struct env *e = &self->e;
	char *a = map(_metadata, e, slot(e, 0), 3), *b = slot(e, 1);

	put(_metadata, e, a, 1);
	move(_metadata, e, a + e->page, 1, b);
	put(_metadata, e, b, 1);
	move(_metadata, e, b, 1, a + e->page);
	VMAS(a, 3, 1, 1, 1);
}

RELOCATE_TEST(table, hole_refilled)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);

	move(_metadata, e, a + e->page, 1, slot(e, 1));
	map_put(_metadata, e, a + e->page, 1);
	VMAS(a, 3, 1, 1, 1);
}

RELOCATE_TEST(table, next_to_faulted)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);

	map_put(_metadata, e, slot(e, 1), 3);
	move(_metadata, e, slot(e, 1), 3, a + 3 * e->page);
	VMAS(a, 6, 2, 1, 1);
}

RELOCATE_TEST(table, next_to_unfaulted)
{
	struct env *e = &self->e;
	char *a = map(_metadata, e, slot(e, 0), 3);

	map_put(_metadata, e, slot(e, 1), 3);
	move(_metadata, e, slot(e, 1), 3, a + 3 * e->page);
	VMAS(a, 6, 2, 1, 1);
	put(_metadata, e, a, 3);
	verify(_metadata, e);
}

RELOCATE_TEST(table, unfaulted_next_to_faulted)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);

	map(_metadata, e, slot(e, 1), 3);
	move(_metadata, e, slot(e, 1), 3, a + 3 * e->page);
	VMAS(a, 6, 1, 1, 1);
}

/* The second and the third of four pages. */
static char *exchange(struct __test_metadata *_metadata, struct env *e)
{
	char *a = map_put(_metadata, e, slot(e, 0), 4), *b = slot(e, 1);

	move(_metadata, e, a + e->page, 1, b);
	move(_metadata, e, a + 2 * e->page, 1, a + e->page);
	move(_metadata, e, b, 1, a + 2 * e->page);
	return a;
}

RELOCATE_TEST(table, exchanged)
{
	struct env *e = &self->e;

	VMAS(exchange(_metadata, e), 4, 4, 1, 1);
}

/* Every other page of 16 that are mapped at a, to where they follow one another. */
static void gather_in(struct __test_metadata *_metadata, struct env *e, char *a,
		      char *b)
{
	int i;

	map_put(_metadata, e, a, 16);
	for (i = 0; i < 8; i++)
		move(_metadata, e, a + 2 * i * e->page, 1, b + i * e->page);
}

static char *gather(struct __test_metadata *_metadata, struct env *e)
{
	gather_in(_metadata, e, slot(e, 0), slot(e, 1));
	return slot(e, 1);
}

RELOCATE_TEST(table, gathered)
{
	struct env *e = &self->e;

	VMAS(gather(_metadata, e), 8, 8, 1, 1);
}

/* What is mapped later can join only what has its natural offset by then. */
RELOCATE_TEST(table, mapped_next_to_moved)
{
	struct env *e = &self->e;
	char *b = slot(e, 1);

	map_put(_metadata, e, slot(e, 0), 3);
	move(_metadata, e, slot(e, 0), 3, b);
	map_put(_metadata, e, b + 3 * e->page, 3);
	VMAS(b, 6, 2, 2, 1);
}

RELOCATE_TEST(table, away_and_back_after_fork)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);
	struct child *c = fork_child(_metadata, e);

	move(_metadata, e, a + e->page, 1, slot(e, 1));
	move(_metadata, e, slot(e, 1), 1, a + e->page);
	VMAS(a, 3, 1, 1, 1);
	end_child(_metadata, c);
}

/* Returns how many VMAs a child has then, or negative. */
static int away_and_back_in_child(struct env *e, char *a, bool write)
{
	char *middle = a + e->page, *b = slot(e, 1);
	int tag = e->pages[1].tag;

	if (write)
		fill(middle, tag);
	if (sys_mremap(middle, e->page, e->page, MOVE, b) != b || !intact(b, tag) ||
	    sys_mremap(b, e->page, e->page, MOVE, middle) != middle ||
	    !contents_ok(e))
		return -1;
	return count_vmas(a, 3 * e->page);
}

static void child_moves(struct __test_metadata *_metadata, struct env *e, bool write)
{
	char *a = map_put(_metadata, e, slot(e, 0), 3);
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(away_and_back_in_child(e, a, write) != 1);
	wait_exit_0(_metadata, pid);
	verify(_metadata, e);
}

RELOCATE_TEST(table, away_and_back_in_child)
{
	child_moves(_metadata, &self->e, false);
}

RELOCATE_TEST(table, away_and_back_in_child_that_wrote)
{
	child_moves(_metadata, &self->e, true);
}

/* Several VMAs are moved by one call, each on its own. */
RELOCATE_TEST(table, several)
{
	struct env *e = &self->e;
	char *c = slot(e, 2);

	ASSERT_TRUE(set_mode(NEVER));
	gather(_metadata, e);
	ASSERT_EQ(count_slot(e, 1), 8);
	ASSERT_TRUE(set_mode(variant->mode));
	move(_metadata, e, slot(e, 1), 8, c);
	VMAS(c, 8, 8, 1, 1);
}

/* To right behind the VMA that it comes from. */
RELOCATE_TEST(table, next_to_source)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 4);

	move(_metadata, e, a + e->page, 1, a + 4 * e->page);
	VMAS(a + 2 * e->page, 3, 2, 1, 1);
}

/* mremap() cuts off what is not wanted any more first. */
RELOCATE_TEST(table, shrink)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3), *b = slot(e, 1);
	char *to = a + 3 * e->page;

	map_put(_metadata, e, b, 4);
	forget(e, b + 2 * e->page, 2);
	ASSERT_EQ(sys_mremap(b, 4 * e->page, 2 * e->page, MOVE, to), to);
	note_move(e, b, 2, to);
	VMAS(a, 6, 2, 1, 1);
	ASSERT_EQ(count_slot(e, 1), 0);
}

RELOCATE_TEST(table, grow)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3), *b = slot(e, 1);
	char *to = a + 3 * e->page;

	map_put(_metadata, e, b, 2);
	ASSERT_EQ(sys_mremap(b, 2 * e->page, 4 * e->page, MOVE, to), to);
	note_move(e, b, 2, to);
	VMAS(a, 7, 2, 1, 1);
	put(_metadata, e, to + 2 * e->page, 2);
	verify(_metadata, e);
}

/* What was there is unmapped, what is on both sides of it remains. */
RELOCATE_TEST(table, over_mapped)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 3);

	map_put(_metadata, e, slot(e, 1), 1);
	forget(e, a + e->page, 1);
	move_only(_metadata, e, slot(e, 1), 1, a + e->page);
	VMAS(a, 3, 3, 1, 1);
}

/*
 * Neighbours on either side
 */

enum neighbour {
	FAULTED,
	UNFAULTED,
	ONE_VMA,	/* Both were one VMA before there was a hole. */
	INHERITED,	/* From the parent of the process. */
	READ_ONLY,
};

FIXTURE(sides)
{
	struct env e;
};

FIXTURE_VARIANT(sides)
{
	enum neighbour neighbour;
	bool left;
	bool right;
	int moved;		/* How many VMAs there are then, */
	int relocated;		/* and then. */
};

FIXTURE_VARIANT_ADD(sides, left_faulted)
{
	.neighbour = FAULTED,
	.left = true,
	.moved = 2,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, right_faulted)
{
	.neighbour = FAULTED,
	.right = true,
	.moved = 2,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, both_faulted)
{
	.neighbour = FAULTED,
	.left = true,
	.right = true,
	.moved = 3,
	.relocated = 2,	/* The two do not merge. */
};

FIXTURE_VARIANT_ADD(sides, left_unfaulted)
{
	.neighbour = UNFAULTED,
	.left = true,
	.moved = 2,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, right_unfaulted)
{
	.neighbour = UNFAULTED,
	.right = true,
	.moved = 2,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, both_unfaulted)
{
	.neighbour = UNFAULTED,
	.left = true,
	.right = true,
	.moved = 3,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, both_one_vma)
{
	.neighbour = ONE_VMA,
	.left = true,
	.right = true,
	.moved = 3,
	.relocated = 1,
};

FIXTURE_VARIANT_ADD(sides, left_inherited)
{
	.neighbour = INHERITED,
	.left = true,
	.moved = 2,
	.relocated = 2,
};

FIXTURE_VARIANT_ADD(sides, right_inherited)
{
	.neighbour = INHERITED,
	.right = true,
	.moved = 2,
	.relocated = 2,
};

FIXTURE_VARIANT_ADD(sides, both_inherited)
{
	.neighbour = INHERITED,
	.left = true,
	.right = true,
	.moved = 3,
	.relocated = 3,
};

FIXTURE_VARIANT_ADD(sides, left_read_only)
{
	.neighbour = READ_ONLY,
	.left = true,
	.moved = 2,
	.relocated = 2,
};

FIXTURE_VARIANT_ADD(sides, right_read_only)
{
	.neighbour = READ_ONLY,
	.right = true,
	.moved = 2,
	.relocated = 2,
};

FIXTURE_VARIANT_ADD(sides, both_read_only)
{
	.neighbour = READ_ONLY,
	.left = true,
	.right = true,
	.moved = 3,
	.relocated = 3,
};

FIXTURE_SETUP(sides)
{
	const char *why = setup(_metadata, &self->e, NEVER);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(sides)
{
}

static void map_neighbour(struct __test_metadata *_metadata, struct env *e,
			  enum neighbour neighbour, char *addr)
{
	map(_metadata, e, addr, 3);
	if (neighbour != UNFAULTED)
		put(_metadata, e, addr, 3);
	if (neighbour == READ_ONLY)
		ASSERT_EQ(mprotect(addr, 3 * e->page, PROT_READ), 0);
}

/* Move memory of our own next to the neighbours; returns the number of VMAs. */
static int move_between(struct __test_metadata *_metadata, struct env *e,
			char *gap)
{
	map_put(_metadata, e, slot(e, 1), 3);
	move(_metadata, e, slot(e, 1), 3, gap);
	verify(_metadata, e);
	return count_slot(e, 0);
}

/* The page frames of what is inherited are known, so that pagemap is ours. */
static int move_between_in_child(struct __test_metadata *_metadata,
				 struct env *e, char *gap)
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		e->pagemap = open("/proc/self/pagemap", O_RDONLY);
		_exit(move_between(_metadata, e, gap));
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void check_sides(struct __test_metadata *_metadata, struct env *e,
			const FIXTURE_VARIANT(sides) *v, int wanted)
{
	char *a = slot(e, 0), *gap = a + 3 * e->page;
	bool inherited = v->neighbour == INHERITED;

	if (v->neighbour == ONE_VMA) {
		map_put(_metadata, e, a, 9);
		ASSERT_EQ(munmap(gap, 3 * e->page), 0);
		forget(e, gap, 3);
	} else {
		if (v->left)
			map_neighbour(_metadata, e, v->neighbour, a);
		if (v->right)
			map_neighbour(_metadata, e, v->neighbour, gap + 3 * e->page);
	}
	ASSERT_EQ((inherited ? move_between_in_child : move_between)
		  (_metadata, e, gap), wanted);
	verify(_metadata, e);
}

RELOCATE_TEST(sides, never)
{
	check_sides(_metadata, &self->e, variant, variant->moved);
}

RELOCATE_TEST(sides, merge)
{
	ASSERT_TRUE(set_mode(MERGE));
	check_sides(_metadata, &self->e, variant, variant->relocated);
}

RELOCATE_TEST(sides, always)
{
	ASSERT_TRUE(set_mode(ALWAYS));
	check_sides(_metadata, &self->e, variant, variant->relocated);
}

/*
 * The reverse mapping leads to a page that was relocated: whoever wants it gets
 * it out of the way, and it is still what it was
 */

enum trigger {
	MOVE_PAGES,
	SOFT_OFFLINE,
	PAGE_OUT,
	COMPACTION,
};

static long move_page(struct env *e, char *addr, int node, int *status)
{
	void *pages[] = { addr };

	return syscall(SYS_move_pages, 0, 1, pages, node < 0 ? NULL : &node,
		       status, MPOL_MF_MOVE_ALL);
}

/* Any move makes the kernel drain all pages that are on their way to an LRU. */
static void drain_lru(struct env *e)
{
	int node, status;

	if (!move_page(e, e->scratch, -1, &node) && node >= 0)
		move_page(e, e->scratch, node, &status);
}

static bool soft_offline(struct env *e, char *addr)
{
	unsigned long pfn = own_pfn(e, addr);

	if (!pfn || madvise(addr, e->page, MADV_SOFT_OFFLINE))
		return false;
	/* It is free now, give it back. */
	unpoison_memory(pfn);
	return own_pfn(e, addr) && own_pfn(e, addr) != pfn;
}

static bool to_other_node(struct env *e, char *addr)
{
	int from, status = -1;

	if (move_page(e, addr, -1, &from) || from < 0)
		return false;
	return !move_page(e, addr, e->nodes[from == e->nodes[0]], &status) &&
	       status >= 0 && status != from;
}

static bool page_out(struct env *e, char *addr)
{
	return !madvise(addr, e->page, MADV_PAGEOUT) && swapped(e, addr);
}

static bool walk_once(struct env *e, enum trigger way, char *addr)
{
	switch (way) {
	case MOVE_PAGES:
		return to_other_node(e, addr);
	case SOFT_OFFLINE:
		return soft_offline(e, addr);
	case PAGE_OUT:
		return page_out(e, addr);
	case COMPACTION:
		return write_text(COMPACT, "1");
	}
	return false;
}

static bool walk(struct env *e, enum trigger way, char *addr)
{
	int i;

	for (i = 0; i < MAX_ATTEMPTS; i++) {
		drain_lru(e);
		if (walk_once(e, way, addr))
			return true;
		usleep(10000);
	}
	return false;
}

static void walk_all(struct __test_metadata *_metadata, struct env *e,
		     enum trigger way)
{
	size_t nr = way == COMPACTION ? 1 : e->nr_pages, i;

	for (i = 0; i < nr; i++)
		ASSERT_TRUE(walk(e, way, e->pages[i].addr))
			TH_LOG("the page at %p is not found", e->pages[i].addr);
	for (i = 0; i < e->nr_pages; i++)
		e->pages[i].pfn = 0;
	verify(_metadata, e);
}

static const char *lacks_way(struct env *e, enum trigger way)
{
	switch (way) {
	case MOVE_PAGES:
		return two_nodes(e) ? NULL : ONE_NODE;
	case SOFT_OFFLINE:
		return access("/proc/sys/vm/memory_failure_recovery", F_OK) ?
			NO_OFFLINE : NULL;
	case PAGE_OUT:
		return has_swap() ? NULL : NO_SWAP;
	case COMPACTION:
		return access(COMPACT, W_OK) ?
			"no " COMPACT ": build the kernel with CONFIG_COMPACTION" : NULL;
	}
	return "unknown way";
}

FIXTURE(walk)
{
	struct env e;
	long relocated;
};

FIXTURE_VARIANT(walk)
{
	enum trigger way;
};

FIXTURE_VARIANT_ADD(walk, move_pages)
{
	.way = MOVE_PAGES,
};

FIXTURE_VARIANT_ADD(walk, soft_offline)
{
	.way = SOFT_OFFLINE,
};

FIXTURE_VARIANT_ADD(walk, page_out)
{
	.way = PAGE_OUT,
};

FIXTURE_VARIANT_ADD(walk, compaction)
{
	.way = COMPACTION,
};

FIXTURE_SETUP(walk)
{
	const char *why = lacks_way(&self->e, variant->way);

	if (!why)
		why = setup(_metadata, &self->e, ALWAYS);
	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
}

FIXTURE_TEARDOWN(walk)
{
}

/* At least: others may use mremap(), too. */
#define RELOCATED(nr)							\
do {									\
	ASSERT_GE(self->relocated, 0)					\
		TH_LOG("this kernel does not relocate");		\
	ASSERT_GE(read_stat("relocated") - self->relocated, nr);	\
} while (0)

static char *join(struct __test_metadata *_metadata, struct env *e, size_t nr)
{
	char *a = map_put(_metadata, e, slot(e, 0), nr);

	map_put(_metadata, e, slot(e, 1), nr);
	move(_metadata, e, slot(e, 1), nr, a + nr * e->page);
	return a;
}

RELOCATE_TEST(walk, alone)
{
	struct env *e = &self->e;

	map_put(_metadata, e, slot(e, 0), 4);
	move(_metadata, e, slot(e, 0), 4, slot(e, 1));
	RELOCATED(1);
	walk_all(_metadata, e, variant->way);
}

RELOCATE_TEST(walk, joined)
{
	struct env *e = &self->e;

	join(_metadata, e, 4);
	RELOCATED(1);
	walk_all(_metadata, e, variant->way);
}

/* There is no anon_vma but that of what moved. */
RELOCATE_TEST(walk, next_to_unfaulted)
{
	struct env *e = &self->e;
	char *a = map(_metadata, e, slot(e, 0), 4);

	map_put(_metadata, e, slot(e, 1), 4);
	move(_metadata, e, slot(e, 1), 4, a + 4 * e->page);
	put(_metadata, e, a, 4);
	RELOCATED(1);
	walk_all(_metadata, e, variant->way);
}

RELOCATE_TEST(walk, exchanged)
{
	struct env *e = &self->e;

	exchange(_metadata, e);
	RELOCATED(3);
	walk_all(_metadata, e, variant->way);
}

RELOCATE_TEST(walk, gathered)
{
	struct env *e = &self->e;

	gather(_metadata, e);
	RELOCATED(8);
	walk_all(_metadata, e, variant->way);
}

RELOCATE_TEST(walk, next_to_source)
{
	struct env *e = &self->e;
	char *a = map_put(_metadata, e, slot(e, 0), 4);

	move(_metadata, e, a + e->page, 1, a + 4 * e->page);
	RELOCATED(1);
	walk_all(_metadata, e, variant->way);
}

/* Where the range goes over the end of a page table. */
RELOCATE_TEST(walk, across_page_tables)
{
	struct env *e = &self->e;
	char *a = slot(e, 0) + e->table - 2 * e->page;
	char *b = slot(e, 1) + e->table - 3 * e->page;

	map_put(_metadata, e, a, 5);
	map_put(_metadata, e, b + 5 * e->page, 2);
	move(_metadata, e, a, 5, b);
	RELOCATED(1);
	ASSERT_EQ(count_slot(e, 1), 1);
	walk_all(_metadata, e, variant->way);
}

RELOCATE_TEST(walk, then_split_and_moved_on)
{
	struct env *e = &self->e;
	char *a = join(_metadata, e, 4);

	ASSERT_EQ(mprotect(a + 5 * e->page, e->page, PROT_READ), 0);
	move(_metadata, e, a + 6 * e->page, 2, slot(e, 2));
	RELOCATED(2);
	walk_all(_metadata, e, variant->way);
}

/*
 * The child maps the same pages, and so do both after the walk. MADV_PAGEOUT
 * leaves alone what is mapped twice.
 */
RELOCATE_TEST(walk, then_forked)
{
	struct env *e = &self->e;
	struct child *c;
	size_t i;

	join(_metadata, e, 2);
	RELOCATED(1);
	c = fork_child(_metadata, e);
	if (variant->way != PAGE_OUT)
		walk_all(_metadata, e, variant->way);
	for (i = 0; i < e->nr_pages; i++)
		ASSERT_EQ(pfn_of(c->pagemap, e->pages[i].addr),
			  own_pfn(e, e->pages[i].addr));
	end_child(_metadata, c);
	walk_all(_metadata, e, variant->way);
}

/*
 * Pages that are swapped out
 */

FIXTURE(swap)
{
	struct env e;
	long relocated;
	char *a;	/* Four pages. */
	char *b;	/* Four more, which are moved behind those. */
};

FIXTURE_SETUP(swap)
{
	struct env *e = &self->e;
	const char *why = has_swap() ? setup(_metadata, e, MERGE) : NO_SWAP;

	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
	self->a = map_put(_metadata, e, slot(e, 0), 4);
	self->b = map_put(_metadata, e, slot(e, 1), 4);
}

FIXTURE_TEARDOWN(swap)
{
}

static void move_behind(struct __test_metadata *_metadata,
			FIXTURE_DATA(swap) *self)
{
	struct env *e = &self->e;

	move(_metadata, e, self->b, 4, self->a + 4 * e->page);
	RELOCATED(1);
	ASSERT_EQ(count_slot(e, 0), 1);
}

static void all_out(struct __test_metadata *_metadata, struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++) {
		ASSERT_TRUE(walk(e, PAGE_OUT, e->pages[i].addr));
		e->pages[i].pfn = 0;
	}
}

RELOCATE_TEST(swap, entries)
{
	struct env *e = &self->e;
	size_t i;

	all_out(_metadata, e);
	move_behind(_metadata, self);
	for (i = 0; i < e->nr_pages; i++)
		ASSERT_TRUE(swapped(e, e->pages[i].addr));
	verify(_metadata, e);
	walk_all(_metadata, e, PAGE_OUT);
}

/* Read ahead, so there are folios that do not belong anywhere yet. */
RELOCATE_TEST(swap, entries_with_read_ahead)
{
	struct env *e = &self->e;

	all_out(_metadata, e);
	ASSERT_EQ(madvise(self->b, 4 * e->page, MADV_WILLNEED), 0);
	move_behind(_metadata, self);
	verify(_metadata, e);
	walk_all(_metadata, e, PAGE_OUT);
}

/* All pages of a swap device are mapped again where their entries are. */
RELOCATE_TEST(swap, swapoff)
{
	struct env *e = &self->e;
	char line[256], path[128];
	FILE *f = fopen("/proc/swaps", "r");
	int prio = 0;

	ASSERT_NE(f, NULL);
	if (!fgets(line, sizeof(line), f) || !fgets(line, sizeof(line), f) ||
	    sscanf(line, "%127s %*s %*s %*s %d", path, &prio) != 2 ||
	    fgets(line, sizeof(line), f))
		SKIP(fclose(f); return, "several swap devices: swapoff all but one");
	fclose(f);
	all_out(_metadata, e);
	move_behind(_metadata, self);
	ASSERT_EQ(swapoff(path), 0);
	EXPECT_EQ(swapon(path, prio < 0 ? 0 : SWAP_FLAG_PREFER | prio), 0);
	note_pfns(e);
	verify(_metadata, e);
	walk_all(_metadata, e, PAGE_OUT);
}

static void hold(struct __test_metadata *_metadata, struct env *e, char *addr,
		 size_t nr, int pipe[2])
{
	struct iovec iov = { addr, nr * e->page };

	ASSERT_EQ(vmsplice(pipe[1], &iov, 1, 0), (ssize_t)(nr * e->page));
}

static uint64_t flags_of(struct env *e, unsigned long pfn)
{
	uint64_t flags = 0;

	return pfn && !pageflags_get(pfn, e->kpageflags, &flags) ? flags : 0;
}

/*
 * A pipe has a reference of the page, so it stays in the swap cache. It is
 * mapped again, and not a copy of it, only if its place is the right one.
 */
RELOCATE_TEST(swap, cached)
{
	struct env *e = &self->e;
	unsigned long pfns[4];
	int pipe_fds[2], i;

	ASSERT_EQ(pipe(pipe_fds), 0);
	hold(_metadata, e, self->b, 4, pipe_fds);
	for (i = 0; i < 4; i++) {
		pfns[i] = own_pfn(e, self->b + i * e->page);
		ASSERT_TRUE(walk(e, PAGE_OUT, self->b + i * e->page));
		if (!(flags_of(e, pfns[i]) & KPF_SWAPCACHE))
			SKIP(return, NO_CACHE);
	}
	move_behind(_metadata, self);
	verify(_metadata, e);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(own_pfn(e, self->a + (4 + i) * e->page), pfns[i]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	walk_all(_metadata, e, PAGE_OUT);
}

RELOCATE_TEST(swap, soft_dirty)
{
	struct env *e = &self->e;
	char *p;

	if (!softdirty_supported())
		SKIP(return, NO_SOFT_DIRTY);
	all_out(_metadata, e);
	clear_softdirty();
	for (p = self->b; p < self->b + 4 * e->page; p += e->page)
		ASSERT_FALSE(pagemap_is_softdirty(e->pagemap, p));
	move_behind(_metadata, self);
	for (p = self->a + 4 * e->page; p < self->a + 8 * e->page; p += e->page) {
		ASSERT_TRUE(swapped(e, p));
		ASSERT_TRUE(pagemap_is_softdirty(e->pagemap, p));
	}
}

/* Two processes have the entries, so neither may change their place. */
RELOCATE_TEST(swap, shared_entries)
{
	struct env *e = &self->e;
	struct child *c;

	all_out(_metadata, e);
	c = fork_child(_metadata, e);
	move(_metadata, e, self->b, 4, self->a + 4 * e->page);
	ASSERT_EQ(count_slot(e, 0), 2);
	verify(_metadata, e);
	end_child(_metadata, c);
}

/*
 * Kinds of pages and of mappings: four pages are moved behind four others
 */

FIXTURE(kinds)
{
	struct env e;
	long relocated;
	char *a;
	char *b;
	char *to;	/* Behind a. */
};

FIXTURE_SETUP(kinds)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, MERGE);

	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
	self->a = map_put(_metadata, e, slot(e, 0), 4);
	self->b = map_put(_metadata, e, slot(e, 1), 4);
	self->to = self->a + 4 * e->page;
}

FIXTURE_TEARDOWN(kinds)
{
	thp_restore_settings();
}

/* Move b behind a; if that has a reason not to merge, it is counted. */
static void move_kind(struct __test_metadata *_metadata,
		      FIXTURE_DATA(kinds) *self, const char *refusal)
{
	struct env *e = &self->e;
	long refused = refusal ? read_stat(refusal) : -1;

	move(_metadata, e, self->b, 4, self->to);
	verify(_metadata, e);
	ASSERT_EQ(count_slot(e, 0), refusal ? 2 : 1);
	if (!refusal)
		RELOCATED(1);
	else if (refused >= 0)
		ASSERT_GT(read_stat(refusal), refused);
}

RELOCATE_TEST(kinds, fork_before)
{
	struct env *e = &self->e;
	struct child *c = fork_child(_metadata, e);

	move_kind(_metadata, self, "refused_shared");
	end_child(_metadata, c);
	verify(_metadata, e);
}

/* The pages are ours again as soon as we write to them, or copies are. */
RELOCATE_TEST(kinds, fork_before_exited_then_written)
{
	struct env *e = &self->e;
	size_t i;

	end_child(_metadata, fork_child(_metadata, e));
	for (i = 0; i < e->nr_pages; i++)
		fill(e->pages[i].addr, e->pages[i].tag);
	note_pfns(e);
	move_kind(_metadata, self, NULL);
}

RELOCATE_TEST(kinds, fork_before_child_wrote)
{
	struct env *e = &self->e;
	struct child *c = fork_child(_metadata, e);
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		fill(e->pages[i].addr, e->pages[i].tag);
	note_pfns(e);
	move_kind(_metadata, self, NULL);
	end_child(_metadata, c);
	verify(_metadata, e);
}

/* Then we write, and the child has what it had. */
RELOCATE_TEST(kinds, fork_after)
{
	struct env *e = &self->e;
	struct child *c;

	move_kind(_metadata, self, NULL);
	c = fork_child(_metadata, e);
	put(_metadata, e, self->to, 4);
	end_child(_metadata, c);
	verify(_metadata, e);
}

/* A page in a pipe is the page that is mapped. */
RELOCATE_TEST(kinds, vmsplice)
{
	struct env *e = &self->e;
	char buf[sizeof(uint64_t)];
	int pipe_fds[2];

	ASSERT_EQ(pipe(pipe_fds), 0);
	hold(_metadata, e, self->b, 1, pipe_fds);
	move_kind(_metadata, self, NULL);
	*(uint64_t *)self->to = 42;
	ASSERT_EQ(read(pipe_fds[0], buf, sizeof(buf)), (ssize_t)sizeof(buf));
	ASSERT_EQ(*(uint64_t *)buf, 42);
}

RELOCATE_TEST(kinds, pinned)
{
	struct env *e = &self->e;
	struct pin_longterm_test args = {
		.addr = (uintptr_t)self->b,
		.size = 4 * e->page,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};
	int fd = open(GUP_TEST, O_RDWR);
	uint64_t read_to;
	char *buf;

	if (fd < 0)
		SKIP(return, NO_GUP_TEST);
	ASSERT_EQ(ioctl(fd, PIN_LONGTERM_TEST_START, &args), 0);
	move_kind(_metadata, self, NULL);
	put(_metadata, e, self->to, 4);
	buf = map(_metadata, e, slot(e, 2), 4);
	read_to = (uintptr_t)buf;
	ASSERT_EQ(ioctl(fd, PIN_LONGTERM_TEST_READ, &read_to), 0);
	ASSERT_EQ(memcmp(buf, self->to, 4 * e->page), 0);
	ASSERT_EQ(ioctl(fd, PIN_LONGTERM_TEST_STOP), 0);
	verify(_metadata, e);
	close(fd);
}

/* They can be freed, and so they read as before or as zeroes. */
RELOCATE_TEST(kinds, madv_free)
{
	struct env *e = &self->e;
	char *addr = self->to;
	size_t i;

	ASSERT_EQ(madvise(self->b + e->page, 2 * e->page, MADV_FREE), 0);
	move_kind(_metadata, self, NULL);
	forget(e, addr + e->page, 2);
	madvise(addr, 4 * e->page, MADV_PAGEOUT);
	for (i = 1; i < 3; i++)
		ASSERT_TRUE(!*(uint64_t *)(addr + i * e->page) ||
			    *(uint64_t *)(addr + i * e->page) >> 32);
	put(_metadata, e, addr + e->page, 2);
	note_pfns(e);
	verify(_metadata, e);
}

static bool guard(struct env *e, char *addr)
{
	forget(e, addr, 1);
	return !madvise(addr, e->page, MADV_GUARD_INSTALL);
}

RELOCATE_TEST(kinds, guard_regions)
{
	struct env *e = &self->e;

	if (!guard(e, self->b + e->page))
		SKIP(return, NO_GUARDS);
	move_kind(_metadata, self, NULL);
	ASSERT_TRUE(pagemap_get_entry(e->pagemap, self->to + e->page) & PM_GUARD_REGION);
	ASSERT_EQ(madvise(self->to + e->page, e->page, MADV_GUARD_REMOVE), 0);
	ASSERT_EQ(self->to[e->page], 0);
}

/* What was never written: holes, and the zero page. */
RELOCATE_TEST(kinds, holes_and_zero_pages)
{
	struct env *e = &self->e;

	forget(e, self->b, 2);
	ASSERT_EQ(madvise(self->b, 2 * e->page, MADV_DONTNEED), 0);
	FORCE_READ(*self->b);
	move_kind(_metadata, self, NULL);
	ASSERT_EQ(*(uint64_t *)self->to, 0);
	ASSERT_EQ(*(uint64_t *)(self->to + e->page), 0);
	put(_metadata, e, self->to, 2);
	verify(_metadata, e);
}

/* smaps sums up what is locked, and the pages are still held in memory. */
RELOCATE_TEST(kinds, mlock)
{
	struct env *e = &self->e;
	size_t i;

	ASSERT_EQ(mlock(self->a, 4 * e->page), 0);
	ASSERT_EQ(mlock(self->b, 4 * e->page), 0);
	move_kind(_metadata, self, NULL);
	madvise(self->a, 8 * e->page, MADV_PAGEOUT);
	for (i = 0; i < e->nr_pages; i++)
		ASSERT_FALSE(swapped(e, e->pages[i].addr));
	ASSERT_EQ(munlock(self->a, 8 * e->page), 0);
	verify(_metadata, e);
}

/* What is locked does not join what is not. */
RELOCATE_TEST(kinds, mlock_one)
{
	struct env *e = &self->e;

	ASSERT_EQ(mlock(self->b, 4 * e->page), 0);
	move(_metadata, e, self->b, 4, self->to);
	ASSERT_EQ(count_slot(e, 0), 2);
	verify(_metadata, e);
}

static bool arm_uffd(struct env *e, char *addr)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	return fd >= 0 && !ioctl(fd, UFFDIO_API, &api) &&
	       !uffd_register(fd, addr, 4 * e->page, true, false, false);
}

RELOCATE_TEST(kinds, userfaultfd)
{
	struct env *e = &self->e;

	if (!arm_uffd(e, self->b))
		SKIP(return, "no userfaultfd: build the kernel with CONFIG_USERFAULTFD");
	move_kind(_metadata, self, "refused_uffd");
}

/* The source remains, and is empty. */
RELOCATE_TEST(kinds, dontunmap)
{
	struct env *e = &self->e;
	size_t len = 4 * e->page, i;

	ASSERT_EQ(sys_mremap(self->b, len, len, MOVE | MREMAP_DONTUNMAP,
			     self->to), self->to);
	note_move(e, self->b, 4, self->to);
	verify(_metadata, e);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(*(uint64_t *)(self->b + i * e->page), 0);
	put(_metadata, e, self->b, 4);
	verify(_metadata, e);
}

/* mremap() unshares what KSM may have merged. */
RELOCATE_TEST(kinds, ksm_mergeable)
{
	struct env *e = &self->e;

	if (madvise(self->a, 4 * e->page, MADV_MERGEABLE) ||
	    madvise(self->b, 4 * e->page, MADV_MERGEABLE))
		SKIP(return, "no KSM: build the kernel with CONFIG_KSM");
	move_kind(_metadata, self, NULL);
}

RELOCATE_TEST(kinds, soft_dirty)
{
	struct env *e = &self->e;
	size_t i;

	if (!softdirty_supported())
		SKIP(return, NO_SOFT_DIRTY);
	clear_softdirty();
	move_kind(_metadata, self, NULL);
	for (i = 0; i < 4; i++)
		ASSERT_TRUE(pagemap_is_softdirty(e->pagemap, self->to + i * e->page));
}

static void ignore(int sig)
{
}

/* It moves like what was swapped out, and stays poisoned. */
RELOCATE_TEST(kinds, poisoned)
{
	struct env *e = &self->e;
	const char *why = lacks_way(e, SOFT_OFFLINE);
	char *bad = self->b + e->page;
	unsigned long pfn = own_pfn(e, bad);

	if (why)
		SKIP(return, "%s", why);
	/* Who has the page may be told. */
	ASSERT_NE(signal(SIGBUS, ignore), SIG_ERR);
	forget(e, bad, 1);
	drain_lru(e);
	ASSERT_EQ(madvise(bad, e->page, MADV_HWPOISON), 0);
	/* pagemap shows such entries as those. */
	ASSERT_TRUE(swapped(e, bad));
	move_kind(_metadata, self, NULL);
	ASSERT_TRUE(swapped(e, self->to + e->page));
	ASSERT_EQ(madvise(self->to + e->page, e->page, MADV_DONTNEED), 0);
	unpoison_memory(pfn);
	put(_metadata, e, self->to + e->page, 1);
	verify(_metadata, e);
}

static long bind_to(struct env *e, char *addr, int node)
{
	unsigned long mask = 1UL << node;

	return syscall(SYS_mbind, addr, 4 * e->page, MPOL_BIND, &mask,
		       8 * sizeof(mask), 0);
}

static int node_of_policy(char *addr)
{
	unsigned long mask = 0;
	int mode;

	if (syscall(SYS_get_mempolicy, &mode, &mask, 8 * sizeof(mask), addr,
		    MPOL_F_ADDR) || mode != MPOL_BIND || !mask)
		return -1;
	return __builtin_ctzl(mask);
}

RELOCATE_TEST(kinds, same_policy)
{
	struct env *e = &self->e;

	if (bind_to(e, self->a, 0) || bind_to(e, self->b, 0))
		SKIP(return, "no mbind(): build the kernel with CONFIG_NUMA");
	move_kind(_metadata, self, NULL);
	ASSERT_EQ(node_of_policy(self->to), 0);
}

RELOCATE_TEST(kinds, other_policy)
{
	struct env *e = &self->e;

	if (bind_to(e, self->b, 0))
		SKIP(return, "no mbind(): build the kernel with CONFIG_NUMA");
	move(_metadata, e, self->b, 4, self->to);
	ASSERT_EQ(count_slot(e, 0), 2);
	ASSERT_EQ(node_of_policy(self->a), -1);
	ASSERT_EQ(node_of_policy(self->to), 0);
	verify(_metadata, e);
}

static void limit_to_pages(struct __test_metadata *_metadata, struct env *e,
			   size_t nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%zu", nr * e->page >> 10);
	if (saved_mode[0])
		ASSERT_TRUE(write_text(KNOBS "relocate_max_kb", text));
}

RELOCATE_TEST(kinds, at_the_limit)
{
	limit_to_pages(_metadata, &self->e, 4);
	move_kind(_metadata, self, NULL);
}

RELOCATE_TEST(kinds, beyond_the_limit)
{
	limit_to_pages(_metadata, &self->e, 3);
	move_kind(_metadata, self, "refused_size");
}

/* Nothing is even counted. */
RELOCATE_TEST(kinds, never)
{
	struct env *e = &self->e;
	long no_gain = read_stat("no_gain");

	ASSERT_TRUE(set_mode(NEVER));
	move(_metadata, e, self->b, 4, self->to);
	ASSERT_EQ(count_slot(e, 0), 2);
	ASSERT_EQ(read_stat("relocated"), self->relocated);
	ASSERT_EQ(read_stat("no_gain"), no_gain);
	verify(_metadata, e);
}

/*
 * Large folios, two of them, and a page on either side
 */

FIXTURE(large)
{
	struct env e;
	long relocated;
	size_t nr;	/* Pages in a folio. */
	char *b;
};

FIXTURE_VARIANT(large)
{
	int order;	/* 0: of a PMD. */
};

FIXTURE_VARIANT_ADD(large, order_2)
{
	.order = 2,
};

FIXTURE_VARIANT_ADD(large, order_3)
{
	.order = 3,
};

FIXTURE_VARIANT_ADD(large, order_4)
{
	.order = 4,
};

FIXTURE_VARIANT_ADD(large, order_5)
{
	.order = 5,
};

FIXTURE_VARIANT_ADD(large, order_6)
{
	.order = 6,
};

FIXTURE_VARIANT_ADD(large, order_7)
{
	.order = 7,
};

FIXTURE_VARIANT_ADD(large, order_8)
{
	.order = 8,
};

FIXTURE_VARIANT_ADD(large, order_of_pmd)
{
	.order = 0,
};

static void set_folio_order(int order)
{
	struct thp_settings settings;
	int i;

	thp_read_settings(&settings);
	for (i = 0; i < NR_ORDERS; i++)
		settings.hugepages[i].enabled = THP_NEVER;
	settings.hugepages[order].enabled = THP_ALWAYS;
	thp_write_settings(&settings);
}

static bool one_folio(struct env *e, char *addr, size_t nr)
{
	unsigned long pfn = own_pfn(e, addr);
	size_t i;

	for (i = 1; i < nr; i++)
		if (own_pfn(e, addr + i * e->page) != pfn + i)
			return false;
	return pfn && !(pfn % nr) && flags_of(e, pfn) & KPF_THP;
}

FIXTURE_SETUP(large)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, ALWAYS);
	int order = variant->order ?: sz2ord(e->table, e->page);

	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
	self->nr = 1UL << order;
	if (!thp_available() || !(thp_supported_orders() & 1UL << order) ||
	    self->nr * e->page > MAX_FOLIO_SIZE)
		SKIP(return,
		     NO_ORDER, order);
	self->b = map_huge(_metadata, e, slot(e, 1), 2 * self->nr);
	set_folio_order(order);
	put(_metadata, e, self->b, 2 * self->nr);
	thp_restore_settings();
	note_pfns(e);
	if (!one_folio(e, self->b, self->nr) ||
	    !one_folio(e, self->b + self->nr * e->page, self->nr))
		SKIP(return,
		     "no free memory for folios of order %d: give the machine more", order);
}

FIXTURE_TEARDOWN(large)
{
	thp_restore_settings();
}

static void neighbour_of_large(struct __test_metadata *_metadata, struct env *e,
			       char *addr)
{
	map_huge(_metadata, e, addr, 1);
	put(_metadata, e, addr, 1);
}

static void large_is_found(struct __test_metadata *_metadata, struct env *e,
			   char *addr)
{
	if (!lacks_way(e, SOFT_OFFLINE)) {
		ASSERT_TRUE(walk(e, SOFT_OFFLINE, addr));
		note_pfns(e);
		verify(_metadata, e);
	}
	if (has_swap())
		walk_all(_metadata, e, PAGE_OUT);
}

/* To where PMDs can be moved as they are. */
RELOCATE_TEST(large, aligned)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->table;

	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, 2 * self->nr, to);
	RELOCATED(1);
	ASSERT_EQ(count_slot(e, 2), 1);
	verify(_metadata, e);
	large_is_found(_metadata, e, to + e->page);
}

/* Across two page tables, at least for PMDs. */
RELOCATE_TEST(large, unaligned)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->table - 3 * e->page;

	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, 2 * self->nr, to);
	RELOCATED(1);
	ASSERT_EQ(count_slot(e, 2), 1);
	verify(_metadata, e);
	large_is_found(_metadata, e, to + e->page);
}

/*
 * In part. The folio is split, or it is not relocated: each page is where it
 * belongs in either case, and found there.
 */
RELOCATE_TEST(large, in_part)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->page;

	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b + e->page, self->nr, to);
	verify(_metadata, e);
	large_is_found(_metadata, e, to);
}

/*
 * A part of a folio that was swapped out as a whole, and which is still there. It is
 * not split for that: what stays has its place, too.
 */
RELOCATE_TEST(large, in_part_of_swap_cache)
{
	struct env *e = &self->e;
	const uint64_t both = KPF_SWAPCACHE | KPF_THP;
	char *to = slot(e, 2) + e->page;
	unsigned long pfn = own_pfn(e, self->b);
	long refused = read_stat("refused_large");
	int i;

	if (!has_swap())
		SKIP(return, NO_SWAP);
	for (i = 0; i < MAX_ATTEMPTS && !swapped(e, self->b); i++) {
		drain_lru(e);
		madvise(self->b, self->nr * e->page, MADV_PAGEOUT);
	}
	if (!swapped(e, self->b + (self->nr - 1) * e->page) ||
	    (flags_of(e, pfn) & both) != both)
		SKIP(return, NO_LARGE_CACHE);
	for (i = 0; i < (int)self->nr; i++)
		e->pages[i].pfn = 0;
	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, 1, to);
	ASSERT_EQ(count_slot(e, 2), 2);
	ASSERT_GT(read_stat("refused_large"), refused);
	verify(_metadata, e);
}

/* The first folio and a page of the second, most of which stays where it is. */
RELOCATE_TEST(large, ends_in_part)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->page;
	char *rest = self->b + (self->nr + 1) * e->page;

	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, self->nr + 1, to);
	verify(_metadata, e);
	large_is_found(_metadata, e, to + self->nr * e->page);
	large_is_found(_metadata, e, rest);
}

/* One page of a folio is gone. */
RELOCATE_TEST(large, with_hole)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->page;

	ASSERT_EQ(madvise(self->b + e->page, e->page, MADV_DONTNEED), 0);
	forget(e, self->b + e->page, 1);
	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, 2 * self->nr, to);
	verify(_metadata, e);
	large_is_found(_metadata, e, to);
}

RELOCATE_TEST(large, fork_before)
{
	struct env *e = &self->e;
	struct child *c = fork_child(_metadata, e);
	char *to = slot(e, 2) + e->page;

	neighbour_of_large(_metadata, e, to - e->page);
	move(_metadata, e, self->b, 2 * self->nr, to);
	verify(_metadata, e);
	ASSERT_EQ(count_slot(e, 2), 2);
	end_child(_metadata, c);
	large_is_found(_metadata, e, to);
}

RELOCATE_TEST(large, then_forked)
{
	struct env *e = &self->e;
	char *to = slot(e, 2) + e->table;
	struct child *c;

	move(_metadata, e, self->b, 2 * self->nr, to);
	RELOCATED(1);
	c = fork_child(_metadata, e);
	if (!lacks_way(e, SOFT_OFFLINE))
		ASSERT_TRUE(walk(e, SOFT_OFFLINE, to));
	note_pfns(e);
	verify(_metadata, e);
	end_child(_metadata, c);
	large_is_found(_metadata, e, to);
}

/* What a table of page tables maps. s390 has four times as many entries in it. */
static size_t upper_size(struct env *e)
{
	return 4 * e->table * (e->page / sizeof(uint64_t));
}

/*
 * Reserves what two tables of page tables map, and returns where the second begins,
 * or NULL. Two may be all that there is: pages of 64K do with addresses of 42 bits.
 */
static char *map_upper(struct env *e)
{
	const size_t upper = upper_size(e);
	char *addr = mmap(NULL, 3 * upper, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	return addr + upper + (-(uintptr_t)addr & (upper - 1));
}

/*
 * A program that asks by MREMAP_RELOCATE_ANON, while the system does not relocate:
 * four pages are moved behind four others
 */

FIXTURE(asked)
{
	struct env e;
	long relocated;
	char *a;
	char *b;
	char *to;	/* Behind a. */
};

FIXTURE_SETUP(asked)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, NEVER);

	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
	self->a = map_put(_metadata, e, slot(e, 0), 4);
	self->b = map_put(_metadata, e, slot(e, 1), 4);
	self->to = self->a + 4 * e->page;
}

FIXTURE_TEARDOWN(asked)
{
}

static void ask(struct __test_metadata *_metadata, struct env *e, char *from,
		size_t nr, char *to, int flags)
{
	size_t len = nr * e->page;

	ASSERT_EQ(sys_mremap(from, len, len, MOVE | MREMAP_RELOCATE_ANON | flags,
			     to), to)
		TH_LOG("mremap(): %s", strerror(errno));
	note_move(e, from, nr, to);
	verify(_metadata, e);
}

RELOCATE_TEST(asked, merges)
{
	struct env *e = &self->e;

	ask(_metadata, e, self->b, 4, self->to, 0);
	ASSERT_EQ(count_slot(e, 0), 1);
	RELOCATED(1);
}

/* The limit is one for those who do not know what they are moving. */
RELOCATE_TEST(asked, beyond_the_limit)
{
	struct env *e = &self->e;

	ASSERT_TRUE(set_mode(MERGE));
	limit_to_pages(_metadata, e, 1);
	ask(_metadata, e, self->b, 4, self->to, 0);
	ASSERT_EQ(count_slot(e, 0), 1);
}

/* As with "always": what is mapped there later may want to join. */
RELOCATE_TEST(asked, without_neighbour)
{
	struct env *e = &self->e;
	char *c = slot(e, 2);

	ask(_metadata, e, self->b, 4, c, 0);
	RELOCATED(1);
	map_put(_metadata, e, c + 4 * e->page, 4);
	ASSERT_EQ(count_slot(e, 2), 1);
	verify(_metadata, e);
}

RELOCATE_TEST(asked, several)
{
	struct env *e = &self->e;
	char *c = slot(e, 3);

	gather_in(_metadata, e, slot(e, 4), slot(e, 2));
	ASSERT_EQ(count_slot(e, 2), 8);
	ask(_metadata, e, slot(e, 2), 8, c, 0);
	ASSERT_EQ(count_slot(e, 3), 1);
}

/* Asking is not insisting: what cannot be relocated is moved all the same. */
RELOCATE_TEST(asked, shared_by_fork)
{
	struct env *e = &self->e;
	struct child *c = fork_child(_metadata, e);

	ask(_metadata, e, self->b, 4, self->to, 0);
	ASSERT_EQ(count_slot(e, 0), 2);
	end_child(_metadata, c);
}

RELOCATE_TEST(asked, dontunmap)
{
	struct env *e = &self->e;
	size_t i;

	ask(_metadata, e, self->b, 4, self->to, MREMAP_DONTUNMAP);
	ASSERT_EQ(count_slot(e, 0), 2);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(*(uint64_t *)(self->b + i * e->page), 0);
}

RELOCATE_TEST(asked, shared_memory)
{
	struct env *e = &self->e;
	size_t len = 4 * e->page;
	char *from = slot(e, 2);

	ASSERT_EQ(mmap(from, len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), from);
	put(_metadata, e, from, 4);
	ask(_metadata, e, from, 4, self->to, 0);
}

/* The pages that were not written to are at their old place in the file. */
RELOCATE_TEST(asked, private_file)
{
	struct env *e = &self->e;
	const size_t len = 4 * e->page;
	int i, fd = memfd_create("mremap_relocate", MFD_CLOEXEC);
	char *from = slot(e, 2), *file;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
	file = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(file, MAP_FAILED);
	for (i = 0; i < 4; i++)
		fill(file + i * e->page, -1 - i);
	ASSERT_EQ(mmap(from, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
		  from);
	put(_metadata, e, from, 1);
	ask(_metadata, e, from, 4, self->to, 0);
	for (i = 1; i < 4; i++)
		ASSERT_TRUE(intact(self->to + i * e->page, -1 - i));
	ASSERT_EQ(count_slot(e, 0), 2);
}

/* Holes and zero pages have no place, and are not counted. */
RELOCATE_TEST(asked, pages_are_counted)
{
	struct env *e = &self->e;
	long pages = read_stat("relocated_pages");

	ask(_metadata, e, self->b, 4, self->to, 0);
	ASSERT_EQ(read_stat("relocated_pages") - pages, 4);
	forget(e, self->to, 2);
	ASSERT_EQ(madvise(self->to, 2 * e->page, MADV_DONTNEED), 0);
	FORCE_READ(*self->to);
	ask(_metadata, e, self->to, 4, slot(e, 2), 0);
	ASSERT_EQ(read_stat("relocated_pages") - pages, 4 + 2);
}

/* What is below the pages was never mapped, not even a table of page tables is there. */
RELOCATE_TEST(asked, behind_an_upper_hole)
{
	struct env *e = &self->e;
	const size_t hole = 4 * e->table;
	char *at;

	if (sizeof(void *) < 8)
		SKIP(return, NO_64_BITS);
	at = map_upper(e);
	if (!at)
		SKIP(return, NO_UPPER);
	map(_metadata, e, at - hole, hole / e->page + 4);
	put(_metadata, e, at, 4);
	ask(_metadata, e, at - hole, hole / e->page + 4, slot(e, 2), 0);
	RELOCATED(1);
}

/* Nothing moves, so there is nothing to relocate. */
RELOCATE_TEST(asked, in_place)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_RELOCATE_ANON;
	struct env *e = &self->e;
	size_t len = 4 * e->page;

	ASSERT_EQ(sys_mremap(self->b, len, len, flags, NULL), self->b);
	forget(e, self->b + 3 * e->page, 1);
	ASSERT_EQ(sys_mremap(self->b, len, len - e->page, flags, NULL), self->b);
	verify(_metadata, e);
	ASSERT_EQ(count_slot(e, 1), 1);
}

/* As MREMAP_FIXED and MREMAP_DONTUNMAP, it is refused where nothing may move. */
RELOCATE_TEST(asked, without_maymove)
{
	struct env *e = &self->e;
	size_t len = 4 * e->page;

	ASSERT_EQ(sys_mremap(self->b, len, len, MREMAP_RELOCATE_ANON, NULL), MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
	ASSERT_EQ(sys_mremap(self->b, len, len - e->page, MREMAP_RELOCATE_ANON, NULL),
		  MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
	verify(_metadata, e);
	ASSERT_EQ(count_slot(e, 1), 1);
}

/* The bit above it is still refused, and with it nothing happens. */
RELOCATE_TEST(asked, for_more)
{
	struct env *e = &self->e;
	size_t len = 4 * e->page;

	ASSERT_EQ(sys_mremap(self->b, len, len, MOVE | MREMAP_RELOCATE_ANON |
			     MREMAP_RELOCATE_ANON << 1, self->to), MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
	verify(_metadata, e);
	ask(_metadata, e, self->b, 4, self->to, 0);
}

/*
 * No memory for page tables, or for anything else: the move fails, and nothing
 * has happened
 */

FIXTURE(no_memory)
{
	struct env e;
	char *b;
};

/* On powerpc, few of the page tables that are smaller than a page need a new page. */
static bool tables_are_fragments(void)
{
	struct utsname system;

	return psize() > 4096 && !uname(&system) && !strncmp(system.machine, "ppc", 3);
}

FIXTURE_SETUP(no_memory)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, ALWAYS);

	if (!why && tables_are_fragments())
		why = FRAGMENTS;
	if (!why && !fail_nth_prepare())
		why = NO_FAIL_NTH;
	if (why)
		SKIP(return, "%s", why);
	self->b = map_put(_metadata, e, slot(e, 1), 4);
}

FIXTURE_TEARDOWN(no_memory)
{
	fail_nth_restore();
}

/* mremap() whose nth allocation fails; *failed if there were as many. */
static void *move_failing(struct env *e, char *from, char *to, int nth,
			  bool *failed)
{
	int fd = fail_nth_begin(nth);
	void *ret;

	if (fd < 0)
		return NULL;
	ret = sys_mremap(from, 4 * e->page, 4 * e->page, MOVE, to);
	*failed = fail_nth_end(fd);
	return ret;
}

/*
 * The slot is as it was before the move, which may have unmapped what was there
 * before it failed: each move is to make the same allocations. The page tables are
 * freed.
 */
static void clear(struct __test_metadata *_metadata, struct env *e, char *at,
		  size_t len)
{
	ASSERT_EQ(munmap(at, len), 0);
	ASSERT_EQ(try_map(e, at, len / e->page, PROT_NONE), at);
}

static void clear_slot(struct __test_metadata *_metadata, struct env *e, char *at)
{
	clear(_metadata, e, at, e->slot);
}

static void take_back(struct __test_metadata *_metadata, struct env *e,
		      char *from, char *to)
{
	note_move(e, from, 4, to);
	move(_metadata, e, to, 4, from);
	clear_slot(_metadata, e, to);
}

/*
 * Each allocation that the move makes fails once. Some can do without, so the
 * move succeeds.
 */
static void fail_each(struct __test_metadata *_metadata, struct env *e,
		      char *from, char *to, int vmas)
{
	int failures = 0, nth = 1;
	bool failed;
	void *ret;

	while ((ret = move_failing(e, from, to, nth++, &failed)) != to || failed) {
		if (ret == to) {
			take_back(_metadata, e, from, to);
			continue;
		}
		ASSERT_EQ(ret, MAP_FAILED);
		ASSERT_EQ(errno, ENOMEM);
		ASSERT_TRUE(failed);
		failures++;
		ASSERT_EQ(count_vmas(to, 4 * e->page), 0);
		ASSERT_EQ(count_vmas(from, 4 * e->page), 1);
		ASSERT_EQ(count_vmas(e->area, NR_SLOTS * e->slot), vmas);
		verify(_metadata, e);
		clear_slot(_metadata, e, to);
	}
	ASSERT_GT(failures, 0);
	take_back(_metadata, e, from, to);
}

/*
 * How many there are depends on what the slab caches hold, which is the same
 * from the second time on.
 */
static void fail_all(struct __test_metadata *_metadata, struct env *e,
		     char *from, char *to, int vmas)
{
	long nomem = read_stat("failed_nomem");
	int i;

	for (i = 0; i < MAX_SWEEPS && read_stat("failed_nomem") == nomem; i++)
		fail_each(_metadata, e, from, to, vmas);
	ASSERT_GT(read_stat("failed_nomem"), nomem)
		TH_LOG("no allocation of a page table has failed");
	move(_metadata, e, from, 4, to);
	verify(_metadata, e);
}

/* To where there are no page tables. */
RELOCATE_TEST(no_memory, alone)
{
	struct env *e = &self->e;

	fail_all(_metadata, e, self->b, slot(e, 3), 1);
	ASSERT_EQ(count_slot(e, 3), 1);
}

/* The neighbour is in the slot before. */
RELOCATE_TEST(no_memory, next_to_faulted)
{
	struct env *e = &self->e;
	char *to = slot(e, 3);

	map_put(_metadata, e, to - 4 * e->page, 4);
	fail_all(_metadata, e, self->b, to, 2);
	ASSERT_EQ(count_vmas(to - 4 * e->page, 8 * e->page), 1);
}

/*
 * Races: one process moves pages to and fro, between neighbours at both places,
 * while somebody else is after them. Each takes RACE_SECONDS.
 */

struct race {
	struct env *e;
	pid_t mover;
	char *from;
	char *to;
	size_t nr;
};

/* Returns false if the kernel gave something that is wrong. */
typedef bool (*disturb_fn)(const struct race *r);

static bool disturb_compaction(const struct race *r)
{
	write_text(COMPACT, "1");
	return true;
}

static bool disturb_move_pages(const struct race *r)
{
	static int turn;
	void *pages[16];
	int nodes[16], status[16];
	size_t i;

	for (i = 0; i < 16; i++) {
		pages[i] = (i & 1 ? r->from : r->to) + i / 2 * r->e->page;
		nodes[i] = r->e->nodes[turn & 1];
	}
	turn++;
	syscall(SYS_move_pages, r->mover, 16, pages, nodes, status, MPOL_MF_MOVE_ALL);
	return true;
}

static bool disturb_reclaim(const struct race *r)
{
	write_text(CGROUPS "mremap_relocate/memory.reclaim", "1M");
	return true;
}

static bool disturb_split(const struct race *r)
{
	write_text(SPLIT_HUGE_PAGES, "1");
	return true;
}

static bool disturb_page_idle(const struct race *r)
{
	static uint64_t ones[512];
	int fd = open(PAGE_IDLE, O_RDWR);
	off_t at = 0;

	memset(ones, 0xff, sizeof(ones));
	while (pwrite(fd, ones, sizeof(ones), at) == sizeof(ones))
		at += sizeof(ones);
	close(fd);
	return true;
}

/* A page is there, or it is not; what is read of it is never anything else. */
static bool disturb_readv(const struct race *r)
{
	static char buf[MAX_PAGE_SIZE];
	size_t len = psize(), i;

	for (i = 0; i < 2 * r->nr; i++) {
		char *addr = (i & 1 ? r->from : r->to) + i / 2 * len;
		struct iovec local = { buf, len }, remote = { addr, len };

		if (process_vm_readv(r->mover, &local, 1, &remote, 1, 0) ==
		    (ssize_t)len && !intact(buf, *(uint64_t *)buf >> 32))
			return false;
	}
	return true;
}

static bool disturb_swap(const struct race *r)
{
	static char line[256], path[128];
	FILE *f;

	if (!path[0]) {
		f = fopen("/proc/swaps", "r");
		if (!f || !fgets(line, sizeof(line), f) ||
		    !fgets(line, sizeof(line), f) ||
		    sscanf(line, "%127s", path) != 1)
			return false;
		fclose(f);
	}
	if (swapoff(path))
		return errno == ENOMEM || errno == EINTR;
	return !swapon(path, 0);
}

static bool disturb_ksm(const struct race *r)
{
	write_text(KSM "run", "1");
	usleep(100000);
	write_text(KSM "run", "2");
	return true;
}

static bool disturb_khugepaged(const struct race *r)
{
	usleep(100000);
	return true;
}

static bool past(const struct timespec *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end->tv_sec ||
	       (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec);
}

static struct timespec race_end(int seconds)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	return end;
}

/* Until the pipe that *hold is one end of is closed. */
static pid_t start_disturbing(struct __test_metadata *_metadata, disturb_fn fn,
			      struct race *r, int *hold)
{
	struct pollfd closed;
	int pipe_fds[2];
	pid_t pid;

	ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	*hold = pipe_fds[1];
	closed = (struct pollfd){ .fd = pipe_fds[0] };
	if (pid) {
		close(pipe_fds[0]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(pipe_fds[1]);
	while (!poll(&closed, 1, 0))
		if (!fn(r))
			_exit(1);
	_exit(0);
}

FIXTURE(race)
{
	struct env e;
	struct race r;
	char saved_ksm[32], saved_sleep[32];
	long relocated;
};

FIXTURE_VARIANT(race)
{
	disturb_fn fn;
	const char *file;	/* Which has to be there. */
	bool huge;
	bool swap;
	bool fork;
	bool lazyfree;
};

FIXTURE_VARIANT_ADD(race, compaction)
{
	.fn = disturb_compaction,
	.file = COMPACT,
};

FIXTURE_VARIANT_ADD(race, compaction_of_large)
{
	.fn = disturb_compaction,
	.file = COMPACT,
	.huge = true,
};

FIXTURE_VARIANT_ADD(race, move_pages)
{
	.fn = disturb_move_pages,
};

FIXTURE_VARIANT_ADD(race, reclaim)
{
	.fn = disturb_reclaim,
	.file = CGROUPS "cgroup.subtree_control",
	.swap = true,
};

FIXTURE_VARIANT_ADD(race, reclaim_of_large)
{
	.fn = disturb_reclaim,
	.file = CGROUPS "cgroup.subtree_control",
	.swap = true,
	.huge = true,
};

/* A huge page is taken away as a whole, or put back if it has other users. */
FIXTURE_VARIANT_ADD(race, reclaim_of_lazyfree)
{
	.fn = disturb_reclaim,
	.file = CGROUPS "cgroup.subtree_control",
	.huge = true,
	.lazyfree = true,
};

FIXTURE_VARIANT_ADD(race, split_huge_pages)
{
	.fn = disturb_split,
	.file = SPLIT_HUGE_PAGES,
	.huge = true,
};

FIXTURE_VARIANT_ADD(race, khugepaged)
{
	.fn = disturb_khugepaged,
	.file = THP "khugepaged/scan_sleep_millisecs",
	.huge = true,
};

FIXTURE_VARIANT_ADD(race, ksmd)
{
	.fn = disturb_ksm,
	.file = KSM "run",
};

FIXTURE_VARIANT_ADD(race, page_idle)
{
	.fn = disturb_page_idle,
	.file = PAGE_IDLE,
};

FIXTURE_VARIANT_ADD(race, process_vm_readv)
{
	.fn = disturb_readv,
};

FIXTURE_VARIANT_ADD(race, swapoff)
{
	.fn = disturb_swap,
	.swap = true,
};

FIXTURE_VARIANT_ADD(race, fork)
{
	.fn = disturb_page_idle,
	.file = PAGE_IDLE,
	.fork = true,
};

static const char *lacks_thps(struct env *e)
{
	return thp_available() && e->table <= MAX_FOLIO_SIZE ? NULL :
		"no THPs: build the kernel with CONFIG_TRANSPARENT_HUGEPAGE and pages of 4K";
}

static void map_race(struct __test_metadata *_metadata, struct env *e,
		     struct race *r, bool huge)
{
	if (huge) {
		map_huge(_metadata, e, r->from, r->nr);
		ASSERT_EQ(madvise(r->from, r->nr * e->page, MADV_HUGEPAGE), 0);
	} else {
		map(_metadata, e, r->from, r->nr);
	}
	put(_metadata, e, r->from, r->nr);
	note_pfns(e);
}

static bool enter_cgroup(void)
{
	write_text(CGROUPS "cgroup.subtree_control", "+memory");
	mkdir(CGROUPS "mremap_relocate", 0755);
	return write_text(CGROUPS "mremap_relocate/cgroup.procs", "0");
}

FIXTURE_SETUP(race)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, ALWAYS);

	if (!why && variant->fn == disturb_move_pages && !two_nodes(e))
		why = ONE_NODE;
	if (!why && variant->swap && !has_swap())
		why = NO_SWAP;
	if (!why && variant->file && access(variant->file, F_OK))
		SKIP(return,
		     "no %s: build a kernel that has it, or mount it",
		     variant->file);
	if (!why && variant->huge)
		why = lacks_thps(e);
	if (!why && variant->fn == disturb_reclaim && !enter_cgroup())
		why = "no memory cgroups: mount -t cgroup2 nodev " CGROUPS;
	if (why)
		SKIP(return, "%s", why);
	read_text(KSM "run", self->saved_ksm, sizeof(self->saved_ksm));
	read_text(KSM "sleep_millisecs", self->saved_sleep, sizeof(self->saved_sleep));
	self->relocated = read_stat("relocated");
	self->r = (struct race){
		.e = e,
		.mover = getpid(),
		.from = slot(e, 1),
		.to = slot(e, 3),
		.nr = variant->huge ? e->table / e->page : 8,
	};
}

FIXTURE_TEARDOWN(race)
{
	if (variant->fn == disturb_ksm) {
		write_text(KSM "run", "2");
		write_text(KSM "run", self->saved_ksm);
		write_text(KSM "sleep_millisecs", self->saved_sleep);
	}
	if (variant->fn == disturb_reclaim) {
		write_text(CGROUPS "cgroup.procs", "0");
		rmdir(CGROUPS "mremap_relocate");
	}
	thp_restore_settings();
}

static void prepare_disturbance(struct __test_metadata *_metadata,
				struct env *e, disturb_fn fn, char *addr, size_t nr)
{
	size_t i;

	if (fn == disturb_ksm) {
		write_text(KSM "sleep_millisecs", "0");
		for (i = 1; i < e->nr_pages; i += 2) {
			e->pages[i].tag = e->pages[1].tag;
			fill(e->pages[i].addr, e->pages[i].tag);
		}
		ASSERT_EQ(madvise(addr, nr * e->page, MADV_MERGEABLE), 0);
	} else if (fn == disturb_khugepaged) {
		thp_write_num("khugepaged/scan_sleep_millisecs", 0);
		thp_write_num("khugepaged/alloc_sleep_millisecs", 0);
		ASSERT_EQ(madvise(addr, e->page, MADV_DONTNEED), 0);
		put(_metadata, e, addr, 1);
	}
}

/* Now and then the pages are swapped out, or shared for a while. */
static void vary_round(struct __test_metadata *_metadata, struct env *e,
		       bool swap, bool fork, unsigned int round)
{
	size_t i;

	for (i = 0; swap && round % 4 == 0 && i < e->nr_pages; i += 3)
		madvise(e->pages[i].addr, e->page, MADV_PAGEOUT);
	if (fork && round % 2) {
		e->nr_children = 0;
		end_child(_metadata, fork_child(_metadata, e));
		for (i = 0; i < e->nr_pages; i++)
			fill(e->pages[i].addr, e->pages[i].tag);
	}
}

static void race_round(struct __test_metadata *_metadata, struct env *e,
		       struct race *r)
{
	char *tmp = r->from;

	move_only(_metadata, e, r->from, r->nr, r->to);
	r->from = r->to;
	r->to = tmp;
}

static bool zeroed(const char *addr)
{
	static const char zeroes[MAX_PAGE_SIZE];

	return !memcmp(addr, zeroes, psize());
}

/* What was written before MADV_FREE may be gone, page by page. */
static bool contents_ok_or_gone(struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		if (!intact(e->pages[i].addr, e->pages[i].tag) &&
		    !zeroed(e->pages[i].addr))
			return false;
	return true;
}

/* A pipe has a reference of the page in half of the rounds. */
static void lazyfree_round(struct __test_metadata *_metadata, struct env *e,
			   struct race *r, bool held)
{
	int pipe_fds[2];
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		fill(e->pages[i].addr, e->pages[i].tag);
	ASSERT_EQ(pipe(pipe_fds), 0);
	if (held)
		hold(_metadata, e, r->from, 1, pipe_fds);
	ASSERT_EQ(madvise(r->from, r->nr * e->page, MADV_FREE), 0);
	race_round(_metadata, e, r);
	ASSERT_TRUE(contents_ok_or_gone(e));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

RELOCATE_TEST(race, moves)
{
	struct env *e = &self->e;
	struct race *r = &self->r;
	struct timespec end, late;
	unsigned int round = 0;
	pid_t pid;
	int hold;

	/* Before there are pages that it would share. */
	pid = start_disturbing(_metadata, variant->fn, r, &hold);

	map_put(_metadata, e, r->from - e->page, 1);
	map_put(_metadata, e, r->to - e->page, 1);
	map_race(_metadata, e, r, variant->huge);
	prepare_disturbance(_metadata, e, variant->fn, r->from, r->nr);
	end = race_end(RACE_SECONDS);
	late = race_end(RACE_PATIENCE);
	do {
		if (variant->lazyfree) {
			lazyfree_round(_metadata, e, r, round++ % 2);
			continue;
		}
		race_round(_metadata, e, r);
		ASSERT_TRUE(contents_ok(e));
		vary_round(_metadata, e, variant->swap, variant->fork, round++);
	} while (!past(&end) || round < MIN_ROUNDS ||
		 (read_stat("relocated") == self->relocated && !past(&late)));
	close(hold);
	wait_exit_0(_metadata, pid);
	TH_LOG("%u moves, %ld relocated", round,
	       read_stat("relocated") - self->relocated);
	RELOCATED(1);
	ASSERT_TRUE(variant->lazyfree ? contents_ok_or_gone(e) : contents_ok(e));
}

/*
 * A mapping behind the range, in the same page table, that a thread reads for the
 * first time while the range moves: faults of other mappings do not wait for the
 * mmap_lock. Then there is a page table where mremap() found none.
 */

struct reader {
	pthread_t thread;
	const volatile char *addr;
	struct timespec begin;
	struct timespec done;
};

FIXTURE(neighbour_faults)
{
	struct env e;
	struct reader reader;
	size_t tables;		/* of the range, without its end */
	char *from;
	char *to;
	size_t to_len;		/* what to clear for the next round */
};

/* Where the end of the range goes, and what is there. */
FIXTURE_VARIANT(neighbour_faults)
{
	bool absent;	/* Not even a table above that of the pages. */
};

FIXTURE_VARIANT_ADD(neighbour_faults, no_page_table)
{
	.absent = false,
};

FIXTURE_VARIANT_ADD(neighbour_faults, no_tables)
{
	.absent = true,
};

FIXTURE_SETUP(neighbour_faults)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, NEVER);
	size_t len;

	if (!why && variant->absent && sizeof(void *) < 8)
		why = NO_64_BITS;
	if (why)
		SKIP(return, "%s", why);
	self->tables = 3;
	self->from = slot(e, 1);
	self->to = slot(e, 3);
	self->to_len = e->slot;
	if (variant->absent) {
		len = self->tables * e->table;
		self->to = map_upper(e);
		if (!self->to)
			SKIP(return, NO_UPPER);
		self->to -= len;
		self->to_len = len + upper_size(e);
	}
}

FIXTURE_TEARDOWN(neighbour_faults)
{
}

static long long ns_between(const struct timespec *a, const struct timespec *b)
{
	return (b->tv_sec - a->tv_sec) * 1000000000LL + b->tv_nsec - a->tv_nsec;
}

static void wait_until(struct timespec at)
{
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static struct timespec later(struct timespec at, long long ns)
{
	ns += at.tv_nsec;
	at.tv_sec += ns / 1000000000;
	at.tv_nsec = ns % 1000000000;
	return at;
}

static void *read_later(void *arg)
{
	struct reader *r = arg;

	wait_until(r->begin);
	(void)*r->addr;
	clock_gettime(CLOCK_MONOTONIC, &r->done);
	return NULL;
}

/* Maps so many page tables' worth, writes to some of it, and nothing to its end. */
static void map_with_neighbour(struct __test_metadata *_metadata, struct env *e,
			       char *from, size_t tables, size_t end)
{
	const size_t nr = tables * e->table / e->page, step = (nr + 1535) / 1536;
	char *neighbour = from + (nr + end) * e->page;
	size_t i;

	map(_metadata, e, from, nr + end);
	for (i = 0; i < nr; i += step)
		put(_metadata, e, from + i * e->page, 1);
	ASSERT_EQ(try_map(e, neighbour, end, PROT_READ), neighbour);
}

/*
 * The move takes about *@ns, of which the reader waits for some. Returns whether
 * it has read while the move was under way.
 */
static bool move_and_read(struct __test_metadata *_metadata, struct env *e,
			  struct reader *r, char *from, size_t nr, char *to,
			  long long *ns)
{
	struct timespec now, begin, end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	begin = later(now, 1000000);
	r->begin = later(begin, rand() % *ns);
	ASSERT_EQ(pthread_create(&r->thread, NULL, read_later, r), 0);
	wait_until(begin);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	ASSERT_EQ(sys_mremap(from, nr * e->page, nr * e->page,
			     MOVE | MREMAP_RELOCATE_ANON, to), to)
		TH_LOG("mremap(): %s", strerror(errno));
	clock_gettime(CLOCK_MONOTONIC, &end);
	ASSERT_EQ(pthread_join(r->thread, NULL), 0);
	*ns = ns_between(&begin, &end) + 1;
	return ns_between(&begin, &r->done) > 0 && ns_between(&r->done, &end) > 0;
}

/* Has the kernel had something to warn of since it booted? */
static bool kernel_has_warned(void)
{
	char text[32] = "";

	return read_text("/proc/sys/kernel/tainted", text, sizeof(text)) &&
	       strtoull(text, NULL, 10) & TAINT_WARN;
}

RELOCATE_TEST(neighbour_faults, moves)
{
	struct env *e = &self->e;
	const size_t end = 16, nr = self->tables * e->table / e->page + end;
	const bool had_warned = kernel_has_warned();
	struct timespec until = race_end(RACE_SECONDS);
	unsigned int rounds = 0, read = 0;
	long relocated = read_stat("relocated");
	long long ns = 1000000;

	do {
		map_with_neighbour(_metadata, e, self->from, self->tables, end);
		self->reader.addr = self->from + nr * e->page;
		read += move_and_read(_metadata, e, &self->reader, self->from, nr,
				      self->to, &ns);
		note_move(e, self->from, nr, self->to);
		ASSERT_TRUE(contents_ok(e));
		e->nr_pages = 0;
		ASSERT_EQ(count_vmas(self->to, nr * e->page), 1);
		clear_slot(_metadata, e, self->from);
		clear(_metadata, e, self->to, self->to_len);
		rounds++;
	} while (!past(&until) || rounds < MIN_ROUNDS);
	TH_LOG("%u moves of %lld us, %u with a fault meanwhile", rounds, ns / 1000,
	       read);
	ASSERT_EQ(read_stat("relocated"), relocated + rounds);
	ASSERT_EQ(kernel_has_warned(), had_warned);
}

/*
 * Another thread reads the range all the time while it moves, and cannot any more
 * when mremap() has returned: not even by a translation that its CPU still has.
 */

struct watcher {
	pthread_t thread;
	const volatile char *addr;
	unsigned long reads;
	bool faulted;
	bool stop;
};

FIXTURE(old_address)
{
	struct env e;
	struct watcher watcher;
	long relocated;
	char *from;
	char *to;
	size_t nr;
};

FIXTURE_VARIANT(old_address)
{
	bool table;	/* All that a page table maps, */
	bool huge;	/* by a PMD; else four pages. */
	size_t watched;	/* The page that is read. */
	bool guard;	/* The last page is no page. */
	int flags;
};

FIXTURE_VARIANT_ADD(old_address, pages)
{
	.flags = 0,
};

FIXTURE_VARIANT_ADD(old_address, table)
{
	.table = true,
};

FIXTURE_VARIANT_ADD(old_address, huge)
{
	.table = true,
	.huge = true,
};

FIXTURE_VARIANT_ADD(old_address, last)
{
	.watched = 3,
};

FIXTURE_VARIANT_ADD(old_address, before_guard)
{
	.watched = 2,
	.guard = true,
};

FIXTURE_VARIANT_ADD(old_address, pages_relocated)
{
	.flags = MREMAP_RELOCATE_ANON,
};

FIXTURE_VARIANT_ADD(old_address, last_relocated)
{
	.watched = 3,
	.flags = MREMAP_RELOCATE_ANON,
};

FIXTURE_VARIANT_ADD(old_address, before_guard_relocated)
{
	.watched = 2,
	.guard = true,
	.flags = MREMAP_RELOCATE_ANON,
};

FIXTURE_VARIANT_ADD(old_address, table_relocated)
{
	.table = true,
	.flags = MREMAP_RELOCATE_ANON,
};

FIXTURE_VARIANT_ADD(old_address, huge_relocated)
{
	.table = true,
	.huge = true,
	.flags = MREMAP_RELOCATE_ANON,
};

static __thread sigjmp_buf *on_fault;

/* A fault that nobody has expected happens again, and kills. */
static void leave_by_fault(int sig)
{
	if (on_fault)
		siglongjmp(*on_fault, 1);
	signal(sig, SIG_DFL);
}

FIXTURE_SETUP(old_address)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, NEVER);

	if (!why && variant->huge)
		why = lacks_thps(e);
	if (why)
		SKIP(return, "%s", why);
	self->relocated = read_stat("relocated");
	self->from = slot(e, 1);
	self->to = slot(e, 3);
	self->nr = variant->table ? e->table / e->page : 4;
	ASSERT_NE(signal(SIGSEGV, leave_by_fault), SIG_ERR);
}

FIXTURE_TEARDOWN(old_address)
{
	thp_restore_settings();
}

static void map_old(struct __test_metadata *_metadata, struct env *e, char *addr,
		    size_t nr, bool huge)
{
	if (huge) {
		map_huge(_metadata, e, addr, nr);
		set_folio_order(sz2ord(e->table, e->page));
	} else {
		map(_metadata, e, addr, nr);
	}
	/* Of what a page table maps one page will do, or a huge one. */
	put(_metadata, e, addr, nr > 4 ? 1 : nr);
}

static void *read_until_fault(void *arg)
{
	struct watcher *w = arg;
	sigjmp_buf here;

	if (sigsetjmp(here, 1)) {
		__atomic_store_n(&w->faulted, true, __ATOMIC_SEQ_CST);
	} else {
		on_fault = &here;
		while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
			(void)*w->addr;
			__atomic_add_fetch(&w->reads, 1, __ATOMIC_SEQ_CST);
		}
	}
	on_fault = NULL;
	return NULL;
}

static void start_to_read(struct __test_metadata *_metadata, struct watcher *w,
			  const char *addr)
{
	*w = (struct watcher){ .addr = addr };
	ASSERT_EQ(pthread_create(&w->thread, NULL, read_until_fault, w), 0);
	while (!__atomic_load_n(&w->reads, __ATOMIC_SEQ_CST))
		sched_yield();
}

/* One read may have been made already, and not yet been counted. */
static bool next_read_faults(struct __test_metadata *_metadata, struct watcher *w)
{
	unsigned long most = __atomic_load_n(&w->reads, __ATOMIC_SEQ_CST) + 1;

	while (!__atomic_load_n(&w->faulted, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&w->reads, __ATOMIC_SEQ_CST) <= most)
		sched_yield();
	__atomic_store_n(&w->stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(pthread_join(w->thread, NULL), 0);
	return w->reads <= most;
}

RELOCATE_TEST(old_address, faults)
{
	struct env *e = &self->e;
	const size_t len = self->nr * e->page;
	int i;

	for (i = 0; i < OLD_ROUNDS; i++) {
		map_old(_metadata, e, self->from, self->nr, variant->huge);
		if (variant->guard && !guard(e, self->from + 3 * e->page))
			SKIP(return, NO_GUARDS);
		start_to_read(_metadata, &self->watcher,
			      self->from + variant->watched * e->page);
		ASSERT_EQ(sys_mremap(self->from, len, len, MOVE | variant->flags,
				     self->to), self->to)
			TH_LOG("mremap(): %s", strerror(errno));
		ASSERT_TRUE(next_read_faults(_metadata, &self->watcher))
			TH_LOG("could still be read in round %d", i);
		note_move(e, self->from, self->nr, self->to);
		verify(_metadata, e);
		e->nr_pages = 0;
		clear_slot(_metadata, e, self->from);
		clear_slot(_metadata, e, self->to);
	}
	if (variant->flags)
		RELOCATED(OLD_ROUNDS);
}

/*
 * What was relocated, or only prepared for it, is free when it is unmapped
 */

FIXTURE(given_back)
{
	struct env e;
	char *from;
	char *to;
	size_t nr;
	long relocated;
	int pipe[2];
	unsigned long pfns[4];
};

FIXTURE_VARIANT(given_back)
{
	bool table;	/* All that a page table maps, */
	bool huge;	/* by a PMD; else four pages. */
	bool cached;	/* Swapped out, and in the swap cache still. */
};

FIXTURE_VARIANT_ADD(given_back, pages)
{
	.table = false,
};

FIXTURE_VARIANT_ADD(given_back, swap_cache)
{
	.cached = true,
};

FIXTURE_VARIANT_ADD(given_back, table)
{
	.table = true,
};

FIXTURE_VARIANT_ADD(given_back, huge)
{
	.table = true,
	.huge = true,
};

FIXTURE_SETUP(given_back)
{
	struct env *e = &self->e;
	const char *why = setup(_metadata, e, NEVER);

	if (!why && variant->huge)
		why = lacks_thps(e);
	if (!why && variant->cached && !has_swap())
		why = NO_SWAP;
	if (why)
		SKIP(return, "%s", why);
	self->from = slot(e, 1);
	self->to = slot(e, 3);
	self->nr = variant->table ? e->table / e->page : 4;
	ASSERT_EQ(pipe(self->pipe), 0);
}

FIXTURE_TEARDOWN(given_back)
{
	thp_restore_settings();
}

/* Who reads the pipe to its end lets go of the pages. */
static void let_go(struct __test_metadata *_metadata, struct env *e, int fd, size_t nr)
{
	char bytes[e->page];

	while (nr--)
		ASSERT_EQ(read(fd, bytes, e->page), (ssize_t)e->page);
}

/* False: they are not in the swap cache. */
static bool out_but_cached(struct __test_metadata *_metadata, struct env *e,
			   unsigned long *pfns, int pipe[2])
{
	size_t i;

	hold(_metadata, e, e->pages[0].addr, e->nr_pages, pipe);
	for (i = 0; i < e->nr_pages; i++) {
		ASSERT_TRUE(walk(e, PAGE_OUT, e->pages[i].addr));
		if (!(flags_of(e, pfns[i]) & KPF_SWAPCACHE))
			return false;
	}
	return true;
}

/* Maps, relocates and unmaps. True, unless there is no swap cache. */
static bool relocate_once(struct __test_metadata *_metadata,
			  FIXTURE_DATA(given_back) *self, bool huge, bool cached)
{
	struct env *e = &self->e;
	size_t i, nr;

	self->relocated = read_stat("relocated");
	map_old(_metadata, e, self->from, self->nr, huge);
	nr = e->nr_pages;
	for (i = 0; i < nr; i++)
		self->pfns[i] = own_pfn(e, e->pages[i].addr);
	if (cached && !out_but_cached(_metadata, e, self->pfns, self->pipe))
		return false;
	ask(_metadata, e, self->from, self->nr, self->to, 0);
	RELOCATED(1);
	if (cached)
		let_go(_metadata, e, self->pipe[0], nr);
	e->nr_pages = 0;
	clear_slot(_metadata, e, self->from);
	clear_slot(_metadata, e, self->to);
	return true;
}

/* Who has got them now may be somebody with anonymous memory, but not every time. */
RELOCATE_TEST(given_back, folios)
{
	struct env *e = &self->e;
	size_t i, left = 1;
	int tries;

	for (tries = 0; tries < MAX_ATTEMPTS && left; tries++) {
		if (!relocate_once(_metadata, self, variant->huge, variant->cached))
			SKIP(return, NO_CACHE);
		drain_lru(e);
		for (i = 0, left = 0; i < ARRAY_SIZE(self->pfns); i++)
			left += !!(flags_of(e, self->pfns[i]) & KPF_ANON);
	}
	ASSERT_EQ(left, 0);
}

static long nr_page_tables(void)
{
	/* Counters of the CPUs have parts of it. */
	write_text("/proc/sys/vm/stat_refresh", "1");
	return read_vmstat("nr_page_table_pages");
}

/* Others map and unmap meanwhile, which is less than one for each that we move. */
RELOCATE_TEST(given_back, page_tables)
{
	long before, grown;
	int i;

	if (!relocate_once(_metadata, self, variant->huge, variant->cached))
		SKIP(return, NO_CACHE);
	before = nr_page_tables();
	ASSERT_GE(before, 0);
	for (i = 0; i < GIVEN_ROUNDS; i++)
		ASSERT_TRUE(relocate_once(_metadata, self, variant->huge, variant->cached));
	grown = nr_page_tables() - before;
	ASSERT_LT(grown, GIVEN_ROUNDS / 2)
		TH_LOG("%ld page tables more after %d moves", grown, GIVEN_ROUNDS);
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

	if (thp_available())
		thp_save_settings();
	if (geteuid())
		return test_harness_run(argc, argv);
	if (!save_settings())
		saved_mode[0] = '\0';
	stop_numa_balancing();
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
