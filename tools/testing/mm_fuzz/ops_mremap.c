// SPDX-License-Identifier: GPL-2.0
/*
 * mremap.
 *
 * Where the kernel chooses the new place it is outside of the arena. The memory is
 * moved back at once, in the same operation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_fuzz.h"

/* Is each anonymous move a relocation? A thread cannot know what others set. */
static bool always_relocates;

struct move {
	size_t from, nr, to, new_nr;
	int flags;
	struct vma vma;		/* of the first page, before */
	bool has_vma;
};

static const char *flag_names(int flags)
{
	static const char * const names[16] = {
		"0", "MREMAP_MAYMOVE", "MREMAP_FIXED", "MREMAP_MAYMOVE | MREMAP_FIXED",
		"MREMAP_DONTUNMAP", "MREMAP_MAYMOVE | MREMAP_DONTUNMAP",
		"MREMAP_FIXED | MREMAP_DONTUNMAP",
		"MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP",
		"MREMAP_RELOCATE_ANON", "MREMAP_MAYMOVE | MREMAP_RELOCATE_ANON",
		"MREMAP_FIXED | MREMAP_RELOCATE_ANON",
		"MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_RELOCATE_ANON",
		"MREMAP_DONTUNMAP | MREMAP_RELOCATE_ANON",
		"MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_RELOCATE_ANON",
		"MREMAP_FIXED | MREMAP_DONTUNMAP | MREMAP_RELOCATE_ANON",
		"MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP | MREMAP_RELOCATE_ANON",
	};

	return names[flags & 15];
}

/* Not by the C library, which refuses flags that it does not know. */
static long raw_mremap(void *from, size_t nr, size_t new_nr, int flags, void *to)
{
	return sys(syscall(SYS_mremap, from, nr * page_size, new_nr * page_size, flags, to));
}

static long do_mremap(struct arena *a, size_t from, size_t nr, size_t new_nr, int flags, size_t to)
{
	if (flags & MREMAP_FIXED)
		note(a, "mremap(A + %ld * P, %ld * P, %ld * P, %s, A + %ld * P)", (long)from,
		     (long)nr, (long)new_nr, (long)flag_names(flags), (long)to);
	else
		note(a, "mremap(A + %ld * P, %ld * P, %ld * P, %s)", (long)from, (long)nr,
		     (long)new_nr, (long)flag_names(flags));
	return raw_mremap(addr_of(a, from), nr, new_nr, flags,
			  flags & MREMAP_FIXED ? addr_of(a, to) : NULL);
}

static bool overlaps(size_t from, size_t nr, size_t to, size_t new_nr)
{
	return from + nr > to && to + new_nr > from;
}

static void look_up_vma(struct arena *a, struct move *m)
{
	m->has_vma = vma_at(a, m->from, &m->vma);
}

static bool is_in_vma(const struct move *m, size_t nr)
{
	return m->has_vma && (long)(m->from + nr) <= m->vma.end;
}

/*
 * The model of a move
 */

/* The pages at the old place, of which the entries moved away. */
static void leave_behind(struct page *p)
{
	drop_content(p);
	p->guard = false;
	/* Its anon_vma may be gone, without an attempt to merge it. */
	p->vague = true;
	p->faulted = true;
}

static void arrive(struct page *p)
{
	/* Without UFFD_FEATURE_EVENT_REMAP it is registered no longer. */
	if (p->attr & A_UFFD)
		p->vague = true;
	p->attr &= ~A_UFFD;
	p->wp = NO;
	/* Memory that was never touched takes the page offset of its new place. */
	p->natural = p->kind != ANON || !p->faulted;
}

static void lift(struct arena *a, size_t from, size_t nr)
{
	memcpy(a->limbo, &a->pages[from], nr * sizeof(*a->limbo));
}

static void leave(struct arena *a, size_t from, size_t nr, bool dontunmap)
{
	size_t i;

	for (i = from; i < from + nr; i++) {
		if (!is_mapped(&a->pages[i]))
			continue;
		if (dontunmap)
			leave_behind(&a->pages[i]);
		else
			clear_pages(a, i, 1);
	}
}

/* Puts down pages of those lifted. Where there was a hole, what is there stays. */
static void drop(struct arena *a, size_t first, size_t to, size_t nr)
{
	size_t i;

	for (i = first; i < first + nr; i++) {
		if (!is_mapped(&a->limbo[i]))
			continue;
		a->pages[to + i] = a->limbo[i];
		arrive(&a->pages[to + i]);
	}
}

