// SPDX-License-Identifier: GPL-2.0
/*
 * Compares memory, and what calls return, with the model.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "mm_fuzz.h"

static const char *signal_name(int sig)
{
	return sig == SIGSEGV ? "SIGSEGV" : sig == SIGBUS ? "SIGBUS" : "success";
}

const char *error_name(long error)
{
	if (error == ANY)
		return "anything";
	if (error == FAILS)
		return "an error";
	return error < 0 ? strerrorname_np(-error) : "success";
}

/* Counts what a call returned, and says whether it succeeded. */
bool settle(struct arena *a, long ret, long expected)
{
	atomic_fetch_add_explicit(&a->progress->checks, 1, memory_order_relaxed);
	a->progress->results[a->op][ret < 0]++;
	if (opt.verbose)
		print_result(a, ret);
	if (expected == ANY)
		return ret >= 0;
	if (expected == FAILS ? ret >= 0 : expected < 0 ? ret != expected : ret < 0)
		finding(a, "the call returns: expected %s, seen %s", error_name(expected),
			error_name(ret));
	return ret >= 0;
}

static void check_value(struct arena *a, size_t i, const struct sample *seen)
{
	struct page *p = &a->pages[i];
	uint64_t expected = content(a, p);

	if (seen->torn >= 0)
		finding(a, "page %zu: expected %#llx, seen %#llx, but not in word %ld",
			i, (unsigned long long)expected, (unsigned long long)seen->value,
			seen->torn);
	if (seen->value == expected)
		return;
	if (!p->lazy || seen->value)
		finding(a, "page %zu: expected %#llx%s, seen %#llx", i,
			(unsigned long long)expected, p->lazy ? " or 0" : "",
			(unsigned long long)seen->value);
	/* It was freed, and is a page of zeroes from now on. */
	p->value = 0;
	p->lazy = false;
	p->touched = MAYBE;
	p->resident = false;
}

/* Reads the page, which brings it in. */
void check_page(struct arena *a, size_t i, bool whole)
{
	struct page *p = &a->pages[i];
	struct sample seen;
	int expected, sig;
	bool maybe;

	atomic_fetch_add_explicit(&a->progress->checks, 1, memory_order_relaxed);
	expected = access_signal(a, p, false, &maybe);
	if (expected && spares_signal(a, i))
		return;
	sig = read_page(addr_of(a, i), whole, &seen);
	if (sig != expected && !(maybe && !sig))
		finding(a, "reading page %zu: expected %s, seen %s", i, signal_name(expected),
			signal_name(sig));
	if (sig)
		return;
	if (p->touched == NO)
		p->touched = MAYBE;
	/* A huge zero page takes an anon_vma. */
	if (a->nr * page_size >= 1UL << 21 || thp_active)
		p->faulted = true;
	check_value(a, i, &seen);
}

void check_range(struct arena *a, size_t start, size_t nr)
{
	size_t i;

	a->words = "after the call";
	for (i = start; i < start + nr; i++)
		check_page(a, i, false);
	a->words = NULL;
}

void check_arena(struct arena *a)
{
	size_t i;

	a->words = "in a check of the whole arena";
	for (i = 0; i < a->nr; i++)
		check_page(a, i, WHOLE_PAGE);
	a->words = NULL;
}
