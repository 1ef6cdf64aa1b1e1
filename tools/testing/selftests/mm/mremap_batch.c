// SPDX-License-Identifier: GPL-2.0-only
/*
 * mremap() moves page table entries in batches, where the architecture says
 * that some belong together (contpte blocks on arm64). Check that a move is
 * exact whatever the entries are and wherever it cuts through a block: that
 * each one arrives, with its page and its state, that none beyond the range
 * moves, and that no folio is looked at on the way.
 *
 * All moves are to an address that is not congruent to the old one modulo the
 * size of a page table. Whole page tables would be moved otherwise.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vm_util.h"
#include "hugepage_settings.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

/* A THP of 32 MiB or more (64K base pages) takes too long to verify. */
#define MAX_FOLIO_SIZE	(4UL << 20)
#define MAX_PAGES	2048

#define TRACEFS		"/sys/kernel/tracing/"

#define NO_ROOM		"a page table maps too much for 32 bits: use a kernel with smaller pages"

/* What moves: all that pagemap tells of a page except for soft-dirty. */
#define PM_MOVES	(~PM_SOFT_DIRTY)

enum backing {
	PRIVATE_ANON,
	SHARED_ANON,
	MEMFD,
};

enum folios {
	SMALL,		/* Single pages. */
	PART,		/* Large folios of half a block. */
	BLOCK,		/* Large folios of one block. */
	BLOCKS,		/* Large folios of several blocks. */
	PMD,		/* THPs whose PMD mapping was split. */
	MIXED,		/* A stretch of each, but for PMD. */
	NR_FOLIOS,
};

/* What we expect of a page of the region. */
struct want {
	uint64_t entry;		/* Its pagemap entry, as far as PM_MOVES. */
	bool zero;		/* It reads as zeroes. */
	bool no_access;		/* It cannot be read. */
};

/* Sums of what /proc/self/smaps says of the area. */
static const char * const smaps_fields[] = {
	"Rss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty",
	"Anonymous", "LazyFree", "Swap",
};

#define NR_SMAPS_FIELDS	ARRAY_SIZE(smaps_fields)

struct smaps {
	unsigned long kb[NR_SMAPS_FIELDS];
};

/*
 * area                                                       area + area_len
 *  |         src                            dst                           |
 *  |- no     |- the region, of len bytes -| |- where it moves to          |
 *  |  access |  (all its folios aligned)    |  (plus some offset)         |
 *
 * Both src and dst are aligned to the size of a page table. What is not mapped
 * at the moment is reserved without access.
 */
struct env {
	size_t page;		/* Size of a page. */
	size_t blk;		/* Size of a block, see block_pages(). */
	size_t folio;		/* Size of the folios (the largest, if MIXED). */
	size_t len;
	size_t nr;		/* len in pages. */
	char *area;
	size_t area_len;
	char *src;
	char *dst;
	enum backing backing;
	int memfd;
	int pagemap;
	int pipe[2];
	struct smaps before;
	struct want want[MAX_PAGES];
};

/*
 * Pages in a contpte block on arm64, for any page size. There are no such
 * blocks elsewhere, but no reason either to not cut large folios the same way.
 */
static size_t contpte_pages(void)
{
	switch (psize()) {
	case 16384:
		return 128;
	case 65536:
		return 32;
	default:
		return 16;
	}
}

static char *align_up(char *addr, size_t size)
{
	return (char *)(((uintptr_t)addr + size - 1) & ~(size - 1));
}

/*
 * The range of a page table, what a THP covers: with pages of 64K, tables of ppc64
 * have 32 entries, or 256. Without THPs, what a page full of entries covers; the
 * range may be a part of it.
 */
static size_t table_size(void)
{
	static size_t size;

	if (!size)
		size = read_pmd_pagesize();
	if (!size)
		size = psize() * (psize() / sizeof(void *));
	return size;
}

/* Can some page tables' worth be mapped? A range of 0 has more than 32 bits. */
static bool has_room(void)
{
	return table_size() - 1 < SIZE_MAX / 64;
}

/*
 * Several to a page table: a move by one of them is not to a congruent address.
 * Without THPs there are no blocks, and nobody tells how small a table is.
 */
static size_t block_pages(void)
{
	const size_t most = thp_available() ? table_size() / psize() / 4 : 16;

	return contpte_pages() < most ? contpte_pages() : most;
}

/*
 * Contents: each word tells the page it is in and where
 */

static uint64_t word(size_t page, size_t i)
{
	return ((uint64_t)page + 1) << 32 | i;
}

static void fill_page(struct env *e, char *addr, size_t page)
{
	uint64_t *p = (uint64_t *)addr;
	size_t i;

	for (i = 0; i < e->page / sizeof(*p); i++)
		p[i] = word(page, i);
}

static bool page_intact(struct env *e, char *addr, size_t page)
{
	bool zero = e->want[page].zero;
	uint64_t *p = (uint64_t *)addr;
	size_t i;

	for (i = 0; i < e->page / sizeof(*p); i++)
		if (p[i] != (zero ? 0 : word(page, i)))
			return false;
	return true;
}

/*
 * Access: by means of system calls, which return EFAULT where a load or store
 * of ours would raise a signal
 */

static bool can_read(struct env *e, char *addr)
{
	char c;

	if (write(e->pipe[1], addr, 1) != 1)
		return false;
	return read(e->pipe[0], &c, 1) == 1;
}

/* Does not change the page when it can be written. */
static bool can_write(struct env *e, char *addr)
{
	char c;

	if (!can_read(e, addr))
		return false;
	if (write(e->pipe[1], addr, 1) != 1)
		return false;
	if (read(e->pipe[0], addr, 1) == 1)
		return true;
	read(e->pipe[0], &c, 1);
	return false;
}

/*
 * What the kernel says of the pages
 */

static uint64_t entry_of(struct env *e, char *addr)
{
	return pagemap_get_entry(e->pagemap, addr);
}

