// SPDX-License-Identifier: GPL-2.0
/* A private instance of ftrace with the rmap events of this task. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system.h"

static const char *root;
static char instance[256];
static struct event_format formats[NR_EVENTS];
static struct page_format header;
static char *page;

static const char *in_instance(const char *name)
{
	static char path[384];

	snprintf(path, sizeof(path), "%s/%s", instance, name);
	return path;
}

static void find_tracefs(void)
{
	static const char * const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

	for (size_t i = 0; i < 2 && !root; i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/instances", places[i]);
		if (!access(path, F_OK))
			root = places[i];
	}
	if (!root)
		skip("no tracefs; mount -t tracefs nodev /sys/kernel/tracing");
}

static void read_formats(void)
{
	char path[128], text[4096];

	for (int i = 0; i < NR_EVENTS; i++) {
		snprintf(path, sizeof(path), "%s/events/rmap/%s/format", root, event_names[i]);
		if (!read_file(path, text, sizeof(text)))
			skip("this kernel has no event rmap:%s; -N runs without events",
			     event_names[i]);
		if (!parse_event_format(text, &formats[i]))
			fail("%s is not understood", path);
	}
	snprintf(path, sizeof(path), "%s/events/header_page", root);
	if (!read_file(path, text, sizeof(text)) || !parse_page_format(text, &header))
		fail("%s is not understood", path);
}

void open_trace(size_t bytes_per_cpu)
{
	char text[32];

	find_tracefs();
	read_formats();
	page = malloc(ring_page_size(&header));
	if (!page)
		fail("out of memory");
	snprintf(instance, sizeof(instance), "%s/instances/rmap_benchmark.%d", root, getpid());
	if (mkdir(instance, 0700)) {
		int error = errno;

		instance[0] = 0;
		fail("can't make an instance in %s: %s", root, strerror(error));
	}
	write_file(in_instance("tracing_on"), "0");
	snprintf(text, sizeof(text), "%zu", bytes_per_cpu / 1024 + 64);
	write_file(in_instance("buffer_size_kb"), text);
	write_file(in_instance("trace_clock"), "mono");
	snprintf(text, sizeof(text), "%d", getpid());
	write_file(in_instance("set_event_pid"), text);
	for (int i = 0; i < NR_EVENTS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "events/rmap/%s/enable", event_names[i]);
		write_file(in_instance(name), "1");
	}
}

void trace_on(void)
{
	if (instance[0])
		write_file(in_instance("tracing_on"), "1");
}

static void read_cpu(long cpu, struct events *events)
{
	char name[64];
	ssize_t got;
	int fd;

	snprintf(name, sizeof(name), "per_cpu/cpu%ld/trace_pipe_raw", cpu);
	fd = open(in_instance(name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOENT)
			return;		/* no such CPU, or never online */
		fail("can't open %s: %s", in_instance(name), strerror(errno));
	}
	while ((got = read(fd, page, ring_page_size(&header))) > 0)
		if (!parse_ring_page(page, got, &header, formats, events))
			fail("a page of %s is not understood", in_instance(name));
	if (got < 0 && errno != EAGAIN)
		fail("can't read %s: %s", in_instance(name), strerror(errno));
	close(fd);
}

static void check_overrun(long cpu)
{
	static const char * const counters[] = {
		"\noverrun: ", "\ncommit overrun: ", "\ndropped events: ",
	};
	char name[64], text[1024];

	snprintf(name, sizeof(name), "per_cpu/cpu%ld/stats", cpu);
	if (!read_file(in_instance(name), text, sizeof(text)))
		return;
	for (size_t i = 0; i < 3; i++) {
		char *at = strstr(text, counters[i]);

		if (!at || strtoul(at + strlen(counters[i]), NULL, 10))
			fail("the trace ring of CPU %ld lost events:\n%s", cpu, text);
	}
}

void trace_off(struct events *events)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	if (!instance[0])
		return;
	write_file(in_instance("tracing_on"), "0");
	for (long cpu = 0; cpu < cpus; cpu++) {
		read_cpu(cpu, events);
		check_overrun(cpu);
	}
	if (events->missed)
		fail("the trace ring lost events");
	sort_events(events);
}

void close_trace(void)
{
	if (!instance[0])
		return;
	try_write(in_instance("tracing_on"), "0");
	if (rmdir(instance))
		fprintf(stderr, "rmap_benchmark: can't remove %s: %s\n", instance, strerror(errno));
	instance[0] = 0;
}
