// SPDX-License-Identifier: GPL-2.0
/*
 * migrate	move_pages() to another node, with all mappings
 * reclaim	madvise(MADV_PAGEOUT) for a page that is mapped once: it leaves
 *		shared pages alone.  Those are reclaimed by memory.reclaim of a
 *		cgroup of our own, which also walks pages that it then keeps.
 * compact	/proc/sys/vm/compact_memory: it need not meet our page
 * scan		twenty full scans of ksmd, which look at each merged page and need
 *		not walk at all
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "report.h"
#include "system.h"
#include "trigger.h"

#define MOVE_ALL	0x4	/* MPOL_MF_MOVE_ALL */
#define MAX_NODES	1024
#define NR_SCANS	20
#define CGROUPS		"/sys/fs/cgroup"
#define CONTROL		CGROUPS "/cgroup.subtree_control"
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

const char * const trigger_names[NR_TRIGGERS] = { "migrate", "reclaim", "compact", "scan" };

static char group[128], old_group[512];
static bool enabled_memory;	/* in the root cgroup, by us */

static int memory_nodes(int *nodes)
{
	char text[1024];

	if (!read_file("/sys/devices/system/node/has_memory", text, sizeof(text)))
		return 0;
	return parse_list(text, nodes, MAX_NODES);
}

static bool has_swap(void)
{
	char text[512];

	/* The first line is a heading. */
	return read_file("/proc/swaps", text, sizeof(text)) &&
	       strchr(text, '\n') && strchr(text, '\n')[1];
}

static bool memory_cgroups(void)
{
	char text[512];

	return read_file(CGROUPS "/cgroup.controllers", text, sizeof(text)) &&
	       strstr(text, "memory");
}

bool must_walk(enum trigger trigger)
{
	return trigger == TRIGGER_MIGRATE || trigger == TRIGGER_RECLAIM;
}

const char *cannot(enum trigger trigger, const struct pages *pages)
{
	int nodes[MAX_NODES];

	if (trigger == TRIGGER_MIGRATE && memory_nodes(nodes) < 2)
		return "migrate needs two NUMA nodes with memory; boot with numa=fake=2";
	if (trigger == TRIGGER_RECLAIM && !has_swap())
		return "reclaim needs swap; see swapon(8)";
	if (trigger == TRIGGER_RECLAIM && mappings_wanted(pages) > 1 && !memory_cgroups())
		return "reclaim of a shared page needs the memory controller of cgroup v2 at "
		       CGROUPS;
	if (trigger == TRIGGER_COMPACT && access("/proc/sys/vm/compact_memory", W_OK))
		return "compact needs CONFIG_COMPACTION";
	if (trigger == TRIGGER_SCAN && pages->type != TYPE_KSM)
		return "ksmd scans a page of -t ksm only";
	return NULL;
}

static void move_to(const char *folder)
{
	char path[1024], pid[32];

	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file(path, pid);
}

void prepare_trigger(enum trigger trigger, unsigned long mappings)
{
	char text[512], *at;

	if (trigger != TRIGGER_RECLAIM || mappings == 1 || group[0])
		return;
	if (!read_file("/proc/self/cgroup", text, sizeof(text)))
		fail("can't read /proc/self/cgroup");
	at = strstr(text, "0::");
	if (!at)
		fail("this task is in no cgroup v2");
	at[strcspn(at, "\n")] = 0;
	snprintf(old_group, sizeof(old_group), CGROUPS "%s", at + 3);
	if (!read_file(CONTROL, text, sizeof(text)))
		fail("can't read " CONTROL);
	enabled_memory = !strstr(text, "memory");
	if (enabled_memory)
		write_file(CONTROL, "+memory");
	snprintf(group, sizeof(group), CGROUPS "/rmap_benchmark.%d", getpid());
	if (mkdir(group, 0755)) {
		group[0] = 0;
		fail("can't make a cgroup in " CGROUPS ": %s", strerror(errno));
	}
	move_to(group);
}

void leave_cgroup(void)
{
	char path[1024], pid[32];

	if (enabled_memory && !group[0])
		try_write(CONTROL, "-memory");
	if (!group[0])
		return;
	snprintf(path, sizeof(path), "%s/cgroup.procs", old_group);
	snprintf(pid, sizeof(pid), "%d", getpid());
	try_write(path, pid);
	for (int i = 0; i < 1000 && rmdir(group); i++)
		usleep(1000);
	group[0] = 0;
	if (enabled_memory)
		try_write(CONTROL, "-memory");
}

static void migrate(const struct pages *pages)
{
	int nodes[MAX_NODES], count = memory_nodes(nodes), status = -1, target = 0;
	void *page = pages->page;

	if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0) || status < 0)
		fail("the page is on no node (%s)", strerror(status < 0 ? -status : errno));
	for (int i = 0; i < count; i++)
		if (nodes[i] == status)
			target = nodes[(i + 1) % count];
	for (int i = 0; i < 10; i++) {
		if (syscall(SYS_move_pages, 0, 1UL, &page, &target, &status, MOVE_ALL) >= 0 &&
		    status == target)
			return;
		stop_if_asked();
		usleep(1000);
	}
	fail("the page can't be migrated: %s", strerror(status < 0 ? -status : errno));
}

static void reclaim_page(const struct pages *pages)
{
	char path[256];

	if (mappings_wanted(pages) == 1) {
		if (madvise(pages->page, sysconf(_SC_PAGESIZE), MADV_PAGEOUT))
			fail("madvise(MADV_PAGEOUT): %s", strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "%s/memory.reclaim", group);
	for (int i = 0; i < 3 && pfn_of(pages->page); i++) {
		int error = try_write(path, "64M");

		stop_if_asked();
		if (error && error != EAGAIN)	/* EAGAIN: there was less than that */
			fail("can't write to %s: %s", path, strerror(error));
	}
}

void pull_trigger(enum trigger trigger, const struct pages *pages)
{
	if (trigger == TRIGGER_MIGRATE)
		migrate(pages);
	else if (trigger == TRIGGER_RECLAIM)
		reclaim_page(pages);
	else if (trigger == TRIGGER_COMPACT)
		write_file("/proc/sys/vm/compact_memory", "1");
	else
		scan_by_ksmd(NR_SCANS);
}
