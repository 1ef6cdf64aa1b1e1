// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page fault under the per-VMA lock that has to wait releases the lock, and
 * is retried. Nothing but the wait was the reason, so the retry should not need
 * mmap_lock: check that it takes none, for each thing that a fault waits for,
 * and that a fault that waits is in nobody's way and does nothing wrong.
 *
 * Waits are made by a device that the test opens and shuts: dm-delay over a
 * loop device over a memfd. A read is held until the test lets it go, so that
 * what must happen during a wait is known to have happened during it, without
 * a look at the clock. The device itself is what is mapped.
 */
#define _GNU_SOURCE
#include <asm-generic/mman.h> /* The tools version, before what architectures have. */
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../../../mm/gup_test.h"
#include "slow_device.h"
#include "vm_util.h"

#define TRACEFS		"/sys/kernel/tracing"
#define CGROUPFS	"/sys/fs/cgroup"
#define COMPACT		"/proc/sys/vm/compact_memory"
#define FOLL_NOWAIT	0x10	/* As in linux/mm_types.h */

#define KB		0x400UL
#define MB		0x100000UL
#define SMALL_DEV	(1024 * page)	/* As many pages, whatever their size. */
#define ROUNDS		1000

#define NO_VMA_LOCK	"no per-VMA lock: use an SMP kernel that has CONFIG_PER_VMA_LOCK"

/* Milliseconds. HELD is longer than any test: it ends when the test says so. */
#define SLOW		2
#define HELD		3600000

/*
 * How long a step that must not wait for I/O may take before we let the I/O go
 * and call it a failure. What has to happen happens at once; this is only to
 * fail and not to hang.
 */
#define PATIENCE_MS	20000

static size_t page;

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/*
 * Files
 */

static bool write_text(const char *path, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	int fd, len;
	bool ok;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, text, len) == len;
	close(fd);
	return ok;
}

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len >= 0;
}

static long read_long(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) ? atol(text) : -1;
}

/*
 * Contents: the first word of each page tells which page it is, and of what
 */

#define OF_DEVICE	0xd0000000u
#define OF_OTHER	0x0a000000u
#define OF_ANON		0xa0000000u

static unsigned long load(const char *addr)
{
	return __atomic_load_n((const unsigned long *)addr, __ATOMIC_RELAXED);
}

static void store(char *addr, unsigned long word)
{
	__atomic_store_n((unsigned long *)addr, word, __ATOMIC_RELAXED);
}

static void fill(char *map, size_t pages, unsigned long of)
{
	size_t i;

	for (i = 0; i < pages; i++)
		store(map + i * page, of + i);
}

/* A memfd whose pages have their word. */
static int filled_memfd(size_t size, unsigned long of)
{
	int fd = memfd_create("fault_retry", MFD_CLOEXEC);
	char *map;

	if (fd < 0 || ftruncate(fd, size))
		return -1;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -1;
	fill(map, size / page, of);
	munmap(map, size);
	return fd;
}

/*
 * The device
 */

/* The reads that the device was asked for, and their size in pages. */
static void device_reads(struct dev *d, unsigned long *reads, unsigned long *pages)
{
	unsigned long sectors = 0;
	char path[64], text[256];

	*reads = 0;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", d->major, d->minor);
	if (read_text(path, text, sizeof(text)))
		sscanf(text, "%lu %*u %lu", reads, &sectors);
	*pages = sectors * 512 / page;
}

/* Nothing of the device is in the page cache; its pages must not be mapped. */
static bool drop_cache(struct dev *d)
{
	return !ioctl(d->fd, BLKFLSBUF);
}

/* All of the device, with the advice given and nothing of it read yet; or NULL. */
static char *map_cold(struct dev *d, int prot, int advice)
{
	char *map = mmap(NULL, d->size, prot, MAP_SHARED, d->fd, 0);

	if (map == MAP_FAILED)
		return NULL;
	if (!madvise(map, d->size, advice) && drop_cache(d))
		return map;
	munmap(map, d->size);
	return NULL;
}

/*
 * A memory cgroup of our own
 */

struct cgroup {
	char path[64];
};

static const char *enter_cgroup(struct cgroup *c)
{
	char procs[96];

	write_text(CGROUPFS "/cgroup.subtree_control", "+memory");
	snprintf(c->path, sizeof(c->path), CGROUPFS "/fault_retry-%d", getpid());
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", c->path);
	if (mkdir(c->path, 0755) || !write_text(procs, "0")) {
		c->path[0] = '\0';
		return "no memory cgroup; mount cgroup2 at " CGROUPFS ", with CONFIG_MEMCG";
	}
	return NULL;
}

static void leave_cgroup(struct cgroup *c)
{
	if (!c->path[0])
		return;
	write_text(CGROUPFS "/cgroup.procs", "0");
	rmdir(c->path);
}

static bool cgroup_set(struct cgroup *c, const char *name, size_t value)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", c->path, name);
	return write_text(path, "%zu", value);
}

/*
 * Swaps pages out and has the swap cache forget them. It keeps them while they
 * are written, and as long as another CPU has them in a batch, which compaction
 * drains. Map what it keeps again: MADV_PAGEOUT frees what is clean. Reclaim
 * would make a page active that is written, and may not look at it any more.
 */
static bool swap_out(char *map, size_t pages)
{
	unsigned char in_memory[pages];
	size_t i, left;
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		if (madvise(map, pages * page, MADV_PAGEOUT) ||
		    mincore(map, pages * page, in_memory))
			return false;
		for (i = 0, left = 0; i < pages; i++) {
			if (in_memory[i] & 1) {
				load(map + i * page);
				left++;
			}
		}
		if (!left)
			return true;
		usleep(5000);
		write_text(COMPACT, "1");
	}
	return false;
}

static bool stay_on_this_cpu(void)
{
	const int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

/*
 * Swaps pages out to this device. A CPU that has swapped to another one goes on
 * in its cluster there, whatever the priorities are, until that is full. So write
 * the pages, which lets go where they were, and swap them out again.
 */
static bool swap_out_to(struct dev *d, char *map, size_t pages)
{
	int tries;

	for (tries = 0; tries < 256; tries++) {
		fill(map, pages, OF_ANON);
		if (!swap_out(map, pages))
			return false;
		if (swapped_to(d) >= pages * page)
			return true;
	}
	return false;
}

/*
 * Counting what the calling thread does
 */

enum { MMAP_LOCK, FAULTS, FAULTS_MAJ, FAULTS_MIN, NR_COUNTERS };

struct counts {
	int fd[NR_COUNTERS];
	uint64_t nr[NR_COUNTERS];
	long ru_majflt, ru_minflt;
};

static int open_counter(uint32_t type, uint64_t config)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = type,
		.config = config,
		.disabled = 1,
	};

	return syscall(__NR_perf_event_open, &attr, 0, -1, -1,
		       PERF_FLAG_FD_CLOEXEC);
}

