// SPDX-License-Identifier: GPL-2.0
/*
 * A run: a child process with an arena for each thread, and findings.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mm_fuzz.h"

/* Far from where the kernel maps things, and where a PMD begins. */
#define PLACE		(64UL << 30)
#define GAP_PAGES	16
#define SMAPS_EVERY	4	/* checks of the arenas */
#define POLL_NS		2000000L

struct arena arenas[MAX_THREADS];
int run_status;
static pthread_barrier_t barrier;
static atomic_bool stop;

/*
 * Random numbers: those of an operation depend on the seed and its index only
 */

uint64_t hash64(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

struct rng rng_of(uint64_t seed, uint64_t index)
{
	return (struct rng){ hash64(seed + 0x9e3779b97f4a7c15ULL) ^ hash64(index + 1) };
}

uint64_t next_random(struct rng *r)
{
	r->state += 0x9e3779b97f4a7c15ULL;
	return hash64(r->state);
}

size_t below(struct rng *r, size_t n)
{
	return next_random(r) % n;
}

bool one_in(struct rng *r, unsigned int n)
{
	return !below(r, n);
}

/*
 * Words
 */

/* One write, for threads and processes that forked share the terminal. */
static void say(const char *line)
{
	if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		_exit(EXIT_FAILURE);
}

static size_t format_note(char *line, size_t size, const struct note *n)
{
	int len;

	if (!n->format)
		return snprintf(line, size, "(none)");
	/* Longs and strings have the same size, and the format says which it is. */
	len = snprintf(line, size, n->format, n->args[0], n->args[1], n->args[2], n->args[3],
		       n->args[4], n->args[5], n->args[6]);
	return len < (int)size ? len : (int)size - 1;
}

void print_note(const struct note *n)
{
	char line[512];
	size_t len = format_note(line, sizeof(line) - 1, n);

	strcpy(line + len, "\n");
	say(line);
}

void print_result(struct arena *a, long ret)
{
	char line[640];
	size_t len;

	len = snprintf(line, sizeof(line), "%s#%ld: ", a->is_child ? "  child " : "",
		       (long)a->progress->index);
	len += format_note(line + len, sizeof(line) - len - 40, &a->progress->note);
	snprintf(line + len, sizeof(line) - len, " = %s\n", ret < 0 ? error_name(ret) : "0");
	say(line);
}

/* What did not go as the model says. */
void __noreturn __printf(2, 3) finding(struct arena *a, const char *format, ...)
{
	char line[2048];
	va_list args;
	size_t len;

	if (atomic_exchange(&shared->failed, true))
		_exit(EXIT_FAILURE);
	atomic_store(&shared->failed_index, a->progress->index);
	shared->what = format;
	len = snprintf(line, sizeof(line), "mm_fuzz: seed %llu, operation %ld%s%s%s\n  call: ",
		       (unsigned long long)opt.seed, (long)a->progress->index,
		       a->is_child ? ", in a forked child" : "", a->words ? ", " : "",
		       a->words ?: "");
	len += format_note(line + len, 512, &a->progress->note);
	len += snprintf(line + len, sizeof(line) - len, "\n  ");
	va_start(args, format);
	len += vsnprintf(line + len, sizeof(line) - len - 2, format, args);
	va_end(args);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	strcpy(line + len, "\n");
	say(line);
	_exit(EXIT_FAILURE);
}

/*
 * Arenas
 */

static void *map_private(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return p;
}

static void open_object(struct arena *a, enum object_type type, int fd)
{
	struct object *o = &a->objects[type];

	if (fd < 0)
		die("a memfd, or a file in %s: %s", opt.dir, strerror(errno));
	o->type = type;
	o->fd = fd;
	o->size = a->nr / 2 + 8;
	if (ftruncate(fd, o->size * page_size))
		die("ftruncate: %s", strerror(errno));
}

static int open_file(struct arena *a)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/mm_fuzz-%d-%ld", opt.dir, getpid(), a->id);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlink(path);
	return fd;
}

