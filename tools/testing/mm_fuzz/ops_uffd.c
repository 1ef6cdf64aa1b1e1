// SPDX-License-Identifier: GPL-2.0
/*
 * userfaultfd, with UFFD_FEATURE_SIGBUS: an access that a handler would have to resolve
 * gets a signal instead, and the model knows which.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define FEATURES	(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_WP_UNPOPULATED | \
			 UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MOVE)
#define RETRIES		100

/* Without one, or without its features, these operations do nothing. */
void open_uffd(struct arena *a)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };

	a->uffd = -1;
	if (has_word(opt.without, "uffd"))
		return;
	a->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (a->uffd < 0)
		return;
	if (!ioctl(a->uffd, UFFDIO_API, &api))
		return;
	close(a->uffd);
	a->uffd = -1;
}

/* EAGAIN says that something else was going on. */
static long uffd_call(struct arena *a, unsigned long request, void *arg)
{
	long ret;
	int i;

	for (i = 0; i < RETRIES; i++) {
		ret = sys(ioctl(a->uffd, request, arg));
		if (ret != -EAGAIN)
			break;
	}
	return ret;
}

static struct uffdio_range range_of(struct arena *a, size_t start, size_t nr)
{
	return (struct uffdio_range){
		.start = (uintptr_t)addr_of(a, start),
		.len = nr * page_size,
	};
}

static bool is_anon(const struct page *p)
{
	return p->kind == ANON;
}

static bool is_protected(const struct page *p)
{
	return p->attr & A_WP;
}

static bool is_missing(const struct page *p)
{
	return (p->attr & A_UFFD) && touched_now(p) != YES && !p->guard;
}

static bool can_leave(const struct page *p)
{
	return p->kind == ANON && exclusive(p) && (p->attr & A_WRITE) && !p->lazy;
}

/* Most are as wanted. */
static size_t seek_most(struct arena *a, struct rng *r, bool (*wanted)(const struct page *p))
{
	size_t start = random_start(a, r);

	return one_in(r, 8) ? start : seek(a, start, wanted);
}

/* Some anonymous pages that are alike. False if the first one is not. */
static bool random_anon(struct arena *a, struct rng *r, bool (*wanted)(const struct page *p),
			size_t *start, size_t *nr)
{
	*start = seek_most(a, r, wanted);
	*nr = alike(a, *start, random_length(a, r, *start));
	return a->uffd >= 0 && a->pages[*start].kind == ANON;
}

static void unregister(struct arena *a, size_t start, size_t nr)
{
	struct uffdio_range range = range_of(a, start, nr);
	size_t i;

	note(a, "ioctl(uffd, UFFDIO_UNREGISTER, {A + %ld * P, %ld * P})", (long)start, (long)nr);
	settle(a, uffd_call(a, UFFDIO_UNREGISTER, &range), 0);
	for (i = start; i < start + nr; i++) {
		a->pages[i].attr &= ~A_UFFD;
		a->pages[i].wp = NO;
	}
}

/* Makes sure that these are registered no longer, if they still are. */
void forget_uffd(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	if (!nr)
		return;
	unregister(a, start, nr);
	for (i = start; i < start + nr; i++)
		a->pages[i].vague = true;
}

/* A change of the mode leaves the bits of the old one behind: begin anew. */
void op_uffd_register(struct arena *a, struct rng *r)
{
	struct uffdio_register reg = { 0 };
	int mode = 1 + below(r, 3);
	size_t start, nr, i;

	if (!random_anon(a, r, is_anon, &start, &nr))
		return;
	if (a->pages[start].attr & A_UFFD)
		unregister(a, start, nr);
	reg.range = range_of(a, start, nr);
	reg.mode = (mode & 1 ? UFFDIO_REGISTER_MODE_MISSING : 0) |
		   (mode & 2 ? UFFDIO_REGISTER_MODE_WP : 0);
	note(a, "ioctl(uffd, UFFDIO_REGISTER, {A + %ld * P, %ld * P, %s%s})", (long)start, (long)nr,
	     (long)(mode & 1 ? "MISSING " : ""), (long)(mode & 2 ? "WP" : ""));
	settle(a, uffd_call(a, UFFDIO_REGISTER, &reg), 0);
	for (i = start; i < start + nr; i++)
		a->pages[i].attr |= (mode & 1 ? A_MISSING : 0) | (mode & 2 ? A_WP : 0);
	/* So that something is missing. */
	if (one_in(r, 2))
		discard(a, start, nr);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

void op_uffd_unregister(struct arena *a, struct rng *r)
{
	size_t start, nr;

	if (!random_anon(a, r, is_anon, &start, &nr))
		return;
	unregister(a, start, nr);
	if (one_in(r, 2))
		check_range(a, start, nr);
}

/*
 * Can a page be put here? Only where there is nothing. Before Linux 7.2, UFFDIO_COPY took
 * a guard for nothing.
 */
static long fill_result(const struct page *p)
{
	if (!(p->attr & A_UFFD))
		return -ENOENT;
	if (p->guard && !is_old_kernel)
		return -EEXIST;
	if (p->guard)
		return ANY;
	if (touched_now(p) == YES)
		return -EEXIST;
	return touched_now(p) == NO ? 0 : ANY;
}

static void filled(struct page *p, uint64_t value, bool wp)
{
	p->value = value;
	p->guard = false;
	p->touched = YES;
	p->lazy = false;
	p->wp = wp ? YES : NO;
	p->faulted = true;
	stamp_fork_gen(p);
}

/* UFFDIO_COPY and ZEROPAGE say in the structure what failed, too. */
void op_uffd_copy(struct arena *a, struct rng *r)
{
	size_t i = seek_most(a, r, is_missing);
	uint64_t value = random_value(r);
	struct page *p = &a->pages[i];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)addr_of(a, i),
		.src = (uintptr_t)a->buffer,
		.len = page_size,
	};
	bool wp = (p->attr & A_WP) && one_in(r, 2);

	if (a->uffd < 0 || p->kind != ANON)
		return;
	copy.mode = wp ? UFFDIO_COPY_MODE_WP : 0;
	fill_page(a->buffer, value);
	mark_faulted(a, i, 1);
	note(a, "ioctl(uffd, UFFDIO_COPY, {A + %ld * P, page of %#lx, P%s})", (long)i, (long)value,
	     (long)(wp ? ", WP" : ""));
	if (!settle(a, uffd_call(a, UFFDIO_COPY, &copy), fill_result(p)))
		return;
	filled(p, value, wp);
	check_page(a, i, false);
}