static const char *open_counters(struct counts *c)
{
	long id = read_long(TRACEFS "/events/mmap_lock/mmap_lock_acquire_returned/id");
	int i;

	memset(c->fd, -1, sizeof(c->fd));
	if (id < 0)
		return "no mmap_lock events; mount tracefs at " TRACEFS ", with CONFIG_FTRACE";
	c->fd[MMAP_LOCK] = open_counter(PERF_TYPE_TRACEPOINT, id);
	c->fd[FAULTS] = open_counter(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS);
	c->fd[FAULTS_MAJ] = open_counter(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MAJ);
	c->fd[FAULTS_MIN] = open_counter(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN);
	for (i = 0; i < NR_COUNTERS; i++)
		if (c->fd[i] < 0)
			return "perf_event_open() failed; run as root, with CONFIG_PERF_EVENTS";
	if (ioctl(c->fd[MMAP_LOCK], PERF_EVENT_IOC_SET_FILTER,
		  "write == 0 && success == 1"))
		return "the mmap_lock trace event takes no filter; CONFIG_FTRACE is needed";
	return NULL;
}

static void close_counters(struct counts *c)
{
	int i;

	for (i = 0; i < NR_COUNTERS; i++)
		if (c->fd[i] >= 0)
			close(c->fd[i]);
}

static void start_counting(struct counts *c)
{
	struct rusage ru;
	int i;

	for (i = 0; i < NR_COUNTERS; i++)
		ioctl(c->fd[i], PERF_EVENT_IOC_RESET, 0);
	getrusage(RUSAGE_THREAD, &ru);
	c->ru_majflt = ru.ru_majflt;
	c->ru_minflt = ru.ru_minflt;
	for (i = 0; i < NR_COUNTERS; i++)
		ioctl(c->fd[i], PERF_EVENT_IOC_ENABLE, 0);
}

static bool stop_counting(struct counts *c)
{
	struct rusage ru;
	bool ok = true;
	int i;

	for (i = 0; i < NR_COUNTERS; i++)
		ioctl(c->fd[i], PERF_EVENT_IOC_DISABLE, 0);
	getrusage(RUSAGE_THREAD, &ru);
	c->ru_majflt = ru.ru_majflt - c->ru_majflt;
	c->ru_minflt = ru.ru_minflt - c->ru_minflt;
	for (i = 0; i < NR_COUNTERS; i++)
		ok &= read(c->fd[i], &c->nr[i], 8) == 8;
	return ok;
}

/* So that nothing of the counting itself is cold when it counts. */
static const char *prepare_counters(struct counts *c)
{
	const char *why = open_counters(c);

	if (why)
		return why;
	start_counting(c);
	return stop_counting(c) ? NULL : "perf counters cannot be read";
}

#define OUTCOME_RESUMES	"outcome == 2"	/* FAULT_RESUMES of enum fault_wait_outcome. */

