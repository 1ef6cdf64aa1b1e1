// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each allocation of a system call, or of page faults, fails once. A call then
 * succeeds, or fails with an error that its manual page has; a fault is tried
 * again. Either way nothing has happened to the contents of memory, and none of
 * it is lost or counted twice.
 *
 * Needs root, and a kernel with fault injection.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fail_nth.h"
#include "vm_util.h"
#include "page_table.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MREMAP_RELOCATE_ANON
#define MREMAP_RELOCATE_ANON	8
#endif

#define KSM_RUN		"/sys/kernel/mm/ksm/run"
#define TEST_SECONDS	300
#define MAX_NTH		5000	/* No call allocates so often. */
#define MAX_TRIES	2000	/* To make pages what they are to be, 10 ms each. */
#define NR_PAGES	16	/* Fewer than a batch of the LRU, */
#define NR_MORE		48	/* and more. */
#define MAX_TABLE	(64UL << 20)	/* What one maps is filled for each allocation. */
#define RW		(PROT_READ | PROT_WRITE)
#define ANON		(MAP_PRIVATE | MAP_ANONYMOUS)
#define MOVE		(MREMAP_MAYMOVE | MREMAP_FIXED)

#define NO_SWAP		"no swap space: swapon a disk, or a file on one"
#define NO_KSM		"no KSM: build the kernel with CONFIG_KSM"
#define NO_FLAG		"no MREMAP_RELOCATE_ANON: use a kernel that has it"
#define NO_ROOT		"not root: run as root"
#define LARGE_TABLE	"a page table maps too much to be filled: use a kernel with smaller pages"
#define NO_FILE		"no folio of a file leaves the page cache: change to a disk's file system"

/* Memory with contents, and where it may go to. */
struct env {
	char *at, *to;
	size_t nr;
	int fd;		/* Of the file behind it. */
};

static size_t bytes(const struct env *e)
{
	return e->nr * psize();
}

/* The half of it that is neither its begin nor its end. */
static char *middle(const struct env *e)
{
	return e->at + bytes(e) / 4;
}

static uint64_t word(size_t page)
{
	return 0x6d656d00 + page;
}

static void fill(char *at, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		*(volatile uint64_t *)(at + i * psize()) = word(i);
}

static bool has(const char *at, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (*(volatile uint64_t *)(at + i * psize()) != word(i))
			return false;
	return true;
}

static bool is_empty(const char *at, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (*(volatile uint64_t *)(at + i * psize()))
			return false;
	return true;
}

static bool all(char *at, size_t nr, bool (*is)(int fd, char *page))
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t i;

	for (i = 0; fd >= 0 && i < nr && is(fd, at + i * psize()); i++)
		;
	close(fd);
	return i == nr;
}

/* Nothing is there: a mapping takes the place. */
static bool is_hole(char *at, size_t len)
{
	if (mmap(at, len, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0) != at)
		return false;
	return !munmap(at, len);
}

/*
 * How memory is before a call. Two page tables are kept free around it, for calls
 * that move and that grow.
 */

/* An address of page tables that nobody has used. */
static bool reserve(struct env *e)
{
	char *area = mmap(NULL, 10 * table_size(), PROT_NONE, ANON, -1, 0);

	if (area == MAP_FAILED || munmap(area, 10 * table_size()))
		return false;
	e->at = area + table_size() - (uintptr_t)area % table_size() + psize();
	e->to = e->at + 4 * table_size();
	return true;
}

static bool map_nothing(struct env *e)
{
	return reserve(e);
}

static bool map_empty(struct env *e)
{
	return reserve(e) && mmap(e->at, bytes(e), RW, ANON | MAP_FIXED_NOREPLACE,
				  -1, 0) == e->at;
}

static bool map_full(struct env *e)
{
	if (!map_empty(e))
		return false;
	fill(e->at, e->nr);
	return true;
}

/* It is all of one page table, which a move can take along. */
static bool map_table(struct env *e)
{
	e->nr = table_size() / psize();
	if (!reserve(e))
		return false;
	e->at -= psize();
	e->to -= psize();
	if (mmap(e->at, bytes(e), RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) != e->at)
		return false;
	madvise(e->at, bytes(e), MADV_NOHUGEPAGE);
	fill(e->at, e->nr);
	return true;
}

/* Each entry moves by itself, and the last of them to another page table. */
static bool map_across_tables(struct env *e)
{
	e->nr = table_size() / psize();
	if (!map_full(e))
		return false;
	e->to += psize();
	return true;
}