static bool vma_in_area(struct env *e, const char *line)
{
	unsigned long start, end;

	if (sscanf(line, "%lx-%lx ", &start, &end) != 2)
		return false;
	return start >= (unsigned long)e->area &&
	       end <= (unsigned long)e->area + e->area_len;
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

static bool read_smaps(struct env *e, struct smaps *s)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false;
	char line[512];

	if (!f)
		return false;
	memset(s, 0, sizeof(*s));
	while (fgets(line, sizeof(line), f)) {
		if (strchr("0123456789abcdef", line[0]))
			inside = vma_in_area(e, line);
		else if (inside)
			add_smaps_field(s, line);
	}
	fclose(f);
	return true;
}

/*
 * Allocation of the region
 */

static size_t folio_size(enum folios folios)
{
	const size_t blk = block_pages() * psize();

	switch (folios) {
	case PART:
		return blk / 2;
	case BLOCK:
		return blk;
	case BLOCKS:
		return 4 * blk;
	case PMD:
		return table_size();
	default:
		return psize();
	}
}

static size_t region_size(enum folios folios)
{
	const size_t blk = block_pages() * psize();

	if (folios == PMD)
		return 2 * table_size();
	if (folios == MIXED)
		return PMD * 4 * blk;
	return 8 * blk;
}

static bool folio_size_supported(size_t size, enum backing backing)
{
	unsigned long orders;

	if (size == psize())
		return true;
	if (!thp_available())
		return false;
	orders = backing == PRIVATE_ANON ? thp_supported_orders() :
					   thp_shmem_supported_orders();
	return orders & 1UL << sz2ord(size, psize());
}

/* Have new folios be of this size only; thp_restore_settings() ends that. */
static void set_folio_size(size_t size)
{
	struct thp_settings settings;
	size_t order = sz2ord(size, psize());
	int i;

	thp_read_settings(&settings);
	for (i = 0; i < NR_ORDERS; i++) {
		settings.hugepages[i].enabled = THP_NEVER;
		settings.shmem_hugepages[i].enabled = SHMEM_NEVER;
	}
	if (order) {
		settings.hugepages[order].enabled = THP_ALWAYS;
		settings.shmem_hugepages[order].enabled = SHMEM_ALWAYS;
	}
	thp_write_settings(&settings);
}

/*
 * Fill a range whose folios are to have this size, the last one first: free
 * memory is likely to be contiguous, and a move that takes two folios for one
 * would go unnoticed if the second one began where the first one ends.
 */
static void populate(struct env *e, size_t start, size_t len, size_t size)
{
	size_t folio, off;

	if (thp_available())
		set_folio_size(size);
	for (folio = start + len; folio > start; folio -= size)
		for (off = folio - size; off < folio; off += e->page)
			fill_page(e, e->src + off, off / e->page);
	thp_restore_settings();
}

static bool has_folios(struct env *e, size_t start, size_t len, size_t size)
{
	size_t nr = size / e->page;
	size_t off;

	for (off = start; off < start + len; off += e->page) {
		char *addr = e->src + off;
		unsigned long pfn = pagemap_get_pfn(e->pagemap, addr);
		unsigned long head = pagemap_get_pfn(e->pagemap, e->src + off / size * size);

		if (pfn == -1ul || head % nr || pfn != head + off / e->page % nr)
			return false;
	}
	return true;
}

static void *map_region(struct env *e)
{
	int flags = MAP_FIXED;

	switch (e->backing) {
	case PRIVATE_ANON:
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	case SHARED_ANON:
		flags |= MAP_SHARED | MAP_ANONYMOUS;
		break;
	case MEMFD:
		e->memfd = memfd_create("mremap_batch", 0);
		if (e->memfd < 0 || ftruncate(e->memfd, e->len))
			return MAP_FAILED;
		flags |= MAP_SHARED;
		break;
	}
	return mmap(e->src, e->len, PROT_READ | PROT_WRITE, flags, e->memfd, 0);
}