/* Begins to count faults of this thread that went on where they had waited. */
static int count_resumes(void)
{
	long id = read_long(TRACEFS "/events/fault_retry/mm_fault_retry/id");
	int fd = id < 0 ? -1 : open_counter(PERF_TYPE_TRACEPOINT, id);

	if (fd >= 0 && !ioctl(fd, PERF_EVENT_IOC_SET_FILTER, OUTCOME_RESUMES) &&
	    !ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static long end_resumes(int fd)
{
	uint64_t nr;
	bool ok = read(fd, &nr, sizeof(nr)) == sizeof(nr);

	close(fd);
	return ok ? (long)nr : -1;
}

/*
 * Can faults take the lock of a VMA? /proc/vmstat says so with statistics only,
 * while the function that takes it has a name. True if names are not to be had.
 */
static bool has_vma_lock(void)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	bool any = false, found = false;
	char line[1024];

	while (f && !found && fgets(line, sizeof(line), f)) {
		any = true;
		found = strstr(line, " lock_vma_under_rcu");
	}
	if (f)
		fclose(f);
	return found || !any;
}

/* Comes last in a test. What failed before is not hidden by a skip. */
static void expect_no_mmap_lock(struct __test_metadata *_metadata, uint64_t nr)
{
	if (nr && __test_passed(_metadata) && !has_vma_lock())
		SKIP(return, NO_VMA_LOCK);
	EXPECT_EQ(nr, 0);
}

#define report(counts)							\
	do {								\
		__auto_type _c = (counts);				\
									\
		TH_LOG("%lu reads of mmap_lock, %lu faults, %ld major, %ld minor", \
		       (unsigned long)_c->nr[MMAP_LOCK],		\
		       (unsigned long)_c->nr[FAULTS],			\
		       _c->ru_majflt, _c->ru_minflt);			\
	} while (0)

/*
 * A thread that touches a page, and survives what comes of it
 */

struct toucher {
	pthread_t thread;
	char *addr;
	bool write;
	atomic_int tid;
	atomic_bool done;
	int signal;		/* The signal that it got, or 0 ... */
	unsigned long word;	/* ... and the word that it read. */
};

static __thread sigjmp_buf touch_failed;

static void touch_signal(int sig)
{
	siglongjmp(touch_failed, sig);
}

static void touch(struct toucher *t)
{
	t->signal = sigsetjmp(touch_failed, 1);
	if (t->signal)
		return;
	if (t->write)
		store(t->addr, OF_OTHER);
	t->word = load(t->addr);
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;

	t->tid = gettid();
	touch(t);
	t->done = true;
	return NULL;
}

static int start_toucher(struct toucher *t, char *addr, bool write)
{
	memset(t, 0, sizeof(*t));
	t->addr = addr;
	t->write = write;
	signal(SIGSEGV, touch_signal);
	signal(SIGBUS, touch_signal);
	return pthread_create(&t->thread, NULL, toucher_main, t);
}

static char state_of(pid_t tid)
{
	char path[32], text[512], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (!read_text(path, text, sizeof(text)))
		return '-';
	p = strrchr(text, ')');
	return p ? p[2] : '-';
}

/* It waits for I/O that we hold. Gives up before a watchdog lets that go. */
static bool wait_till_asleep(struct dev *d, atomic_int *tid)
{
	int ms;

	for (ms = 0; ms < PATIENCE_MS / 2; ms++) {
		if (*tid && state_of(*tid) == 'D' && nr_held(d))
			return true;
		usleep(1000);
	}
	return false;
}

/*
 * Lets everything go when a step takes so long that it must be waiting for the
 * I/O, so that a test fails and does not hang.
 */
struct watchdog {
	pthread_t thread;
	struct dev *dev;
	atomic_int ms;		/* Since its start, or the last step. */
	atomic_bool stop;
	atomic_bool barked;
};

static void *watchdog_main(void *arg)
{
	struct watchdog *w = arg;

	for (; !w->stop && w->ms < PATIENCE_MS; w->ms += 10)
		usleep(10000);
	if (w->stop)
		return NULL;
	w->barked = true;
	set_delays(w->dev, 0, 0);
	return NULL;
}

static int start_watchdog(struct watchdog *w, struct dev *d)
{
	memset(w, 0, sizeof(*w));
	w->dev = d;
	return pthread_create(&w->thread, NULL, watchdog_main, w);
}

/* Whether all that was done since its start was done without the I/O. */
static bool nothing_waited(struct watchdog *w)
{
	w->stop = true;
	pthread_join(w->thread, NULL);
	return !w->barked;
}

/*
 * mmap_lock: a fault takes none because of a wait
 */

FIXTURE(file_fault)
{
	struct dev dev;
	struct counts counts;
	char *map;
	size_t stride;		/* In pages, from touch to touch. */
};

FIXTURE_VARIANT(file_fault)
{
	size_t size;		/* Of the device; 0: SMALL_DEV. */
	int advice;
	int prot;
	size_t stride;		/* In bytes, as readahead is; a page at least. */
	size_t misses;		/* Touches before those that count. */
	size_t touches;
	bool direct;		/* Each touch reads one page, no more. */
};

/* Readahead around the page that faults, pages that follow, markers. */
FIXTURE_VARIANT_ADD(file_fault, cold)
{
	.advice = MADV_NORMAL,
	.prot = PROT_READ,
	.touches = 512,
};

FIXTURE_VARIANT_ADD(file_fault, cold_written)
{
	.advice = MADV_NORMAL,
	.prot = PROT_READ | PROT_WRITE,
	.touches = 512,
};

FIXTURE_VARIANT_ADD(file_fault, sequential)
{
	.advice = MADV_SEQUENTIAL,
	.prot = PROT_READ,
	.touches = 512,
};

FIXTURE_VARIANT_ADD(file_fault, random)
{
	.advice = MADV_RANDOM,
	.prot = PROT_READ,
	.stride = 64 * KB,
	.touches = 64,
	.direct = true,
};

/* Beyond MMAP_LOTSAMISS, 100, there is no readahead either. */
FIXTURE_VARIANT_ADD(file_fault, many_misses)
{
	.size = 48 * MB,
	.advice = MADV_NORMAL,
	.prot = PROT_READ,
	.stride = 256 * KB,
	.misses = 110,
	.touches = 64,
	.direct = true,
};

/* A fault holds on to the file while it waits, and to nothing afterwards. */
static void expect_removed(struct __test_metadata *_metadata, struct dev *d)
{
	bool removed = remove_device(d);

	if (!removed)
		TH_LOG("a fault has left the file open");
	EXPECT_TRUE(removed);
}

FIXTURE_SETUP(file_fault)
{
	const char *why;
	size_t size;

	page = psize();
	size = variant->size ?: SMALL_DEV;
	self->stride = larger(variant->stride / page, 1);
	memset(self->counts.fd, -1, sizeof(self->counts.fd));
	why = make_device(&self->dev, filled_memfd(size, OF_DEVICE), size);
	if (!why)
		why = prepare_counters(&self->counts);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(set_delays(&self->dev, SLOW, 0), 0);
	self->map = map_cold(&self->dev, variant->prot, variant->advice);
	ASSERT_NE(self->map, NULL);
}

FIXTURE_TEARDOWN(file_fault)
{
	close_counters(&self->counts);
	if (self->map)
		munmap(self->map, self->dev.size);
	expect_removed(_metadata, &self->dev);
}

/* How many of the pages did not have their word. */
static size_t touch_pages(char *map, size_t first, size_t nr, size_t stride,
			  bool write, unsigned long of)
{
	size_t i, bad = 0;

	for (i = first; i < first + nr; i++) {
		char *addr = map + i * stride * page;

		if (write)
			store(addr + 8, i);
		bad += load(addr) != of + i * stride;
	}
	return bad;
}

TEST_F(file_fault, takes_no_mmap_lock)
{
	const bool write = variant->prot & PROT_WRITE;
	unsigned long reads[2], pages[2];
	size_t bad;

	/* Have the misses that come before. */
	bad = touch_pages(self->map, 0, variant->misses, self->stride,
			  write, OF_DEVICE);
	ASSERT_EQ(bad, 0);

	/* Have faults that wait for a slow read. */
	device_reads(&self->dev, &reads[0], &pages[0]);
	start_counting(&self->counts);
	bad = touch_pages(self->map, variant->misses, variant->touches,
			  self->stride, write, OF_DEVICE);
	ASSERT_TRUE(stop_counting(&self->counts));
	device_reads(&self->dev, &reads[1], &pages[1]);
	report(&self->counts);
	EXPECT_EQ(bad, 0);

	/* They were what they should be, or the test tests nothing. */
	ASSERT_GT(self->counts.ru_majflt, 0);
	if (variant->direct) {
		ASSERT_EQ(self->counts.ru_majflt, variant->touches);
		ASSERT_EQ(pages[1] - pages[0], variant->touches);
	}

	expect_no_mmap_lock(_metadata, self->counts.nr[MMAP_LOCK]);
}

/* No fault begins again: what it has waited for may be gone by then. */
TEST_F(file_fault, resumes)
{
	int fd;

	if (!has_vma_lock())
		SKIP(return, NO_VMA_LOCK);
	touch_pages(self->map, 0, variant->misses, self->stride, false, OF_DEVICE);
	fd = count_resumes();
	ASSERT_GE(fd, 0) {
		TH_LOG("this kernel has no event of faults that resume");
	}
	start_counting(&self->counts);
	touch_pages(self->map, variant->misses, variant->touches, self->stride,
		    false, OF_DEVICE);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);
	ASSERT_GT(self->counts.ru_majflt, 0);
	EXPECT_GE(end_resumes(fd), self->counts.ru_majflt);
}

/* The counts that userspace sees of a fault do not depend on how it waited. */
TEST_F(file_fault, counts_are_kept)
{
	touch_pages(self->map, 0, variant->misses, self->stride, false, OF_DEVICE);
	start_counting(&self->counts);
	touch_pages(self->map, variant->misses, variant->touches, self->stride,
		    false, OF_DEVICE);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);

	/* Each fault is one event, and is major or minor. */
	EXPECT_EQ(self->counts.nr[FAULTS_MAJ], self->counts.ru_majflt);
	EXPECT_EQ(self->counts.nr[FAULTS_MIN], self->counts.ru_minflt);
	EXPECT_EQ(self->counts.nr[FAULTS],
		  self->counts.ru_majflt + self->counts.ru_minflt);

	/* How many there are is up to readahead, if there is any. */
	if (variant->direct) {
		EXPECT_EQ(self->counts.ru_majflt, variant->touches);
		EXPECT_EQ(self->counts.ru_minflt, 0);
	}
}

/*
 * Faults on a device whose reads are held
 */

FIXTURE(held_file)
{
	struct dev dev;
	struct counts counts;
	struct toucher toucher;
	struct watchdog dog;
	char *map;
	size_t pages;
};

FIXTURE_VARIANT(held_file)
{
	int advice;
};

FIXTURE_VARIANT_ADD(held_file, readahead)
{
	.advice = MADV_NORMAL,
};

FIXTURE_VARIANT_ADD(held_file, direct)
{
	.advice = MADV_RANDOM,
};