/* The page before where it goes has pages of its own: what is relocated merges. */
static bool map_table_and_neighbour(struct env *e)
{
	if (!map_table(e))
		return false;
	if (mmap(e->to - psize(), psize(), RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) !=
	    e->to - psize())
		return false;
	madvise(e->to - psize(), psize(), MADV_NOHUGEPAGE);
	*(e->to - psize()) = 1;
	return true;
}

/* How many are in memory or in a cache, of files or of swap? Reads those. */
static size_t read_cached(const struct env *e)
{
	unsigned char in[NR_MORE];
	size_t i, nr = 0;

	if (mincore(e->at, bytes(e), in))
		return e->nr;
	for (i = 0; i < e->nr; i++) {
		if (!(in[i] & 1))
			continue;
		*(volatile char *)(e->at + i * psize());
		nr++;
	}
	return nr;
}

/* What has been written stays in the cache, until it is used and reclaimed again. */
static bool map_swapped(struct env *e)
{
	int tries;

	if (!map_full(e))
		return false;
	for (tries = 0; tries < MAX_TRIES && read_cached(e); tries++) {
		if (madvise(e->at, bytes(e), MADV_PAGEOUT))
			return false;
		if (tries)
			usleep(10000);
	}
	return all(e->at, e->nr, pagemap_is_swapped);
}

static bool map_merged(struct env *e)
{
	char *page;
	int tries;

	if (!map_empty(e))
		return false;
	for (page = e->at; page < e->at + bytes(e); page += psize())
		*(uint64_t *)page = word(0);
	if (madvise(e->at, bytes(e), MADV_MERGEABLE) || ksm_start())
		return false;
	for (tries = 0; tries < MAX_TRIES; tries++) {
		if (ksm_get_self_merging_pages() == (long)e->nr)
			return true;
		usleep(10000);
	}
	return false;
}

/* A child has the same pages, and exits when the pipe closes. */
static pid_t child;
static int hold[2];

static bool map_shared_with_child(struct env *e)
{
	char byte;

	if (!map_full(e) || pipe2(hold, O_CLOEXEC))
		return false;
	child = fork();
	if (!child) {
		close(hold[1]);
		_exit(read(hold[0], &byte, 1) != 0 || !has(e->at, e->nr));
	}
	close(hold[0]);
	return child > 0;
}

/* None of it is in the page cache. */
static bool map_cold_file(struct env *e)
{
	char name[] = "no_memory.XXXXXX", *page;

	if (!reserve(e))
		return false;
	e->fd = mkstemp(name);
	if (e->fd < 0)
		return false;
	unlink(name);
	if (ftruncate(e->fd, bytes(e)))
		return false;
	page = calloc(1, psize());
	for (size_t i = 0; i < e->nr; i++) {
		*(uint64_t *)page = word(i);
		if (pwrite(e->fd, page, psize(), i * psize()) != (ssize_t)psize())
			return false;
	}
	free(page);
	if (fsync(e->fd) || posix_fadvise(e->fd, 0, 0, POSIX_FADV_DONTNEED))
		return false;
	if (mmap(e->at, bytes(e), RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE, e->fd, 0) != e->at)
		return false;
	return !read_cached(e);
}

static void unmap(struct env *e)
{
	munmap(e->at, bytes(e) + table_size());
	munmap(e->to - psize(), bytes(e) + table_size());
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}

/*
 * What is called: 0, or -1 and errno
 */

static int map_populated(struct env *e)
{
	return mmap(e->at, bytes(e), RW, ANON | MAP_POPULATE | MAP_FIXED_NOREPLACE,
		    -1, 0) == e->at ? 0 : -1;
}

static int map_locked(struct env *e)
{
	return mmap(e->at, bytes(e), RW, ANON | MAP_LOCKED | MAP_FIXED_NOREPLACE,
		    -1, 0) == e->at ? 0 : -1;
}

static int populate_write(struct env *e)
{
	return madvise(e->at, bytes(e), MADV_POPULATE_WRITE);
}

static int lock(struct env *e)
{
	return mlock(e->at, bytes(e));
}

static int write_all(struct env *e)
{
	fill(e->at, e->nr);
	return 0;
}

static int read_all(struct env *e)
{
	return has(e->at, e->nr) ? 0 : -1;
}

static int unmerge(struct env *e)
{
	return madvise(e->at, bytes(e), MADV_UNMERGEABLE);
}

static int move_as(struct env *e, size_t len, int flags)
{
	return sys_mremap(e->at, bytes(e), len, flags, e->to) == e->to ? 0 : -1;
}

static int move(struct env *e)
{
	return move_as(e, bytes(e), MOVE);
}

static int move_and_grow(struct env *e)
{
	return move_as(e, 2 * bytes(e), MOVE);
}