static void *reserve(char *addr, size_t len, int flags)
{
	return mmap(addr, len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/*
 * Split the VMA where no PMD can map both sides, and let it merge again. This
 * splits the PMD mapping, and does not touch a single PTE.
 */
static bool split_pmds(struct env *e)
{
	size_t off;

	for (off = 0; off < e->len; off += table_size())
		if (madvise(e->src + off, e->page, MADV_DONTFORK) ||
		    madvise(e->src + off, e->page, MADV_DOFORK))
			return false;
	return true;
}

/* Note how things are, as what is expected after the move. */
static void snapshot(struct __test_metadata *_metadata, struct env *e)
{
	size_t i;

	for (i = 0; i < e->nr; i++)
		e->want[i].entry = entry_of(e, e->src + i * e->page) & PM_MOVES;
	ASSERT_TRUE(read_smaps(e, &e->before));
}

/* One stretch per size of folio, of the same length. */
static bool populate_region(struct __test_metadata *_metadata, struct env *e,
			    enum folios folios)
{
	enum folios first = folios == MIXED ? SMALL : folios;
	enum folios last = folios == MIXED ? BLOCKS : folios;
	size_t len = folios == MIXED ? e->len / PMD : e->len;
	size_t start = 0;
	enum folios i;

	for (i = first; i <= last; i++, start += len) {
		size_t size = folio_size(i);

		if (!folio_size_supported(size, e->backing))
			SKIP(return false,
			     "no folios of %zu kB here: needs CONFIG_TRANSPARENT_HUGEPAGE, and hugepages-%zukB in /sys/kernel/mm/transparent_hugepage",
			     size >> 10, size >> 10);
		populate(e, start, len, size);
		if (!has_folios(e, start, len, size))
			SKIP(return false,
			     "no free memory for folios of %zu kB: give the machine more, or compact it (/proc/sys/vm/compact_memory)",
			     size >> 10);
		e->folio = size;
	}
	return true;
}

/* Returns false if it had to skip the test. */
static bool env_setup(struct __test_metadata *_metadata, struct env *e,
		      enum backing backing, enum folios folios)
{
	const size_t table = table_size();

	e->page = psize();
	e->blk = block_pages() * e->page;
	e->len = region_size(folios);
	e->nr = e->len / e->page;
	e->backing = backing;
	e->memfd = -1;
	if (geteuid())
		SKIP(return false, "needs page frame numbers from pagemap: run as root");
	if (!has_room())
		SKIP(return false, NO_ROOM);
	if (folio_size(folios) > MAX_FOLIO_SIZE || e->nr > MAX_PAGES)
		SKIP(return false,
		     "folios of %zu MB take too long: use a kernel with smaller pages",
		     folio_size(folios) >> 20);

	e->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(e->pagemap, 0);
	ASSERT_EQ(pipe(e->pipe), 0);

	e->area_len = 2 * e->len + 6 * table;
	e->area = reserve(NULL, e->area_len, 0);
	ASSERT_NE(e->area, MAP_FAILED);
	e->src = align_up(e->area + e->page, table);
	e->dst = align_up(e->src + e->len + e->page, table) + table;
	ASSERT_EQ(map_region(e), e->src);

	if (!populate_region(_metadata, e, folios))
		return false;
	if (folios == PMD)
		ASSERT_TRUE(split_pmds(e));
	/* Keep khugepaged off, if there is one. */
	if (thp_available())
		ASSERT_EQ(madvise(e->src, e->len, MADV_NOHUGEPAGE), 0);
	snapshot(_metadata, e);
	return true;
}

static void env_teardown(struct env *e)
{
	munmap(e->area, e->area_len);
	if (e->memfd >= 0)
		close(e->memfd);
	close(e->pagemap);
	close(e->pipe[0]);
	close(e->pipe[1]);
}

/*
 * Moves, and what must be true after them
 */

/* Pages [first, first + nr) of the region are at @to, the others in place. */
static char *addr_of(struct env *e, size_t page, size_t first, size_t nr, char *to)
{
	if (page >= first && page - first < nr)
		return to + (page - first) * e->page;
	return e->src + page * e->page;
}

/* Pages [first, end) of the region are at @addr. */
static void check_entries_at(struct __test_metadata *_metadata, struct env *e,
			     size_t first, size_t end, char *addr)
{
	ssize_t size = (end - first) * sizeof(uint64_t);
	uint64_t entries[MAX_PAGES];
	size_t i;

	ASSERT_EQ(pread(e->pagemap, entries, size,
			(uintptr_t)addr / e->page * sizeof(uint64_t)), size);
	for (i = first; i < end; i++) {
		ASSERT_EQ(entries[i - first] & PM_MOVES, e->want[i].entry) {
			TH_LOG("page %zu of those in [%zu, %zu)", i, first, end);
		}
	}
}

static void check_entries(struct __test_metadata *_metadata, struct env *e,
			  size_t first, size_t nr, char *to)
{
	const size_t end = first + nr;

	check_entries_at(_metadata, e, 0, first, e->src);
	check_entries_at(_metadata, e, first, end, to);
	check_entries_at(_metadata, e, end, e->nr, e->src + end * e->page);
}

static void check_contents(struct __test_metadata *_metadata, struct env *e,
			   size_t first, size_t nr, char *to)
{
	size_t i;

	for (i = 0; i < e->nr; i++) {
		char *addr = addr_of(e, i, first, nr, to);
		bool ok;

		if (e->want[i].no_access)
			ok = !can_read(e, addr);
		else
			ok = page_intact(e, addr, i);
		ASSERT_TRUE(ok) {
			TH_LOG("page %zu, after pages [%zu, %zu) moved to %p",
			       i, first, first + nr, to);
		}
	}
}

static void check_accounts(struct __test_metadata *_metadata, struct env *e)
{
	struct smaps now;
	size_t i;

	ASSERT_TRUE(read_smaps(e, &now));
	for (i = 0; i < NR_SMAPS_FIELDS; i++) {
		ASSERT_EQ(now.kb[i], e->before.kb[i]) {
			TH_LOG("kB of %s in smaps", smaps_fields[i]);
		}
	}
}

/* What was not mapped next to the destination still is not. */
static void check_neighbours(struct __test_metadata *_metadata, struct env *e,
			     size_t nr, char *to)
{
	ASSERT_FALSE(can_read(e, to - 1));
	ASSERT_FALSE(can_read(e, to + nr * e->page));
	ASSERT_EQ(entry_of(e, to - e->page) & ~PM_SOFT_DIRTY, 0);
	ASSERT_EQ(entry_of(e, to + nr * e->page) & ~PM_SOFT_DIRTY, 0);
}

/* The order matters: reading the contents changes entries and accounts. */
static void check(struct __test_metadata *_metadata, struct env *e,
		  size_t first, size_t nr, char *to)
{
	check_entries(_metadata, e, first, nr, to);
	check_accounts(_metadata, e);
	check_neighbours(_metadata, e, nr, to);
	check_contents(_metadata, e, first, nr, to);
}

/* Does not check that it went well, just that it went. */
static void move_range(struct __test_metadata *_metadata, struct env *e,
		       char *from, size_t nr, char *to)
{
	size_t len = nr * e->page;

	/* Otherwise this would not test what it is to test. */
	ASSERT_NE((uintptr_t)from % table_size(), (uintptr_t)to % table_size());
	ASSERT_EQ(sys_mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
}

/* So that the TLB has something to forget. */
static void read_present(struct env *e, char *from, size_t nr)
{
	char *p;

	for (p = from; p < from + nr * e->page; p += e->page)
		if (entry_of(e, p) & PM_PRESENT)
			can_read(e, p);
}

/* All pages of a range are gone: there is neither a PTE nor a TLB entry. */
static void check_gone(struct __test_metadata *_metadata, struct env *e,
		       char *from, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		ASSERT_FALSE(can_read(e, from + i * e->page)) {
			TH_LOG("page %zu can still be read where it was", i);
		}
	}
	/* Before something else is mapped there. */
	ASSERT_EQ(reserve(from, nr * e->page, MAP_FIXED_NOREPLACE), from);
}

static void move(struct __test_metadata *_metadata, struct env *e,
		 size_t first, size_t nr, char *to)
{
	char *from = e->src + first * e->page;

	read_present(e, from, nr);
	move_range(_metadata, e, from, nr, to);
	check_gone(_metadata, e, from, nr);
}

/*
 * Any backing, any folios
 */

FIXTURE(mremap_batch)
{
	struct env e;
};

FIXTURE_VARIANT(mremap_batch)
{
	enum backing backing;
	enum folios folios;
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_small)
{
	.backing = PRIVATE_ANON,
	.folios = SMALL,
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_part)
{
	.backing = PRIVATE_ANON,
	.folios = PART,
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_block)
{
	.backing = PRIVATE_ANON,
	.folios = BLOCK,
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_blocks)
{
	.backing = PRIVATE_ANON,
	.folios = BLOCKS,
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_pmd)
{
	.backing = PRIVATE_ANON,
	.folios = PMD,
};

FIXTURE_VARIANT_ADD(mremap_batch, anon_mixed)
{
	.backing = PRIVATE_ANON,
	.folios = MIXED,
};

FIXTURE_VARIANT_ADD(mremap_batch, shared_small)
{
	.backing = SHARED_ANON,
	.folios = SMALL,
};

FIXTURE_VARIANT_ADD(mremap_batch, shared_block)
{
	.backing = SHARED_ANON,
	.folios = BLOCK,
};

FIXTURE_VARIANT_ADD(mremap_batch, memfd_block)
{
	.backing = MEMFD,
	.folios = BLOCK,
};

FIXTURE_SETUP(mremap_batch)
{
	env_setup(_metadata, &self->e, variant->backing, variant->folios);
}

FIXTURE_TEARDOWN(mremap_batch)
{
	thp_restore_settings();
	env_teardown(&self->e);
}

/* Blocks arrive whole where they can: at a congruent address. */
TEST_F(mremap_batch, congruent)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;

	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
}

/* Where they cannot be blocks any more, their pages arrive in order. */
TEST_F(mremap_batch, not_congruent)
{
	struct env *e = &self->e;
	char *to = e->dst + e->page;

	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
}

/* A move that begins in a block leaves the head of it behind. */
TEST_F(mremap_batch, unaligned_head)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk + 3 * e->page;

	move(_metadata, e, 3, e->nr - 3, to);
	check(_metadata, e, 3, e->nr - 3, to);
}