FIXTURE_SETUP(held_file)
{
	const char *why;

	page = psize();
	self->pages = SMALL_DEV / page;
	memset(self->counts.fd, -1, sizeof(self->counts.fd));
	why = make_device(&self->dev, filled_memfd(SMALL_DEV, OF_DEVICE), SMALL_DEV);
	if (!why)
		why = prepare_counters(&self->counts);
	if (why)
		SKIP(return, "%s", why);
	self->map = map_cold(&self->dev, PROT_READ | PROT_WRITE, variant->advice);
	ASSERT_NE(self->map, NULL);
	ASSERT_EQ(set_delays(&self->dev, HELD, 0), 0);
}

FIXTURE_TEARDOWN(held_file)
{
	set_delays(&self->dev, 0, 0);
	close_counters(&self->counts);
	if (self->map)
		munmap(self->map, SMALL_DEV);
	expect_removed(_metadata, &self->dev);
}

/* Lets the reads go once the thread that counts is asleep as well. */
struct opener {
	pthread_t thread;
	struct dev *dev;
	atomic_int tid;
	bool ok;
};

static void *opener_main(void *arg)
{
	struct opener *o = arg;

	o->ok = wait_till_asleep(o->dev, &o->tid);
	let_go(o->dev);
	return NULL;
}

#define LOCKED_PAGES	16

/* Faults that wait for a folio that somebody else reads and has locked. */
TEST_F(held_file, locked_folio_takes_no_mmap_lock)
{
	struct opener opener = { .dev = &self->dev, .tid = gettid() };
	uint64_t locks = 0, major = 0, minor = 0;
	size_t i;

	for (i = 0; i < LOCKED_PAGES; i++) {
		const size_t nr = i * 64;
		unsigned long word;

		/* Have it read. This does not wait, so the folio stays locked. */
		ASSERT_EQ(posix_fadvise(self->dev.fd, nr * page, page,
					POSIX_FADV_WILLNEED), 0);
		ASSERT_GT(nr_held(&self->dev), 0);

		ASSERT_EQ(pthread_create(&opener.thread, NULL, opener_main, &opener), 0);
		start_counting(&self->counts);
		word = load(self->map + nr * page);
		ASSERT_TRUE(stop_counting(&self->counts));
		pthread_join(opener.thread, NULL);

		ASSERT_TRUE(opener.ok);
		EXPECT_EQ(word, OF_DEVICE + nr);
		locks += self->counts.nr[MMAP_LOCK];
		major += self->counts.ru_majflt;
		minor += self->counts.ru_minflt;
	}

	/* It is not we who read, so the faults count as minor ones. */
	TH_LOG("%lu reads of mmap_lock, %lu major, %lu minor faults",
	       (unsigned long)locks, (unsigned long)major, (unsigned long)minor);
	EXPECT_EQ(major, 0);
	EXPECT_EQ(minor, LOCKED_PAGES);
	expect_no_mmap_lock(_metadata, locks);
}

/* All that a writer of mmap_lock does while a fault in the VMA waits. */
static void be_a_writer(struct __test_metadata *_metadata, char *map, size_t size)
{
	char *new;
	pid_t pid;

	/* Change this VMA: split it, merge it again. */
	ASSERT_EQ(mprotect(map + size / 2, page, PROT_NONE), 0);
	ASSERT_EQ(mprotect(map + size / 2, page, PROT_READ | PROT_WRITE), 0);

	/* Change another. */
	new = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(new, MAP_FAILED);
	ASSERT_EQ(munmap(new, size), 0);

	/* Copy all. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(0);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST_F(held_file, writers_do_not_wait)
{
	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid));

	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	be_a_writer(_metadata, self->map, SMALL_DEV);
	EXPECT_TRUE(nothing_waited(&self->dog));
	EXPECT_FALSE(self->toucher.done);

	let_go(&self->dev);
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.signal, 0);
	EXPECT_EQ(self->toucher.word, OF_DEVICE);
}

/* As above, while one fault waits for the I/O and another for the folio. */
TEST_F(held_file, writers_do_not_wait_for_locked_folio)
{
	struct toucher second;

	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid));
	ASSERT_EQ(start_toucher(&second, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &second.tid));

	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	be_a_writer(_metadata, self->map, SMALL_DEV);
	EXPECT_TRUE(nothing_waited(&self->dog));

	let_go(&self->dev);
	pthread_join(self->toucher.thread, NULL);
	pthread_join(second.thread, NULL);
	EXPECT_EQ(second.word, OF_DEVICE);
}

static bool gone(pid_t pid)
{
	int ms;

	for (ms = 0; ms < PATIENCE_MS; ms += 10) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return true;
		usleep(10000);
	}
	return false;
}

/* The I/O is never let go before the process is gone. */
TEST_F(held_file, sigkill_ends_the_wait)
{
	atomic_int tid;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		FORCE_READ(*self->map);
		_exit(0);
	}
	tid = pid;
	ASSERT_TRUE(wait_till_asleep(&self->dev, &tid));
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	EXPECT_TRUE(gone(pid));
	EXPECT_GT(nr_held(&self->dev), 0);
}

/* -1 if there is no gup_test. */
static int get_pages_nowait(char *addr)
{
	struct gup_test gup = {
		.addr = (uintptr_t)addr,
		.size = page,
		.nr_pages_per_call = 1,
		.gup_flags = FOLL_NOWAIT,
	};
	int fd = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -1;
	ret = ioctl(fd, GUP_BASIC_TEST, &gup);
	close(fd);
	return ret && errno != EAGAIN && errno != EBUSY ? -2 : 0;
}

#define NO_GUP_TEST	"no gup_test; mount debugfs, with CONFIG_GUP_TEST"

/* As KVM does to let the guest go on with something else. */
TEST_F(held_file, nowait_does_not_wait)
{
	int ret;

	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid));
	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	ret = get_pages_nowait(self->map);
	EXPECT_TRUE(nothing_waited(&self->dog));
	let_go(&self->dev);
	pthread_join(self->toucher.thread, NULL);
	if (ret == -1)
		SKIP(return, NO_GUP_TEST);
	EXPECT_EQ(ret, 0);
}

/*
 * A VMA that changes while a fault in it waits
 */

enum change { REPLACE, UNMAP, PROTECT, MOVE, SPLIT, DISCARD };

FIXTURE(vma_change)
{
	struct dev dev;
	struct toucher toucher;
	struct watchdog dog;
	char *map;
	char *elsewhere;
	int other;		/* A memfd with other contents. */
};

FIXTURE_VARIANT(vma_change)
{
	enum change change;
	int signal;		/* What the thread must get ... */
	unsigned long of;	/* ... or read. */
};

FIXTURE_VARIANT_ADD(vma_change, replaced)
{
	.change = REPLACE,
	.of = OF_OTHER,
};

FIXTURE_VARIANT_ADD(vma_change, unmapped)
{
	.change = UNMAP,
	.signal = SIGSEGV,
};

FIXTURE_VARIANT_ADD(vma_change, made_inaccessible)
{
	.change = PROTECT,
	.signal = SIGSEGV,
};

FIXTURE_VARIANT_ADD(vma_change, moved)
{
	.change = MOVE,
	.signal = SIGSEGV,
};

