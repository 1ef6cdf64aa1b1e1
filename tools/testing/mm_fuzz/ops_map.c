// SPDX-License-Identifier: GPL-2.0
/*
 * mmap, munmap, mprotect, mlock, and NUMA.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define MPOL_DEFAULT	0
#define MPOL_BIND	2
#define MPOL_MF_MOVE	2

/*
 * Pages were to be populated, all of them successfully or who knows how many. Of
 * private pages that are written to, each is a page from now on.
 */
void populated(struct arena *a, size_t start, size_t nr, bool write, bool all)
{
	struct page *p;
	size_t i;

	mark_faulted(a, start, nr);
	for (i = start; i < start + nr; i++) {
		p = &a->pages[i];
		if (!is_mapped(p) || p->touched == YES)
			continue;
		p->touched = MAYBE;
		if (!write || !all || p->lazy || p->kind != ANON || !(p->attr & A_WRITE))
			continue;
		p->touched = YES;
		stamp_fork_gen(p);
	}
	if (write)
		resolve_own(a, start, nr);
}

/*
 * mmap
 */

/* The result of one mmap(). */
struct request {
	enum kind kind;
	int prot, flags, obj;
	size_t start, nr, off;
};

static int prot_of(int attr)
{
	return (attr & A_READ ? PROT_READ : 0) | (attr & A_WRITE ? PROT_WRITE : 0);
}

static const char *prot_name(int attr)
{
	static const char * const names[] = {
		"PROT_NONE", "PROT_READ", "PROT_WRITE", "PROT_READ | PROT_WRITE",
	};

	return names[attr & A_PROT];
}

static int random_prot(struct rng *r)
{
	size_t i = below(r, 10);

	return i < 7 ? A_READ | A_WRITE : i < 9 ? A_READ : 0;
}

/* One that no page of the arena maps, or -1. */
static int new_object(struct arena *a)
{
	bool used[MAX_OBJECTS] = { [FREE_OBJECT] = true, [MEMFD] = true, [FILE_OBJECT] = true };
	size_t i;
	int o;

	for (i = 0; i < a->nr; i++)
		if (object_of(a, &a->pages[i]))
			used[a->pages[i].obj] = true;
	for (o = 0; o < MAX_OBJECTS; o++)
		if (!used[o])
			return o;
	return -1;
}

static bool leaves_out(struct arena *a, int obj)
{
	return has_word(opt.without, "file") || a->objects[obj].type == FREE_OBJECT;
}

static void choose_kind(struct arena *a, struct rng *r, struct request *q)
{
	size_t i = below(r, 20);

	q->kind = ANON;
	q->obj = i < 17 ? MEMFD : FILE_OBJECT;
	q->off = below(r, a->nr / 2);
	if (i < 12 || leaves_out(a, q->obj))
		return;
	if (i == 12) {
		q->obj = new_object(a);
		q->off = 0;
		q->kind = q->obj < 0 ? ANON : SHARED;
		return;
	}
	q->kind = i % 2 ? PRIVATE : SHARED;
	if (q->off + q->nr > a->nr)
		q->off = a->nr - q->nr;
}

static int fd_of(struct arena *a, const struct request *q)
{
	return q->kind == ANON ? -1 : a->objects[q->obj].fd;
}

static void begin_object(struct arena *a, const struct request *q)
{
	struct object *o = &a->objects[q->obj];

	if (q->kind != SHARED || o->fd >= 0)
		return;
	o->type = SHMEM;
	o->size = q->nr;
	o->inode = 0;
	memset(o->values, 0, a->nr * sizeof(*o->values));
}

static void map_in_model(struct arena *a, const struct request *q)
{
	struct page page = {
		.kind = q->kind,
		.attr = q->prot | (q->flags & MAP_LOCKED ? A_LOCKED : 0),
		.obj = q->obj,
		.natural = true,
	};
	size_t i;

	begin_object(a, q);
	for (i = 0; i < q->nr; i++) {
		page.off = q->off + i;
		a->pages[q->start + i] = page;
	}
	if (q->flags & (MAP_LOCKED | MAP_POPULATE))
		populated(a, q->start, q->nr, true, false);
}

