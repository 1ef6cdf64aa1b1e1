// SPDX-License-Identifier: GPL-2.0
/*
 * Which operations there are, and how one is chosen.
 *
 * An operation gets its random numbers from the seed and its own index, and names
 * memory by the number of the page in the arena.  So each means something after any
 * others, and the minimiser can leave out what it likes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mm_fuzz.h"

const struct op op_table[] = {
	{ "mmap", "map", 150, op_mmap, true },
	{ "munmap", "map", 45, op_munmap, true },
	{ "mprotect", "protect", 80, op_mprotect, true },
	{ "mremap-move", "mremap", 110, op_mremap_move, true },
	{ "mremap-resize", "mremap", 50, op_mremap_resize, true },
	{ "mremap-elsewhere", "mremap", 20, op_mremap_elsewhere, true },
	{ "mremap-duplicate", "mremap", 6, op_mremap_duplicate, true },
	{ "mremap-bad", "mremap", 4, op_mremap_bad, true },
	{ "relocate-mode", "mremap", 2, op_relocate, false },
	{ "write", "access", 220, op_write, false },
	{ "read", "access", 40, op_read, false },
	{ "process_vm", "access", 20, op_remote, false },
	{ "file-write", "file", 10, op_file_write, false },
	{ "dontneed", "discard", 40, op_dontneed, false },
	{ "free", "discard", 20, op_free, false },
	{ "remove", "file", 8, op_remove, false },
	{ "pageout", "reclaim", 30, op_pageout, false },
	{ "cold", "reclaim", 8, op_cold, false },
	{ "populate", "populate", 60, op_populate, false },
	{ "mergeable", "ksm", 16, op_mergeable, true },
	{ "hugepage", "thp", 10, op_hugepage, true },
	{ "collapse", "thp", 4, op_collapse, false },
	{ "guard-install", "guard", 20, op_guard_install, true },
	{ "guard-remove", "guard", 24, op_guard_remove, false },
	{ "fork-advice", "fork", 10, op_fork_advice, true },
	{ "mlock", "lock", 20, op_mlock, true },
	{ "munlock", "lock", 20, op_munlock, true },
	{ "mbind", "numa", 10, op_mbind, true },
	{ "move_pages", "numa", 10, op_move_pages, false },
	{ "uffd-register", "uffd", 14, op_uffd_register, true },
	{ "uffd-unregister", "uffd", 10, op_uffd_unregister, true },
	{ "uffd-copy", "uffd", 20, op_uffd_copy, false },
	{ "uffd-zeropage", "uffd", 8, op_uffd_zeropage, false },
	{ "uffd-wp", "uffd", 20, op_uffd_wp, false },
	{ "uffd-move", "uffd", 20, op_uffd_move, false },
	{ "fork", "fork", 2, op_fork, true },
	{ "exec", "fork", 1, op_exec, true },
	{ "swapoff", "reclaim", 1, op_swapoff, false },
};

const int nr_op_types = ARRAY_SIZE(op_table);

/* Which operation each share of the random numbers is. */
static uint8_t wheel[4096];
static size_t wheel_size;

static bool is_left_out(const struct op *op)
{
	if (has_word(opt.without, op->group) || has_word(opt.without, op->name))
		return true;
	if (!strcmp(op->group, "numa"))
		return nr_nodes < 2;
	if (op->run == op_mlock || op->run == op_munlock)
		return !can_lock;
	if (op->run == op_remote)
		return !has_remote_access();
	if (op->run == op_swapoff)
		return !opt.swap;
	if (op->run == op_relocate)
		return !has_relocation() || strcmp(opt.relocate, "random");
	return false;
}

bool choose_ops(void)
{
	unsigned int i;
	int op;

	for (op = 0; op < nr_op_types; op++)
		for (i = 0; i < op_table[op].weight && !is_left_out(&op_table[op]); i++)
			wheel[wheel_size++] = op;
	return wheel_size;
}

/* Does the list name groups or operations only? */
bool list_groups(const char *list)
{
	char copy[512], *word, *rest = copy;
	int op;

	if (!list || strlen(list) >= sizeof(copy))
		return !list;
	strcpy(copy, list);
	while ((word = strsep(&rest, ","))) {
		for (op = 0; op < nr_op_types; op++)
			if (!strcmp(word, op_table[op].group) ||
			    !strcmp(word, op_table[op].name))
				break;
		if (op == nr_op_types)
			return false;
	}
	return true;
}

long sys(long ret)
{
	return ret == -1 ? -errno : ret;
}

/* What is about to be called. It is put into words only if somebody reads them. */
void note_(struct arena *a, const char *format, const long *args, size_t nr)
{
	struct note *n = &a->progress->note;

	n->format = format;
	memcpy(n->args, args, nr * sizeof(*args));
}

char *addr_of(struct arena *a, size_t i)
{
	return a->base + i * page_size;
}

size_t random_start(struct arena *a, struct rng *r)
{
	return below(r, a->nr);
}

/* The first page from there on, round the arena, that is as wanted; or that page. */
size_t seek(struct arena *a, size_t start, bool (*wanted)(const struct page *p))
{
	size_t i, at;

	for (i = 0; i < a->nr; i++) {
		at = (start + i) % a->nr;
		if (wanted(&a->pages[at]))
			return at;
	}
	return start;
}

/*
 * A signal costs as much as ten operations, so that of the accesses that are to fail
 * only some are made; always the same of an operation.
 */
bool spares_signal(struct arena *a, size_t i)
{
	return !a->thorough && (a->progress->index + i) % 4;
}

/* Mostly a few pages, at times half of the arena. */
size_t random_length(struct arena *a, struct rng *r, size_t start)
{
	static const size_t longest[] = { 1, 4, 4, 4, 8, 8, 16, 16 };
	size_t kind = below(r, 24), nr;

	nr = kind ? 1 + below(r, longest[kind % 8]) : 1 + below(r, a->nr / 2);
	return nr < a->nr - start ? nr : a->nr - start;
}

/* Mostly within what is mapped alike, so that most calls get somewhere. */
void random_range(struct arena *a, struct rng *r, size_t *start, size_t *nr)
{
	*start = random_start(a, r);
	*nr = random_length(a, r, *start);
	if (!one_in(r, 4))
		*nr = alike(a, *start, *nr);
}

/* A few values are common, so that KSM finds pages that are the same. */
uint64_t random_value(struct rng *r)
{
	uint64_t value = next_random(r);

	return value & 3 ? value : 1 + (value >> 2 & 3);
}

static void do_op(struct arena *a, int op, struct rng *r)
{
	a->op = op;
	if (op_table[op].layout)
		spread_faulted(a);
	op_table[op].run(a, r);
}

void run_op(struct arena *a, long index)
{
	struct rng r = rng_of(opt.seed, index);

	atomic_store_explicit(&a->progress->index, index, memory_order_relaxed);
	do_op(a, wheel[below(&r, wheel_size)], &r);
	atomic_fetch_add_explicit(&a->progress->ops, 1, memory_order_relaxed);
}

static bool not_in_child(const struct op *op)
{
	return op->run == op_fork || op->run == op_exec || op->run == op_swapoff ||
	       op->run == op_relocate || !strcmp(op->group, "uffd") ||
	       !strcmp(op->group, "file");
}

/* A child has a model of its own, of the same objects: it must not write to them. */
void run_child_ops(struct arena *a, struct rng *r)
{
	size_t i, nr = below(r, 24);
	int op;

	for (i = 0; i < nr; i++) {
		op = wheel[below(r, wheel_size)];
		if (!not_in_child(&op_table[op]))
			do_op(a, op, r);
	}
}