FIXTURE_VARIANT_ADD(vma_change, split)
{
	.change = SPLIT,
	.of = OF_DEVICE,
};

FIXTURE_VARIANT_ADD(vma_change, discarded)
{
	.change = DISCARD,
	.of = OF_DEVICE,
};

FIXTURE_SETUP(vma_change)
{
	const char *why;

	page = psize();
	self->other = filled_memfd(SMALL_DEV, OF_OTHER);
	ASSERT_GE(self->other, 0);
	why = make_device(&self->dev, filled_memfd(SMALL_DEV, OF_DEVICE), SMALL_DEV);
	if (why)
		SKIP(return, "%s", why);
	self->map = mmap(NULL, SMALL_DEV, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	self->elsewhere = mmap(NULL, SMALL_DEV, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->elsewhere, MAP_FAILED);
	ASSERT_TRUE(drop_cache(&self->dev));
	ASSERT_EQ(set_delays(&self->dev, HELD, 0), 0);
	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
}

FIXTURE_TEARDOWN(vma_change)
{
	self->dog.stop = true;
	set_delays(&self->dev, 0, 0);
	munmap(self->map, SMALL_DEV);
	munmap(self->elsewhere, SMALL_DEV);
	expect_removed(_metadata, &self->dev);
	close(self->other);
}

static bool change_page(enum change change, char *map, size_t nr, int other,
			char *elsewhere)
{
	char *addr = map + nr * page;

	switch (change) {
	case REPLACE:
		return mmap(addr, page, PROT_READ, MAP_SHARED | MAP_FIXED, other,
			    nr * page) == addr;
	case UNMAP:
		return !munmap(addr, page);
	case PROTECT:
		return !mprotect(addr, page, PROT_NONE);
	case MOVE:
		return mremap(addr, page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
			      elsewhere) == elsewhere;
	case SPLIT:
		return !mprotect(addr + page, page, PROT_NONE);
	case DISCARD:
		return !madvise(addr, page, MADV_DONTNEED);
	}
	return false;
}

/*
 * The page is not in memory. Invalidation leaves one alone that somebody else has
 * a reference to just then.
 */
static bool drop_page(struct dev *d, char *addr)
{
	unsigned char cached;
	int ms;

	for (ms = 0; ms < PATIENCE_MS; ms++) {
		if (!drop_cache(d) || mincore(addr, page, &cached))
			return false;
		if (!(cached & 1))
			return true;
		usleep(1000);
	}
	return false;
}

/* A new mapping of the device, of which the page at @addr is not in memory. */
static bool map_anew(struct dev *d, char *map, size_t round, char *addr)
{
	if (mmap(map, SMALL_DEV, PROT_READ, MAP_SHARED | MAP_FIXED, d->fd, 0) != map)
		return false;
	if (madvise(map, SMALL_DEV, round & 1 ? MADV_RANDOM : MADV_NORMAL))
		return false;
	return drop_page(d, addr);
}

/*
 * The change is made, to its end, while the fault waits, and so the fault must
 * act upon what is there afterwards.
 */
TEST_F_TIMEOUT(vma_change, is_seen, 300)
{
	size_t round;

	for (round = 0; round < ROUNDS && !self->dog.barked; round++) {
		const size_t nr = 1 + round * 7 % (SMALL_DEV / page - 2);

		self->dog.ms = 0;
		ASSERT_TRUE(map_anew(&self->dev, self->map, round, self->map + nr * page));
		ASSERT_EQ(start_toucher(&self->toucher, self->map + nr * page, false), 0);
		ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid))
			TH_LOG("round %zu: the fault %s, in state %c, with %u reads held",
			       round, self->toucher.done ? "is over" : "goes on",
			       state_of(self->toucher.tid), nr_held(&self->dev));
		ASSERT_TRUE(change_page(variant->change, self->map, nr,
					self->other, self->elsewhere));
		ASSERT_FALSE(self->toucher.done);
		ASSERT_EQ(let_go(&self->dev), 0);
		pthread_join(self->toucher.thread, NULL);

		ASSERT_EQ(self->toucher.signal, variant->signal);
		if (!variant->signal)
			ASSERT_EQ(self->toucher.word, variant->of + nr);
		if (variant->change == MOVE)
			ASSERT_EQ(load(self->elsewhere), OF_DEVICE + nr);
	}
	EXPECT_EQ(round, ROUNDS);
}

/*
 * Read errors
 */

FIXTURE(read_error)
{
	struct dev dev;
	struct toucher toucher;
	char *map;
};

FIXTURE_VARIANT(read_error)
{
	int advice;
};

FIXTURE_VARIANT_ADD(read_error, readahead)
{
	.advice = MADV_NORMAL,
};

FIXTURE_VARIANT_ADD(read_error, direct)
{
	.advice = MADV_RANDOM,
};

FIXTURE_SETUP(read_error)
{
	const char *why;

	page = psize();
	why = make_device(&self->dev, filled_memfd(SMALL_DEV, OF_DEVICE), SMALL_DEV);
	if (why)
		SKIP(return, "%s", why);
	self->map = map_cold(&self->dev, PROT_READ, variant->advice);
	ASSERT_NE(self->map, NULL);
}

FIXTURE_TEARDOWN(read_error)
{
	if (self->map)
		munmap(self->map, SMALL_DEV);
	expect_removed(_metadata, &self->dev);
}

static bool ends_by_itself(struct toucher *t)
{
	int ms;

	for (ms = 0; !t->done && ms < PATIENCE_MS; ms++)
		usleep(1000);
	return t->done;
}

/* A retry that is not bounded would try to read the page again and again. */
TEST_F(read_error, gives_sigbus)
{
	if (set_table(&self->dev, "flakey", "%s 0 0 1000 1 error_reads", self->dev.lower))
		SKIP(return, "no dm-flakey; CONFIG_DM_FLAKEY is needed");
	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	EXPECT_TRUE(ends_by_itself(&self->toucher));

	/* Once the device is well again, so is the page. */
	ASSERT_EQ(set_delays(&self->dev, 0, 0), 0);
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.signal, SIGBUS);
	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.signal, 0);
	EXPECT_EQ(self->toucher.word, OF_DEVICE);
}

/*
 * Swap
 */

#define SWAP_PAGES	64
#define SWAP_DEV	larger(16 * MB, 4 * SWAP_PAGES * page)

FIXTURE(swap_fault)
{
	struct dev dev;
	struct counts counts;
	struct toucher toucher;
	struct watchdog dog;
	char page_cluster[32];
	char *map;
	size_t size;
};

#define PAGE_CLUSTER	"/proc/sys/vm/page-cluster"

static void undo_swap_fault(FIXTURE_DATA(swap_fault) *self)
{
	if (self->dev.major)
		set_delays(&self->dev, 0, 0);
	if (self->page_cluster[0])
		write_text(PAGE_CLUSTER, "%s", self->page_cluster);
	close_counters(&self->counts);
	if (self->map)
		munmap(self->map, self->size);
	remove_device(&self->dev);
}

