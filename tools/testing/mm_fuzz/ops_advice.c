// SPDX-License-Identifier: GPL-2.0
/*
 * madvise.
 *
 * Most advice is taken VMA by VMA: a hole makes the call fail in the end, with
 * ENOMEM, and does not end it. A VMA that does not go with the advice ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "mm_fuzz.h"

/* What an advice does to a page; or an error, and then nothing. */
typedef long (*advice_fn)(struct arena *a, struct page *p);

static long call(struct arena *a, const char *name, int advice, size_t start, size_t nr)
{
	note(a, "madvise(A + %ld * P, %ld * P, %s)", (long)start, (long)nr, (long)name);
	return sys(madvise(addr_of(a, start), nr * page_size, advice));
}

static long apply(struct arena *a, advice_fn fn, size_t start, size_t nr)
{
	long error, hole = 0;
	size_t i;

	for (i = start; i < start + nr; i++) {
		if (!is_mapped(&a->pages[i])) {
			hole = -ENOMEM;
			continue;
		}
		error = fn(a, &a->pages[i]);
		if (error)
			return error;
	}
	return hole;
}

/* Calls first, so that nothing in the model depends on what has not happened yet. */
static void advise(struct arena *a, const char *name, int advice, advice_fn fn, size_t start,
		   size_t nr)
{
	long ret = call(a, name, advice, start, nr);

	settle(a, ret, apply(a, fn, start, nr));
}

#define ADVISE(a, advice, fn, start, nr) advise(a, #advice, advice, fn, start, nr)

/*
 * Content
 */

static long drop_page(struct arena *a, struct page *p)
{
	(void)a;
	if (p->attr & A_LOCKED)
		return -EINVAL;
	drop_content(p);
	return 0;
}

static long drop_locked_page(struct arena *a, struct page *p)
{
	(void)a;
	drop_content(p);
	return 0;
}

void discard(struct arena *a, size_t start, size_t nr)
{
	ADVISE(a, MADV_DONTNEED, drop_page, start, nr);
}

