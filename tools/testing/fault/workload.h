/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the workloads of this folder have in common.
 *
 * A workload changes settings of the machine, so the work is done in a child:
 * run_and_restore() has the parent put all back, however the child ends.
 */
#ifndef _FAULT_WORKLOAD_H
#define _FAULT_WORKLOAD_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define __noreturn __attribute__((__noreturn__))
#define __printf(a, b) __attribute__((__format__(printf, a, b)))

#define EXIT_SKIP 4
#define MiB 0x100000UL

/* -1 without CONFIG_PER_VMA_LOCK_STATS, or on a kernel without this counter. */
static inline long vm_counter(const char *name)
{
	char key[64];
	FILE *f = fopen("/proc/vmstat", "r");
	long value = -1, v;

	while (f && fscanf(f, "%63s %ld", key, &v) == 2)
		if (!strcmp(key, name))
			value = v;
	if (f)
		fclose(f);
	return value;
}

static inline __noreturn __printf(2, 3) void quit(int status, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(status);
}

static inline __noreturn void die(const char *what)
{
	quit(EXIT_FAILURE, "%s: %s", what, strerror(errno));
}

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return len == (ssize_t)strlen(text);
}

static inline bool write_number(const char *path, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	return write_text(path, text);
}

/* The first line of a file; false if there is none. */
static inline bool read_text(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "r");
	bool ok = f && fgets(text, size, f);

	if (f)
		fclose(f);
	return ok;
}

/* The argument of an option: a number in [min, max]. */
static inline long to_number(const char *text, long min, long max)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*end || end == text || value < min || value > max)
		quit(EXIT_FAILURE, "%s: give a number from %ld to %ld", text, min, max);
	return value;
}

/* A page is touched by one access that the compiler keeps. */
#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

static inline uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* What /proc/vmstat tells of faults that waited; what is unknown is not counted. */
struct waits {
	long retried;		/* passes that ended without their lock */
	long resumed;		/* faults that went on in place */
	long refused;		/* faults that waited and could not */
	long kept;		/* waits with the VMA lock held */
	long aborted;		/* VMAs that could not be locked */
};

static inline struct waits read_waits(void)
{
	return (struct waits){
		.retried = vm_counter("vma_lock_retry"),
		.resumed = vm_counter("vma_lock_resume"),
		.refused = vm_counter("vma_lock_resume_fail"),
		.kept = vm_counter("vma_lock_wait"),
		.aborted = vm_counter("vma_lock_abort"),
	};
}

/* Prints what passed since @then; returns the number of waits without a lock. */
static inline long print_waits(struct waits then)
{
	struct waits w = read_waits();
	long resumed = w.resumed - then.resumed;
	long retried = w.retried - then.retried;

	printf("metric retries %ld\n", retried);
	printf("metric resumed %ld\n", resumed);
	printf("metric resume-refused %ld\n", w.refused - then.refused);
	printf("metric waited-with-lock %ld\n", w.kept - then.kept);
	printf("metric vma-lock-aborts %ld\n", w.aborted - then.aborted);
	return resumed + retried;
}

static inline void need_counters(void)
{
	if (vm_counter("vma_lock_retry") < 0)
		quit(EXIT_SKIP, "no vma_lock_retry in /proc/vmstat; %s is needed",
		     "CONFIG_PER_VMA_LOCK_STATS");
}

static pid_t worker;

static inline void end_worker(int sig)
{
	(void)sig;
	kill(worker, SIGKILL);
}

/* Runs @work in a child, then @restore here. Returns the exit status. */
static inline int run_and_restore(void (*work)(void), void (*restore)(void))
{
	struct sigaction sa = { .sa_handler = end_worker };
	int status;

	fflush(stdout);
	worker = fork();
	if (worker < 0) {
		restore();
		die("fork");
	}
	if (!worker) {
		work();
		exit(EXIT_SUCCESS);
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	while (waitpid(worker, &status, 0) < 0)
		;
	restore();
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "%s: signal %d\n", program_invocation_short_name,
		WTERMSIG(status));
	return EXIT_FAILURE;
}

#endif /* _FAULT_WORKLOAD_H */
