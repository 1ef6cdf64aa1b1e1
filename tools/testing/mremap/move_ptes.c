// SPDX-License-Identifier: GPL-2.0
/*
 * move_ptes - what does mremap() cost for each page-table entry that it moves?
 *
 * Moves an anonymous region to and fro between two addresses with mremap(), so
 * that entries are moved one table at a time and never a whole table: the two
 * addresses differ by a multiple of 64 KiB and not of a PMD.
 *
 *	-s KIB		size of the region in KiB (16384)
 *	-o ORDER	order of the folios in it, 0 to 9 on 4 KiB pages (0); the
 *			PMD-sized ones are mapped by PTEs
 *	-n MOVES	how often it is moved (100)
 *	-u		the destination is one page off: blocks lose their alignment
 *
 * Prints a line "metric NAME VALUE" for each result: nanoseconds for a move, the
 * least and the mean (interrupts add to it), and for a page.  Needs root, to set
 * the sizes of transparent huge pages; it restores them.  Exit status 4 (skip)
 * when the kernel has no such folios.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXIT_SKIP 4
#define MAX_ORDER 9
#define THP "/sys/kernel/mm/transparent_hugepage/hugepages-%ldkB/enabled"

static long page_size;
static char saved[MAX_ORDER + 1][16];

static void die(int status, const char *what)
{
	fprintf(stderr, "move_ptes: %s: %s\n", what, strerror(errno));
	exit(status);
}

/* Reads the chosen word, the one in brackets, of a THP size; false: no such size. */
static bool read_setting(int order, char *word, size_t size)
{
	char path[128], text[128] = "";
	char *begin, *end;
	int fd;

	snprintf(path, sizeof(path), THP, (page_size << order) >> 10);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		die(EXIT_FAILURE, path);
	close(fd);
	begin = strchr(text, '[');
	end = strchr(text, ']');
	if (!begin || !end)
		return false;
	snprintf(word, size, "%.*s", (int)(end - begin - 1), begin + 1);
	return true;
}

static void write_setting(int order, const char *word)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), THP, (page_size << order) >> 10);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, word, strlen(word)) < 0)
		die(EXIT_FAILURE, path);
	close(fd);
}

static void restore_settings(void)
{
	for (int order = 1; order <= MAX_ORDER; order++)
		if (saved[order][0])
			write_setting(order, saved[order]);
}

/* Faults get folios of this order, or small ones, and of no other. */
static void choose_folios(int wanted)
{
	for (int order = 1; order <= MAX_ORDER; order++) {
		if (!read_setting(order, saved[order], sizeof(saved[order]))) {
			if (order != wanted)
				continue;
			fprintf(stderr, "move_ptes: no folios of order %d here\n", order);
			exit(EXIT_SKIP);
		}
	}
	atexit(restore_settings);
	for (int order = 1; order <= MAX_ORDER; order++)
		if (saved[order][0])
			write_setting(order, order == wanted ? "always" : "never");
}

/* A PMD-sized folio is mapped by a PMD at first; a change of one page splits that. */
static void map_by_ptes(char *region, size_t size)
{
	size_t pmd = page_size << MAX_ORDER;

	for (char *p = region; p + pmd <= region + size; p += pmd)
		if (mprotect(p, page_size, PROT_READ) ||
		    mprotect(p, page_size, PROT_READ | PROT_WRITE))
			die(EXIT_FAILURE, "mprotect");
}

static char *reserve(size_t size)
{
	size_t pmd = page_size << MAX_ORDER;
	char *p = mmap(NULL, size + pmd, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die(EXIT_FAILURE, "mmap");
	return (char *)(((uintptr_t)p + pmd - 1) & -pmd);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* How long it took. */
static uint64_t move(char *from, char *to, size_t size)
{
	uint64_t begin = now();

	if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		die(EXIT_FAILURE, "mremap");
	return now() - begin;
}

int main(int argc, char **argv)
{
	long kib = 16384, order = 0, moves = 100;
	bool unaligned = false;
	char *here, *there;
	uint64_t sum = 0, least = UINT64_MAX;
	size_t size;
	int opt;

	while ((opt = getopt(argc, argv, "s:o:n:u")) != -1) {
		if (opt == 's')
			kib = atol(optarg);
		else if (opt == 'o')
			order = atol(optarg);
		else if (opt == 'n')
			moves = atol(optarg);
		else if (opt == 'u')
			unaligned = true;
		else
			return EXIT_FAILURE;
	}
	page_size = sysconf(_SC_PAGESIZE);
	size = kib << 10;
	if (order < 0 || order > MAX_ORDER || moves < 1 || size < (size_t)page_size) {
		fprintf(stderr, "move_ptes: an option is out of range, see the source\n");
		return EXIT_FAILURE;
	}
	choose_folios(order);

	here = reserve(size);
	/* 64 KiB further, relative to a page table: never a whole table at once. */
	there = reserve(size + 65536 + page_size) + 65536 + (unaligned ? page_size : 0);
	if (mmap(here, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) == MAP_FAILED)
		die(EXIT_FAILURE, "mmap");
	memset(here, 1, size);
	if (order == MAX_ORDER)
		map_by_ptes(here, size);

	/* The first move allocates the destination's page tables. */
	move(here, there, size);
	move(there, here, size);
	for (long i = 0; i < moves; i++) {
		uint64_t ns = i % 2 ? move(there, here, size) : move(here, there, size);

		sum += ns;
		if (ns < least)
			least = ns;
	}
	printf("metric least-ns-per-move %llu\n", (unsigned long long)least);
	printf("metric ns-per-move %.1f\n", (double)sum / moves);
	printf("metric ns-per-page %.3f\n", (double)sum / moves / (size / page_size));
	return EXIT_SUCCESS;
}
