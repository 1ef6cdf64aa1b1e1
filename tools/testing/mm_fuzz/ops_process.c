// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes, of this process and of those that it forks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define CHILD_WRITES	8
#define MOST_WRITTEN	12

static void write_one(struct arena *a, size_t i, uint64_t value)
{
	int expected, sig;
	bool maybe;

	atomic_fetch_add_explicit(&a->progress->checks, 1, memory_order_relaxed);
	expected = access_signal(a, &a->pages[i], true, &maybe);
	if (expected && spares_signal(a, i))
		return;
	note(a, "fill(A + %ld * P, %#lx)", (long)i, (long)value);
	sig = write_page(addr_of(a, i), value);
	a->progress->results[a->op][!!sig]++;
	if (opt.verbose)
		print_result(a, sig ? -EFAULT : 0);
	if (sig != expected && !(maybe && !sig))
		finding(a, "writing to page %zu: expected signal %d, seen %d (0 is none)", i,
			expected, sig);
	if (sig)
		failed_to_write(a, i);
	else
		wrote(a, i, value);
}

/* A child shares the objects with its parent, and must leave them as they are. */
void write_some(struct arena *a, struct rng *r, size_t start, size_t nr)
{
	size_t i;

	for (i = start; i < start + nr; i++)
		if (!a->is_child || a->pages[i].kind != SHARED)
			write_one(a, i, random_value(r));
}

void op_write(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	write_some(a, r, start, nr < MOST_WRITTEN ? nr : MOST_WRITTEN);
	if (one_in(r, 4))
		check_range(a, start, nr < MOST_WRITTEN ? nr : MOST_WRITTEN);
}

void op_read(struct arena *a, struct rng *r)
{
	size_t start, nr;

	random_range(a, r, &start, &nr);
	note(a, "read(A + %ld * P, %ld * P)", (long)start, (long)nr);
	if (opt.verbose)
		print_result(a, 0);
	check_range(a, start, nr);
}

/*
 * Through get_user_pages(). A page that cannot be accessed is an error, not a signal.
 */
void op_remote(struct arena *a, struct rng *r)
{
	size_t i = random_start(a, r);
	const bool write = one_in(r, 2) && !(a->is_child && a->pages[i].kind == SHARED);
	struct iovec local = { a->buffer, page_size }, remote = { addr_of(a, i), page_size };
	uint64_t value = random_value(r);
	struct sample seen;
	long ret, expected;
	bool maybe;

	expected = access_signal(a, &a->pages[i], write, &maybe) ? -EFAULT : 0;
	note(a, write ? "process_vm_writev(A + %ld * P, P, %#lx)" :
	     "process_vm_readv(A + %ld * P, P)", (long)i, (long)value);
	fill_page(a->buffer, write ? value : ~value);
	ret = sys(write ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0) :
			  process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	if (write && ret < 0)
		failed_to_write(a, i);
	if (!settle(a, ret, maybe ? ANY : expected))
		return;
	if (write)
		wrote(a, i, value);
	check_page(a, i, WHOLE_PAGE);
	sample_page(a->buffer, WHOLE_PAGE, &seen);
	if (seen.torn >= 0 || seen.value != content(a, &a->pages[i]))
		finding(a, "page %zu, read remotely: expected %#llx, seen %#llx", i,
			(unsigned long long)content(a, &a->pages[i]),
			(unsigned long long)seen.value);
}

/* Writes to the object itself: all its mappings show that. */
void op_file_write(struct arena *a, struct rng *r)
{
	int obj = one_in(r, 2) ? MEMFD : FILE_OBJECT;
	struct object *o = &a->objects[obj];
	uint64_t value = random_value(r);
	size_t off;
	long ret;

	if (o->fd < 0)
		return;
	off = below(r, o->size);
	fill_page(a->buffer, value);
	note(a, "pwrite(%s, page of %#lx, P, %ld * P)", (long)(obj == MEMFD ? "memfd" : "file"),
	     (long)value, (long)off);
	ret = sys(pwrite(o->fd, a->buffer, page_size, off * page_size));
	if (settle(a, ret, 0))
		o->values[off] = value;
}