/* A move that ends in a block leaves the tail of it behind. */
TEST_F(mremap_batch, unaligned_tail)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;

	move(_metadata, e, 0, e->nr - 3, to);
	check(_metadata, e, 0, e->nr - 3, to);
}

/* A move out of the middle of a block leaves both. */
TEST_F(mremap_batch, inside_block)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk + e->page;

	move(_metadata, e, 2, 3, to);
	check(_metadata, e, 2, 3, to);
}

/* A destination that starts near the end of its page table needs two. */
TEST_F(mremap_batch, across_tables)
{
	struct env *e = &self->e;
	char *to = e->dst + table_size() - 5 * e->page;

	move(_metadata, e, 1, e->nr - 2, to);
	check(_metadata, e, 1, e->nr - 2, to);
}

/* Every length from some offsets in a block, there and back again. */
TEST_F(mremap_batch, every_length)
{
	struct env *e = &self->e;
	const size_t blk = e->blk / e->page;
	const size_t heads[] = { 0, 1, blk / 2, blk - 1 };
	size_t i, nr;

	for (i = 0; i < ARRAY_SIZE(heads); i++) {
		char *from = e->src + heads[i] * e->page;
		char *to = e->dst + e->blk + i * e->page;

		for (nr = 1; nr <= 2 * blk + 1; nr++) {
			move_range(_metadata, e, from, nr, to);
			check_entries(_metadata, e, heads[i], nr, to);
			move_range(_metadata, e, to, nr, from);
			check_entries(_metadata, e, 0, 0, NULL);
		}
	}
	check_accounts(_metadata, e);
	check_contents(_metadata, e, 0, 0, NULL);
}

/* Tests that change some pages do so in these, and leave whole blocks between. */
static bool in_odd_block(struct env *e, size_t page)
{
	return page * e->page / e->blk % 2;
}

static bool is_hole(struct env *e, size_t page)
{
	return in_odd_block(e, page) && page % 5 == 0;
}

static void punch_holes(struct __test_metadata *_metadata, struct env *e)
{
	size_t i, last = 0;

	for (i = 0; i < e->nr; i++) {
		if (!is_hole(e, i))
			continue;
		ASSERT_EQ(madvise(e->src + i * e->page, e->page, MADV_DONTNEED), 0);
		e->want[i].zero = e->backing == PRIVATE_ANON;
		last = i;
	}
	snapshot(_metadata, e);
	ASSERT_EQ(e->want[last].entry, 0);
	ASSERT_NE(e->want[last - 1].entry, 0);
}

/* A hole is a hole after the move, and pages next to it are no hole. */
TEST_F(mremap_batch, holes)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;

	punch_holes(_metadata, e);
	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
}

