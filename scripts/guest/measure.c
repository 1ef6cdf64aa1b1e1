// SPDX-License-Identifier: GPL-2.0
/*
 * measure - run a command in the guest and count what the kernel did for it
 *
 *	measure [-w WARMUPS] [-r ROUNDS] [-c EVENT]... COMMAND [ARGUMENT]...
 *
 * Prints one line of JSON: the nanoseconds that the command and its descendants
 * ran, which under QEMU's -icount shift=0 are the instructions that the guest
 * executed in them (to the microsecond: rusage has no more); those that passed,
 * waiting included; and for each EVENT how often it happened:
 *
 *	vmstat:NAME		the difference of a line of /proc/vmstat
 *	func:FUNCTION		calls seen by ftrace's function profiler
 *	trace:SYSTEM:EVENT	hits of a tracepoint, by perf_event_open(2)
 *
 * func and trace count the command and its descendants only.  The command runs
 * WARMUPS times first, uncounted (default 1), so that its pages are in the page
 * cache, and then ROUNDS times (default 1): each number is the median of the
 * rounds'.  What the command prints goes to standard error.
 *
 * Exit status: the command's, or 125 when an event can't be counted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRACEFS "/sys/kernel/tracing/"
#define MAX_EVENTS 32
#define PROFILE_NAME 30
#define MAX_ROUNDS 99
#define CANNOT_COUNT 125

enum kind { VMSTAT, FUNC, TRACE };

struct event {
	const char *spec;	/* as given with -c */
	const char *name;	/* behind the kind */
	enum kind kind;
	int fd;			/* of a tracepoint's counter */
	unsigned long long count;
};

static struct event events[MAX_EVENTS];
static int nr_events;

/* What one run of the command gave. */
struct round {
	unsigned long long ran, passed;	/* nanoseconds */
	unsigned long long counts[MAX_EVENTS];
};

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "measure: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(CANNOT_COUNT);
}

static void put(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("can't write '%s' to %s: %s", text, path, strerror(errno));
	close(fd);
}

/* Two functions that the profiler cuts to one name would each get the hits of both. */
static void refuse_same_profile(const struct event *ev)
{
	for (int i = 0; i < nr_events && ev->kind == FUNC; i++)
		if (events[i].kind == FUNC && strcmp(events[i].name, ev->name) &&
		    !strncmp(events[i].name, ev->name, PROFILE_NAME))
			die("%s and %s share their first %d characters, which are all that the profiler shows; count them in two runs",
			    events[i].name, ev->name, PROFILE_NAME);
}

static void add_event(const char *spec)
{
	static const char * const prefix[] = { "vmstat:", "func:", "trace:" };
	struct event *ev = &events[nr_events];

	if (nr_events == MAX_EVENTS)
		die("more than %d events", MAX_EVENTS);
	for (int kind = VMSTAT; kind <= TRACE; kind++) {
		size_t len = strlen(prefix[kind]);

		if (strncmp(spec, prefix[kind], len))
			continue;
		*ev = (struct event){ .spec = spec, .name = spec + len, .kind = kind, .fd = -1 };
		refuse_same_profile(ev);
		nr_events++;
		return;
	}
	die("'%s' is no event; write vmstat:NAME, func:FUNCTION or trace:SYSTEM:EVENT", spec);
}

static unsigned long long read_vmstat(const char *name)
{
	char line[128], key[64];
	unsigned long long value;
	FILE *f = fopen("/proc/vmstat", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %llu", key, &value) == 2 && !strcmp(key, name)) {
			fclose(f);
			return value;
		}
	}
	die("/proc/vmstat has no line '%s'", name);
}

/*
 * Sums the hits of a function over the per-CPU tables of the profiler, which cut
 * names to PROFILE_NAME characters.  Only the functions asked for are in them.
 */
static unsigned long long read_profile(const char *function)
{
	unsigned long long sum = 0, hits;
	char path[320], line[256], name[128];
	DIR *dir = opendir(TRACEFS "trace_stat");
	struct dirent *ent;

	if (!dir)
		die("this kernel has no function profiler (CONFIG_FUNCTION_PROFILER)");
	while ((ent = readdir(dir))) {
		FILE *f;

		if (strncmp(ent->d_name, "function", 8))
			continue;
		snprintf(path, sizeof(path), TRACEFS "trace_stat/%s", ent->d_name);
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "%127s %llu", name, &hits) == 2 && !strncmp(name, function, PROFILE_NAME))
				sum += hits;
		if (f)
			fclose(f);
	}
	closedir(dir);
	return sum;
}

static bool any_function(void)
{
	for (int i = 0; i < nr_events; i++)
		if (events[i].kind == FUNC)
			return true;
	return false;
}

/* The profiler is limited to the functions asked for, so that it costs little. */
static void start_profile(pid_t pid)
{
	char text[32];

	put(TRACEFS "set_ftrace_filter", " ", O_TRUNC);
	for (int i = 0; i < nr_events; i++)
		if (events[i].kind == FUNC)
			put(TRACEFS "set_ftrace_filter", events[i].name, O_APPEND);
	snprintf(text, sizeof(text), "%d", pid);
	put(TRACEFS "options/function-fork", "1", 0);
	put(TRACEFS "set_ftrace_pid", text, O_TRUNC);
	put(TRACEFS "function_profile_enabled", "1", 0);
}

static void open_tracepoint(struct event *ev, pid_t pid)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr),
		.disabled = 1, .enable_on_exec = 1, .inherit = 1,
	};
	char path[256], text[32] = "";
	char *name = strdup(ev->name);
	char *colon = strchr(name, ':');
	FILE *f;

	if (!colon)
		die("'%s': write trace:SYSTEM:EVENT", ev->spec);
	*colon = '/';
	snprintf(path, sizeof(path), TRACEFS "events/%s/id", name);
	free(name);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		die("this kernel has no tracepoint '%s'", ev->name);
	fclose(f);
	attr.config = strtoull(text, NULL, 10);
	ev->fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (ev->fd < 0)
		die("can't count '%s': %s", ev->spec, strerror(errno));
}