/* Objects 2 and 3 are a memfd and a file; those of shared memory are made anew. */
static void open_objects(struct arena *a)
{
	uint64_t *values = map_private(MAX_OBJECTS * a->nr * sizeof(*values));
	int i;

	for (i = 0; i < MAX_OBJECTS; i++) {
		a->objects[i].fd = -1;
		a->objects[i].values = values + i * a->nr;
	}
	open_object(a, MEMFD, syscall(SYS_memfd_create, "mm_fuzz", 1));
	if (opt.dir)
		open_object(a, FILE_OBJECT, open_file(a));
}

static void setup_arena(long id)
{
	struct arena *a = &arenas[id];

	a->id = id;
	a->nr = opt.pages;
	a->base = (char *)PLACE + id * (opt.pages + GAP_PAGES) * page_size;
	a->pages = map_private(a->nr * sizeof(*a->pages));
	a->limbo = map_private(a->nr * sizeof(*a->limbo));
	a->buffer = map_private(page_size);
	a->progress = &shared->threads[id];
	a->progress->index = -1;
	open_objects(a);
	open_proc(a);
	open_uffd(a);
}

/* A stack that grows during the run would count as mapped memory. */
static __noinline void grow_stack(void)
{
	volatile char room[512 << 10];
	size_t i;

	for (i = 0; i < sizeof(room); i += 4096)
		room[i] = 0;
}

/*
 * Operations and checks
 */

static void wait_for_all(void)
{
	if (opt.threads > 1)
		pthread_barrier_wait(&barrier);
}

/*
 * All threads are here, so that another one can look at this one's memory: its CPU
 * may have translations that should have gone.
 */
static void check_all(struct arena *a, long round)
{
	struct arena *other = &arenas[(a->id + 1) % opt.threads];

	wait_for_all();
	if (other != a) {
		check_arena(other);
		wait_for_all();
	}
	check_arena(a);
	wait_for_all();
	if (!a->id && !(round % SMAPS_EVERY))
		check_smaps(arenas, opt.threads);
	wait_for_all();
}

static long nth_index(long i)
{
	return opt.list ? opt.list[i] : i;
}

/*
 * Operation i belongs to thread i modulo the number of threads, and a check comes
 * after each so many of all operations, whether they run or have been left out.
 */
static void run_thread_ops(struct arena *a)
{
	const long total = opt.list ? opt.nr_list : opt.ops;
	const long step = opt.check * opt.threads;
	long i, index, next_check = step, round = 0;

	for (i = 0; i < total; i++) {
		index = nth_index(i);
		for (; index >= next_check; next_check += step)
			if (!opt.list || index < next_check + step)
				check_all(a, ++round);
		if (index % opt.threads == a->id)
			run_op(a, index);
	}
	end_child(a);
	a->thorough = true;
	check_all(a, 0);
}

static void *run_thread(void *data)
{
	struct arena *a = data;

	wait_for_all();
	if (!a->id)
		remember_sizes();
	wait_for_all();
	run_thread_ops(a);
	return NULL;
}

/*
 * The disturber changes no contents
 */