/* Guard markers move: the page still cannot be accessed, its neighbours can. */
TEST_F(mremap_batch, guard_markers)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	size_t i, last = 0;

	for (i = 0; i < e->nr; i++) {
		if (!in_odd_block(e, i) || i % 7)
			continue;
		if (madvise(e->src + i * e->page, e->page, MADV_GUARD_INSTALL))
			SKIP(return,
			     "no MADV_GUARD_INSTALL (%s): needs Linux 6.13, or 6.15 for files",
			     strerror(errno));
		e->want[i].no_access = true;
		last = i;
	}
	snapshot(_metadata, e);
	ASSERT_TRUE(e->want[last].entry & PM_GUARD_REGION);
	move(_metadata, e, 1, e->nr - 1, to);
	check(_metadata, e, 1, e->nr - 1, to);
}

static bool has_swap(struct env *e)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kb = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SwapFree: %lu kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb > e->len >> 10;
}

/* Swap every second folio out. */
static void swap_out(struct __test_metadata *_metadata, struct env *e)
{
	size_t off;
	int tries;

	for (off = 0; off < e->len; off += 2 * e->folio) {
		char *last = e->src + off + e->folio - e->page;

		/* Pages that sit in a per-CPU batch are passed over. */
		for (tries = 0; tries < 100; tries++) {
			madvise(e->src + off, e->folio, MADV_PAGEOUT);
			if (!(entry_of(e, last) & PM_PRESENT))
				break;
			usleep(1000);
		}
	}
	snapshot(_metadata, e);
}

/* All that has moved is soft-dirty, what stays behind is not. */
TEST_F(mremap_batch, soft_dirty)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	const size_t nr = e->nr - 3;
	size_t i;

	if (!softdirty_supported())
		SKIP(return,
		     "no soft-dirty bits here: build the kernel with CONFIG_MEM_SOFT_DIRTY, where the architecture has it");
	punch_holes(_metadata, e);
	if (e->backing == PRIVATE_ANON && has_swap(e))
		swap_out(_metadata, e);
	clear_softdirty();
	move(_metadata, e, 0, nr, to);
	for (i = 0; i < e->nr; i++) {
		bool want = i < nr && e->want[i].entry;
		uint64_t entry = entry_of(e, addr_of(e, i, 0, nr, to));

		/* Migration marks what is dirty: show whether its frame is another. */
		ASSERT_EQ(!!(entry & PM_SOFT_DIRTY), want) {
			TH_LOG("page %zu: %#llx, was %#llx", i, (unsigned long long)entry,
			       (unsigned long long)e->want[i].entry);
		}
	}
	check(_metadata, e, 0, nr, to);
}

/* Two VMAs of different protection, one move: both keep theirs. */
TEST_F(mremap_batch, protection)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	const size_t ro = e->nr / 2 + 3;
	size_t i;

	/* Cut through a block. */
	ASSERT_EQ(mprotect(e->src, ro * e->page, PROT_READ), 0);
	snapshot(_metadata, e);
	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
	for (i = 0; i < e->nr; i++) {
		ASSERT_EQ(can_write(e, to + i * e->page), i >= ro) {
			TH_LOG("page %zu", i);
		}
	}
}

/* Pages that nobody may access are present on arm64, but no block. */
TEST_F(mremap_batch, no_access)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;

	ASSERT_EQ(mprotect(e->src, e->len, PROT_NONE), 0);
	snapshot(_metadata, e);
	move(_metadata, e, 1, e->nr - 1, to);
	check_entries(_metadata, e, 1, e->nr - 1, to);
	ASSERT_EQ(mprotect(e->src, e->page, PROT_READ), 0);
	ASSERT_EQ(mprotect(to, e->len - e->page, PROT_READ), 0);
	check(_metadata, e, 1, e->nr - 1, to);
}

/*
 * userfaultfd write protection
 */

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Write-protect some. Returns false if it had to skip the test. */
static bool uffd_wp(struct __test_metadata *_metadata, struct env *e, int uffd)
{
	size_t i, last = 0;

	if (uffd < 0)
		SKIP(return false,
		     "no userfaultfd for write protection: needs CONFIG_USERFAULTFD and its support by the architecture");
	ASSERT_EQ(uffd_register(uffd, e->src, e->len, false, true, false), 0);
	for (i = 0; i < e->nr; i++) {
		struct uffdio_writeprotect wp = {
			.range.start = (uintptr_t)e->src + i * e->page,
			.range.len = e->page,
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		if (!in_odd_block(e, i) || i % 3)
			continue;
		ASSERT_EQ(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
		last = i;
	}
	snapshot(_metadata, e);
	ASSERT_TRUE(e->want[last].entry & PM_UFFD_WP);
	ASSERT_FALSE(e->want[last - 1].entry & PM_UFFD_WP);
	return true;
}

#define UFFD_WP_FEATURES	(UFFD_FEATURE_PAGEFAULT_FLAG_WP |	\
				 UFFD_FEATURE_WP_HUGETLBFS_SHMEM |	\
				 UFFD_FEATURE_WP_UNPOPULATED)

/* Where the registration is lost so is the protection, of holes as well. */
TEST_F(mremap_batch, uffd_wp_lost)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	size_t i;

	punch_holes(_metadata, e);
	if (!uffd_wp(_metadata, e, uffd_open(UFFD_WP_FEATURES)))
		return;
	/* What is no more than a marker is nothing then. */
	for (i = 0; i < e->nr; i++) {
		e->want[i].entry &= ~PM_UFFD_WP;
		if (is_hole(e, i))
			e->want[i].entry = 0;
	}
	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
	/* Nobody would answer the fault. */
	for (i = 0; i < e->nr; i++)
		ASSERT_TRUE(can_write(e, to + i * e->page));
}