/*
 * MREMAP_DONTUNMAP takes the lock off all of the old VMA, not only off what moved,
 * and vrm_stat_account() has counted the new one as locked in addition. So VmLck is
 * too large by the old VMA, and for good. A kernel that gets it right is right, too.
 */
static void model_dontunmap(struct arena *a, const struct move *m)
{
	long i;

	if (!(a->pages[m->from].attr & A_LOCKED))
		return;
	for (i = m->vma.start < 0 ? 0 : m->vma.start; i < m->vma.end && i < (long)a->nr; i++) {
		a->pages[i].attr &= ~A_LOCK;
		a->pages[i].resident = false;
		a->pages[i].vague = true;
		a->unlocked++;
	}
}

/*
 * The new VMA may merge with others while the old one is there still, or with the old
 * one itself, so that they share an anon_vma. Of several VMAs each also meets what the
 * next one will replace; where they begin is not modelled.
 */
static void replace(struct arena *a, const struct move *m)
{
	const bool dontunmap = m->flags & MREMAP_DONTUNMAP;
	size_t step = is_in_vma(m, m->nr) ? m->nr : 1, i;

	for (i = 0; i < m->nr; i += step) {
		drop(a, i, m->to, step);
		spread_faulted(a);
		leave(a, m->from + i, step, dontunmap);
	}
}

static bool has_uffd(struct arena *a, size_t from, size_t nr)
{
	size_t i;

	for (i = from; i < from + nr; i++)
		if (a->pages[i].attr & A_UFFD)
			return true;
	return false;
}

static void forget_run(struct arena *a, size_t start, size_t end)
{
	size_t from, to;

	for (from = start; from < end; from = to + 1) {
		for (to = from; to < end; to++)
			if (!(a->pages[to].attr & A_UFFD))
				break;
		forget_uffd(a, from, to - from);
	}
}

/*
 * The new VMA merges while it is registered with userfaultfd, and then loses that as
 * a whole, neighbours included. Which those are is not modelled: have none.
 */
static void drop_uffd_around(struct arena *a, size_t start, size_t nr)
{
	size_t from = start, to = start + nr;

	while (from && (a->pages[from - 1].attr & A_UFFD))
		from--;
	while (to < a->nr && (a->pages[to].attr & A_UFFD))
		to++;
	forget_run(a, from, to);
}

static void maybe_drop_page(struct arena *a, size_t to)
{
	const struct page *p = &a->pages[to];

	if (is_mutant("drop-page") && p->kind == ANON && (p->attr & A_WRITE) && p->value)
		write_page(addr_of(a, to), 0);
}

/*
 * A relocation
 */

/* Nothing keeps the page from being relocated: see Documentation/mm/mremap_relocate.rst. */
static bool relocatable(const struct page *p)
{
	return p->kind == ANON && p->own == false && exclusive(p) && !p->lazy && !p->guard &&
	       p->value && !(p->attr & (A_UFFD | A_MERGEABLE | A_HUGE | A_LOCKED)) &&
	       (p->attr & A_WRITE) && !p->vague;
}

/* Is page i in the same run of mapped pages as the range? It may be in its VMA. */
static bool is_connected(struct arena *a, size_t i, size_t from, size_t nr)
{
	size_t begin = i < from ? i : from, end = i < from ? from : i + 1;

	return (i >= from && i < from + nr) || mapped_from(a, begin, end - begin) == end - begin;
}

/*
 * Is the range sure to be relocated, and to merge with the page before its new place?
 * The page behind it must not be what the range is cut off from.
 */
static bool expect_relocation(struct arena *a, const struct move *m)
{
	struct page *before = &a->pages[m->to - 1];
	size_t i, behind = m->to + m->nr;

	if (!(always_relocates || (m->flags & MREMAP_RELOCATE_ANON)) || thp_active ||
	    a->is_child || !m->to || m->nr != m->new_nr || (m->flags & MREMAP_DONTUNMAP) ||
	    !is_in_vma(m, m->nr))
		return false;
	if (!before->natural || before->vague || is_connected(a, m->to - 1, m->from, m->nr))
		return false;
	if (behind < a->nr && is_connected(a, behind, m->from, m->nr))
		return false;
	for (i = m->from; i < m->from + m->nr; i++)
		if (!relocatable(&a->pages[i]) || a->pages[i].attr != before->attr ||
		    a->pages[i].policy != before->policy || before->kind != ANON)
			return false;
	return true;
}

