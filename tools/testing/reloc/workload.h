/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the workloads share: how mremap() relocates meanwhile, moves, mappings.
 */
#ifndef _RELOC_WORKLOAD_H
#define _RELOC_WORKLOAD_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SETTINGS "/sys/kernel/mm/mremap/"
#define EXIT_USAGE 2

/*
 * Where there is room: always the same, as it depends on the address how many page
 * tables a move allocates.
 */
#define PLACE ((void *)(16UL << 30))

static const char *program;
static char saved_mode[64], saved_max_kb[32];

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program, what, strerror(errno));
	exit(EXIT_FAILURE);
}

static bool read_setting(const char *name, char *text, size_t size)
{
	char path[96];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), SETTINGS "%s", name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	len = read(fd, text, size - 1);
	close(fd);
	if (len < 0)
		die(path);
	text[len] = '\0';
	return true;
}

static void write_setting(const char *name, const char *text)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), SETTINGS "%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void restore_settings(void)
{
	char *begin = strchr(saved_mode, '['), *end = strchr(saved_mode, ']');

	if (!begin || !end)
		return;
	*end = '\0';
	write_setting("relocate_anon", begin + 1);
	write_setting("relocate_max_kb", saved_max_kb);
}

/*
 * Until the program ends.  A kernel that cannot relocate has nothing to set, and
 * moves as ever: that is what the others are compared with.
 */
static void relocate(const char *mode, const char *max_kb)
{
	if (!read_setting("relocate_anon", saved_mode, sizeof(saved_mode)) ||
	    !read_setting("relocate_max_kb", saved_max_kb, sizeof(saved_max_kb)))
		return;
	atexit(restore_settings);
	write_setting("relocate_max_kb", max_kb);
	write_setting("relocate_anon", mode);
}

static inline uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* How many mappings there are in the range. */
static int count_vmas(const char *addr, size_t len)
{
	unsigned long from = (unsigned long)addr, start, end;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int nr = 0;

	if (!f)
		die("/proc/self/maps");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    start < from + len && end > from)
			nr++;
	fclose(f);
	return nr;
}

/* A place where so much can be mapped, and where nothing is. */
static char *find_hole(size_t len)
{
	char *area = mmap(PLACE, len, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		die("mmap");
	munmap(area, len);
	return area;
}

static void map_at(char *addr, size_t len)
{
	if (mmap(addr, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != addr)
		die("mmap");
}

static void move_to(char *from, char *to, size_t len)
{
	if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		die("mremap");
}

#endif
