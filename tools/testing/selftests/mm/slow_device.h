/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device that a test opens and shuts: dm-delay over a loop device over a memfd.
 */
#ifndef _SLOW_DEVICE_H
#define _SLOW_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct dev {
	char name[32];		/* Of the device-mapper device. */
	char node[32];
	unsigned int minor, major;
	char lower[32];		/* The loop device, as major:minor. */
	size_t size;
	void *pages;		/* The memfd's, locked. */
	int fd;
	bool swap;		/* swapon() was done. */
};

struct dm_request {
	struct dm_ioctl io;
	struct dm_target_spec spec;
	char text[512];
};

static inline int dm_call(struct dev *d, unsigned long cmd, unsigned int flags,
			  struct dm_request *r)
{
	/* Tell udev's rules to leave this device alone. */
	const unsigned int no_udev = 0xff << 16;
	int control = open("/dev/" DM_DIR "/" DM_CONTROL_NODE, O_RDWR | O_CLOEXEC);
	int ret;

	if (control < 0)
		return -1;
	r->io.version[0] = DM_VERSION_MAJOR;
	r->io.data_size = sizeof(*r);
	r->io.data_start = offsetof(struct dm_request, spec);
	r->io.flags = flags;
	r->io.event_nr = no_udev;
	strcpy(r->io.name, d->name);
	ret = ioctl(control, cmd, r);
	close(control);
	return ret;
}

static inline int dm_simple(struct dev *d, unsigned long cmd, unsigned int flags)
{
	struct dm_request r = {};

	return dm_call(d, cmd, flags, &r);
}

/* Makes a table the device's; what the old one held is let go. */
static inline int set_table(struct dev *d, const char *target, const char *fmt, ...)
{
	struct dm_request r = { .io.target_count = 1 };
	va_list ap;

	r.spec.length = d->size / 512;
	strcpy(r.spec.target_type, target);
	va_start(ap, fmt);
	vsnprintf(r.text, sizeof(r.text), fmt, ap);
	va_end(ap);
	if (dm_call(d, DM_TABLE_LOAD, 0, &r))
		return -1;
	return dm_simple(d, DM_DEV_SUSPEND, DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG);
}

static inline int set_delays(struct dev *d, unsigned int read_ms, unsigned int write_ms)
{
	return set_table(d, "delay", "%s 0 %u %s 0 %u", d->lower, read_ms,
			 d->lower, write_ms);
}

/* Lets go what is held. What comes afterwards is held again. */
static inline int let_go(struct dev *d)
{
	if (dm_simple(d, DM_DEV_SUSPEND, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG |
		      DM_NOFLUSH_FLAG))
		return -1;
	return dm_simple(d, DM_DEV_SUSPEND, 0);
}

/* How many reads and writes dm-delay holds at the moment. */
static inline unsigned int nr_held(struct dev *d)
{
	struct dm_request r = {};
	unsigned int reads = 0, writes = 0;

	if (dm_call(d, DM_TABLE_STATUS, DM_NOFLUSH_FLAG, &r))
		return 0;
	if (sscanf(r.text, "%u %u", &reads, &writes) != 2)
		return 0;
	return reads + writes;
}

static inline int make_loop(struct dev *d, int memfd)
{
	struct loop_config config = {
		.fd = memfd,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct stat st;
	char path[32];
	int fd, nr;

	if (control < 0)
		return -1;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || ioctl(fd, LOOP_CONFIGURE, &config)) {
		close(fd);
		return -1;
	}
	snprintf(d->lower, sizeof(d->lower), "%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	return fd;
}

static inline int make_mapped(struct dev *d)
{
	struct dm_request r = {};

	snprintf(d->name, sizeof(d->name), "%s-%d",
		 program_invocation_short_name, getpid());
	if (dm_call(d, DM_DEV_CREATE, 0, &r))
		return -1;
	d->major = (r.io.dev & 0xfff00) >> 8;
	d->minor = (r.io.dev & 0xff) | ((r.io.dev >> 12) & 0xfff00);
	snprintf(d->node, sizeof(d->node), "/dev/dm-%u", d->minor);
	if (set_delays(d, 0, 0))
		return -1;
	d->fd = open(d->node, O_RDWR | O_CLOEXEC);
	return d->fd < 0 ? -1 : 0;
}

/*
 * Allocates and locks the pages of the device: if reclaim swapped them out to the
 * device itself, its writes and its reads would wait for each other.
 */
static inline bool keep_in_memory(struct dev *d, int memfd)
{
	d->pages = mmap(NULL, d->size, PROT_READ, MAP_SHARED, memfd, 0);
	if (d->pages == MAP_FAILED)
		return false;
	return !mlock(d->pages, d->size);
}

/* What is missing for a device, or NULL. */
static inline const char *make_device(struct dev *d, int memfd, size_t size)
{
	int loop;

	d->size = size;
	d->fd = -1;
	if (memfd < 0)
		return "memfd_create() failed; free some memory";
	if (!keep_in_memory(d, memfd)) {
		close(memfd);
		return "a device cannot be locked in memory; run as root, free some memory";
	}
	loop = make_loop(d, memfd);
	close(memfd);
	if (loop < 0)
		return "no loop device; run as root, with CONFIG_BLK_DEV_LOOP";
	if (make_mapped(d)) {
		close(loop);
		return "no dm-delay device; run as root, with CONFIG_DM_DELAY";
	}
	close(loop);
	return NULL;
}

/* What is missing for a device with a swap header, or NULL. */
static inline const char *make_swap_device(struct dev *d, size_t size)
{
	const size_t page = getpagesize();
	uint32_t header[3] = { 1, size / page - 1, 0 };
	int fd = memfd_create(program_invocation_short_name, MFD_CLOEXEC);

	if (fd >= 0 &&
	    (ftruncate(fd, size) ||
	     pwrite(fd, header, sizeof(header), 1024) != sizeof(header) ||
	     pwrite(fd, "SWAPSPACE2", 10, page - 10) != 10)) {
		close(fd);
		return "no memory for a swap device; free some";
	}
	return make_device(d, fd, size);
}

/* Swap that is taken before all other. */
static inline int swap_on(struct dev *d)
{
	if (swapon(d->node, SWAP_FLAG_PREFER | 32767))
		return -1;
	d->swap = true;
	return 0;
}

/* Bytes that are swapped to it. */
static inline size_t swapped_to(struct dev *d)
{
	char line[256], node[64];
	size_t kb, found = 0;
	FILE *f = fopen("/proc/swaps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %*s %*u %zu", node, &kb) == 2 &&
		    !strcmp(node, d->node))
			found = kb << 10;
	if (f)
		fclose(f);
	return found;
}

/* False: somebody still has it open, after five seconds. */
static inline bool remove_device(struct dev *d)
{
	bool removed = false;
	int tries;

	if (!d->minor && !d->major)
		return true;
	set_delays(d, 0, 0);
	if (d->swap)
		swapoff(d->node);
	if (d->fd >= 0)
		close(d->fd);
	for (tries = 0; tries < 500 && !removed; tries++) {
		removed = !dm_simple(d, DM_DEV_REMOVE, 0);
		if (!removed)
			usleep(10000);
	}
	munmap(d->pages, d->size);
	return removed;
}

#endif
