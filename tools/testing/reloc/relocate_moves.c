// SPDX-License-Identifier: GPL-2.0
/*
 * relocate_moves - what does it cost to relocate the memory that mremap() moves?
 *
 * Maps anonymous memory, writes to it, and moves it by mremap() to where nothing
 * is, right behind a page with which it merges if it is relocated; and again.
 *
 *	-p PAGES	how many are moved (64)
 *	-n MOVES	how often (12)
 *	-m MODE		never, merge or always, for relocate_anon (merge)
 *	-l		a lonely place: nothing is next to it
 *	-c		both addresses are congruent: whole page tables can move
 *	-H		transparent huge pages, where they fit
 *
 * There is no limit of the size.  Prints a line "metric NAME VALUE" for each
 * result: the nanoseconds of the least move, and the mappings that there are then.
 * Needs root, to set the mode; it restores it.
 */
#define _GNU_SOURCE
#include "workload.h"

#define PMD_PAGES 512
#define SOME_PAGES 8	/* What the addresses are out of step by. */

struct plan {
	size_t page, len;
	char *from, *to;
	bool lonely;
	int advice;
};

/* Two places for the region, each with free pages around it. */
static void choose_places(struct plan *p, bool congruent)
{
	size_t pmd = p->page * PMD_PAGES, span = (p->len + 3 * pmd) & -pmd;
	char *hole = find_hole(3 * span);

	p->from = (char *)(((uintptr_t)hole + 2 * pmd - 1) & -pmd);
	p->to = p->from + span;
	if (!congruent) {
		p->from += SOME_PAGES * p->page;
		p->to += (SOME_PAGES / 2) * p->page;
	}
}

static void map_written(struct plan *p, char *addr, size_t len)
{
	map_at(addr, len);
	/* Fails where there are no huge pages at all. */
	madvise(addr, len, p->advice);
	memset(addr, 1, len);
}

static uint64_t move_once(struct plan *p)
{
	uint64_t begin;

	map_written(p, p->from, p->len);
	if (!p->lonely)
		map_written(p, p->to - p->page, p->page);
	begin = now();
	move_to(p->from, p->to, p->len);
	return now() - begin;
}

int main(int argc, char **argv)
{
	struct plan p = { .page = sysconf(_SC_PAGESIZE), .advice = MADV_NOHUGEPAGE };
	long pages = 64, moves = 12;
	const char *mode = "merge";
	uint64_t ns, least = UINT64_MAX;
	bool congruent = false;
	int opt, vmas = 0;

	program = "relocate_moves";
	while ((opt = getopt(argc, argv, "p:n:m:lcH")) != -1) {
		if (opt == 'p')
			pages = atol(optarg);
		else if (opt == 'n')
			moves = atol(optarg);
		else if (opt == 'm')
			mode = optarg;
		else if (opt == 'l')
			p.lonely = true;
		else if (opt == 'c')
			congruent = true;
		else if (opt == 'H')
			p.advice = MADV_HUGEPAGE;
		else
			return EXIT_USAGE;
	}
	if (pages < 1 || moves < 1) {
		fprintf(stderr, "%s: an option is out of range, see the source\n", program);
		return EXIT_USAGE;
	}
	relocate(mode, "0");
	p.len = pages * p.page;
	choose_places(&p, congruent);
	while (moves--) {
		ns = move_once(&p);
		if (ns < least)
			least = ns;
		vmas = count_vmas(p.to - p.page, p.len + p.page);
		munmap(p.to - p.page, p.len + p.page);
	}
	printf("metric least-ns-per-move %llu\n", (unsigned long long)least);
	printf("metric vmas %d\n", vmas);
	return EXIT_SUCCESS;
}