FIXTURE_SETUP(swap_fault)
{
	const char *why;
	bool swapped;

	page = psize();
	self->size = SWAP_PAGES * page;
	ASSERT_TRUE(stay_on_this_cpu());
	memset(self->counts.fd, -1, sizeof(self->counts.fd));
	why = make_swap_device(&self->dev, SWAP_DEV);
	if (!why)
		why = prepare_counters(&self->counts);
	if (why)
		SKIP(return, "%s", why);
	if (swap_on(&self->dev))
		SKIP(return, "swapon() failed; run as root, with CONFIG_SWAP");
	ASSERT_TRUE(read_text(PAGE_CLUSTER, self->page_cluster, sizeof(self->page_cluster)));
	ASSERT_TRUE(write_text(PAGE_CLUSTER, "0"));
	self->map = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	madvise(self->map, self->size, MADV_NOHUGEPAGE);
	swapped = swap_out_to(&self->dev, self->map, SWAP_PAGES);
	/* A set-up that fails is not torn down; the tests behind it need their own swap. */
	if (!swapped)
		undo_swap_fault(self);
	ASSERT_TRUE(swapped) {
		TH_LOG("the pages cannot be swapped out");
	}
}

FIXTURE_TEARDOWN(swap_fault)
{
	undo_swap_fault(self);
}

TEST_F(swap_fault, takes_no_mmap_lock)
{
	size_t bad;

	ASSERT_EQ(set_delays(&self->dev, SLOW, 0), 0);
	start_counting(&self->counts);
	bad = touch_pages(self->map, 0, SWAP_PAGES, 1, false, OF_ANON);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);
	EXPECT_EQ(bad, 0);
	ASSERT_EQ(self->counts.ru_majflt, SWAP_PAGES);
	expect_no_mmap_lock(_metadata, self->counts.nr[MMAP_LOCK]);
}

/* But where the folio goes on to be written while it is waited for. */
TEST_F(swap_fault, resumes)
{
	long resumed;
	int fd;

	if (!has_vma_lock())
		SKIP(return, NO_VMA_LOCK);
	ASSERT_EQ(set_delays(&self->dev, SLOW, 0), 0);
	fd = count_resumes();
	ASSERT_GE(fd, 0) {
		TH_LOG("this kernel has no event of faults that resume");
	}
	touch_pages(self->map, 0, SWAP_PAGES, 1, false, OF_ANON);
	resumed = end_resumes(fd);
	TH_LOG("%ld of %d resumed", resumed, SWAP_PAGES);
	EXPECT_GE(resumed, SWAP_PAGES / 2);
}

TEST_F(swap_fault, counts_are_kept)
{
	ASSERT_EQ(set_delays(&self->dev, SLOW, 0), 0);
	start_counting(&self->counts);
	touch_pages(self->map, 0, SWAP_PAGES, 1, false, OF_ANON);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);
	EXPECT_EQ(self->counts.ru_majflt, SWAP_PAGES);
	EXPECT_EQ(self->counts.ru_minflt, 0);
	EXPECT_EQ(self->counts.nr[FAULTS], SWAP_PAGES);
	EXPECT_EQ(self->counts.nr[FAULTS_MAJ], SWAP_PAGES);
	EXPECT_EQ(self->counts.nr[FAULTS_MIN], 0);
}

TEST_F(swap_fault, writers_do_not_wait)
{
	ASSERT_EQ(set_delays(&self->dev, HELD, 0), 0);
	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid));

	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	be_a_writer(_metadata, self->map, self->size);
	EXPECT_TRUE(nothing_waited(&self->dog));
	EXPECT_FALSE(self->toucher.done);

	let_go(&self->dev);
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.word, OF_ANON);
}

TEST_F(swap_fault, sigkill_ends_the_wait)
{
	atomic_int tid;
	pid_t pid;

	ASSERT_EQ(set_delays(&self->dev, HELD, 0), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		FORCE_READ(*self->map);
		_exit(0);
	}
	tid = pid;
	ASSERT_TRUE(wait_till_asleep(&self->dev, &tid));
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	EXPECT_TRUE(gone(pid));
	EXPECT_GT(nr_held(&self->dev), 0);
}

TEST_F(swap_fault, nowait_does_not_wait)
{
	int ret;

	ASSERT_EQ(set_delays(&self->dev, HELD, 0), 0);
	ASSERT_EQ(start_toucher(&self->toucher, self->map, false), 0);
	ASSERT_TRUE(wait_till_asleep(&self->dev, &self->toucher.tid));
	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	ret = get_pages_nowait(self->map);
	EXPECT_TRUE(nothing_waited(&self->dog));
	let_go(&self->dev);
	pthread_join(self->toucher.thread, NULL);
	if (ret == -1)
		SKIP(return, NO_GUP_TEST);
	EXPECT_EQ(ret, 0);
}

/*
 * userfaultfd
 */

#define UFFD_PAGES	64

enum uffd_mode { MISSING_ANON, MISSING_SHMEM, MINOR, WP_ANON, WP_SHMEM };

FIXTURE(uffd_fault)
{
	struct counts counts;
	struct toucher toucher;
	pthread_t handler;
	atomic_ulong events;
	atomic_bool hold;	/* The handler does not answer. */
	int uffd;
	int stop[2];
	char *map;
	char *alias;		/* Of the memfd, if there is one. */
	char *from;		/* A page to copy. */
	size_t size;
	enum uffd_mode mode;
};

FIXTURE_VARIANT(uffd_fault)
{
	enum uffd_mode mode;
};

FIXTURE_VARIANT_ADD(uffd_fault, missing_anon)
{
	.mode = MISSING_ANON,
};

FIXTURE_VARIANT_ADD(uffd_fault, missing_shmem)
{
	.mode = MISSING_SHMEM,
};

FIXTURE_VARIANT_ADD(uffd_fault, minor_shmem)
{
	.mode = MINOR,
};

FIXTURE_VARIANT_ADD(uffd_fault, wp_anon)
{
	.mode = WP_ANON,
};

FIXTURE_VARIANT_ADD(uffd_fault, wp_shmem)
{
	.mode = WP_SHMEM,
};

static int open_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int set_wp(int uffd, char *addr, size_t size, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)addr, size },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

static int answer(FIXTURE_DATA(uffd_fault) *self, char *addr)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)addr,
		.src = (uintptr_t)self->from,
		.len = page,
	};
	struct uffdio_continue cont = {
		.range = { (uintptr_t)addr, page },
	};

	switch (self->mode) {
	case MISSING_ANON:
	case MISSING_SHMEM:
		store(self->from, OF_ANON + (addr - self->map) / page);
		return ioctl(self->uffd, UFFDIO_COPY, &copy);
	case MINOR:
		return ioctl(self->uffd, UFFDIO_CONTINUE, &cont);
	default:
		return set_wp(self->uffd, addr, page, false);
	}
}