/*
 * Children
 */

static void look_at_private(struct arena *a)
{
	struct page *p;
	size_t i;

	/* The parent goes on: what is shared with it may be anything. */
	for (i = 0; i < a->nr; i++) {
		p = &a->pages[i];
		if (!object_of(a, p) || p->own)
			check_page(a, i, WHOLE_PAGE);
	}
}

static void write_private(struct arena *a, struct rng *r)
{
	size_t n, i;

	for (n = 0; n < CHILD_WRITES; n++) {
		i = random_start(a, r);
		if (a->pages[i].kind != SHARED)
			write_one(a, i, random_value(r));
	}
}

/* Waits until the parent has gone on for a while. */
static void run_late_child(struct arena *a, struct rng *r, int from_parent)
{
	char byte;

	if (read(from_parent, &byte, 1) < 0)
		_exit(EXIT_FAILURE);
	look_at_private(a);
	write_private(a, r);
	look_at_private(a);
	_exit(EXIT_SUCCESS);
}

/* The parent waits, so that all is as it left it. */
static void run_child(struct arena *a, struct rng *r)
{
	check_arena(a);
	write_private(a, r);
	run_child_ops(a, r);
	check_arena(a);
	check_smaps(a, 1);
	_exit(EXIT_SUCCESS);
}

static void be_child(struct arena *a, struct rng *r, int from_parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	a->words = "in a child";
	child_model(a);
	spread_faulted(a);
	open_proc(a);
	if (from_parent >= 0)
		run_late_child(a, r, from_parent);
	run_child(a, r);
}

static void expect_success(struct arena *a, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		finding(a, "waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		finding(a, "expected the child to end well, seen signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status))
		finding(a, "expected the child to end well, seen status %d", WEXITSTATUS(status));
}

/* Lets the child look at its memory, if there is one, and waits for it. */
void end_child(struct arena *a)
{
	pid_t pid = a->child;

	if (!pid)
		return;
	a->child = 0;
	if (write(a->to_child, "", 1) != 1)
		finding(a, "the child's pipe: %s", strerror(errno));
	close(a->to_child);
	expect_success(a, pid);
}

static pid_t fork_child(struct arena *a, struct rng *r, int from_parent)
{
	pid_t pid;

	atomic_fetch_add(&forks_begun, 1);
	pid = fork();
	if (!pid)
		be_child(a, r, from_parent);
	atomic_fetch_add(&forks_ended, 1);
	settle(a, sys(pid), 0);
	return pid;
}

void op_fork(struct arena *a, struct rng *r)
{
	const bool late = one_in(r, 2);
	int pipe_fds[2] = { -1, -1 };
	pid_t pid;

	end_child(a);
	note(a, late ? "fork() of one that looks at its memory at the next fork()" : "fork()");
	if (late && pipe2(pipe_fds, O_CLOEXEC))
		finding(a, "pipe: %s", strerror(errno));
	pid = fork_child(a, r, pipe_fds[0]);
	if (!late) {
		expect_success(a, pid);
		return;
	}
	close(pipe_fds[0]);
	a->child = pid;
	a->to_child = pipe_fds[1];
}

/* All memory of the child goes at once. */
void op_exec(struct arena *a, struct rng *r)
{
	char * const argv[] = { "mm_fuzz", "--exit", NULL };
	pid_t pid;

	if (!one_in(r, 4))
		return;
	note(a, "fork() and execve()");
	atomic_fetch_add(&forks_begun, 1);
	pid = fork();
	if (!pid) {
		execv("/proc/self/exe", argv);
		_exit(EXIT_FAILURE);
	}
	atomic_fetch_add(&forks_ended, 1);
	if (settle(a, sys(pid), 0))
		expect_success(a, pid);
}

/* Another thread may be at it, too. */
void op_swapoff(struct arena *a, struct rng *r)
{
	(void)r;
	note(a, "swapoff(%s), swapon(%s)", (long)opt.swap, (long)opt.swap);
	settle(a, cycle_swap() ? 0 : -EINVAL, ANY);
}