static int move_and_keep(struct env *e)
{
	return move_as(e, bytes(e), MOVE | MREMAP_DONTUNMAP);
}

static int move_middle_as(struct env *e, int flags)
{
	return sys_mremap(middle(e), bytes(e) / 2, bytes(e) / 2, flags, e->to) == e->to ? 0 : -1;
}

static int move_middle(struct env *e)
{
	return move_middle_as(e, MOVE);
}

static int relocate(struct env *e)
{
	return move_as(e, bytes(e), MOVE | MREMAP_RELOCATE_ANON);
}

static int relocate_middle(struct env *e)
{
	return move_middle_as(e, MOVE | MREMAP_RELOCATE_ANON);
}

static int shrink(struct env *e)
{
	return sys_mremap(e->at, bytes(e), bytes(e) / 2, 0, NULL) == e->at ? 0 : -1;
}

static int unmap_middle(struct env *e)
{
	return munmap(middle(e), bytes(e) / 2);
}

static int protect_middle(struct env *e)
{
	return mprotect(middle(e), bytes(e) / 2, PROT_READ);
}

static int fork_one(struct env *e)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid)
		_exit(!has(e->at, e->nr));
	if (waitpid(pid, &status, 0) == pid && !status)
		return 0;
	errno = ECHILD;		/* Not one of those that are allowed. */
	return -1;
}

/*
 * What has to be true then
 */

/* There, whatever came of it, and can be written to. */
static bool stays(struct env *e, bool done)
{
	return has(e->at, e->nr) && !write_all(e) && has(e->at, e->nr);
}

static bool is_new(struct env *e, bool done)
{
	if (!done)
		return is_hole(e->at, bytes(e));
	return is_empty(e->at, e->nr) && stays(e, !write_all(e));
}

static bool is_populated(struct env *e, bool done)
{
	return (!done || all(e->at, e->nr, pagemap_is_populated)) &&
		is_empty(e->at, e->nr) && stays(e, !write_all(e));
}

static bool unmerged(struct env *e, bool done)
{
	size_t i;

	for (i = 0; i < e->nr; i++)
		if (*(uint64_t *)(e->at + i * psize()) != word(0))
			return false;
	return !write_all(e) && stays(e, done);
}

static bool child_keeps(struct env *e, bool done)
{
	int status;

	close(hold[1]);
	return waitpid(child, &status, 0) == child && !status && stays(e, done);
}

/* It is in one place, and the other is a hole. */
static bool moved(struct env *e, bool done)
{
	char *gone = done ? e->at : e->to;

	if (!has(done ? e->to : e->at, e->nr) || !is_hole(gone, bytes(e)))
		return false;
	fill(done ? e->to : e->at, e->nr);
	return true;
}

static bool moved_and_kept(struct env *e, bool done)
{
	if (!done)
		return moved(e, false);
	return has(e->to, e->nr) && is_empty(e->at, e->nr);
}

static bool moved_and_grown(struct env *e, bool done)
{
	return moved(e, done) && (!done || is_empty(e->to + bytes(e), e->nr));
}

/*
 * Without memory to cut the old mapping in two, the middle of it is kept, empty.
 */
static bool middle_moved(struct env *e, bool done)
{
	size_t quarter = e->nr / 4, i;

	if (!done)
		return moved(e, false);
	for (i = 0; i < 2 * quarter; i++)
		if (*(uint64_t *)(e->to + i * psize()) != word(quarter + i))
			return false;
	if (!is_hole(middle(e), bytes(e) / 2) && !is_empty(middle(e), 2 * quarter))
		return false;
	return has(e->at, quarter);
}

static bool shrunk(struct env *e, bool done)
{
	if (!done)
		return stays(e, false);
	return has(e->at, e->nr / 2) && is_hole(e->at + bytes(e) / 2, bytes(e) / 2);
}

static bool middle_is_gone(struct env *e, bool done)
{
	if (!done)
		return stays(e, false);
	return has(e->at, e->nr / 4) && is_hole(middle(e), bytes(e) / 2);
}

static bool can_be_written(char *at)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	bool can = read(fd, at, 1) == 1;

	close(fd);
	return can;
}

static bool middle_is_kept(struct env *e, bool done)
{
	if (!done)
		return stays(e, false);
	return has(e->at, e->nr) && !can_be_written(middle(e));
}

/*
 * What is missing for it, or NULL
 */

static const char *no_swap(void)
{
	FILE *f = fopen("/proc/swaps", "r");
	char line[256];
	int lines = 0;

	while (f && fgets(line, sizeof(line), f))
		lines++;
	if (f)
		fclose(f);
	return lines > 1 ? NULL : NO_SWAP;
}

