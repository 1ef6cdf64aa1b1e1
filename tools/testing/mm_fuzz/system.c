// SPDX-License-Identifier: GPL-2.0
/*
 * Settings of the system, which are put back, and what it has.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define RELOCATE	"/sys/kernel/mm/mremap/relocate_anon"
#define RELOCATE_MAX	"/sys/kernel/mm/mremap/relocate_max_kb"
#define KSM		"/sys/kernel/mm/ksm/"
#define THP		"/sys/kernel/mm/transparent_hugepage"
#define NODES		"/sys/devices/system/node/online"
#define MAX_SAVED	64
#define USAGE_SLACK_KB	16384

bool is_root, is_old_kernel, can_lock, thp_active;
int nr_nodes = 1;

/* A setting, as it was. */
static struct saved {
	char path[128], text[64];
} saved[MAX_SAVED];

static int nr_saved;
static bool swap_is_ours;
static pid_t owner;	/* who restores it */
static long swap_free, shmem_used, tainted;

void die(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	fprintf(stderr, "mm_fuzz: %s\n", line);
	if (getpid() == owner)
		restore_system();
	_exit(3);
}

bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len > 0;
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = write(fd, text, strlen(text));
	close(fd);
	return len >= 0;
}

/* A number behind a name, or -1. */
long read_field(const char *path, const char *field)
{
	char text[8192], *found;

	if (!read_text(path, text, sizeof(text)))
		return -1;
	found = strstr(text, field);
	return found ? atol(found + strlen(field)) : -1;
}

/* Of "never [merge] always", only what is chosen. */
static void keep_choice(char *text)
{
	char *open = strchr(text, '['), *close = strchr(text, ']');

	text[strcspn(text, "\n")] = '\0';
	if (!open || !close)
		return;
	*close = '\0';
	memmove(text, open + 1, strlen(open + 1) + 1);
}

static bool change(const char *path, const char *text)
{
	struct saved *s = &saved[nr_saved];

	if (nr_saved == MAX_SAVED || !read_text(path, s->text, sizeof(s->text)))
		return false;
	snprintf(s->path, sizeof(s->path), "%s", path);
	keep_choice(s->text);
	nr_saved++;
	return write_text(path, text);
}

/* The mode belongs to all processes: it is restored like the rest. */
bool has_relocation(void)
{
	static int has = -1;

	if (has < 0)
		has = !geteuid() && !access(RELOCATE, W_OK);
	return has;
}

bool set_relocation(const char *mode)
{
	return write_text(RELOCATE, mode);
}

/* Swaps everything in, and out again when asked to. */
bool cycle_swap(void)
{
	if (swapoff(opt.swap))
		return false;
	/* EBUSY: somebody else did the same. */
	while (swapon(opt.swap, 0) && errno == EINTR)
		;
	return true;
}

static void enable_ksm(void)
{
	if (!change(KSM "run", "1"))
		die("KSM cannot be started: root, and a kernel with CONFIG_KSM, can");
	change(KSM "sleep_millisecs", "2");
	change(KSM "pages_to_scan", "1000");
}

/* All orders, so that large folios come to arenas that are smaller than a PMD. */
static void enable_thp(void)
{
	char path[300];
	struct dirent *ent;
	DIR *dir = opendir(THP);

	if (!dir || !change(THP "/enabled", "always"))
		die("THPs cannot be enabled: root, and a kernel with them, can");
	while ((ent = readdir(dir))) {
		if (strncmp(ent->d_name, "hugepages-", 10))
			continue;
		snprintf(path, sizeof(path), THP "/%.200s/enabled", ent->d_name);
		change(path, "always");
	}
	closedir(dir);
}

static bool chosen(const char *path, const char *choice)
{
	char text[128];

	if (!read_text(path, text, sizeof(text)))
		return false;
	keep_choice(text);
	return !strcmp(text, choice);
}