static bool can_merge(const struct page *p, const struct page *next)
{
	return same_vma(p, next) && p->natural && next->natural && !p->vague && !next->vague;
}

/*
 * New memory has no anon_vma, so it merges with a neighbour whose page offset goes
 * with its address; with the one before it, if with both. (An mmap() that populates
 * may have found the memory again, split and merged, when it is asked here.)
 */
static void check_merge(struct arena *a, const struct request *q)
{
	size_t end = q->start + q->nr;
	struct page *first = &a->pages[q->start], *last = &a->pages[end - 1];
	struct vma vma;

	if (q->kind != ANON || !(q->prot & A_WRITE))
		return;
	if (q->start && can_merge(first - 1, first)) {
		atomic_fetch_add(&shared->merges, 1);
		if (!vma_at(a, q->start, &vma) || vma.start >= (long)q->start)
			finding(a, "behind page %zu: expected a merge, seen a VMA from page %ld",
				q->start - 1, vma.start);
	} else if (end < a->nr && can_merge(last, last + 1) &&
		   (!q->start || !same_vma(first - 1, first))) {
		atomic_fetch_add(&shared->merges, 1);
		if (!vma_at(a, q->start, &vma) || vma.end <= (long)end)
			finding(a, "before page %zu: expected a merge, seen a VMA to page %ld",
				end, vma.end);
	}
}

static const char *kind_flags(const struct request *q, int fd)
{
	if (q->kind == ANON)
		return "MAP_PRIVATE | MAP_ANONYMOUS";
	if (fd < 0)
		return "MAP_SHARED | MAP_ANONYMOUS";
	return q->kind == SHARED ? "MAP_SHARED" : "MAP_PRIVATE";
}

static const char *more_flags(int flags)
{
	if (flags & MAP_FIXED_NOREPLACE)
		return "MAP_FIXED_NOREPLACE";
	if (flags & MAP_LOCKED)
		return "MAP_FIXED | MAP_LOCKED";
	return flags & MAP_POPULATE ? "MAP_FIXED | MAP_POPULATE" : "MAP_FIXED";
}

static void choose_flags(struct rng *r, struct request *q)
{
	q->flags = one_in(r, 8) ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	if (one_in(r, 8))
		q->flags |= MAP_POPULATE;
	else if (one_in(r, 24) && can_lock)
		q->flags |= MAP_LOCKED;
}

static bool any_mapped(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	for (i = start; i < start + nr; i++)
		if (is_mapped(&a->pages[i]))
			return true;
	return false;
}

static const char *object_name(struct arena *a, const struct request *q)
{
	return q->kind == ANON || a->objects[q->obj].fd < 0 ? "-1" :
	       q->obj == MEMFD ? "memfd" : "file";
}

static bool is_hole(const struct page *p)
{
	return !is_mapped(p);
}

void op_mmap(struct arena *a, struct rng *r)
{
	struct request q = { .start = random_start(a, r), .prot = random_prot(r) };
	long ret, expected = 0;
	int flags, fd;
	char *addr;

	if (one_in(r, 2))
		q.start = seek(a, q.start, is_hole);
	addr = addr_of(a, q.start);
	q.nr = random_length(a, r, q.start);
	choose_kind(a, r, &q);
	choose_flags(r, &q);
	fd = fd_of(a, &q);
	flags = q.flags | (q.kind == SHARED ? MAP_SHARED : MAP_PRIVATE) |
		(fd < 0 ? MAP_ANONYMOUS : 0);
	if ((q.flags & MAP_FIXED_NOREPLACE) && any_mapped(a, q.start, q.nr))
		expected = -EEXIST;
	note(a, "mmap(A + %ld * P, %ld * P, %s, %s | %s, %s, %ld * P)", (long)q.start,
	     (long)q.nr, (long)prot_name(q.prot), (long)kind_flags(&q, fd),
	     (long)more_flags(q.flags), (long)object_name(a, &q), (long)q.off);
	ret = sys((long)mmap(addr, q.nr * page_size, prot_of(q.prot), flags, fd,
			     q.off * page_size));
	if (!settle(a, ret, expected))
		return;
	if (ret != (long)addr)
		finding(a, "expected %p, seen %p", addr, (void *)ret);
	map_in_model(a, &q);
	check_merge(a, &q);
	if (one_in(r, 4))
		check_range(a, q.start, q.nr);
}