static void *read_one_event(void *arg)
{
	int uffd = (intptr_t)arg;
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg = {};

	if (poll(&pfd, 1, 10000) != 1 || read(uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	return (void *)(uintptr_t)msg.event;
}

/* Where the registration moves, so does the protection, of the same pages. */
TEST_F(mremap_batch, uffd_wp_kept)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	pthread_t reader;
	void *event;
	int uffd;

	punch_holes(_metadata, e);
	uffd = uffd_open(UFFD_WP_FEATURES | UFFD_FEATURE_EVENT_REMAP);
	if (!uffd_wp(_metadata, e, uffd))
		return;
	ASSERT_EQ(pthread_create(&reader, NULL, read_one_event, (void *)(intptr_t)uffd), 0);
	move(_metadata, e, 0, e->nr, to);
	ASSERT_EQ(pthread_join(reader, &event), 0);
	ASSERT_EQ((uintptr_t)event, UFFD_EVENT_REMAP);
	check(_metadata, e, 0, e->nr, to);
}

/*
 * Refusals
 */

struct refusal {
	const char *what;
	long from, len, new_len, to;	/* In pages; @from < 0 is from the end. */
	long from_bytes, to_bytes;	/* On top of them. */
	int flags;
	int err;
};

#define MOVE	(MREMAP_MAYMOVE | MREMAP_FIXED)

static const struct refusal refusals[] = {
	{ "overlap from below", 0, 8, 8, 1, 0, 0, MOVE, EINVAL },
	{ "overlap from below by a page", 0, 8, 8, 7, 0, 0, MOVE, EINVAL },
	{ "overlap from above", 8, 8, 8, 7, 0, 0, MOVE, EINVAL },
	{ "overlap from above by a page", 8, 8, 8, 1, 0, 0, MOVE, EINVAL },
	{ "overlap of the new length", 8, 4, 8, 1, 0, 0, MOVE, EINVAL },
	{ "no move at all", 8, 8, 8, 8, 0, 0, MOVE, EINVAL },
	{ "address not of a page", 0, 8, 8, 16, 1, 0, MOVE, EINVAL },
	{ "new address not of a page", 0, 8, 8, 16, 0, 1, MOVE, EINVAL },
	{ "no new length", 0, 8, 0, 16, 0, 0, MOVE, EINVAL },
	{ "fixed, but may not move", 0, 8, 8, 16, 0, 0, MREMAP_FIXED, EINVAL },
	{ "unknown flag", 0, 8, 8, 16, 0, 0, MOVE | 0x80, EINVAL },
	{ "no unmapping, but may not move", 0, 8, 8, 16, 0, 0, MREMAP_DONTUNMAP, EINVAL },
	{ "no unmapping, other length", 0, 8, 4, 16, 0, 0, MOVE | MREMAP_DONTUNMAP, EINVAL },
	{ "beyond the end, other length", -4, 8, 9, 16, 0, 0, MOVE, EFAULT },
};

/* A refused move changes nothing. */
TEST_F(mremap_batch, refusals)
{
	struct env *e = &self->e;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *r = &refusals[i];
		size_t from = r->from < 0 ? e->nr + r->from : r->from;
		void *ret;

		errno = 0;
		ret = sys_mremap(e->src + from * e->page + r->from_bytes,
				 r->len * e->page, r->new_len * e->page, r->flags,
				 e->src + r->to * e->page + r->to_bytes);
		ASSERT_EQ(ret, MAP_FAILED) {
			TH_LOG("%s", r->what);
		}
		ASSERT_EQ(errno, r->err) {
			TH_LOG("%s", r->what);
		}
		check_entries(_metadata, e, 0, 0, NULL);
	}
	check_accounts(_metadata, e);
	check_contents(_metadata, e, 0, 0, NULL);
}

/*
 * What only private anonymous memory has
 */

FIXTURE(mremap_batch_private)
{
	struct env e;
};

FIXTURE_VARIANT(mremap_batch_private)
{
	enum folios folios;
};

FIXTURE_VARIANT_ADD(mremap_batch_private, small)
{
	.folios = SMALL,
};

FIXTURE_VARIANT_ADD(mremap_batch_private, block)
{
	.folios = BLOCK,
};

FIXTURE_VARIANT_ADD(mremap_batch_private, blocks)
{
	.folios = BLOCKS,
};

FIXTURE_VARIANT_ADD(mremap_batch_private, pmd)
{
	.folios = PMD,
};

FIXTURE_SETUP(mremap_batch_private)
{
	env_setup(_metadata, &self->e, PRIVATE_ANON, variant->folios);
}

FIXTURE_TEARDOWN(mremap_batch_private)
{
	thp_restore_settings();
	env_teardown(&self->e);
}

/* Swap entries arrive as they are, and their pages can be had again. */
TEST_F(mremap_batch_private, swap_entries)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;

	if (!has_swap(e))
		SKIP(return, "no free swap space: mkswap and swapon a file or disk of %zu MB",
		     (e->len >> 20) + 1);
	swap_out(_metadata, e);
	ASSERT_TRUE(pagemap_is_swapped(e->pagemap, e->src));
	move(_metadata, e, 0, e->nr - 1, to);
	check(_metadata, e, 0, e->nr - 1, to);
}

/* The pages are gone from the source, which is still mapped, and empty. */
TEST_F(mremap_batch_private, dont_unmap)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	size_t i;

	ASSERT_EQ(sys_mremap(e->src, e->len, e->len, MOVE | MREMAP_DONTUNMAP, to), to);
	check(_metadata, e, 0, e->nr, to);
	for (i = 0; i < e->nr; i++) {
		ASSERT_EQ(*(uint64_t *)(e->src + i * e->page), 0) {
			TH_LOG("page %zu can still be read where it was", i);
		}
	}
}

/* A mapping that grows on the way is empty beyond its old end. */
TEST_F(mremap_batch_private, grow)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	char *from = e->src + e->page;
	size_t len = 3 * e->page;
	size_t new_len = e->blk;
	size_t off;

	ASSERT_EQ(sys_mremap(from, len, new_len, MOVE, to), to);
	check_gone(_metadata, e, from, 3);
	check_entries(_metadata, e, 1, 3, to);
	check_accounts(_metadata, e);
	check_contents(_metadata, e, 1, 3, to);
	for (off = len; off < new_len; off += e->page)
		ASSERT_EQ(*(uint64_t *)(to + off), 0);
}