static void check_relocation(struct arena *a, const struct move *m)
{
	struct vma vma;
	size_t i;

	/* Somebody has forked meanwhile. */
	for (i = m->to; i < m->to + m->nr; i++)
		if (!exclusive(&a->pages[i]))
			return;
	atomic_fetch_add(&shared->relocations, 1);
	if (!vma_at(a, m->to, &vma) || vma.start >= (long)m->to)
		finding(a, "after page %zu: expected a relocation, seen a VMA from page %ld",
			m->to - 1, vma.start);
	for (i = m->to; i < m->to + m->nr; i++)
		a->pages[i].natural = true;
}

/*
 * To a place that we choose
 */

/* Of several VMAs some may not be moved together with others. */
static bool wants_one_vma(struct arena *a, const struct move *m)
{
	const struct object *o;
	size_t i;

	if ((m->flags & MREMAP_DONTUNMAP) || has_uffd(a, m->from, m->nr))
		return true;
	for (i = m->from; i < m->from + m->nr; i++) {
		o = object_of(a, &a->pages[i]);
		if (o && o->type == FILE_OBJECT)
			return true;
	}
	return false;
}

/*
 * The old VMA may merge with a new one next to it, and both lose the lock then: leave
 * that out.
 */
static bool merges_with_itself(struct arena *a, const struct move *m)
{
	return (a->pages[m->from].attr & A_LOCKED) && m->has_vma &&
	       overlaps(m->vma.start, m->vma.end - m->vma.start, m->to ? m->to - 1 : 0,
			m->new_nr + 2);
}

static int random_flags(struct rng *r)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (one_in(r, 6))
		flags |= MREMAP_DONTUNMAP;
	if (one_in(r, 2) && has_relocation())
		flags |= MREMAP_RELOCATE_ANON;
	return flags;
}

static bool can_be_joined(const struct page *p)
{
	return p->kind == ANON && p->natural && !p->vague && p->attr == (A_READ | A_WRITE);
}

/* At times behind a page that the range may merge with. */
static size_t choose_place(struct arena *a, struct rng *r, size_t nr)
{
	size_t last = a->nr - nr, to = below(r, last + 1);

	if (!one_in(r, 3) || !last)
		return to;
	to = seek(a, to, can_be_joined) + 1;
	return to < last ? to : last;
}

static void choose_move(struct arena *a, struct rng *r, struct move *m)
{
	random_range(a, r, &m->from, &m->nr);
	m->new_nr = m->nr;
	m->flags = random_flags(r);
	m->to = choose_place(a, r, m->nr);
	look_up_vma(a, m);
	if (m->has_vma && merges_with_itself(a, m))
		m->flags &= ~MREMAP_DONTUNMAP;
	if (wants_one_vma(a, m))
		m->nr = clip_to_vma(a, m->from, m->nr);
	m->new_nr = m->nr;
}

static long move_result(struct arena *a, const struct move *m)
{
	if (overlaps(m->from, m->nr, m->to, m->new_nr))
		return -EINVAL;
	return is_mapped(&a->pages[m->from]) ? 0 : -EFAULT;
}

static void model_move(struct arena *a, const struct move *m)
{
	const bool uffd = has_uffd(a, m->from, m->nr);

	lift(a, m->from, m->nr);
	if (m->flags & MREMAP_DONTUNMAP)
		model_dontunmap(a, m);
	replace(a, m);
	if (!uffd)
		return;
	drop_uffd_around(a, m->to, m->nr);
	drop_uffd_around(a, m->from, m->nr);
}

/* The same length: of all VMAs in the range, and what is between them stays. */
void op_mremap_move(struct arena *a, struct rng *r)
{
	bool relocation;
	struct move m;
	long ret;

	choose_move(a, r, &m);
	relocation = expect_relocation(a, &m);
	ret = do_mremap(a, m.from, m.nr, m.new_nr, m.flags, m.to);
	if (!settle(a, ret, move_result(a, &m)))
		return;
	if (ret != (long)addr_of(a, m.to))
		finding(a, "expected %p, seen %#lx", addr_of(a, m.to), ret);
	model_move(a, &m);
	if (relocation)
		check_relocation(a, &m);
	maybe_drop_page(a, m.to);
	if (one_in(r, 2)) {
		check_range(a, m.to, m.nr);
		check_range(a, m.from, m.nr);
	}
}

/*
 * Another length
 */

/* What is new at the end has what the last page has, but no content. */
static void extend(struct arena *a, struct page *first, size_t nr, size_t new_nr)
{
	struct page page = first[nr - 1];
	size_t i;

	drop_content(&page);
	page.guard = false;
	for (i = nr; i < new_nr; i++) {
		page.off++;
		first[i] = page;
	}
	(void)a;
}

