// SPDX-License-Identifier: GPL-2.0
/*
 * populate_churn - what does memory cost that is unmapped right after it was mapped?
 *
 * Maps a few pages of private anonymous memory, brings them in and unmaps them,
 * again and again, on one CPU.
 *
 *	-m MODE		how the pages come in: populate (MAP_POPULATE, the default),
 *			touch (a write to each), madvise (MADV_POPULATE_WRITE),
 *			locked (MAP_LOCKED), willneed (a write, then MADV_WILLNEED),
 *			file (MAP_POPULATE of a shared mapping of a memfd, which is
 *			emptied after each cycle), mbind (MAP_POPULATE, then moved to
 *			node 1 by MPOL_MF_MOVE) or none
 *	-p PAGES	in a mapping (1)
 *	-c CYCLES	how often it is mapped and unmapped, counted (3100)
 *	-w CYCLES	the same before, not counted (93)
 *	-t TASKS	that many processes do so in turns, each with a mapping
 *			alive while the others have theirs (1)
 *	-P CPUS		that many processes do so at the same time, each on a CPU of
 *			its own, from that of -C on (1)
 *	-k PAGES	after each cycle, touch that many pages that stay (0)
 *	-C CPU		to run on (0)
 *	-d		count how often the CPU's folio batches are drained, instead of
 *			the lruvec lock
 *	-q		count neither
 *
 * Prints lines "metric NAME VALUE": for all tasks together the cycles, the
 * nanoseconds for one of them and, where the function profiler can be used, the
 * round trips of the lruvec lock (calls of the functions that take it for a
 * folio) or the drains (calls of lru_add_drain()) for one of them.  Without the
 * profiler, or with -q, that line is missing.
 * The nanoseconds are the mean of the middle half of all parts of 31 cycles, which
 * are a whole number of batches whatever -p is: what interrupts a few is not
 * counted, and a timer that interrupts each second one counts for a half.
 * With -k they are those of all cycles, as parts differ in what they allocate, and
 * with -P as well: those that pass, divided by the cycles of all processes.
 *
 * Tasks take turns by sched_yield() under SCHED_FIFO, so that the order in which
 * they map and unmap is the same each time.  That and the profiler need root.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Of linux/mempolicy.h, which is not on every machine. */
#define MPOL_BIND 2
#define MPOL_MF_MOVE 2

#define TRACEFS "/sys/kernel/tracing/"

enum mode { POPULATE, TOUCH, MADVISE, LOCKED, WILLNEED, BY_FILE, MBIND, NONE, NR_MODES };

static const char * const mode_names[NR_MODES] = {
	"populate", "touch", "madvise", "locked", "willneed", "file", "mbind", "none",
};

/*
 * Where a page table begins. A region that straddles two costs a percent more, and
 * one that is alone in its table has it allocated in each cycle.
 */
#define PLACE ((char *)(16UL << 30))

/* Cycles that are timed together: a folio batch has 31 entries. */
#define PART 31

/* What the function profiler counts, and what the sum of it is called. */
struct counter {
	const char *metric;
	const char *functions[4];	/* Up to a NULL. */
};

static const struct counter locks = {
	"locks-per-cycle",
	{ "folio_lruvec_lock", "folio_lruvec_lock_irq", "folio_lruvec_lock_irqsave" },
};

static const struct counter drains = { "drains-per-cycle", { "lru_add_drain" } };

static struct {
	enum mode mode;
	long pages, cycles, warmup, tasks, cpus, keep, cpu;
	const struct counter *counter;
	bool quiet;
} opt = { .pages = 1, .cycles = 3100, .warmup = 93, .tasks = 1, .cpus = 1, .counter = &locks };

static size_t page_size;

/* What each task maps in the mode file. */
static int memfd = -1;

/* When the first task began each part, and ended the last; shared with the tasks. */
static uint64_t *begun;

/* Each task sends a byte when it is ready, and one when done; it gets one to go on. */
static int to_main[2], to_tasks[2];

