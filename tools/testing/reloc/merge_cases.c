// SPDX-License-Identifier: GPL-2.0
/*
 * merge_cases - how many mappings are left by moves after which one would do, and
 * what do they hold in the slabs?
 *
 * Twelve things that programs do to private anonymous memory with mremap(), the
 * cases of Documentation/mm/mremap_relocate.rst, each as often as told.
 *
 *	-n COPIES	of each case (64)
 *	-m MODE		never, merge or always, for relocate_anon (merge)
 *
 * Prints a line "metric NAME VALUE" for each result: the mappings that one copy of
 * each case ends with, their sum, and by how many bytes the objects of
 * vm_area_struct, anon_vma and anon_vma_chain grew, for one copy of all cases.
 * The latter needs /sys/kernel/slab/; those lines are missing without it, and the
 * case that happens in a child holds nothing by then.  Needs root, to set the
 * mode; it restores it.
 */
#define _GNU_SOURCE
#include <sys/wait.h>
#include "workload.h"

#define ROOM 32			/* pages in each of the three places of a copy */
#define NR_PLACES 3
#define NR_SLABS 3
#define NR_CASES 12

static const char * const slabs[NR_SLABS] = {
	"vm_area_struct", "anon_vma", "anon_vma_chain",
};

static size_t page;

static void fill(char *addr, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		addr[i * page] = 1;
}

static char *map(char *addr, size_t pages)
{
	map_at(addr, pages * page);
	madvise(addr, pages * page, MADV_NOHUGEPAGE);
	return addr;
}

static void map_filled(char *addr, size_t pages)
{
	fill(map(addr, pages), pages);
}

static void move(char *from, size_t pages, char *to)
{
	move_to(from, to, pages * page);
}

static int vmas(const char *addr, size_t pages)
{
	return count_vmas(addr, pages * page);
}

/* The second of three pages. */
static int there_and_back(char *a, char *b)
{
	move(a + page, 1, b);
	move(b, 1, a + page);
	return vmas(a, 3);
}

static int away_and_back(char *a, char *b)
{
	map_filled(a, 3);
	return there_and_back(a, b);
}

static int filled_while_away(char *a, char *b)
{
	map(a, 3);
	move(a + page, 1, b);
	fill(b, 1);
	move(b, 1, a + page);
	return vmas(a, 3);
}

static int hole_refilled(char *a, char *b)
{
	map_filled(a, 3);
	move(a + page, 1, b);
	map_filled(a + page, 1);
	return vmas(a, 3);
}

/* What is at b continues what is at a. */
static int joined(char *a, char *b)
{
	move(b, 3, a + 3 * page);
	return vmas(a, 6);
}

static int next_to_filled(char *a, char *b)
{
	map_filled(a, 3);
	map_filled(b, 3);
	return joined(a, b);
}

static int next_to_empty(char *a, char *b)
{
	map(a, 3);
	map_filled(b, 3);
	return joined(a, b);
}

static int empty_next_to_filled(char *a, char *b)
{
	map_filled(a, 3);
	map(b, 3);
	return joined(a, b);
}

static int exchanged(char *a, char *b)
{
	map_filled(a, 4);
	move(a + page, 1, b);
	move(a + 2 * page, 1, a + page);
	move(b, 1, a + 2 * page);
	return vmas(a, 4);
}

/* Every other page of sixteen, which are then alone. */
static int gathered(char *a, char *b)
{
	map_filled(a, 16);
	for (int i = 0; i < 8; i++)
		move(a + 2 * i * page, 1, b + i * page);
	munmap(a, 16 * page);
	return vmas(b, 8);
}

static int mapped_next_to_moved(char *a, char *b)
{
	map_filled(a, 3);
	move(a, 3, b);
	map_filled(b + 3 * page, 3);
	return vmas(b, 6);
}