static void populate_extension(struct arena *a, size_t start, size_t nr)
{
	if (a->pages[start].attr & A_LOCKED)
		populated(a, start, nr, true, false);
}

/*
 * Back into the arena, to a place where whatever is there is replaced. Out there it
 * may have merged with memory of the C library's.
 */
static void bring_back(struct arena *a, char *addr, size_t nr, size_t to)
{
	size_t i;
	long ret;

	for (i = 0; i < nr; i++)
		a->limbo[i].faulted = true;

	note(a, "mremap(where it went, %ld * P, %ld * P, %s, A + %ld * P)", (long)nr, (long)nr,
	     (long)flag_names(MREMAP_MAYMOVE | MREMAP_FIXED), (long)to);
	ret = raw_mremap(addr, nr, nr, MREMAP_MAYMOVE | MREMAP_FIXED, addr_of(a, to));
	settle(a, ret, 0);
	clear_pages(a, to, nr);
	drop(a, 0, to, nr);
}

static bool is_free(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	for (i = start; i < start + nr; i++)
		if (is_mapped(&a->pages[i]))
			return false;
	return true;
}

static bool grows_in_place(struct arena *a, const struct move *m)
{
	return m->vma.end == (long)(m->from + m->nr) &&
	       is_free(a, m->from + m->nr, m->new_nr - m->nr);
}

static void grow_in_place(struct arena *a, const struct move *m)
{
	extend(a, &a->pages[m->from], m->nr, m->new_nr);
	populate_extension(a, m->from + m->nr, m->new_nr - m->nr);
	/* If there was no page in between, what it merges with was a neighbour. */
	a->pages[m->from + m->nr].vague |= a->pages[m->from + m->nr - 1].vague;
}

static void grow_elsewhere(struct arena *a, const struct move *m, long ret)
{
	const bool uffd = has_uffd(a, m->from, m->nr);

	lift(a, m->from, m->nr);
	leave(a, m->from, m->nr, false);
	extend(a, a->limbo, m->nr, m->new_nr);
	bring_back(a, (char *)ret, m->new_nr, m->to);
	populate_extension(a, m->to + m->nr, m->new_nr - m->nr);
	if (uffd)
		drop_uffd_around(a, m->to, m->new_nr);
}

static void grow_mapping(struct arena *a, struct move *m)
{
	bool in_place, stays;
	long ret, expected = 0;

	in_place = m->has_vma && grows_in_place(a, m);
	if (!is_in_vma(m, m->nr))
		expected = -EFAULT;
	else if (!in_place && !(m->flags & MREMAP_MAYMOVE))
		expected = -ENOMEM;
	ret = do_mremap(a, m->from, m->nr, m->new_nr, m->flags, 0);
	if (!settle(a, ret, expected))
		return;
	stays = ret == (long)addr_of(a, m->from);
	if (stays != in_place)
		finding(a, "expected it to grow %s, seen %#lx", in_place ? "in place" : "elsewhere",
			ret);
	if (in_place)
		grow_in_place(a, m);
	else
		grow_elsewhere(a, m, ret);
}

/* The end is unmapped, whatever it is. */
static void shrink_mapping(struct arena *a, struct move *m)
{
	long ret = do_mremap(a, m->from, m->nr, m->new_nr, m->flags, 0);

	if (settle(a, ret, m->has_vma ? 0 : -EFAULT))
		clear_pages(a, m->from + m->new_nr, m->nr - m->new_nr);
}

/* MREMAP_FIXED: what is at the new place goes first. */
static void resize_fixed(struct arena *a, struct move *m)
{
	size_t both = m->nr < m->new_nr ? m->nr : m->new_nr;
	long ret, expected = 0;
	bool uffd;

	m->flags |= MREMAP_MAYMOVE | MREMAP_FIXED;
	if (overlaps(m->from, m->nr, m->to, m->new_nr))
		expected = -EINVAL;
	else if (!is_in_vma(m, both))
		expected = -EFAULT;
	ret = do_mremap(a, m->from, m->nr, m->new_nr, m->flags, m->to);
	if (!settle(a, ret, expected))
		return;
	uffd = has_uffd(a, m->from, both);
	lift(a, m->from, both);
	if (m->new_nr > m->nr)
		extend(a, a->limbo, m->nr, m->new_nr);
	clear_pages(a, m->to, m->new_nr);
	drop(a, 0, m->to, m->new_nr);
	spread_faulted(a);
	clear_pages(a, m->from, m->nr);
	if (m->new_nr > m->nr)
		populate_extension(a, m->to + m->nr, m->new_nr - m->nr);
	if (!uffd)
		return;
	drop_uffd_around(a, m->to, m->new_nr);
	drop_uffd_around(a, m->from, m->nr);
}