static const char *no_ksm(void)
{
	return access(KSM_RUN, W_OK) ? NO_KSM : NULL;
}

static const char *no_flag(void)
{
	char *at = mmap(NULL, psize(), RW, ANON, -1, 0);
	bool known = at != MAP_FAILED &&
		     sys_mremap(at, psize(), psize(), MREMAP_MAYMOVE | MREMAP_RELOCATE_ANON,
				NULL) == at;

	munmap(at, psize());
	return known ? NULL : NO_FLAG;
}

static const char *no_cold_file(void)
{
	struct env e = { .nr = NR_PAGES, .fd = -1 };
	const char *why = map_cold_file(&e) ? NULL : NO_FILE;

	unmap(&e);
	return why;
}

FIXTURE(no_memory)
{
	struct env e;
	char ksm_run[16];	/* As it was; empty: there is none. */
};

FIXTURE_VARIANT(no_memory)
{
	const char *(*missing)(void);
	bool (*prepare)(struct env *e);
	int (*call)(struct env *e);
	bool (*is_right)(struct env *e, bool done);
	size_t nr;		/* NR_PAGES, if nothing is said. */
	int error;		/* That it fails with; 0: it never fails. */
	bool can_do_without;	/* Or it succeeds, whatever fails. */
};

/* Pages that are populated wait in a batch, and leave it when there are many. */
FIXTURE_VARIANT_ADD(no_memory, populate) {
	.prepare = map_nothing, .call = map_populated, .is_right = is_new,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, populate_more) {
	.prepare = map_nothing, .call = map_populated, .is_right = is_new,
	.nr = NR_MORE, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, populate_locked) {
	.prepare = map_nothing, .call = map_locked, .is_right = is_new, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, populate_write) {
	.prepare = map_empty, .call = populate_write, .is_right = is_populated,
	.nr = NR_MORE, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, lock) {
	.prepare = map_empty, .call = lock, .is_right = is_populated, .error = EAGAIN,
};

FIXTURE_VARIANT_ADD(no_memory, touch) {
	.prepare = map_empty, .call = write_all, .is_right = stays,
};

/* Faults that copy, and those that wait. */
FIXTURE_VARIANT_ADD(no_memory, copy) {
	.prepare = map_shared_with_child, .call = write_all, .is_right = child_keeps,
};

FIXTURE_VARIANT_ADD(no_memory, swap_in) {
	.missing = no_swap, .prepare = map_swapped, .call = read_all, .is_right = stays,
};

FIXTURE_VARIANT_ADD(no_memory, file) {
	.missing = no_cold_file, .prepare = map_cold_file, .call = read_all,
	.is_right = stays,
};

FIXTURE_VARIANT_ADD(no_memory, file_written) {
	.missing = no_cold_file, .prepare = map_cold_file, .call = write_all,
	.is_right = stays,
};

/* Pages that ksmd has merged. */
FIXTURE_VARIANT_ADD(no_memory, unmerge) {
	.missing = no_ksm, .prepare = map_merged, .call = unmerge, .is_right = unmerged,
	.error = EAGAIN,
};

FIXTURE_VARIANT_ADD(no_memory, write_merged) {
	.missing = no_ksm, .prepare = map_merged, .call = write_all, .is_right = stays,
};

FIXTURE_VARIANT_ADD(no_memory, move) {
	.prepare = map_full, .call = move, .is_right = moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_middle) {
	.prepare = map_full, .call = move_middle, .is_right = middle_moved,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_and_grow) {
	.prepare = map_full, .call = move_and_grow, .is_right = moved_and_grown,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_and_keep) {
	.prepare = map_full, .call = move_and_keep, .is_right = moved_and_kept,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_table) {
	.prepare = map_table, .call = move, .is_right = moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_across_tables) {
	.prepare = map_across_tables, .call = move, .is_right = moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, move_swapped) {
	.missing = no_swap, .prepare = map_swapped, .call = move, .is_right = moved,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, shrink) {
	.prepare = map_full, .call = shrink, .is_right = shrunk, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, relocate) {
	.missing = no_flag, .prepare = map_full, .call = relocate, .is_right = moved,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, relocate_middle) {
	.missing = no_flag, .prepare = map_full, .call = relocate_middle,
	.is_right = middle_moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, relocate_table) {
	.missing = no_flag, .prepare = map_table, .call = relocate, .is_right = moved,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, relocate_across_tables) {
	.missing = no_flag, .prepare = map_across_tables, .call = relocate,
	.is_right = moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, relocate_to_neighbour) {
	.missing = no_flag, .prepare = map_table_and_neighbour, .call = relocate,
	.is_right = moved, .error = ENOMEM, .can_do_without = true,
};

