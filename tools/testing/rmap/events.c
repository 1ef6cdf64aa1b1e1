// SPDX-License-Identifier: GPL-2.0
/* Takes the ring of ftrace apart, by the layout that its format files give. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"

const char * const event_names[NR_EVENTS] = {
	"rmap_walk_start", "rmap_walk_lock", "rmap_walk_unlock", "rmap_walk_end",
};

/* The first word of a record: its type or length, and the time since the one before. */
#define TYPE_BITS	5
#define TYPE_DATA_MAX	28
#define TYPE_PADDING	29
#define TYPE_EXTEND	30
#define TYPE_STAMP	31
#define STAMP_BITS	59
#define DELTA_BITS	27

/* The high bits of a page's "commit" are flags. */
#define COMMIT_MASK	((1UL << 27) - 1)
#define COMMIT_MISSED	0x80000000UL

/* Finds "NAME;	offset:O;	size:S;", where NAME is the end of a declaration. */
static bool find_field(const char *text, const char *name, struct field *field)
{
	size_t length = strlen(name);
	const char *at = text;

	while ((at = strstr(at, name))) {
		bool whole = at > text && (at[-1] == ' ' || at[-1] == '*');

		at += length;
		if (whole && sscanf(at, "; offset:%zu; size:%zu;",
				    &field->offset, &field->size) == 2)
			return true;
	}
	return false;
}

bool parse_event_format(const char *text, struct event_format *format)
{
	const char *id = strstr(text, "\nID:");

	return id && sscanf(id, "\nID: %u", &format->id) == 1 &&
	       find_field(text, "common_type", &format->type) &&
	       find_field(text, "common_pid", &format->pid) &&
	       find_field(text, "walk", &format->walk) &&
	       find_field(text, "pfn", &format->pfn) &&
	       find_field(text, "kind", &format->kind) &&
	       find_field(text, "vmas", &format->vmas);
}

bool parse_page_format(const char *text, struct page_format *format)
{
	return find_field(text, "timestamp", &format->timestamp) &&
	       find_field(text, "commit", &format->commit) &&
	       find_field(text, "data", &format->data);
}

size_t ring_page_size(const struct page_format *format)
{
	return format->data.offset + format->data.size;
}

/* An unsigned field of a record; false when the record is too short for it. */
static bool get(const uint8_t *record, size_t length, const struct field *field, uint64_t *value)
{
	uint64_t v64;
	uint32_t v32;
	uint16_t v16;

	if (field->offset > length || field->size > length - field->offset)
		return false;
	record += field->offset;
	switch (field->size) {
	case 8:
		memcpy(&v64, record, 8);
		*value = v64;
		return true;
	case 4:
		memcpy(&v32, record, 4);
		*value = v32;
		return true;
	case 2:
		memcpy(&v16, record, 2);
		*value = v16;
		return true;
	case 1:
		*value = *record;
		return true;
	}
	return false;
}

static uint32_t get_word(const uint8_t *at)
{
	uint32_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static struct event *new_event(struct events *events)
{
	if (events->count == events->room) {
		size_t room = events->room ? 2 * events->room : 1024;
		struct event *all = realloc(events->all, room * sizeof(*all));

		if (!all)
			return NULL;
		events->all = all;
		events->room = room;
	}
	return &events->all[events->count++];
}

static bool parse_record(const uint8_t *record, size_t length, uint64_t ns,
			 const struct event_format *formats, struct events *to)
{
	uint64_t id, walk, pfn, kind, vmas, pid;
	struct event *event;

	for (int i = 0; i < NR_EVENTS; i++) {
		const struct event_format *f = &formats[i];

		if (!get(record, length, &f->type, &id))
			return false;
		if (id != f->id)
			continue;
		if (!get(record, length, &f->walk, &walk) || !get(record, length, &f->pfn, &pfn) ||
		    !get(record, length, &f->kind, &kind) || !get(record, length, &f->pid, &pid) ||
		    !get(record, length, &f->vmas, &vmas))
			return false;
		event = new_event(to);
		if (!event)
			return false;
		*event = (struct event){ .ns = ns, .walk = walk, .pfn = pfn, .vmas = vmas,
					 .pid = pid, .page = kind, .kind = i };
		return true;
	}
	return true;
}

static void split_header(uint32_t word, unsigned int *type, uint32_t *delta)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	*type = word >> DELTA_BITS;
	*delta = word & ((1U << DELTA_BITS) - 1);
#else
	*type = word & ((1U << TYPE_BITS) - 1);
	*delta = word >> TYPE_BITS;
#endif
}

static bool parse_records(const uint8_t *at, const uint8_t *end, uint64_t ns,
			  const struct event_format *formats, struct events *to)
{
	while (end - at >= 4) {
		unsigned int type;
		uint32_t delta;
		size_t length;

		split_header(get_word(at), &type, &delta);
		at += 4;
		if (type == TYPE_PADDING && !delta)
			return true;		/* nothing more in this page */
		if (type && type <= TYPE_DATA_MAX) {
			length = 4 * type;
		} else {
			if (end - at < 4)
				return false;
			length = get_word(at);	/* or the high part of a time */
		}
		if (type == TYPE_STAMP) {
			uint64_t low = (uint64_t)length << DELTA_BITS | delta;

			ns = (ns >> STAMP_BITS << STAMP_BITS) | low;
			at += 4;
			continue;
		}
		ns += delta;
		if (type == TYPE_EXTEND) {
			ns += (uint64_t)length << DELTA_BITS;
			at += 4;
			continue;
		}
		if (!type) {			/* the length counts its own word */
			if (length < 4)
				return false;
			at += 4;
			length -= 4;
		}
		if (length > (size_t)(end - at))
			return false;
		if (type != TYPE_PADDING && !parse_record(at, length, ns, formats, to))
			return false;
		at += (length + 3) & ~3UL;
	}
	return true;
}

bool parse_ring_page(const void *page, size_t size, const struct page_format *header,
		     const struct event_format formats[NR_EVENTS], struct events *to)
{
	uint64_t ns, commit;
	size_t used;

	if (!get(page, size, &header->timestamp, &ns) || !get(page, size, &header->commit, &commit))
		return false;
	to->missed |= !!(commit & COMMIT_MISSED);
	used = commit & COMMIT_MASK;
	if (header->data.offset > size || used > size - header->data.offset)
		return false;
	page = (const uint8_t *)page + header->data.offset;
	return parse_records(page, (const uint8_t *)page + used, ns, formats, to);
}

static int by_time(const void *a, const void *b)
{
	const struct event *left = a, *right = b;

	if (left->ns != right->ns)
		return left->ns < right->ns ? -1 : 1;
	return 0;
}

/* Not qsort(), which need not be stable: events of one time stay in order. */
static void merge_sort(struct event *all, struct event *spare, size_t count)
{
	size_t half = count / 2, left = 0, right = half;

	if (count < 2)
		return;
	merge_sort(all, spare, half);
	merge_sort(all + half, spare, count - half);
	memcpy(spare, all, count * sizeof(*all));
	for (size_t i = 0; i < count; i++) {
		if (right == count || (left < half && by_time(&spare[left], &spare[right]) <= 0))
			all[i] = spare[left++];
		else
			all[i] = spare[right++];
	}
}

void sort_events(struct events *events)
{
	struct event *spare = malloc((events->count + 1) * sizeof(*spare));

	if (!spare) {
		perror("malloc");
		exit(EXIT_FAILURE);
	}
	merge_sort(events->all, spare, events->count);
	free(spare);
}

void free_events(struct events *events)
{
	free(events->all);
	*events = (struct events){ 0 };
}
