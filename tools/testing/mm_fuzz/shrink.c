// SPDX-License-Identifier: GPL-2.0
/*
 * The minimiser: which operations can be left out, so that the rest still fails?
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm_fuzz.h"

static long tries;
static const char *what;	/* was found first */

/* Does it still go wrong in the same way, once in as many runs as were asked for? */
static bool fails(long *list, long nr)
{
	long i;

	opt.list = list;
	opt.nr_list = nr;
	for (i = 0; i < opt.repeat; i++) {
		tries++;
		if (run_in_child(true) != PASSED && shared->what == what)
			return true;
	}
	return false;
}

static void copy_without(long *to, const long *from, long nr, long begin, long end)
{
	memcpy(to, from, begin * sizeof(*to));
	memcpy(to + begin, from + end, (nr - end) * sizeof(*to));
}

/* Leaves out runs of that length where it can, the last first. Returns what is left. */
static long leave_out(long *list, long *attempt, long nr, long length)
{
	long begin, end;

	for (end = nr; end > 0; end = begin) {
		begin = end > length ? end - length : 0;
		copy_without(attempt, list, nr, begin, end);
		if (!fails(attempt, nr - (end - begin)))
			continue;
		nr -= end - begin;
		memcpy(list, attempt, nr * sizeof(*list));
	}
	return nr;
}

static long reduce(long *list, long nr)
{
	long *attempt = malloc((nr + 1) * sizeof(*attempt));
	long length, before;

	if (!attempt)
		die("out of memory");
	for (length = nr / 2; length > 1; length /= 2)
		nr = leave_out(list, attempt, nr, length < nr ? length : nr);
	/* Until none of them can be left out. */
	do {
		before = nr;
		nr = leave_out(list, attempt, nr, 1);
	} while (nr < before);
	free(attempt);
	return nr;
}

/* The options that this run was given, but for those that say which operations. */
static void print_options(void)
{
	int i;

	for (i = 1; i < argc_saved; i++) {
		if (!strcmp(argv_saved[i], "-m"))
			continue;
		if (!strcmp(argv_saved[i], "-n") || !strcmp(argv_saved[i], "-i") ||
		    !strcmp(argv_saved[i], "-s")) {
			i++;
			continue;
		}
		printf(" %s", argv_saved[i]);
	}
}

static void print_list(const long *list, long nr)
{
	long i;

	printf("minimised to %ld operations in %ld runs:\n  mm_fuzz", nr, tries);
	print_options();
	printf(" -s %llu -i ", (unsigned long long)opt.seed);
	for (i = 0; i < nr; i++)
		printf("%s%ld", i ? "," : "", list[i]);
	printf("\n");
	fflush(stdout);
}

/* The indices up to the one where it failed, in a list of our own. */
static long *first_list(long *nr)
{
	long i, total = opt.list ? opt.nr_list : opt.ops, last = shared->failed_index;
	long *list = malloc((total + 1) * sizeof(*list));

	if (!list)
		die("out of memory");
	for (i = 0, *nr = 0; i < total; i++) {
		list[*nr] = opt.list ? opt.list[i] : i;
		/* The others of its round may have run already. */
		if (last >= 0 && list[*nr] > last + opt.threads)
			break;
		++*nr;
	}
	return list;
}

/* The exit status: 1 if something was found. */
int run_minimiser(void)
{
	long nr, *list;

	if (run_in_child(false) == PASSED) {
		printf("ok: nothing to minimise\n");
		return 0;
	}
	what = shared->what;
	list = first_list(&nr);
	if (!fails(list, nr)) {
		printf("it does not fail again; -r repeats a run that may fail\n");
		return 1;
	}
	nr = reduce(list, nr);
	print_list(list, nr);
	opt.list = list;
	opt.nr_list = nr;
	opt.verbose = true;
	print_end(run_in_child(false));
	return 1;
}