/* A child that lives as long as its parent says. */
static int away_and_back_after_fork(char *a, char *b)
{
	int hold[2], nr;
	char byte;
	pid_t pid;

	map_filled(a, 3);
	if (pipe(hold))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(hold[1]);
		_exit(read(hold[0], &byte, 1) != 0);
	}
	close(hold[0]);
	nr = there_and_back(a, b);
	close(hold[1]);
	waitpid(pid, NULL, 0);
	return nr;
}

static int away_and_back_in_child(char *a, char *b)
{
	int status;
	pid_t pid;

	map_filled(a, 3);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		fill(a + page, 1);
		_exit(there_and_back(a, b));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		die("wait for the child");
	munmap(a, 3 * page);
	return WEXITSTATUS(status);
}

static int gathered_in_one_move(char *a, char *b)
{
	char *c = b + ROOM * page;

	gathered(a, b);
	move(b, 8, c);
	return vmas(c, 8);
}

/*
 * Each returns how many mappings there are where there could be one. Those that
 * fork() come first, while there is little to copy.
 */
static const struct {
	int number;
	int (*run)(char *a, char *b);
} cases[NR_CASES] = {
	{ 10, away_and_back_after_fork },
	{ 11, away_and_back_in_child },
	{ 1, away_and_back },
	{ 2, filled_while_away },
	{ 3, hole_refilled },
	{ 4, next_to_filled },
	{ 5, next_to_empty },
	{ 6, empty_next_to_filled },
	{ 7, exchanged },
	{ 8, gathered },
	{ 9, mapped_next_to_moved },
	{ 12, gathered_in_one_move },
};

/* Of one cache, also where it is merged with others of its size; negative: unknown. */
static long slab_bytes(const char *name)
{
	static const char * const files[] = { "objects", "object_size" };
	long value[2];

	for (int i = 0; i < 2; i++) {
		char path[96];
		FILE *f;
		int got;

		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/%s", name, files[i]);
		f = fopen(path, "r");
		if (!f)
			return -1;
		got = fscanf(f, "%ld", &value[i]);
		fclose(f);
		if (got != 1)
			return -1;
	}
	return value[0] * value[1];
}

static void read_slabs(long bytes[NR_SLABS])
{
	for (int i = 0; i < NR_SLABS; i++)
		bytes[i] = slab_bytes(slabs[i]);
}

static int run_case(int n, long copies, char *area)
{
	size_t room = ROOM * page;
	int nr = 0;

	for (long i = 0; i < copies; i++) {
		char *a = area + (n * copies + i) * NR_PLACES * room;

		nr = cases[n].run(a, a + room);
	}
	return nr;
}

static void print_slabs(const long before[NR_SLABS], const long after[NR_SLABS], long copies)
{
	for (int i = 0; i < NR_SLABS; i++)
		if (before[i] >= 0 && after[i] >= 0)
			printf("metric %s-bytes %.0f\n", slabs[i],
			       (double)(after[i] - before[i]) / copies);
}

int main(int argc, char **argv)
{
	long copies = 64, before[NR_SLABS], after[NR_SLABS];
	const char *mode = "merge";
	int opt, nr, sum = 0;
	char *area;

	program = "merge_cases";
	while ((opt = getopt(argc, argv, "n:m:")) != -1) {
		if (opt == 'n')
			copies = atol(optarg);
		else if (opt == 'm')
			mode = optarg;
		else
			return EXIT_USAGE;
	}
	/* So many mappings can a process have, by default. */
	if (copies < 1 || copies > 600) {
		fprintf(stderr, "%s: 1 to 600 copies, please\n", program);
		return EXIT_USAGE;
	}
	page = sysconf(_SC_PAGESIZE);
	relocate(mode, "0");
	area = find_hole((size_t)NR_CASES * copies * NR_PLACES * ROOM * page);
	read_slabs(before);
	for (int n = 0; n < NR_CASES; n++) {
		nr = run_case(n, copies, area);
		printf("metric vmas-%d %d\n", cases[n].number, nr);
		sum += nr;
	}
	read_slabs(after);
	printf("metric vmas %d\n", sum);
	print_slabs(before, after, copies);
	return EXIT_SUCCESS;
}