static unsigned long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* Starts the command stopped before its exec, so that counters can attach. */
static pid_t start(char **argv, int *go)
{
	int fds[2];
	pid_t pid;
	char byte;

	if (pipe2(fds, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid) {
		close(fds[0]);
		*go = fds[1];
		return pid;
	}
	close(fds[1]);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	if (read(fds[0], &byte, 1) != 1)
		_exit(CANNOT_COUNT);
	execvp(argv[0], argv);
	fprintf(stderr, "measure: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/*
 * The profiler is left as it was found: a limit to a task that is gone would let
 * whoever uses it next count nothing.
 */
static void stop_profile(void)
{
	put(TRACEFS "function_profile_enabled", "0", 0);
	put(TRACEFS "set_ftrace_pid", " ", O_TRUNC);
	put(TRACEFS "set_ftrace_filter", " ", O_TRUNC);
}

/* A task's run time is exact even where the tick divides it in user and system. */
static int finish(pid_t pid, unsigned long long *ran)
{
	struct rusage usage;
	struct timeval sum;
	int status;

	if (wait4(pid, &status, 0, &usage) != pid)
		die("wait4: %s", strerror(errno));
	timeradd(&usage.ru_utime, &usage.ru_stime, &sum);
	*ran = sum.tv_sec * 1000000000ULL + sum.tv_usec * 1000ULL;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void attach(pid_t pid)
{
	for (int i = 0; i < nr_events; i++) {
		if (events[i].kind == TRACE)
			open_tracepoint(&events[i], pid);
		else if (events[i].kind == VMSTAT)
			events[i].count = -read_vmstat(events[i].name);
	}
	if (any_function())
		start_profile(pid);
}

static void collect(void)
{
	if (any_function())
		stop_profile();
	for (int i = 0; i < nr_events; i++) {
		struct event *ev = &events[i];

		if (ev->kind == VMSTAT)
			ev->count += read_vmstat(ev->name);
		else if (ev->kind == FUNC)
			ev->count = read_profile(ev->name);
		else if (read(ev->fd, &ev->count, sizeof(ev->count)) != sizeof(ev->count))
			die("can't read the count of '%s'", ev->spec);
		if (ev->kind == TRACE)
			close(ev->fd);
	}
}

/* Without a round nothing is counted. */
static int run(char **argv, struct round *round)
{
	unsigned long long begin, ran, passed;
	int go, status;
	pid_t pid = start(argv, &go);

	if (round)
		attach(pid);
	begin = now();
	if (write(go, "g", 1) != 1)
		die("can't start the command");
	close(go);
	status = finish(pid, &ran);
	passed = now() - begin;
	if (!round)
		return status;
	collect();
	round->ran = ran;
	round->passed = passed;
	for (int i = 0; i < nr_events; i++)
		round->counts[i] = events[i].count;
	return status;
}

static void print(const struct round *round, int status)
{
	printf("{\"ns\": %llu, \"passed ns\": %llu", round->ran, round->passed);
	for (int i = 0; i < nr_events; i++)
		printf(", \"%s\": %llu", events[i].spec, round->counts[i]);
	printf(", \"status\": %d}\n", status);
}

static int by_value(const void *a, const void *b)
{
	const unsigned long long x = *(const unsigned long long *)a;
	const unsigned long long y = *(const unsigned long long *)b;

	return (x > y) - (x < y);
}

/* Of a number that stands at the same place in each round. */
static unsigned long long median(const struct round *rounds, int nr, size_t place)
{
	unsigned long long values[MAX_ROUNDS];

	for (int i = 0; i < nr; i++)
		values[i] = *(const unsigned long long *)((const char *)&rounds[i] + place);
	qsort(values, nr, sizeof(*values), by_value);
	return values[nr / 2];
}

static struct round medians(const struct round *rounds, int nr)
{
	struct round found = {
		.ran = median(rounds, nr, offsetof(struct round, ran)),
		.passed = median(rounds, nr, offsetof(struct round, passed)),
	};

	for (int i = 0; i < nr_events; i++)
		found.counts[i] = median(rounds, nr, offsetof(struct round, counts[i]));
	return found;
}

/* Ends with the first round that fails. */
static int measure(char **argv, int nr)
{
	struct round rounds[MAX_ROUNDS], found;
	int status = 0, done = 0;

	while (done < nr && !status)
		status = run(argv, &rounds[done++]);
	if (status) {
		print(&rounds[done - 1], status);
		return status;
	}
	found = medians(rounds, nr);
	print(&found, 0);
	return 0;
}

int main(int argc, char **argv)
{
	int opt, warmups = 1, rounds = 1, status;

	while ((opt = getopt(argc, argv, "+w:r:c:")) != -1) {
		if (opt == 'w')
			warmups = atoi(optarg);
		else if (opt == 'r')
			rounds = atoi(optarg);
		else if (opt == 'c')
			add_event(optarg);
		else
			die("usage: measure [-w WARMUPS] [-r ROUNDS] [-c EVENT]... COMMAND [ARGUMENT]...");
	}
	if (rounds < 1 || rounds > MAX_ROUNDS)
		die("-r takes 1 to %d rounds", MAX_ROUNDS);
	if (optind == argc)
		die("no command given");
	while (warmups-- > 0) {
		status = run(argv + optind, NULL);
		if (status)
			return status;
	}
	return measure(argv + optind, rounds);
}
