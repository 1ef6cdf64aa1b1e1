// SPDX-License-Identifier: GPL-2.0
/*
 * What the pages of an arena are to be.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include "mm_fuzz.h"

/*
 * A page that nobody forked off since it was written to belongs to this process
 * alone. Threads fork whenever they like, so both ends of each fork are counted.
 */
atomic_uint_fast64_t forks_begun, forks_ended;

void stamp_fork_gen(struct page *p)
{
	uint64_t ended = atomic_load(&forks_ended), begun = atomic_load(&forks_begun);

	p->fork_gen = ended == begun ? begun : UINT64_MAX;
}

bool exclusive(const struct page *p)
{
	return p->touched == YES && p->fork_gen == atomic_load(&forks_begun);
}

bool is_mapped(const struct page *p)
{
	return p->kind != NOTHING;
}

struct object *object_of(struct arena *a, const struct page *p)
{
	return p->kind == SHARED || p->kind == PRIVATE ? &a->objects[p->obj] : NULL;
}

/* Does the next page have all that the VMA of this one has? */
bool same_vma(const struct page *p, const struct page *next)
{
	if (p->kind != next->kind || p->attr != next->attr || p->policy != next->policy)
		return false;
	if (p->kind != SHARED && p->kind != PRIVATE)
		return true;
	return p->obj == next->obj && p->off + 1 == next->off;
}

/* How many of these pages, from the first on, are alike? */
size_t alike(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	for (i = 1; i < nr; i++)
		if (!same_vma(&a->pages[start + i - 1], &a->pages[start + i]))
			break;
	return i;
}

/* How many of these pages, from the first on, are mapped? */
size_t mapped_from(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (!is_mapped(&a->pages[start + i]))
			break;
	return i;
}

static bool is_beyond_end(struct arena *a, const struct page *p)
{
	return object_of(a, p) && !p->own && p->off >= object_of(a, p)->size;
}

/* What is in the page, if it is not lazily freed. */
uint64_t content(struct arena *a, const struct page *p)
{
	if (p->kind == ANON || p->own)
		return p->value;
	return object_of(a, p)->values[p->off];
}

/* Threads that look at the arena bring in the zero page, and large folios more than asked. */
uint8_t touched_now(const struct page *p)
{
	if (p->touched == NO && (opt.disturb || thp_active || (p->attr & A_HUGE)))
		return MAYBE;
	return p->touched;
}

static bool uffd_stops(const struct page *p, bool write, bool *maybe)
{
	if ((p->attr & A_MISSING) && touched_now(p) != YES) {
		*maybe = touched_now(p) == MAYBE;
		return true;
	}
	if (!write || !(p->attr & A_WP) || p->wp == NO)
		return false;
	*maybe = p->wp == MAYBE;
	return true;
}

/*
 * 0, or the signal that an access is to get. @maybe: or none at all.
 */
int access_signal(struct arena *a, const struct page *p, bool write, bool *maybe)
{
	const int needed = write ? A_WRITE : A_READ;

	*maybe = false;
	if (!is_mapped(p) || p->guard || !(p->attr & needed))
		return SIGSEGV;
	if (is_beyond_end(a, p))
		return SIGBUS;
	return uffd_stops(p, write, maybe) ? SIGBUS : 0;
}

/* The page was written to as a whole. */
void wrote(struct arena *a, size_t i, uint64_t value)
{
	struct page *p = &a->pages[i];

	p->touched = YES;
	p->lazy = false;
	if (p->wp == MAYBE)
		p->wp = NO;
	if (p->kind == SHARED) {
		object_of(a, p)->values[p->off] = value;
		return;
	}
	p->value = value;
	p->own = p->kind == PRIVATE;
	p->faulted = true;
	p->resident = p->kind == ANON && (p->attr & A_LOCKED);
	stamp_fork_gen(p);
}

/*
 * A write failed. Where the page was missing and write-protected, that has brought one
 * in, which is write-protected, too.
 */
void failed_to_write(struct arena *a, size_t i)
{
	struct page *p = &a->pages[i];

	if (p->kind != ANON || p->wp == NO)
		return;
	if (p->touched == NO)
		p->touched = MAYBE;
	p->faulted = true;
}

/* The page table entry is gone, and whatever was of this mapping only. */
void drop_content(struct page *p)
{
	p->value = 0;
	p->touched = NO;
	p->own = false;
	p->lazy = false;
	p->wp = NO;
	p->resident = false;
}

void clear_pages(struct arena *a, size_t start, size_t nr)
{
	memset(&a->pages[start], 0, nr * sizeof(*a->pages));
}

void mark_faulted(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	for (i = start; i < start + nr; i++)
		a->pages[i].faulted = true;
}

static bool same_run(const struct page *p, const struct page *next)
{
	return p->kind == next->kind && p->kind != NOTHING;
}

/*
 * An anon_vma is one of a VMA. Where the VMA of a page that was touched begins and
 * ends is not modelled, but it cannot be longer than this.
 */
void spread_faulted(struct arena *a)
{
	size_t begin, end, i;
	bool faulted;

	for (begin = 0; begin < a->nr; begin = end) {
		faulted = a->pages[begin].faulted;
		for (end = begin + 1; end < a->nr; end++) {
			if (!same_run(&a->pages[end - 1], &a->pages[end]))
				break;
			faulted |= a->pages[end].faulted;
		}
		for (i = begin; faulted && i < end; i++)
			a->pages[i].faulted = true;
	}
}

/*
 * Neither has an anon_vma, and whatever made them neighbours tried to merge them.
 * A file system may have its own idea of what merges, shmem has not.
 */
bool surely_merge(struct arena *a, const struct page *p, const struct page *next)
{
	if (!same_vma(p, next) || p->vague || next->vague || p->faulted || next->faulted)
		return false;
	if (p->kind == ANON)
		return p->natural && next->natural;
	/* It is accounted for from when it was first writable, and remains so. */
	if (p->kind == PRIVATE && !(p->attr & A_WRITE))
		return false;
	return object_of(a, p)->type != FILE_OBJECT;
}

static void inherit_page(struct page *p)
{
	p->attr &= ~(A_LOCK | A_UFFD);
	p->wp = NO;
	p->resident = false;
	p->vague = true;
	p->natural = false;
	p->fork_gen = UINT64_MAX;
	if (!(p->attr & A_WIPE))
		return;
	drop_content(p);
	p->guard = false;
}

/* What a child has of its parent's memory. */
void child_model(struct arena *a)
{
	size_t i;

	for (i = 0; i < a->nr; i++) {
		if (a->pages[i].attr & A_DONTFORK)
			clear_pages(a, i, 1);
		else if (is_mapped(&a->pages[i]))
			inherit_page(&a->pages[i]);
	}
	a->is_child = true;
	a->uffd = -1;
}
