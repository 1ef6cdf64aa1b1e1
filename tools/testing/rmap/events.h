/* SPDX-License-Identifier: GPL-2.0 */
/* The rmap trace events as trace_pipe_raw gives them; no system calls. */
#ifndef RMAP_EVENTS_H
#define RMAP_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_kind { WALK_START, WALK_LOCK, WALK_UNLOCK, WALK_END, NR_EVENTS };
enum page_kind { PAGE_ANON, PAGE_FILE, PAGE_KSM };

extern const char * const event_names[NR_EVENTS];

/* Where a field is in an event's record. */
struct field {
	size_t offset, size;
};

/* What an event's "format" file says; the id is in the first field of a record. */
struct event_format {
	unsigned int id;
	struct field type, pid, walk, pfn, kind, vmas;
};

/* What events/header_page says about a page of the ring. */
struct page_format {
	struct field timestamp, commit, data;
};

struct event {
	uint64_t ns;
	uint64_t walk, pfn, vmas;
	uint32_t pid, page;	/* enum page_kind */
	enum event_kind kind;
};

struct events {
	struct event *all;
	size_t count, room;
	bool missed;		/* the ring says that it lost some */
};

bool parse_event_format(const char *text, struct event_format *format);
bool parse_page_format(const char *text, struct page_format *format);
size_t ring_page_size(const struct page_format *format);

/*
 * Appends the events of a page of the ring that are in the formats and skips
 * others.  False: the page is not as the formats say, or memory ran out.
 */
bool parse_ring_page(const void *page, size_t size, const struct page_format *header,
		     const struct event_format formats[NR_EVENTS], struct events *to);
/* In order of time; events of the same time stay in their order. */
void sort_events(struct events *events);
void free_events(struct events *events);

#endif