void op_uffd_zeropage(struct arena *a, struct rng *r)
{
	size_t i = seek_most(a, r, is_missing);
	struct page *p = &a->pages[i];
	struct uffdio_zeropage zero = { .range = range_of(a, i, 1) };
	long expected = fill_result(p);

	if (a->uffd < 0 || p->kind != ANON)
		return;
	/* The marker of a missing page that is write-protected is in the way. */
	if (!expected && p->wp != NO)
		expected = ANY;
	mark_faulted(a, i, 1);
	note(a, "ioctl(uffd, UFFDIO_ZEROPAGE, {A + %ld * P, P})", (long)i);
	if (!settle(a, uffd_call(a, UFFDIO_ZEROPAGE, &zero), expected))
		return;
	filled(p, 0, false);
	/* The zero page is nobody's. */
	p->fork_gen = UINT64_MAX;
	check_page(a, i, false);
}

void op_uffd_wp(struct arena *a, struct rng *r)
{
	struct uffdio_writeprotect wp = { 0 };
	bool protect = !one_in(r, 3);
	size_t start, nr, i;

	if (!random_anon(a, r, is_protected, &start, &nr))
		return;
	wp.range = range_of(a, start, nr);
	wp.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
	mark_faulted(a, start, nr);
	note(a, "ioctl(uffd, UFFDIO_WRITEPROTECT, {A + %ld * P, %ld * P, %s})", (long)start,
	     (long)nr, (long)(protect ? "WP" : "0"));
	if (!settle(a, uffd_call(a, UFFDIO_WRITEPROTECT, &wp),
		    a->pages[start].attr & A_WP ? 0 : -ENOENT))
		return;
	for (i = start; i < start + nr; i++)
		if (!a->pages[i].guard)
			a->pages[i].wp = protect ? YES : NO;
	write_some(a, r, start, nr < 2 ? nr : 2);
}

/* It fails for many reasons, also for those that only the kernel knows. */
static long move_page_result(const struct page *src, const struct page *dst)
{
	if (!(dst->attr & A_UFFD) || dst->kind != ANON || src->kind != ANON || dst->guard ||
	    touched_now(dst) == YES || ((src->attr ^ dst->attr) & (A_PROT | A_LOCKED)) ||
	    !(src->attr & A_WRITE) || src->guard)
		return FAILS;
	return ANY;
}

static void moved_page(struct arena *a, struct page *src, struct page *dst)
{
	dst->value = src->value;
	dst->touched = src->touched;
	dst->lazy = src->lazy;
	dst->wp = NO;
	dst->fork_gen = src->fork_gen;
	dst->resident = false;
	drop_content(src);
	(void)a;
}

void op_uffd_move(struct arena *a, struct rng *r)
{
	size_t from = seek_most(a, r, can_leave), to = seek_most(a, r, is_missing);
	struct page *src = &a->pages[from], *dst = &a->pages[to];
	struct uffdio_move move = {
		.dst = (uintptr_t)addr_of(a, to),
		.src = (uintptr_t)addr_of(a, from),
		.len = page_size,
	};

	/* What becomes of a page's write protection is not documented. */
	if (a->uffd < 0 || from == to || src->wp != NO || dst->wp != NO)
		return;
	mark_faulted(a, to, 1);
	if (!is_mapped(dst))
		dst->faulted = false;
	note(a, "ioctl(uffd, UFFDIO_MOVE, {A + %ld * P, A + %ld * P, P})", (long)to, (long)from);
	if (!settle(a, uffd_call(a, UFFDIO_MOVE, &move), move_page_result(src, dst)))
		return;
	moved_page(a, src, dst);
	check_page(a, to, WHOLE_PAGE);
	check_page(a, from, false);
}
