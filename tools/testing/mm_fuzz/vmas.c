// SPDX-License-Identifier: GPL-2.0
/*
 * What /proc/self says of the mappings, and whether the model says the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define QUERY_READABLE	1
#define QUERY_WRITABLE	2
#define QUERY_SHARED	8

#define PM_FILE		BIT_ULL(61)
#define PM_SWAP		BIT_ULL(62)
#define PM_PRESENT	BIT_ULL(63)

/* Counters of the kernel may be off by a batch for each CPU. */
#define SLACK_PAGES	(512 + 64 * sysconf(_SC_NPROCESSORS_CONF))

static long base_size, base_data, base_locked;
static char text[4 << 20];

/* After a fork: what is open shows the parent's memory. */
void open_proc(struct arena *a)
{
	a->maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	a->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (a->maps < 0 || a->pagemap < 0)
		die("/proc/self/maps or pagemap cannot be opened");
}

static long page_number(struct arena *a, uint64_t addr)
{
	return ((long)addr - (long)a->base) / (long)page_size;
}

/* Asks the kernel for the VMA of a page. */
bool vma_at(struct arena *a, size_t i, struct vma *vma)
{
	struct procmap_query query = {
		.size = sizeof(query),
		.query_addr = (uint64_t)addr_of(a, i),
	};

	if (ioctl(a->maps, PROCMAP_QUERY, &query)) {
		if (errno != ENOENT)
			die("PROCMAP_QUERY: %s; it takes Linux 6.11", strerror(errno));
		return false;
	}
	vma->start = page_number(a, query.vma_start);
	vma->end = page_number(a, query.vma_end);
	vma->shared = query.vma_flags & QUERY_SHARED;
	vma->inode = query.inode;
	vma->offset = query.vma_offset;
	vma->prot = (query.vma_flags & QUERY_READABLE ? A_READ : 0) |
		    (query.vma_flags & QUERY_WRITABLE ? A_WRITE : 0);
	return true;
}

/* How many of the pages are in the VMA of the first? */
size_t clip_to_vma(struct arena *a, size_t start, size_t nr)
{
	struct vma vma;

	if (!vma_at(a, start, &vma))
		return nr;
	return vma.end < (long)(start + nr) ? vma.end - start : nr;
}

/*
 * The kernel was told to populate these pages for writing, and may have stopped on
 * the way. Which pages of private file mappings are copies now?
 */
void resolve_own(struct arena *a, size_t start, size_t nr)
{
	struct page *p;
	uint64_t entry;
	size_t i;

	for (i = start; i < start + nr; i++) {
		p = &a->pages[i];
		/* The marker of a guard looks like swap there. */
		if (p->kind != PRIVATE || p->own || p->guard)
			continue;
		if (pread(a->pagemap, &entry, sizeof(entry),
			  (uintptr_t)addr_of(a, i) / page_size * sizeof(entry)) != sizeof(entry))
			die("pagemap: %s", strerror(errno));
		if (!(entry & (PM_PRESENT | PM_SWAP)) || (entry & PM_FILE))
			continue;
		p->value = content(a, p);
		p->own = true;
		p->touched = YES;
		p->fork_gen = UINT64_MAX;
	}
}

/*
 * smaps
 */

struct mapping {
	unsigned long start, end;
	char perms[5];
	unsigned long offset, inode;
	unsigned long rss, anonymous, swap;	/* kB */
	char flags[256];
};