void op_mremap_resize(struct arena *a, struct rng *r)
{
	struct move m = { 0 };

	random_range(a, r, &m.from, &m.nr);
	m.new_nr = random_length(a, r, m.from);
	m.to = below(r, a->nr - m.new_nr + 1);
	m.flags = one_in(r, 3) ? 0 : MREMAP_MAYMOVE;
	look_up_vma(a, &m);
	if (m.nr == m.new_nr)
		settle(a, do_mremap(a, m.from, m.nr, m.nr, m.flags, 0), m.has_vma ? 0 : -EFAULT);
	else if (one_in(r, 2))
		resize_fixed(a, &m);
	else if (m.nr < m.new_nr)
		grow_mapping(a, &m);
	else
		shrink_mapping(a, &m);
	if (one_in(r, 2))
		check_range(a, m.from, m.nr);
}

/* MREMAP_DONTUNMAP to where the kernel likes, and back to another place. */
void op_mremap_elsewhere(struct arena *a, struct rng *r)
{
	struct move m = { .flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP };
	long ret;

	random_range(a, r, &m.from, &m.nr);
	m.to = below(r, a->nr - m.nr + 1);
	look_up_vma(a, &m);
	ret = do_mremap(a, m.from, m.nr, m.nr, m.flags, 0);
	if (!settle(a, ret, is_in_vma(&m, m.nr) ? 0 : -EFAULT))
		return;
	lift(a, m.from, m.nr);
	leave(a, m.from, m.nr, true);
	model_dontunmap(a, &m);
	bring_back(a, (char *)ret, m.nr, m.to);
	check_range(a, m.to, m.nr);
	check_range(a, m.from, m.nr);
}

static bool is_shared(const struct page *p)
{
	return p->kind == SHARED;
}

/* An old length of 0 maps shared memory a second time. */
void op_mremap_duplicate(struct arena *a, struct rng *r)
{
	size_t from = random_start(a, r), nr, to, i;
	long ret, expected = 0;
	struct page page;

	if (!one_in(r, 8))
		from = seek(a, from, is_shared);
	nr = random_length(a, r, from);
	to = below(r, a->nr - nr + 1);
	page = a->pages[from];

	/* At its own place it would be unmapped first. */
	if (to == from)
		return;
	if (overlaps(from, 0, to, nr))
		expected = -EINVAL;
	else if (page.kind != SHARED)
		expected = is_mapped(&page) ? -EINVAL : -EFAULT;
	ret = do_mremap(a, from, 0, nr, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (!settle(a, ret, expected))
		return;
	drop_content(&page);
	page.guard = false;
	for (i = 0; i < nr; i++, page.off++)
		a->pages[to + i] = page;
	populate_extension(a, to, nr);
	check_range(a, to, nr);
}

/* What is refused whatever there is. */
void op_mremap_bad(struct arena *a, struct rng *r)
{
	size_t from = random_start(a, r), to = random_start(a, r);

	switch (below(r, 4)) {
	case 0:
		settle(a, do_mremap(a, from, 1, 1, MREMAP_FIXED, to), -EINVAL);
		break;
	case 1:
		settle(a, do_mremap(a, from, 1, 2, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0), -EINVAL);
		break;
	case 2:
		settle(a, do_mremap(a, from, 1, 0, MREMAP_MAYMOVE, 0), -EINVAL);
		break;
	default:
		settle(a, do_mremap(a, from, 1, 1, MREMAP_DONTUNMAP, 0), -EINVAL);
		settle(a, do_mremap(a, from, 1, 1, MREMAP_RELOCATE_ANON, 0), -EINVAL);
	}
}

/* Each run begins with the same mode. */
void begin_relocation(void)
{
	if (!has_relocation())
		return;
	always_relocates = !strcmp(opt.relocate, "always");
	set_relocation(strcmp(opt.relocate, "random") ? opt.relocate : "merge");
}

/* Which moves are relocations from now on, those of all threads. */
void op_relocate(struct arena *a, struct rng *r)
{
	static const char * const modes[] = { "never", "merge", "always", "always" };
	const char *mode = modes[below(r, 4)];

	note(a, "write(/sys/kernel/mm/mremap/relocate_anon, %s)", (long)mode);
	settle(a, set_relocation(mode) ? 0 : -EIO, 0);
	always_relocates = opt.threads == 1 && !strcmp(mode, "always");
}