static void die(const char *what)
{
	fprintf(stderr, "populate_churn: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static bool put(const char *file, const char *text, int flags)
{
	char path[128];
	ssize_t done;
	int fd;

	snprintf(path, sizeof(path), TRACEFS "%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text));
	close(fd);
	return done >= 0;
}

/* False: somebody else uses the profiler, or there is none. */
static bool start_profile(void)
{
	char byte = '1';
	int fd = open(TRACEFS "function_profile_enabled", O_RDONLY | O_CLOEXEC);

	if (opt.quiet || fd < 0)
		return false;
	if (read(fd, &byte, 1) != 1 || byte != '0') {
		close(fd);
		return false;
	}
	close(fd);
	for (const char * const *f = opt.counter->functions; *f; f++)
		if (!put("set_ftrace_filter", *f, f == opt.counter->functions ? O_TRUNC : O_APPEND))
			return false;
	return put("function_profile_enabled", "1", 0);
}

static long read_profile_of_cpu(const char *name)
{
	char path[320], line[256], function[128];
	long sum = 0, hits;
	FILE *f;

	snprintf(path, sizeof(path), TRACEFS "trace_stat/%s", name);
	f = fopen(path, "re");
	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%127s %ld", function, &hits) != 2)
			continue;
		for (const char * const *p = opt.counter->functions; *p; p++)
			if (!strcmp(function, *p))
				sum += hits;
	}
	fclose(f);
	return sum;
}

static long stop_profile(void)
{
	struct dirent *ent;
	long sum = 0;
	DIR *dir;

	put("function_profile_enabled", "0", 0);
	dir = opendir(TRACEFS "trace_stat");
	if (!dir)
		die(TRACEFS "trace_stat");
	while ((ent = readdir(dir)))
		if (!strncmp(ent->d_name, "function", 8))
			sum += read_profile_of_cpu(ent->d_name);
	closedir(dir);
	put("set_ftrace_filter", " ", O_TRUNC);
	return sum;
}

static void touch(char *p, long pages)
{
	for (long i = 0; i < pages; i++)
		p[i * page_size] = 1;
}

static char *map_fd(void *place, long pages, int flags, int fd)
{
	char *p = mmap(place, pages * page_size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static char *map(void *place, long pages, int flags)
{
	return map_fd(place, pages, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1);
}

static void open_file(void)
{
	memfd = memfd_create("populate_churn", MFD_CLOEXEC);
	if (memfd < 0)
		die("memfd_create");
}

/* Its pages die with the mapping, as anonymous ones do. */
static char *map_file(void *place)
{
	if (ftruncate(memfd, 0) || ftruncate(memfd, opt.pages * page_size))
		die("ftruncate");
	return map_fd(place, opt.pages, MAP_SHARED | MAP_POPULATE, memfd);
}

static void move_to_node_1(char *p)
{
	unsigned long nodes = 1UL << 1;

	if (syscall(SYS_mbind, p, opt.pages * page_size, MPOL_BIND, &nodes,
		    8 * sizeof(nodes), MPOL_MF_MOVE))
		die("mbind to node 1");
}

static char *bring_in(void)
{
	static const int flags[NR_MODES] = {
		[POPULATE] = MAP_POPULATE, [MBIND] = MAP_POPULATE, [LOCKED] = MAP_LOCKED,
	};
	size_t size = opt.pages * page_size;
	char *p = opt.mode == BY_FILE ? map_file(PLACE + page_size) :
		  map(PLACE + page_size, opt.pages, flags[opt.mode]);

	if (opt.mode == MBIND)
		move_to_node_1(p);
	if (opt.mode == TOUCH || opt.mode == WILLNEED)
		touch(p, opt.pages);
	if (opt.mode == MADVISE && madvise(p, size, MADV_POPULATE_WRITE))
		die("MADV_POPULATE_WRITE");
	if (opt.mode == WILLNEED && madvise(p, size, MADV_WILLNEED))
		die("MADV_WILLNEED");
	return p;
}

static void cycle(char *kept)
{
	char *p = bring_in();

	if (opt.tasks > 1)
		sched_yield();
	if (munmap(p, opt.pages * page_size))
		die("munmap");
	touch(kept, opt.keep);
}

static void send(int fd)
{
	if (write(fd, "", 1) != 1)
		die("write to a pipe");
}

static void receive(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		die("a task ended early");
}

static void rendezvous(void)
{
	send(to_main[1]);
	receive(to_tasks[0]);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void work(bool first)
{
	char *kept = opt.keep ? map(NULL, opt.keep * (opt.warmup + opt.cycles), 0) : NULL;

	touch(map(PLACE, 1, 0), 1);
	if (opt.mode == BY_FILE)
		open_file();
	for (long i = 0; i < opt.warmup; i++, kept += opt.keep * page_size)
		cycle(kept);
	rendezvous();
	for (long i = 0; i < opt.cycles; i++, kept += opt.keep * page_size) {
		if (first && i % PART == 0)
			begun[i / PART] = now();
		cycle(kept);
	}
	if (first && opt.cycles % PART == 0)
		begun[opt.cycles / PART] = now();
	/* The exit is not counted either. */
	rendezvous();
}

static void pin(long cpu)
{
	struct sched_param param = { .sched_priority = 1 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
	if (opt.tasks > 1 && sched_setscheduler(0, SCHED_FIFO, &param))
		die("SCHED_FIFO");
}

/* In turns on one CPU, or at once on several. */
static long nr_processes(void)
{
	return opt.cpus > 1 ? opt.cpus : opt.tasks;
}

static void release_tasks(void)
{
	for (long i = 0; i < nr_processes(); i++)
		send(to_tasks[1]);
}

static void await_tasks(void)
{
	for (long i = 0; i < nr_processes(); i++)
		receive(to_main[0]);
}

static void start_tasks(void)
{
	if (pipe(to_main) || pipe(to_tasks))
		die("pipe");
	for (long i = 0; i < nr_processes(); i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid) {
			if (opt.cpus > 1)
				pin(opt.cpu + i);
			work(!i);
			_exit(EXIT_SUCCESS);
		}
	}
	close(to_main[1]);
	await_tasks();
}

static void reap_tasks(void)
{
	bool failed = false;
	int status;

	for (long i = 0; i < nr_processes(); i++)
		if (wait(&status) < 0 || status)
			failed = true;
	if (failed)
		exit(EXIT_FAILURE);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of one cycle of one task, in the middle half of the parts; 0 where none is whole. */
static double ns_of_middle(void)
{
	const long parts = opt.cycles / PART, first = parts / 4, last = parts - first;
	uint64_t sum = 0;

	for (long i = 0; i < parts; i++)
		begun[i] = begun[i + 1] - begun[i];
	qsort(begun, parts, sizeof(*begun), by_value);
	for (long i = first; i < last; i++)
		sum += begun[i];
	return parts ? (double)sum / (last - first) / PART / opt.tasks : 0;
}

static enum mode mode_of(const char *name)
{
	int i = 0;

	while (i < NR_MODES && strcmp(name, mode_names[i]))
		i++;
	return i;
}

static bool parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "m:p:c:w:t:P:k:C:dq")) != -1) {
		if (c == 'm')
			opt.mode = mode_of(optarg);
		else if (c == 'p')
			opt.pages = atol(optarg);
		else if (c == 'c')
			opt.cycles = atol(optarg);
		else if (c == 'w')
			opt.warmup = atol(optarg);
		else if (c == 't')
			opt.tasks = atol(optarg);
		else if (c == 'P')
			opt.cpus = atol(optarg);
		else if (c == 'k')
			opt.keep = atol(optarg);
		else if (c == 'C')
			opt.cpu = atol(optarg);
		else if (c == 'd')
			opt.counter = &drains;
		else if (c == 'q')
			opt.quiet = true;
		else
			return false;
	}
	return optind == argc && opt.mode < NR_MODES && opt.pages > 0 && opt.cycles > 0 &&
	       opt.warmup >= 0 && opt.tasks > 0 && opt.cpus > 0 &&
	       (opt.tasks == 1 || opt.cpus == 1) && opt.keep >= 0 && opt.cpu >= 0;
}

int main(int argc, char **argv)
{
	long counted, done;
	bool profiled;
	double middle;
	uint64_t ns;

	if (!parse(argc, argv)) {
		fprintf(stderr, "populate_churn: an option is out of range, see the source\n");
		return EXIT_FAILURE;
	}
	if (opt.cpu + opt.cpus > sysconf(_SC_NPROCESSORS_ONLN)) {
		fprintf(stderr, "populate_churn: there are not so many CPUs\n");
		return EXIT_FAILURE;
	}
	page_size = sysconf(_SC_PAGESIZE);
	begun = mmap(NULL, (opt.cycles / PART + 1) * sizeof(*begun), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (begun == MAP_FAILED)
		die("mmap");
	pin(opt.cpu);
	start_tasks();
	profiled = start_profile();
	ns = now();
	release_tasks();
	await_tasks();
	ns = now() - ns;
	counted = profiled ? stop_profile() : 0;
	release_tasks();
	reap_tasks();

	done = nr_processes() * opt.cycles;
	middle = opt.cpus == 1 && !opt.keep ? ns_of_middle() : 0;
	printf("metric cycles %ld\n", done);
	printf("metric ns-per-cycle %.1f\n", middle ? middle : (double)ns / done);
	if (profiled)
		printf("metric %s %.4f\n", opt.counter->metric, (double)counted / done);
	return EXIT_SUCCESS;
}