static bool read_whole(const char *path)
{
	size_t len = 0;
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while ((got = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += got;
	close(fd);
	text[len] = '\0';
	return len > 0 && len < sizeof(text) - 1;
}

static bool parse_line(const char *line, struct mapping *m)
{
	static const char flags[] = "VmFlags: ";

	if (!strncmp(line, "Rss:", 4))
		m->rss = strtoul(line + 4, NULL, 10);
	else if (!strncmp(line, "Anonymous:", 10))
		m->anonymous = strtoul(line + 10, NULL, 10);
	else if (!strncmp(line, "Swap:", 5))
		m->swap = strtoul(line + 5, NULL, 10);
	else if (!strncmp(line, flags, sizeof(flags) - 1))
		return snprintf(m->flags, sizeof(m->flags), " %.*s ",
				(int)strcspn(line + 9, "\n"), line + 9) > 0;
	return false;
}

/* The next mapping; *@pos moves behind it. */
static bool next_mapping(const char **pos, struct mapping *m)
{
	const char *line = *pos;
	bool last = false;

	memset(m, 0, sizeof(*m));
	if (sscanf(line, "%lx-%lx %4s %lx %*x:%*x %lu", &m->start, &m->end, m->perms,
		   &m->offset, &m->inode) != 5)
		return false;
	while (!last) {
		line = strchr(line, '\n');
		if (!line || !line[1])
			break;
		last = parse_line(++line, m);
	}
	line = line ? strchr(line, '\n') : NULL;
	*pos = line ? line + 1 : "";
	return true;
}

static const struct {
	int attr;
	const char *flag;
} vm_flags[] = {
	{ A_READ, " rd " }, { A_WRITE, " wr " }, { A_LOCKED, " lo " }, { A_HUGE, " hg " },
	{ A_NOHUGE, " nh " }, { A_MERGEABLE, " mg " }, { A_DONTFORK, " dc " },
	{ A_WIPE, " wf " }, { A_MISSING, " um " }, { A_WP, " uw " },
};

static void check_flags(struct arena *a, size_t i, const struct mapping *m)
{
	const struct page *p = &a->pages[i];
	const bool shared_mapping = p->kind == SHARED;
	size_t f;

	for (f = 0; f < ARRAY_SIZE(vm_flags); f++)
		if (!(p->attr & vm_flags[f].attr) != !strstr(m->flags, vm_flags[f].flag))
			finding(a, "smaps, page %zu: expected VmFlags %s%s, seen%s", i,
				p->attr & vm_flags[f].attr ? "with" : "without",
				vm_flags[f].flag, m->flags);
	if (shared_mapping != !!strstr(m->flags, " sh "))
		finding(a, "smaps, page %zu: expected %s, seen%s", i,
			shared_mapping ? "a shared mapping" : "a private one", m->flags);
}

static void check_object(struct arena *a, size_t i, const struct mapping *m)
{
	struct object *o = object_of(a, &a->pages[i]);
	unsigned long offset = m->offset + (unsigned long)addr_of(a, i) - m->start;

	if (!o) {
		if (m->inode)
			finding(a, "smaps, page %zu: expected anonymous memory, seen inode %lu", i,
				m->inode);
		return;
	}
	if (!o->inode)
		o->inode = m->inode;
	if (o->inode != m->inode)
		finding(a, "smaps, page %zu: expected inode %lu, seen %lu", i,
			(unsigned long)o->inode, m->inode);
	if (offset != a->pages[i].off * page_size)
		finding(a, "smaps, page %zu: expected offset %#lx, seen %#lx", i,
			a->pages[i].off * page_size, offset);
}

struct bounds {
	size_t least, most, resident;	/* pages */
};

static void add_to_bounds(const struct page *p, struct bounds *b)
{
	const bool private = p->kind == ANON || p->own;

	/* A page of zeroes may be the zero page by now. */
	if (private && p->touched == YES && !p->lazy && p->value)
		b->least++;
	if (p->kind == ANON ? p->touched != NO : p->own)
		b->most++;
	if (p->resident && p->value)
		b->resident++;
}

static void check_bounds(struct arena *a, size_t i, const struct mapping *m,
			 const struct bounds *b)
{
	const size_t kb = page_size / 1024;
	const struct page *p = &a->pages[i];
	size_t anon = m->anonymous + m->swap;

	if (p->kind == SHARED)
		return;
	if (anon < b->least * kb)
		finding(a, "smaps, VMA of page %zu: expected %zu kB of anon, seen %lu + %lu",
			i, b->least * kb, m->anonymous, m->swap);
	if (m->rss < b->resident * kb)
		finding(a, "smaps, VMA of page %zu: expected at least %zu kB resident, seen %lu", i,
			b->resident * kb, m->rss);
	/* Large folios come with pages that nobody touched. */
	if (thp_active || (p->attr & A_HUGE))
		return;
	if ((p->kind == ANON ? anon : m->anonymous) > b->most * kb)
		finding(a, "smaps, VMA of page %zu: expected <= %zu kB of anon, seen %lu + %lu",
			i, b->most * kb, m->anonymous, m->swap);
}

static void check_mapping(struct arena *a, const struct mapping *m)
{
	size_t i, start = page_number(a, m->start), end = page_number(a, m->end);
	struct bounds bounds = { 0 };

	if (m->start < (unsigned long)a->base || end > a->nr)
		finding(a, "smaps: expected no mapping across the arena's ends, seen %lx-%lx",
			m->start, m->end);
	for (i = start; i < end; i++) {
		if (!is_mapped(&a->pages[i]))
			finding(a, "smaps, page %zu: expected nothing mapped, seen %s", i,
				m->perms);
		check_flags(a, i, m);
		check_object(a, i, m);
		add_to_bounds(&a->pages[i], &bounds);
	}
	check_bounds(a, start, m, &bounds);
	if (start && surely_merge(a, &a->pages[start - 1], &a->pages[start]))
		finding(a, "smaps: expected pages %zu and %zu in one VMA, seen two", start - 1,
			start);
}

static void expect_hole(struct arena *a, size_t from, size_t to)
{
	for (; from < to; from++)
		if (is_mapped(&a->pages[from]))
			finding(a, "smaps, page %zu: expected it mapped, seen nothing", from);
}

static bool is_in(const struct arena *a, const struct mapping *m)
{
	return m->end > (unsigned long)a->base &&
	       m->start < (unsigned long)a->base + a->nr * page_size;
}

static void check_arena_mappings(struct arena *a)
{
	const char *pos = text;
	struct mapping m;
	size_t seen = 0;

	spread_faulted(a);
	while (next_mapping(&pos, &m)) {
		if (!is_in(a, &m))
			continue;
		expect_hole(a, seen, page_number(a, m.start));
		check_mapping(a, &m);
		seen = page_number(a, m.end);
	}
	expect_hole(a, seen, a->nr);
	atomic_fetch_add_explicit(&a->progress->checks, 1, memory_order_relaxed);
}

/*
 * Totals
 */

static size_t count_pages(struct arena *all, int nr, int kind, int attr)
{
	size_t count = 0, i;
	int t;

	for (t = 0; t < nr; t++)
		for (i = 0; i < all[t].nr; i++)
			count += is_mapped(&all[t].pages[i]) &&
				 (!kind || all[t].pages[i].kind != SHARED) &&
				 (all[t].pages[i].attr & attr) == attr;
	return count;
}

static void read_sizes(long *size, long *data)
{
	char line[128];

	if (!read_text("/proc/self/statm", line, sizeof(line)) ||
	    sscanf(line, "%ld %*d %*d %*d %*d %ld", size, data) != 2)
		die("/proc/self/statm cannot be read");
}

/* What the process has without arenas. */
void remember_sizes(void)
{
	read_sizes(&base_size, &base_data);
	base_locked = read_field("/proc/self/status", "VmLck:");
}

static void check_totals(struct arena *all, int nr)
{
	const long kb = page_size / 1024;
	long size, data, mapped, locked, unlocked = 0;
	int t;

	read_sizes(&size, &data);
	mapped = count_pages(all, nr, 0, 0);
	if (size - base_size != mapped)
		finding(&all[0], "statm: expected %ld pages mapped, seen %ld", mapped,
			size - base_size);
	mapped = count_pages(all, nr, 1, A_WRITE);
	if (data - base_data != mapped)
		finding(&all[0], "statm: expected %ld pages of data, seen %ld", mapped,
			data - base_data);
	for (t = 0; t < nr; t++)
		unlocked += all[t].unlocked;
	mapped = count_pages(all, nr, 0, A_LOCKED);
	locked = (read_field("/proc/self/status", "VmLck:") - base_locked) / kb;
	if (locked != mapped && locked != mapped + unlocked)
		finding(&all[0], "status: expected VmLck %ld or %ld pages, seen %ld", mapped,
			mapped + unlocked, locked);
}

static void compare_sum(const char *field, long least, long most)
{
	long seen = read_field("/proc/self/status", field);
	long slack = SLACK_PAGES * page_size / 1024;

	if (seen < least - slack || seen > most + slack)
		finding(&arenas[0], "status: expected %s %ld to %ld kB, as smaps, seen %ld",
			field, least, most, seen);
}

/* A counter that is off by a page in each of many operations drifts away. */
static void check_sums(void)
{
	const char *pos = text;
	long anonymous = 0, swap = 0, private_swap = 0;
	struct mapping m;

	while (next_mapping(&pos, &m)) {
		anonymous += m.anonymous;
		private_swap += m.inode ? 0 : m.swap;
		swap += m.perms[3] == 's' ? 0 : m.swap;
	}
	if (opt.disturb)
		return;
	compare_sum("RssAnon:", anonymous, anonymous);
	compare_sum("VmSwap:", private_swap, swap);
}

/* No other thread may be changing its arena. */
void check_smaps(struct arena *all, int nr)
{
	int t;

	if (!read_whole("/proc/self/smaps"))
		die("/proc/self/smaps cannot be read");
	for (t = 0; t < nr; t++)
		check_arena_mappings(&all[t]);
	if (all[0].is_child)
		return;
	check_totals(all, nr);
	check_sums();
}