/*
 * Pages that were freed lazily stay so, but for those written since: they do
 * not get dirty by a move in one batch with a dirty page. A block, however, is
 * dirty as a whole.
 */
TEST_F(mremap_batch_private, dirty_bits)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	size_t i;

	ASSERT_EQ(madvise(e->src, e->len, MADV_FREE), 0);
	for (i = 0; i < e->nr; i += 2 * e->folio / e->page)
		fill_page(e, e->src + i * e->page, i);
	snapshot(_metadata, e);
	move(_metadata, e, 0, e->nr - 1, to);
	check(_metadata, e, 0, e->nr - 1, to);
}

/* A child that lives until it is told to check its copy of the region. */
struct child {
	pid_t pid;
	int go;
};

static void child_main(struct env *e, int go)
{
	size_t i;
	char c;

	if (read(go, &c, 1) != 1)
		_exit(2);
	for (i = 0; i < e->nr; i++)
		if (!e->want[i].no_access && !page_intact(e, e->src + i * e->page, i))
			_exit(1);
	_exit(0);
}

static struct child start_child(struct __test_metadata *_metadata, struct env *e)
{
	struct child child;
	int go[2];

	ASSERT_EQ(pipe(go), 0);
	child.pid = fork();
	ASSERT_GE(child.pid, 0);
	if (!child.pid) {
		close(go[1]);
		child_main(e, go[0]);
	}
	close(go[0]);
	child.go = go[1];
	return child;
}

/* Returns what the child found: 0 is that nothing has changed for it. */
static int ask_child(struct child *child)
{
	int status;

	if (write(child->go, "", 1) != 1)
		return -1;
	close(child->go);
	if (waitpid(child->pid, &status, 0) != child->pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void scribble(struct env *e, char *addr, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		memset(addr + i * e->page, 0x5a, e->page);
}

/* Pages shared with a child stay write-protected: it does not see our writes. */
TEST_F(mremap_batch_private, cow_shared)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	struct child child = start_child(_metadata, e);

	snapshot(_metadata, e);
	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
	scribble(e, to, e->nr);
	ASSERT_EQ(ask_child(&child), 0);
}

/*
 * In one folio and in one block, pages that we alone have and may write to,
 * and pages shared with a child. The permissions of the first ones must not
 * become those of the others.
 */
TEST_F(mremap_batch_private, cow_partly_shared)
{
	struct env *e = &self->e;
	char *to = e->dst + e->blk;
	const size_t own = 5;
	struct child child;
	size_t i, j;

	for (i = 0; i + own < e->nr; i += 2 * own)
		ASSERT_EQ(madvise(e->src + i * e->page, own * e->page, MADV_DONTFORK), 0);
	/* The child lacks those pages. */
	for (i = 0; i + own < e->nr; i += 2 * own)
		for (j = 0; j < own; j++)
			e->want[i + j].no_access = true;
	child = start_child(_metadata, e);
	for (i = 0; i < e->nr; i++)
		e->want[i].no_access = false;
	ASSERT_EQ(madvise(e->src, e->len, MADV_DOFORK), 0);

	snapshot(_metadata, e);
	ASSERT_FALSE(e->want[own].entry & PM_MMAP_EXCLUSIVE);
	move(_metadata, e, 0, e->nr, to);
	check(_metadata, e, 0, e->nr, to);
	scribble(e, to, e->nr);
	ASSERT_EQ(ask_child(&child), 0);
}

/*
 * No folio behind it: a VM_PFNMAP mapping, that of a perf ring buffer
 */

/* Have the kernel write a record for each new name of ours, until it is full. */
static void fill_ring(struct perf_event_mmap_page *ring)
{
	uint64_t head = -1;
	unsigned short i;
	char name[16];

	for (i = 0; FORCE_READ(ring->data_head) != head; i++) {
		head = FORCE_READ(ring->data_head);
		snprintf(name, sizeof(name), "mremap%hu", i);
		prctl(PR_SET_NAME, name);
	}
}

TEST(pfnmap)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.comm = 1,
	};
	const size_t len = (block_pages() + 1) * psize();
	char *area, *from, *to, *copy;
	struct env e;
	int fd;

	if (!has_room())
		SKIP(return, NO_ROOM);
	fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		SKIP(return, "no perf event to map (%s): needs CONFIG_PERF_EVENTS and root",
		     strerror(errno));
	ASSERT_EQ(pipe(e.pipe), 0);
	copy = malloc(len);
	ASSERT_NE(copy, NULL);
	area = reserve(NULL, 4 * table_size(), 0);
	ASSERT_NE(area, MAP_FAILED);
	from = align_up(area, table_size());
	to = from + table_size() + psize();
	ASSERT_EQ(mmap(from, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), from);
	if (!check_vmflag_pfnmap(from))
		SKIP(return,
		     "perf's ring buffer is not VM_PFNMAP any more: find another mapping that is");
	fill_ring((void *)from);
	ASSERT_EQ(ioctl(fd, PERF_EVENT_IOC_DISABLE, 0), 0);
	memcpy(copy, from, len);

	ASSERT_EQ(sys_mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	ASSERT_FALSE(can_read(&e, from));
	ASSERT_FALSE(can_read(&e, from + len - 1));
	ASSERT_EQ(memcmp(to, copy, len), 0);
}

/*
 * How, not what: count calls with the kernel's function profiler
 */

/* Any of them means that somebody wants the page or folio behind a PTE. */
static const char * const lookups[] = {
	"vm_normal_page", "vm_normal_folio", "__vm_normal_page",
	"folio_pte_batch", "folio_pte_batch_flags",
};

/* Called by arm64 to clear more than one PTE: a batch. */
#define CLEAR_BATCH	"contpte_get_and_clear_full_ptes"