static void *handler_main(void *arg)
{
	FIXTURE_DATA(uffd_fault) *self = arg;
	struct pollfd fds[2] = {
		{ .fd = self->uffd, .events = POLLIN },
		{ .fd = self->stop[0], .events = POLLIN },
	};
	struct uffd_msg msg;

	for (;;) {
		poll(fds, 2, -1);
		if (fds[1].revents)
			return NULL;
		if (read(self->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		self->events++;
		while (self->hold)
			usleep(1000);
		answer(self, (char *)(uintptr_t)(msg.arg.pagefault.address & -page));
	}
}

static bool map_uffd_memory(FIXTURE_DATA(uffd_fault) *self)
{
	const bool anon = self->mode == MISSING_ANON || self->mode == WP_ANON;
	const int flags = anon ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	const int prot = PROT_READ | PROT_WRITE;
	int fd = -1;

	if (!anon) {
		fd = memfd_create("fault_retry", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, self->size))
			return false;
		self->alias = mmap(NULL, self->size, prot, MAP_SHARED, fd, 0);
	}
	self->map = mmap(NULL, self->size, prot, flags, fd, 0);
	self->from = mmap(NULL, page, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!anon)
		close(fd);
	if (self->map == MAP_FAILED || self->from == MAP_FAILED)
		return false;
	*self->from = 0;
	madvise(self->map, self->size, MADV_NOHUGEPAGE);
	return true;
}

/*
 * Pages in the state in which a touch gives an event, except for one more at
 * the end: the first anon_vma of a VMA is a reason to take mmap_lock.
 */
static bool prepare_uffd_memory(FIXTURE_DATA(uffd_fault) *self)
{
	const size_t len = UFFD_PAGES * page;
	bool ok = true;

	store(self->map + len, 0);
	if (self->mode == WP_ANON || self->mode == WP_SHMEM)
		fill(self->map, UFFD_PAGES, OF_ANON);
	if (self->mode == MINOR)
		fill(self->alias, UFFD_PAGES, OF_ANON);

	ok &= !uffd_register(self->uffd, self->map, self->size,
			     self->mode == MISSING_ANON || self->mode == MISSING_SHMEM,
			     self->mode == WP_ANON || self->mode == WP_SHMEM,
			     self->mode == MINOR);
	if (self->mode == WP_ANON || self->mode == WP_SHMEM)
		ok &= !set_wp(self->uffd, self->map, len, true);
	return ok;
}

FIXTURE_SETUP(uffd_fault)
{
	uint64_t features = 0;
	const char *why;

	page = psize();
	self->size = (UFFD_PAGES + 1) * page;
	self->mode = variant->mode;
	why = prepare_counters(&self->counts);
	if (why)
		SKIP(return, "%s", why);
	if (variant->mode == MINOR)
		features = UFFD_FEATURE_MINOR_SHMEM;
	else if (variant->mode == WP_ANON)
		features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	else if (variant->mode == WP_SHMEM)
		features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			   UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	self->uffd = open_uffd(features);
	if (self->uffd < 0)
		SKIP(return, "no such userfaultfd; run as root, with CONFIG_USERFAULTFD");
	ASSERT_TRUE(map_uffd_memory(self));
	ASSERT_TRUE(prepare_uffd_memory(self));
	ASSERT_EQ(pipe(self->stop), 0);
	ASSERT_EQ(pthread_create(&self->handler, NULL, handler_main, self), 0);
}

FIXTURE_TEARDOWN(uffd_fault)
{
	self->hold = false;
	if (self->handler) {
		ASSERT_EQ(write(self->stop[1], "x", 1), 1);
		pthread_join(self->handler, NULL);
	}
	close_counters(&self->counts);
	close(self->uffd);
	munmap(self->map, self->size);
}

static bool uffd_writes(enum uffd_mode mode)
{
	return mode == WP_ANON || mode == WP_SHMEM;
}

TEST_F(uffd_fault, takes_no_mmap_lock)
{
	size_t bad;

	start_counting(&self->counts);
	bad = touch_pages(self->map, 0, UFFD_PAGES, 1, uffd_writes(variant->mode),
			  OF_ANON);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);
	EXPECT_EQ(bad, 0);
	ASSERT_EQ(self->events, UFFD_PAGES);
	expect_no_mmap_lock(_metadata, self->counts.nr[MMAP_LOCK]);
}

/* To wait for a handler is not to wait for a disk: the fault is a minor one. */
TEST_F(uffd_fault, counts_are_kept)
{
	start_counting(&self->counts);
	touch_pages(self->map, 0, UFFD_PAGES, 1, uffd_writes(variant->mode), OF_ANON);
	ASSERT_TRUE(stop_counting(&self->counts));
	report(&self->counts);
	EXPECT_EQ(self->counts.ru_majflt, 0);
	EXPECT_EQ(self->counts.ru_minflt, UFFD_PAGES);
	EXPECT_EQ(self->counts.nr[FAULTS], UFFD_PAGES);
	EXPECT_EQ(self->counts.nr[FAULTS_MAJ], 0);
	EXPECT_EQ(self->counts.nr[FAULTS_MIN], UFFD_PAGES);
}

static atomic_bool signal_seen;

static void note_signal(int sig)
{
	signal_seen = true;
}

static bool becomes_true(atomic_bool *what)
{
	int ms;

	for (ms = 0; !*what && ms < PATIENCE_MS; ms++)
		usleep(1000);
	return *what;
}

/* A signal interrupts the wait: its handler runs before the page is there. */
TEST_F(uffd_fault, signal_interrupts_the_wait)
{
	struct sigaction action = { .sa_handler = note_signal, .sa_flags = SA_RESTART };
	int ms;

	signal_seen = false;
	self->hold = true;
	ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	ASSERT_EQ(start_toucher(&self->toucher, self->map, uffd_writes(variant->mode)), 0);
	for (ms = 0; !self->events && ms < PATIENCE_MS; ms++)
		usleep(1000);
	ASSERT_GT(self->events, 0);
	ASSERT_EQ(pthread_kill(self->toucher.thread, SIGUSR1), 0);
	EXPECT_TRUE(becomes_true(&signal_seen));
	EXPECT_FALSE(self->toucher.done);
	self->hold = false;
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.signal, 0);
}

/* Whether the event of a write to a protected page comes. */
static bool wp_event_comes(int uffd)
{
	struct pollfd fd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&fd, 1, PATIENCE_MS) != 1)
		return false;
	if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
		return false;
	return msg.event == UFFD_EVENT_PAGEFAULT &&
	       msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP;
}

/*
 * A write to a protected page that was swapped out: first it waits for swap,
 * then for the handler, so the first wait must leave the second one possible.
 */
TEST_F(swap_fault, uffd_wp_event_after_the_wait)
{
	int uffd = open_uffd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	bool event;

	if (uffd < 0)
		SKIP(return, "no userfaultfd with write protection; CONFIG_USERFAULTFD is needed");
	touch_pages(self->map, 0, SWAP_PAGES, 1, true, OF_ANON);
	ASSERT_EQ(uffd_register(uffd, self->map, self->size, false, true, false), 0);
	ASSERT_EQ(set_wp(uffd, self->map, self->size, true), 0);
	ASSERT_TRUE(swap_out(self->map, SWAP_PAGES));

	ASSERT_EQ(set_delays(&self->dev, SLOW, 0), 0);
	ASSERT_EQ(start_toucher(&self->toucher, self->map, true), 0);
	event = wp_event_comes(uffd);
	EXPECT_TRUE(event);
	EXPECT_FALSE(self->toucher.done && !self->toucher.signal);
	set_wp(uffd, self->map, self->size, false);
	pthread_join(self->toucher.thread, NULL);
	EXPECT_EQ(self->toucher.signal, 0);
	EXPECT_EQ(self->toucher.word, OF_OTHER);
	close(uffd);
}