FIXTURE_VARIANT_ADD(no_memory, relocate_shared) {
	.missing = no_flag, .prepare = map_shared_with_child, .call = relocate,
	.is_right = moved, .error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, unmap_middle) {
	.prepare = map_full, .call = unmap_middle, .is_right = middle_is_gone,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, protect_middle) {
	.prepare = map_full, .call = protect_middle, .is_right = middle_is_kept,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(no_memory, fork) {
	.prepare = map_full, .call = fork_one, .is_right = stays, .error = ENOMEM,
};

/* In kB. */
static long status_of(const char *name)
{
	FILE *f = fopen("/proc/self/status", "r");
	size_t len = strlen(name);
	char line[256];
	long value = -1;

	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ':')
			value = atol(line + len + 1);
	if (f)
		fclose(f);
	return value;
}

/* Why memory cannot be prepared so, or NULL. */
static const char *too_large(bool (*prepare)(struct env *e))
{
	/* A size of 0 has more than 32 bits. */
	if (table_size() - 1 >= SIZE_MAX / 128)
		return NO_ROOM;
	if (prepare != map_table && prepare != map_across_tables &&
	    prepare != map_table_and_neighbour)
		return NULL;
	return table_size() > MAX_TABLE ? LARGE_TABLE : NULL;
}

FIXTURE_SETUP(no_memory)
{
	const char *why = geteuid() ? NO_ROOT : too_large(variant->prepare);

	self->e = (struct env){ .nr = variant->nr ?: NR_PAGES, .fd = -1 };
	if (!why && !fail_nth_prepare())
		why = NO_FAIL_NTH;
	if (!why && variant->missing)
		why = variant->missing();
	if (!read_file(KSM_RUN, self->ksm_run, sizeof(self->ksm_run)))
		self->ksm_run[0] = '\0';
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(no_memory)
{
	fail_nth_restore();
	if (self->ksm_run[0])
		write_file(KSM_RUN, self->ksm_run, strlen(self->ksm_run) + 1);
}

static void read_counts(struct __test_metadata *_metadata, long *counts)
{
	counts[0] = status_of("VmSize");
	counts[1] = status_of("VmLck");
	counts[2] = status_of("VmData");
	ASSERT_GT(counts[0], 0);
}

/* One try: whether so many allocations were made that the nth has failed. */
static bool try_once(struct __test_metadata *_metadata, struct env *e,
		     const FIXTURE_VARIANT(no_memory) *v, unsigned int nth, int *errors)
{
	bool failed;
	int fd, ret;

	ASSERT_TRUE(v->prepare(e));
	fd = fail_nth_begin(nth);
	ASSERT_GE(fd, 0);
	ret = v->call(e);
	failed = fail_nth_end(fd);
	if (ret) {
		ASSERT_TRUE(failed);
		ASSERT_NE(v->error, 0);
		ASSERT_EQ(errno, v->error);
		++*errors;
	}
	ASSERT_TRUE(v->is_right(e, !ret))
		TH_LOG("allocation %u, the call %s", nth, ret ? "failed" : "succeeded");
	if (child > 0 && v->is_right != child_keeps) {
		close(hold[1]);
		ASSERT_EQ(waitpid(child, &ret, 0), child);
		ASSERT_EQ(ret, 0);
	}
	child = 0;
	unmap(e);
	return failed;
}

/*
 * The first round is for what the process does for the first time. How many
 * allocations there are also depends on what the slab caches hold.
 */
TEST_F_TIMEOUT(no_memory, each_fails_once, TEST_SECONDS)
{
	long before[3], after[3];
	unsigned int nth, failures = 0;
	int errors = 0;

	try_once(_metadata, &self->e, variant, MAX_NTH, &errors);
	read_counts(_metadata, before);
	for (nth = 1; nth < MAX_NTH; nth++) {
		if (!try_once(_metadata, &self->e, variant, nth, &errors))
			break;
		failures++;
	}
	read_counts(_metadata, after);
	TH_LOG("%u allocations failed, and %d calls", failures, errors);
	EXPECT_LT(nth, MAX_NTH);
	EXPECT_GT(failures, 0);
	if (!variant->can_do_without)
		EXPECT_EQ(errors > 0, variant->error != 0);
	EXPECT_EQ(after[0], before[0]);
	EXPECT_EQ(after[1], before[1]);
	EXPECT_EQ(after[2], before[2]);
}

TEST_HARNESS_MAIN