void op_dontneed(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	if (one_in(r, 4))
		ADVISE(a, MADV_DONTNEED_LOCKED, drop_locked_page, start, nr);
	else
		discard(a, start, nr);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

static long free_page(struct arena *a, struct page *p)
{
	(void)a;
	if ((p->attr & A_LOCKED) || p->kind != ANON)
		return -EINVAL;
	if (p->guard || p->touched == NO)
		return 0;
	p->lazy = true;
	p->touched = MAYBE;
	/* If it goes, so does the bit in its page table entry. */
	if (p->wp == YES)
		p->wp = MAYBE;
	return 0;
}

void op_free(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	ADVISE(a, MADV_FREE, free_page, start, nr);
	if (one_in(r, 3))
		check_range(a, start, nr);
}

static long age_page(struct arena *a, struct page *p)
{
	(void)a;
	return p->attr & A_LOCKED ? -EINVAL : 0;
}

void op_pageout(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	ADVISE(a, MADV_PAGEOUT, age_page, start, nr);
	if (one_in(r, 3))
		check_range(a, start, nr);
}

void op_cold(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	ADVISE(a, MADV_COLD, age_page, start, nr);
}

/* How populating ends: an error, ANY, or 0. */
static long populate_result(struct arena *a, size_t start, size_t nr, bool write)
{
	const int needed = write ? A_WRITE : A_READ;
	bool maybe, doubt = false;
	const struct page *p;
	size_t i;

	for (i = start; i < start + nr; i++) {
		p = &a->pages[i];
		if (!access_signal(a, p, write, &maybe))
			continue;
		doubt |= maybe;
		if (maybe)
			continue;
		if (doubt)
			return FAILS;
		if (!is_mapped(p))
			return -ENOMEM;
		return p->attr & needed ? -EFAULT : -EINVAL;
	}
	return doubt ? ANY : 0;
}

void op_populate(struct arena *a, struct rng *r)
{
	const bool write = one_in(r, 2);
	size_t start, nr;
	long expected;
	bool ok;

	random_range(a, r, &start, &nr);
	expected = populate_result(a, start, nr, write);
	ok = settle(a, call(a, write ? "MADV_POPULATE_WRITE" : "MADV_POPULATE_READ",
			    write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ, start, nr),
		    expected);
	populated(a, start, nr, write, ok);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

/*
 * KSM, THP
 */

static long make_mergeable(struct arena *a, struct page *p)
{
	(void)a;
	if (p->kind != SHARED)
		p->attr |= A_MERGEABLE;
	/* KSM makes a new page table entry, without the bit. */
	if (p->wp == YES && has_word(opt.enable, "ksm"))
		p->wp = MAYBE;
	return 0;
}

static long make_unmergeable(struct arena *a, struct page *p)
{
	(void)a;
	p->attr &= ~A_MERGEABLE;
	return 0;
}

void op_mergeable(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	if (one_in(r, 2))
		ADVISE(a, MADV_MERGEABLE, make_mergeable, start, nr);
	else
		ADVISE(a, MADV_UNMERGEABLE, make_unmergeable, start, nr);
	if (one_in(r, 4))
		check_range(a, start, nr);
}

static long make_huge(struct arena *a, struct page *p)
{
	(void)a;
	p->attr = (p->attr | A_HUGE) & ~A_NOHUGE;
	return 0;
}

/* What it was before may have brought in pages that nobody touched. */
static long make_small(struct arena *a, struct page *p)
{
	(void)a;
	if ((p->attr & A_HUGE) && p->touched == NO)
		p->touched = MAYBE;
	p->attr = (p->attr | A_NOHUGE) & ~A_HUGE;
	return 0;
}

void op_hugepage(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	if (one_in(r, 2))
		ADVISE(a, MADV_HUGEPAGE, make_huge, start, nr);
	else
		ADVISE(a, MADV_NOHUGEPAGE, make_small, start, nr);
}

/* It has many reasons to fail, and changes nothing but which pages there are. */
void op_collapse(struct arena *a, struct rng *r)
{
	size_t start = random_start(a, r), nr = a->nr - start, i;

	if (one_in(r, 2))
		nr = alike(a, start, nr);
	settle(a, call(a, "MADV_COLLAPSE", MADV_COLLAPSE, start, nr), ANY);
	for (i = 0; i < a->nr; i++) {
		if (!is_mapped(&a->pages[i]))
			continue;
		if (a->pages[i].touched == NO)
			a->pages[i].touched = MAYBE;
		a->pages[i].faulted = true;
	}
	check_range(a, start, nr);
}

/*
 * Guards
 */

static long install_guard(struct arena *a, struct page *p)
{
	(void)a;
	if (p->attr & A_LOCKED)
		return -EINVAL;
	if (!p->guard)
		drop_content(p);
	p->guard = true;
	p->faulted = true;
	return 0;
}

static long remove_guard(struct arena *a, struct page *p)
{
	(void)a;
	p->guard = false;
	return 0;
}

void op_guard_install(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	ADVISE(a, MADV_GUARD_INSTALL, install_guard, start, nr);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

void op_guard_remove(struct arena *a, struct rng *r)
{
	size_t start = random_start(a, r), nr = random_length(a, r, start);

	if (one_in(r, 3))
		nr = a->nr - start;
	ADVISE(a, MADV_GUARD_REMOVE, remove_guard, start, nr);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

/*
 * What a child gets
 */

static long make_dontfork(struct arena *a, struct page *p)
{
	(void)a;
	p->attr |= A_DONTFORK;
	return 0;
}

static long make_dofork(struct arena *a, struct page *p)
{
	(void)a;
	p->attr &= ~A_DONTFORK;
	return 0;
}

static long make_wiped(struct arena *a, struct page *p)
{
	(void)a;
	if (p->kind != ANON)
		return -EINVAL;
	p->attr |= A_WIPE;
	return 0;
}

static long make_kept(struct arena *a, struct page *p)
{
	(void)a;
	p->attr &= ~A_WIPE;
	return 0;
}

void op_fork_advice(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	switch (below(r, 6)) {
	case 0:
		ADVISE(a, MADV_DONTFORK, make_dontfork, start, nr);
		break;
	case 1:
		ADVISE(a, MADV_WIPEONFORK, make_wiped, start, nr);
		break;
	case 2 ... 3:
		ADVISE(a, MADV_DOFORK, make_dofork, start, nr);
		break;
	default:
		ADVISE(a, MADV_KEEPONFORK, make_kept, start, nr);
	}
}

/*
 * Holes in objects
 */

/* To unmap a page of a file takes the guard that hides it along, or does not. */
static bool has_guards(struct arena *a, int obj)
{
	size_t i;

	for (i = 0; i < a->nr; i++)
		if (a->pages[i].guard && object_of(a, &a->pages[i]) && a->pages[i].obj == obj)
			return true;
	return false;
}

static bool can_have_hole(const struct page *p)
{
	return p->kind == SHARED && !(p->attr & A_LOCKED);
}

void op_remove(struct arena *a, struct rng *r)
{
	size_t start = random_start(a, r), nr, i;
	long expected = 0;
	struct object *o;
	struct page *p;

	if (!one_in(r, 8))
		start = seek(a, start, can_have_hole);
	p = &a->pages[start];
	o = object_of(a, p);
	nr = alike(a, start, random_length(a, r, start));
	if (o && has_guards(a, p->obj))
		return;
	if (!is_mapped(p))
		expected = -ENOMEM;
	else if ((p->attr & A_LOCKED) || !o)
		expected = -EINVAL;
	else if (p->kind == PRIVATE)
		expected = -EACCES;
	else if (o->type == FILE_OBJECT)
		expected = ANY;		/* The file system may not have holes. */
	if (!settle(a, call(a, "MADV_REMOVE", MADV_REMOVE, start, nr), expected))
		return;
	for (i = p->off; i < p->off + nr && i < o->size; i++)
		o->values[i] = 0;
	check_range(a, start, nr);
}
