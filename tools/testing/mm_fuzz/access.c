// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes of pages that may end in a signal.
 *
 * A page is filled with one value: its first word is the value itself, and each
 * other goes with it and with its place.  So a page tells what it was filled with,
 * and whether all of it was.  The value 0 is a page of zeroes.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "mm_fuzz.h"

/* Which thread is accessing memory, and where it goes on if that fails. */
static __thread sigjmp_buf trap;
static __thread volatile sig_atomic_t armed;

static inline uint64_t word(uint64_t value, size_t i)
{
	return value ? value ^ (i * 0x9e3779b97f4a7c15ULL) : 0;
}

static void on_fault(int sig)
{
	if (!armed) {
		/* Our own defect. The parent tells during which operation. */
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	armed = 0;
	siglongjmp(trap, sig);
}

/* SA_NODEFER, so that sigsetjmp() need not save the mask, which is a system call. */
void catch_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static long first_torn(const uint64_t *words, uint64_t value, size_t step)
{
	const size_t nr = page_size / sizeof(uint64_t);
	size_t i;

	for (i = 0; i < nr; i += step)
		if (words[i] != word(value, i))
			return i;
	return words[nr - 1] == word(value, nr - 1) ? -1 : (long)nr - 1;
}

/* The whole page, or the first words of its quarters and the last one. */
void sample_page(const char *addr, bool whole, struct sample *sample)
{
	const uint64_t *words = (const uint64_t *)addr;

	sample->value = words[0];
	sample->torn = first_torn(words, sample->value, whole ? 1 : page_size / 32);
}

/* 0, or the signal that it took. */
int read_page(const char *addr, bool whole, struct sample *sample)
{
	int sig = sigsetjmp(trap, 0);

	if (sig)
		return sig;
	armed = 1;
	atomic_signal_fence(memory_order_seq_cst);
	sample_page(addr, whole, sample);
	atomic_signal_fence(memory_order_seq_cst);
	armed = 0;
	return 0;
}

void fill_page(char *addr, uint64_t value)
{
	uint64_t *words = (uint64_t *)addr;
	size_t i;

	for (i = 0; i < page_size / sizeof(*words); i++)
		words[i] = word(value, i);
}

int write_page(char *addr, uint64_t value)
{
	int sig = sigsetjmp(trap, 0);

	if (sig)
		return sig;
	armed = 1;
	atomic_signal_fence(memory_order_seq_cst);
	fill_page(addr, value);
	atomic_signal_fence(memory_order_seq_cst);
	armed = 0;
	return 0;
}
