// SPDX-License-Identifier: GPL-2.0
/*
 * compact_heap - how many mappings has a heap that mremap() compacts?
 *
 * What a compacting garbage collector does without copying: it fills a space with
 * objects of a page, of which every other one dies, moves those that live to the
 * end of the old space by mremap(), and unmaps the rest; and again.
 *
 *	-p PAGES	the size of the space in pages (128)
 *	-r ROUNDS	how often it is filled and compacted (8)
 *	-m MODE		never, merge or always, for relocate_anon (merge)
 *
 * Prints a line "metric NAME VALUE" for each result: the mappings of the heap
 * after each round and at the end, and the nanoseconds of all moves.  Checks that
 * every object is what it was.  Needs root, to set the mode; it restores it.
 */
#define _GNU_SOURCE
#include "workload.h"

struct heap {
	size_t page, pages;	/* of the young space */
	char *young;
	char *old;
	size_t live;		/* pages in the old space */
	uint64_t ns;
};

static void fill(struct heap *h)
{
	map_at(h->young, h->pages * h->page);
	madvise(h->young, h->pages * h->page, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < h->pages; i++)
		*(uint64_t *)(h->young + i * h->page) = h->live + i / 2;
}

static void compact(struct heap *h)
{
	uint64_t begin = now();

	for (size_t i = 0; i < h->pages; i += 2)
		move_to(h->young + i * h->page, h->old + h->live++ * h->page, h->page);
	h->ns += now() - begin;
	munmap(h->young, h->pages * h->page);
}

static bool is_intact(const struct heap *h)
{
	for (size_t i = 0; i < h->live; i++)
		if (*(uint64_t *)(h->old + i * h->page) != i)
			return false;
	return true;
}

/* Two spaces with a hole between them, so that they never merge. */
static void choose_spaces(struct heap *h, long rounds)
{
	size_t young = h->pages * h->page, old = young / 2 * (rounds + 1);
	char *hole = find_hole(young + old + 2 * h->page);

	h->young = hole + h->page;
	h->old = h->young + young + h->page;
}

int main(int argc, char **argv)
{
	struct heap h = { .page = sysconf(_SC_PAGESIZE), .pages = 128 };
	const char *mode = "merge";
	long rounds = 8, pages = 128;
	int opt, vmas = 0;

	program = "compact_heap";
	while ((opt = getopt(argc, argv, "p:r:m:")) != -1) {
		if (opt == 'p')
			pages = atol(optarg);
		else if (opt == 'r')
			rounds = atol(optarg);
		else if (opt == 'm')
			mode = optarg;
		else
			return EXIT_USAGE;
	}
	if (pages < 2 || pages % 2 || rounds < 1) {
		fprintf(stderr, "%s: an option is out of range, see the source\n", program);
		return EXIT_USAGE;
	}
	h.pages = pages;
	relocate(mode, "0");
	choose_spaces(&h, rounds);
	for (long i = 1; i <= rounds; i++) {
		fill(&h);
		compact(&h);
		vmas = count_vmas(h.old, h.live * h.page);
		printf("metric vmas-after-round-%ld %d\n", i, vmas);
	}
	if (!is_intact(&h)) {
		fprintf(stderr, "%s: an object is not what it was\n", program);
		return EXIT_FAILURE;
	}
	printf("metric vmas %d\n", vmas);
	printf("metric ns-of-moves %llu\n", (unsigned long long)h.ns);
	return EXIT_SUCCESS;
}