/*
 * Dirty throttling
 */

#define NR_LIMITS	4

/* A ratio and the bytes of the same limit: a write to one clears the other. */
static const char * const dirty_limits[NR_LIMITS] = {
	"/proc/sys/vm/dirty_background_ratio",
	"/proc/sys/vm/dirty_ratio",
	"/proc/sys/vm/dirty_background_bytes",
	"/proc/sys/vm/dirty_bytes",
};

FIXTURE(dirty_fault)
{
	struct dev dev;
	struct toucher toucher;
	struct watchdog dog;
	long limits[NR_LIMITS];
	atomic_ulong written;
	atomic_bool stop;
	pthread_t writer;
	atomic_int tid;
	char *map;
};

FIXTURE_SETUP(dirty_fault)
{
	const char *why;
	int i;

	page = psize();
	for (i = 0; i < NR_LIMITS; i++)
		self->limits[i] = read_long(dirty_limits[i]);
	why = make_device(&self->dev, filled_memfd(2 * SMALL_DEV, OF_DEVICE),
			  2 * SMALL_DEV);
	if (why)
		SKIP(return, "%s", why);
	self->map = mmap(NULL, 2 * SMALL_DEV, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->dev.fd, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	/* All is uptodate in the page cache, and nothing of it is mapped. */
	ASSERT_EQ(madvise(self->map, 2 * SMALL_DEV, MADV_POPULATE_READ), 0);
	ASSERT_EQ(madvise(self->map, 2 * SMALL_DEV, MADV_DONTNEED), 0);
	/* What others have dirtied would end the pause when it is written. */
	sync();
	ASSERT_EQ(set_delays(&self->dev, 0, HELD), 0);
	if (!write_text(dirty_limits[2], "%zu", 32 * page) ||
	    !write_text(dirty_limits[3], "%zu", 64 * page))
		SKIP(return, "the dirty limits cannot be set; run as root");
}

FIXTURE_TEARDOWN(dirty_fault)
{
	int i;

	for (i = 0; i < NR_LIMITS; i++)
		if (self->limits[i] > 0)
			write_text(dirty_limits[i], "%ld", self->limits[i]);
	self->stop = true;
	set_delays(&self->dev, 0, 0);
	if (self->writer)
		pthread_join(self->writer, NULL);
	munmap(self->map, 2 * SMALL_DEV);
	remove_device(&self->dev);
}

static void *writer_main(void *arg)
{
	FIXTURE_DATA(dirty_fault) *self = arg;
	size_t i;

	self->tid = gettid();
	for (i = 0; i < SMALL_DEV / page && !self->stop; i++) {
		store(self->map + i * page, OF_OTHER);
		self->written++;
	}
	return NULL;
}

/* It makes no progress for several pauses, which last 200 ms at most. */
static bool becomes_throttled(FIXTURE_DATA(dirty_fault) *self)
{
	unsigned long before = 0;
	int ms, same = 0;

	for (ms = 0; ms < PATIENCE_MS; ms += 10) {
		usleep(10000);
		same = before == self->written ? same + 1 : 0;
		before = self->written;
		if (same >= 100 && nr_held(&self->dev) && state_of(self->tid) == 'D')
			return true;
	}
	return false;
}

/*
 * A thread whose write faults are throttled sleeps until writes make progress,
 * and these are held.
 */
TEST_F_TIMEOUT(dirty_fault, throttling_holds_no_lock, 120)
{
	ASSERT_EQ(pthread_create(&self->writer, NULL, writer_main, self), 0);
	ASSERT_TRUE(becomes_throttled(self)) {
		TH_LOG("wrote %lu pages, state %c, %u writes are held",
		       self->written, state_of(self->tid), nr_held(&self->dev));
	}
	ASSERT_EQ(start_watchdog(&self->dog, &self->dev), 0);
	be_a_writer(_metadata, self->map, 2 * SMALL_DEV);
	EXPECT_TRUE(nothing_waited(&self->dog));
	EXPECT_LT(self->written, SMALL_DEV / page);
}

/*
 * Less memory than what is read
 */

#define TIGHT_THREADS	4
#define TIGHT_LIMIT	larger(8 * MB, 512 * page)	/* A CPU may charge 64 in advance. */
#define TIGHT_DEV	(3 * TIGHT_LIMIT)

FIXTURE(tight_memory)
{
	struct dev dev;
	struct cgroup cgroup;
	char *map;
};

FIXTURE_SETUP(tight_memory)
{
	const char *why;

	page = psize();
	/* The memfd is not to be charged to the cgroup. */
	why = make_device(&self->dev, filled_memfd(TIGHT_DEV, OF_DEVICE), TIGHT_DEV);
	if (!why)
		why = enter_cgroup(&self->cgroup);
	if (why)
		SKIP(return, "%s", why);
	self->map = mmap(NULL, TIGHT_DEV, PROT_READ, MAP_SHARED, self->dev.fd, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	ASSERT_EQ(set_delays(&self->dev, 1, 0), 0);
	ASSERT_TRUE(cgroup_set(&self->cgroup, "memory.max", TIGHT_LIMIT));
}

FIXTURE_TEARDOWN(tight_memory)
{
	if (self->dev.major)
		set_delays(&self->dev, 0, 0);
	if (self->map)
		munmap(self->map, TIGHT_DEV);
	remove_device(&self->dev);
	leave_cgroup(&self->cgroup);
}

struct reader {
	pthread_t thread;
	char *map;
	size_t first, bad;
};

/* Each reads all of the device, from another place on. */
static void *reader_main(void *arg)
{
	struct reader *r = arg;
	const size_t pages = TIGHT_DEV / page;
	size_t i;

	for (i = 0; i < pages; i += 4) {
		const size_t nr = (r->first + i) % pages;

		r->bad += load(r->map + nr * page) != OF_DEVICE + nr;
	}
	return NULL;
}

/* Folios are reclaimed between their read and the retry that maps them. */
TEST_F_TIMEOUT(tight_memory, makes_progress, 300)
{
	struct reader r[TIGHT_THREADS] = {};
	int i;

	for (i = 0; i < TIGHT_THREADS; i++) {
		r[i].map = self->map;
		r[i].first = TIGHT_DEV / page / TIGHT_THREADS * i;
		ASSERT_EQ(pthread_create(&r[i].thread, NULL, reader_main, &r[i]), 0);
	}
	for (i = 0; i < TIGHT_THREADS; i++) {
		pthread_join(r[i].thread, NULL);
		EXPECT_EQ(r[i].bad, 0);
	}
}

TEST_HARNESS_MAIN