/* Mutants: the last page stays mapped, the process dies, or goes no further. */
static void maybe_keep_page(struct arena *a, size_t start, size_t nr)
{
	if (nr != 3)
		return;
	if (is_mutant("crash"))
		raise(SIGKILL);
	while (is_mutant("hang"))
		pause();
	if (is_mutant("keep-page"))
		mmap(addr_of(a, start + nr - 1), page_size, PROT_READ,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void op_munmap(struct arena *a, struct rng *r)
{
	size_t start = random_start(a, r), nr = random_length(a, r, start);

	note(a, "munmap(A + %ld * P, %ld * P)", (long)start, (long)nr);
	settle(a, sys(munmap(addr_of(a, start), nr * page_size)), 0);
	maybe_keep_page(a, start, nr);
	clear_pages(a, start, nr);
	if (one_in(r, 4))
		check_range(a, start, nr);
}

/*
 * mprotect
 */

/* It breaks copy-on-write where private memory that is locked becomes writable. */
static void protect_page(struct arena *a, size_t i, int prot)
{
	struct page *p = &a->pages[i];
	bool populates = (prot & A_WRITE) && !(p->attr & A_WRITE) && p->kind != SHARED &&
			 (p->attr & A_LOCKED);

	p->attr = (p->attr & ~A_PROT) | prot;
	if (populates)
		populated(a, i, 1, true, false);
}

/* A mutant: the first page gets back what it had. */
static void maybe_keep_prot(struct arena *a, size_t start, int old)
{
	if (is_mutant("keep-prot"))
		mprotect(addr_of(a, start), page_size, prot_of(old));
}

void op_mprotect(struct arena *a, struct rng *r)
{
	int prot = random_prot(r), old;
	size_t start, nr, done, i;

	random_range(a, r, &start, &nr);
	/* What comes before a hole is changed. */
	done = mapped_from(a, start, nr);
	old = a->pages[start].attr;
	note(a, "mprotect(A + %ld * P, %ld * P, %s)", (long)start, (long)nr,
	     (long)prot_name(prot));
	settle(a, sys(mprotect(addr_of(a, start), nr * page_size, prot_of(prot))),
	       done < nr ? -ENOMEM : 0);
	if (done)
		maybe_keep_prot(a, start, old);
	for (i = start; i < start + done; i++)
		protect_page(a, i, prot);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

/*
 * mlock
 */

/* How populating locked memory ends: 0, an error, or ANY. */
static long lock_result(struct arena *a, size_t start, size_t nr)
{
	const struct page *p;
	bool maybe, doubt = false, write;
	size_t i;

	for (i = start; i < start + nr; i++) {
		p = &a->pages[i];
		write = p->kind != SHARED && (p->attr & A_WRITE);
		if (access_signal(a, p, write, &maybe) && !maybe)
			return -ENOMEM;
		doubt |= maybe;
	}
	return doubt ? ANY : 0;
}

static void lock_in_model(struct arena *a, size_t start, size_t nr, int lock, bool all)
{
	struct page *p;
	size_t i;

	for (i = start; i < start + nr; i++) {
		p = &a->pages[i];
		p->attr = (p->attr & ~A_LOCK) | lock;
		if (all && lock == A_LOCKED)
			p->resident = p->kind == ANON && p->touched == YES && !p->lazy;
		else if (!(lock & A_LOCKED))
			p->resident = false;
	}
}

static void maybe_lose_lock(struct arena *a, size_t start)
{
	if (is_mutant("lose-lock"))
		munlock(addr_of(a, start), page_size);
}

void op_mlock(struct arena *a, struct rng *r)
{
	const bool onfault = one_in(r, 3);
	long ret, expected = 0;
	size_t start, nr, done;

	random_range(a, r, &start, &nr);
	done = mapped_from(a, start, nr);
	if (done < nr)
		expected = -ENOMEM;
	else if (!onfault)
		expected = lock_result(a, start, nr);
	note(a, onfault ? "mlock2(A + %ld * P, %ld * P, MLOCK_ONFAULT)" :
	     "mlock(A + %ld * P, %ld * P)", (long)start, (long)nr);
	ret = sys(syscall(SYS_mlock2, addr_of(a, start), nr * page_size,
			  onfault ? MLOCK_ONFAULT : 0));
	settle(a, ret, expected);
	if (done)
		maybe_lose_lock(a, start);
	if (!onfault && done == nr)
		populated(a, start, nr, true, !ret);
	lock_in_model(a, start, done, A_LOCKED | (onfault ? A_ONFAULT : 0), !ret);
}

void op_munlock(struct arena *a, struct rng *r)
{
	size_t start = random_start(a, r), nr = random_length(a, r, start), done;

	/* Long ranges, so that less is locked than not. */
	if (one_in(r, 3))
		nr = a->nr - start;
	done = mapped_from(a, start, nr);
	note(a, "munlock(A + %ld * P, %ld * P)", (long)start, (long)nr);
	settle(a, sys(munlock(addr_of(a, start), nr * page_size)), done < nr ? -ENOMEM : 0);
	lock_in_model(a, start, done, 0, false);
}

/*
 * NUMA
 */

void op_mbind(struct arena *a, struct rng *r)
{
	size_t start, nr, i;
	int policy = below(r, nr_nodes + 1);
	unsigned long mask = policy ? 1UL << (policy - 1) : 0;

	start = random_start(a, r);
	nr = alike(a, start, random_length(a, r, start));
	if (a->pages[start].kind != ANON)
		return;
	note(a, policy ? "mbind(A + %ld * P, %ld * P, MPOL_BIND, {%ld}, MPOL_MF_MOVE)" :
	     "mbind(A + %ld * P, %ld * P, MPOL_DEFAULT)", (long)start, (long)nr,
	     (long)policy - 1);
	/* EIO: a page could not be moved. The policy is set. */
	settle(a, sys(syscall(SYS_mbind, addr_of(a, start), nr * page_size,
			      policy ? MPOL_BIND : MPOL_DEFAULT, policy ? &mask : NULL,
			      policy ? MAX_NODES + 1 : 0, policy ? MPOL_MF_MOVE : 0)), 0);
	for (i = start; i < start + nr; i++)
		a->pages[i].policy = policy;
}

void op_move_pages(struct arena *a, struct rng *r)
{
	int nodes[16], status[16], node = below(r, nr_nodes);
	size_t start, nr, i;
	void *pages[16];

	random_range(a, r, &start, &nr);
	for (i = 0; i < nr && i < 16; i++) {
		pages[i] = addr_of(a, start + i);
		nodes[i] = node;
	}
	note(a, "move_pages(0, %ld, {A + %ld * P, ...}, {%ld, ...}, status, MPOL_MF_MOVE)",
	     (long)i, (long)start, (long)node);
	settle(a, sys(syscall(SYS_move_pages, 0, i, pages, nodes, status, MPOL_MF_MOVE)), ANY);
	check_range(a, start, i);
}