/* Can a fault bring in more than a page where nobody asked for that? */
static bool find_thp(void)
{
	char path[300];
	struct dirent *ent;
	DIR *dir = opendir(THP);
	bool all = chosen(THP "/enabled", "always"), active = false;

	while (dir && (ent = readdir(dir))) {
		if (strncmp(ent->d_name, "hugepages-", 10))
			continue;
		snprintf(path, sizeof(path), THP "/%.200s/enabled", ent->d_name);
		active |= chosen(path, "always") || (all && chosen(path, "inherit"));
	}
	if (dir)
		closedir(dir);
	return active || all;
}

static void count_nodes(void)
{
	char text[64], *last;

	if (!read_text(NODES, text, sizeof(text)))
		return;
	last = strrchr(text, '-');
	nr_nodes = last ? atoi(last + 1) + 1 : 1;
	if (nr_nodes > MAX_NODES)
		nr_nodes = MAX_NODES;
}

static bool is_before(int version, int patchlevel)
{
	struct utsname name;
	int v, p;

	return !uname(&name) && sscanf(name.release, "%d.%d", &v, &p) == 2 &&
	       (v < version || (v == version && p < patchlevel));
}

/* All arenas may be locked, and be the same again in VmLck: see model_dontunmap(). */
static bool find_lock_limit(void)
{
	struct rlimit limit;

	if (has_word(opt.without, "lock"))
		return false;
	return is_root || (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur == RLIM_INFINITY);
}

static void setup_relocation(void)
{
	if (!has_relocation())
		return;
	change(RELOCATE_MAX, "0");
	change(RELOCATE, "never");
}

void setup_system(void)
{
	owner = getpid();
	is_root = !geteuid();
	is_old_kernel = is_before(7, 2);
	can_lock = find_lock_limit();
	count_nodes();
	setup_relocation();
	if (opt.swap && swapon(opt.swap, 0))
		die("swapon %s: %s; it takes root and mkswap", opt.swap, strerror(errno));
	swap_is_ours = opt.swap;
	if (has_word(opt.enable, "ksm"))
		enable_ksm();
	if (has_word(opt.enable, "thp"))
		enable_thp();
	thp_active = find_thp();
}

void restore_system(void)
{
	while (nr_saved--)
		write_text(saved[nr_saved].path, saved[nr_saved].text);
	nr_saved = 0;
	if (swap_is_ours && swapoff(opt.swap))
		fprintf(stderr, "mm_fuzz: swapoff %s: %s\n", opt.swap, strerror(errno));
	swap_is_ours = false;
}

static long read_tainted(void)
{
	char text[32];

	return read_text("/proc/sys/kernel/tainted", text, sizeof(text)) ? atol(text) : 0;
}

/* A kernel without CONFIG_CROSS_MEMORY_ATTACH has no process_vm_readv(). */
bool has_remote_access(void)
{
	char from = 1, to = 0;
	struct iovec local = { &to, 1 }, remote = { &from, 1 };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/*
 * What a run leaves behind
 */

void remember_usage(void)
{
	swap_free = read_field("/proc/meminfo", "SwapFree:");
	shmem_used = read_field("/proc/meminfo", "Shmem:");
	tainted = read_tainted();
}

static bool is_back(void)
{
	return read_field("/proc/meminfo", "SwapFree:") >= swap_free - USAGE_SLACK_KB &&
	       read_field("/proc/meminfo", "Shmem:") <= shmem_used + USAGE_SLACK_KB;
}

/*
 * A kernel that warned is tainted, which needs no leave to be seen. Other programs
 * use memory as well, so that the rest is asked for.
 */
bool check_usage(void)
{
	struct timespec ts = { .tv_nsec = 100000000 };
	int i;

	if (read_tainted() != tainted) {
		printf("mm_fuzz: the kernel warned: it is tainted %ld, before %ld; see dmesg\n",
		       read_tainted(), tainted);
		return false;
	}
	for (i = 0; opt.leaks && i < 50 && !is_back(); i++)
		nanosleep(&ts, NULL);
	if (!opt.leaks || is_back())
		return true;
	printf("mm_fuzz: after the run: expected SwapFree %ld and Shmem %ld kB, seen %ld and %ld\n",
	       swap_free, shmem_used, read_field("/proc/meminfo", "SwapFree:"),
	       read_field("/proc/meminfo", "Shmem:"));
	return false;
}