/* The profiler, set up to count these. */
struct trace {
	bool on;
	bool has_clear_batch;
	char stat[64];
};

FIXTURE(mremap_batch_trace)
{
	struct env e;
	struct trace t;
};

FIXTURE_VARIANT(mremap_batch_trace)
{
	enum folios folios;
};

FIXTURE_VARIANT_ADD(mremap_batch_trace, small)
{
	.folios = SMALL,
};

FIXTURE_VARIANT_ADD(mremap_batch_trace, block)
{
	.folios = BLOCK,
};

FIXTURE_VARIANT_ADD(mremap_batch_trace, blocks)
{
	.folios = BLOCKS,
};

FIXTURE_VARIANT_ADD(mremap_batch_trace, pmd)
{
	.folios = PMD,
};

static bool write_trace(const char *file, const char *val)
{
	char path[128];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), TRACEFS "%s", file);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return false;
	ret = write(fd, val, strlen(val));
	close(fd);
	return ret == (ssize_t)strlen(val);
}

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
	char path[] = TRACEFS "set_ftrace_filter";
	int fd = open(path, O_WRONLY | O_APPEND);
	bool ok;

	if (fd < 0)
		return false;
	/* Without the line's end, it is close() that looks the name up. */
	ok = dprintf(fd, "%s\n", name) > 0;
	close(fd);
	return ok;
}

/* Returns false if it had to skip the test. */
static bool trace_setup(struct __test_metadata *_metadata, struct trace *t)
{
	cpu_set_t cpus;
	bool any = false;
	int cpu;
	size_t i;

	if (access(TRACEFS "function_profile_enabled", W_OK))
		SKIP(return false,
		     "no function profiler: needs CONFIG_FUNCTION_PROFILER and mount -t tracefs nodev /sys/kernel/tracing");
	if (!tracing_is_unused())
		SKIP(return false,
		     "the function tracer is in use: write nop to current_tracer, 0 to function_profile_enabled and nothing to set_ftrace_filter");

	/* The profile is one per CPU. */
	cpu = sched_getcpu();
	ASSERT_GE(cpu, 0);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	ASSERT_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	snprintf(t->stat, sizeof(t->stat), TRACEFS "trace_stat/function%d", cpu);

	t->on = true;
	for (i = 0; i < ARRAY_SIZE(lookups); i++)
		any |= add_filter(lookups[i]);
	if (!any)
		SKIP(return false,
		     "no known way to look up a folio can be traced: teach this test its new name");
	t->has_clear_batch = add_filter(CLEAR_BATCH);
	return true;
}

static void trace_teardown(struct trace *t)
{
	if (!t->on)
		return;
	write_trace("function_profile_enabled", "0");
	write_trace("set_ftrace_filter", "");
	t->on = false;
}

FIXTURE_SETUP(mremap_batch_trace)
{
	if (!env_setup(_metadata, &self->e, PRIVATE_ANON, variant->folios))
		return;
	if (!trace_setup(_metadata, &self->t))
		trace_teardown(&self->t);
}

/* In the parent, which survives whatever may happen to the test. */
FIXTURE_TEARDOWN_PARENT(mremap_batch_trace)
{
	trace_teardown(&self->t);
	thp_restore_settings();
}

/*
 * Hits of the functions in the filter: those of CLEAR_BATCH, and the most of
 * the others, which call each other.
 */
struct hits {
	unsigned long lookups;
	unsigned long clear_batch;
};

static bool read_hits(struct trace *t, struct hits *hits)
{
	FILE *f = fopen(t->stat, "r");
	unsigned long nr;
	char line[256], name[64];

	if (!f)
		return false;
	memset(hits, 0, sizeof(*hits));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %63s %lu", name, &nr) != 2)
			continue;
		/* The kernel truncates names. */
		if (!strncmp(name, CLEAR_BATCH, strlen(name)))
			hits->clear_batch += nr;
		else if (nr > hits->lookups)
			hits->lookups = nr;
	}
	fclose(f);
	return true;
}

static void count_move(struct __test_metadata *_metadata, struct env *e,
		       struct trace *t, char *from, char *to, struct hits *hits)
{
	/* It starts at zero each time. */
	ASSERT_TRUE(write_trace("function_profile_enabled", "1"));
	move_range(_metadata, e, from, e->nr, to);
	ASSERT_TRUE(write_trace("function_profile_enabled", "0"));
	ASSERT_TRUE(read_hits(t, hits));
}

/*
 * A move looks up no folio. The profiler does not tell tasks apart, others on
 * this CPU can add to the count, never reduce it: the least of some counts is
 * ours. Where blocks exist, each one must have been moved in one go: otherwise
 * this would praise a kernel that makes no use of them.
 */
TEST_F(mremap_batch_trace, no_folio_lookup)
{
	struct env *e = &self->e;
	struct trace *t = &self->t;
	char *here = e->src, *there = e->dst + e->blk;
	struct hits least = { .lookups = -1UL, .clear_batch = -1UL };
	size_t blocks = e->folio < e->blk ? 0 : e->len / e->blk;
	int i;

	for (i = 0; i < 6; i++) {
		char *tmp = here;
		struct hits hits;

		count_move(_metadata, e, t, here, there, &hits);
		here = there;
		there = tmp;
		if (hits.lookups < least.lookups)
			least.lookups = hits.lookups;
		if (hits.clear_batch < least.clear_batch)
			least.clear_batch = hits.clear_batch;
	}
	ASSERT_EQ(least.lookups, 0) {
		TH_LOG("%lu lookups of a folio in a move of %zu pages", least.lookups, e->nr);
	}
	if (t->has_clear_batch)
		ASSERT_EQ(least.clear_batch, blocks);
}

int main(int argc, char **argv)
{
	/* Whatever happens to a test, its parent puts them back. */
	if (thp_available())
		thp_save_settings();
	return test_harness_run(argc, argv);
}