static void look_at(const char *path, off_t offset)
{
	static char buffer[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (pread(fd, buffer, sizeof(buffer), offset) > 0 && !offset)
		if (read(fd, buffer, sizeof(buffer)) <= 0)
			break;
	close(fd);
}

static void read_remotely(char *addr)
{
	static char buffer[65536];
	struct iovec local = { buffer, page_size }, remote = { addr, page_size };

	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
		return;
}

static void migrate(char *addr, size_t nr, int node)
{
	void *pages[64];
	int nodes[64], status[64];
	size_t i;

	for (i = 0; i < nr && i < 64; i++) {
		pages[i] = addr + i * page_size;
		nodes[i] = node;
	}
	syscall(SYS_move_pages, 0, i, pages, nodes, status, 2);
}

static void disturb_once(struct rng *r)
{
	struct arena *a = &arenas[below(r, opt.threads)];
	size_t start = below(r, a->nr), nr = 1 + below(r, a->nr - start);
	char *addr = addr_of(a, start);

	switch (below(r, 16)) {
	case 0 ... 3:
		madvise(addr, nr * page_size, MADV_PAGEOUT);
		break;
	case 4:
		madvise(addr, nr * page_size, MADV_COLD);
		break;
	case 5 ... 7:
		read_remotely(addr);
		break;
	case 8:
		look_at("/proc/self/smaps", 0);
		break;
	case 9:
		look_at("/proc/self/pagemap", (uintptr_t)addr / page_size * 8);
		break;
	case 10 ... 12:
		if (nr_nodes > 1)
			migrate(addr, nr, below(r, nr_nodes));
		break;
	case 13:
		if (is_root && one_in(r, 8))
			write_text("/proc/sys/vm/compact_memory", "1");
		break;
	case 14:
		if (is_root && has_word(opt.enable, "ksm") && one_in(r, 32)) {
			write_text("/sys/kernel/mm/ksm/run", "2");
			write_text("/sys/kernel/mm/ksm/run", "1");
		}
		break;
	default:
		if (opt.swap && one_in(r, 256))
			cycle_swap();
	}
}

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Rests as long as it took, and a bit, so that slow machines get on as well. */
static void *disturb(void *data)
{
	struct rng r = rng_of(opt.seed, UINT64_MAX - 1);
	long begin;

	(void)data;
	while (!stop) {
		begin = now_us();
		disturb_once(&r);
		usleep(2 * (now_us() - begin) + below(&r, 500));
	}
	return NULL;
}

/*
 * Processes
 */

static void start(pthread_t *thread, void *(*function)(void *), void *data)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	if (pthread_create(thread, &attr, function, data))
		die("pthread_create");
}

static void run(void)
{
	pthread_t threads[MAX_THREADS], disturber;
	long i;

	for (i = 0; i < opt.threads; i++)
		setup_arena(i);
	begin_relocation();
	grow_stack();
	catch_faults();
	pthread_barrier_init(&barrier, NULL, opt.threads);
	if (opt.disturb)
		start(&disturber, disturb, NULL);
	for (i = 1; i < opt.threads; i++)
		start(&threads[i], run_thread, &arenas[i]);
	run_thread(&arenas[0]);
	for (i = 1; i < opt.threads; i++)
		pthread_join(threads[i], NULL);
	stop = true;
	if (opt.disturb)
		pthread_join(disturber, NULL);
	for (i = 0; i < opt.threads; i++)
		munmap(arenas[i].base, arenas[i].nr * page_size);
	_exit(EXIT_SUCCESS);
}

static void become_child(bool quiet)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (quiet)
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
	run();
}

static unsigned long count_ops(void)
{
	unsigned long sum = 0;
	long i;

	for (i = 0; i < opt.threads; i++)
		sum += shared->threads[i].ops + shared->threads[i].checks;
	return sum;
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* False: nothing has happened for longer than it may take. */
static bool await(pid_t pid)
{
	struct timespec ts = { .tv_nsec = POLL_NS };
	unsigned long last = 0, count;
	time_t since = now();
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	while (waitpid(pid, &run_status, WNOHANG) != pid) {
		count = count_ops();
		if (count != last)
			since = now();
		last = count;
		if (now() - since > opt.timeout)
			return false;
		sigtimedwait(&set, NULL, &ts);
	}
	return true;
}

/* What survives the run's process, of those that it forked. */
static void end_group(pid_t pid)
{
	kill(-pid, SIGKILL);
}

static long last_index(void)
{
	long last = -1;
	long i;

	for (i = 0; i < opt.threads; i++)
		if (shared->threads[i].index > last)
			last = shared->threads[i].index;
	return last;
}

/* Runs the operations in a process of its own. shared has what became of it. */
enum verdict run_in_child(bool quiet)
{
	enum verdict verdict;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	shared->failed_index = -1;
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid)
		become_child(quiet);
	if (!await(pid)) {
		end_group(pid);
		waitpid(pid, &run_status, 0);
		verdict = HUNG;
	} else {
		if (WIFEXITED(run_status) && !WEXITSTATUS(run_status))
			return PASSED;
		end_group(pid);
		verdict = shared->failed ? FAILED : CRASHED;
	}
	if (shared->failed_index < 0)
		shared->failed_index = last_index();
	return verdict;
}
