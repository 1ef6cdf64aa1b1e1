/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Allocations that fail on purpose: the nth that the calling thread makes, see
 * Documentation/fault-injection/fault-injection.rst.
 */
#ifndef _FAIL_NTH_H
#define _FAIL_NTH_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kselftest.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define NO_FAIL_NTH	"no fail-nth: build with FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS"

struct fail_knob {
	const char *path, *value;
	char saved[16];
};

#define DEBUGFS_KNOB(name, text) \
	{ .path = "/sys/kernel/debug/" name, .value = text }

/* All allocations may fail, also those of user pages, and none prints a stack. */
static struct fail_knob fail_knobs[] = {
	DEBUGFS_KNOB("fail_page_alloc/ignore-gfp-wait", "N"),
	DEBUGFS_KNOB("fail_page_alloc/ignore-gfp-highmem", "N"),
	DEBUGFS_KNOB("fail_page_alloc/min-order", "0"),
	DEBUGFS_KNOB("fail_page_alloc/verbose", "0"),
	DEBUGFS_KNOB("failslab/ignore-gfp-wait", "N"),
	DEBUGFS_KNOB("failslab/cache-filter", "N"),
	DEBUGFS_KNOB("failslab/verbose", "0"),
};

static inline bool fail_knob_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static inline bool fail_knob_set(struct fail_knob *knob)
{
	int fd = open(knob->path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, knob->saved, sizeof(knob->saved) - 1);
	close(fd);
	knob->saved[len > 0 ? len : 0] = '\0';
	return len > 0 && fail_knob_write(knob->path, knob->value);
}

static inline void fail_nth_restore(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fail_knobs); i++)
		if (fail_knobs[i].saved[0])
			fail_knob_write(fail_knobs[i].path, fail_knobs[i].saved);
}

/* Can allocations of this thread fail? fail_nth_restore() afterwards, also if not. */
static inline bool fail_nth_prepare(void)
{
	size_t i;

	if (access(FAIL_NTH, W_OK))
		return false;
	for (i = 0; i < ARRAY_SIZE(fail_knobs); i++)
		if (!fail_knob_set(&fail_knobs[i]))
			return false;
	return true;
}

/* From here on the nth allocation fails; -1 with errno, or what fail_nth_end() takes. */
static inline int fail_nth_begin(unsigned int nth)
{
	int fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Were there so many that one has failed? Keeps errno. */
static inline bool fail_nth_end(int fd)
{
	char left[16] = "";
	int err = errno;
	bool failed = pread(fd, left, sizeof(left) - 1, 0) > 0 && !atoi(left);

	pwrite(fd, "0", 1, 0);
	close(fd);
	errno = err;
	return failed;
}

#endif
