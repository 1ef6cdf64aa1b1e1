// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of the pure parts of rmap_benchmark: what a page of the ring holds,
 * which events are partners, the statistics and what is printed.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"
#include "pairing.h"
#include "report.h"

static int failed, checks;

#define CHECK(condition) do {						\
	checks++;							\
	if (!(condition)) {						\
		failed++;						\
		fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #condition);	\
	}								\
} while (0)

/* As a kernel prints it; the record is 48 bytes. */
static const char format_text[] =
	"name: rmap_walk_start\nID: 77\nformat:\n"
	"\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
	"\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
	"\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
	"\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
	"\tfield:const void * walk;\toffset:8;\tsize:8;\tsigned:0;\n"
	"\tfield:unsigned long pfn;\toffset:16;\tsize:8;\tsigned:0;\n"
	"\tfield:unsigned int kind;\toffset:24;\tsize:4;\tsigned:0;\n"
	"\tfield:const void * rmap_one;\toffset:32;\tsize:8;\tsigned:0;\n"
	"\tfield:unsigned long vmas;\toffset:40;\tsize:8;\tsigned:0;\n";

static const char page_text[] =
	"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
	"\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
	"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
	"\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";

/* A page of the ring under construction. */
static struct {
	uint8_t bytes[4096];
	size_t used;
} ring;
static struct event_format formats[NR_EVENTS];
static struct page_format header;

static void put(const void *data, size_t size)
{
	memcpy(ring.bytes + 16 + ring.used, data, size);
	ring.used += size;
}

static void put_word(uint32_t word)
{
	put(&word, 4);
}

static void put_header(unsigned int type, uint32_t delta)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	put_word(type << 27 | delta);
#else
	put_word(delta << 5 | type);
#endif
}

static void begin_page(uint64_t ns)
{
	memset(&ring, 0, sizeof(ring));
	memcpy(ring.bytes, &ns, 8);
	for (int i = 0; i < NR_EVENTS; i++) {
		parse_event_format(format_text, &formats[i]);
		formats[i].id = 77 + i;
	}
	parse_page_format(page_text, &header);
}

static void put_payload(uint16_t id, uint64_t pfn, uint64_t vmas)
{
	uint8_t record[48] = { 0 };
	uint32_t pid = 4711, kind = PAGE_KSM;
	uint64_t walk = 0xffff888000001000;

	memcpy(record, &id, 2);
	memcpy(record + 4, &pid, 4);
	memcpy(record + 8, &walk, 8);
	memcpy(record + 16, &pfn, 8);
	memcpy(record + 24, &kind, 4);
	memcpy(record + 40, &vmas, 8);
	put(record, sizeof(record));
}

static void put_event(uint32_t delta, uint16_t id, uint64_t pfn, uint64_t vmas)
{
	put_header(48 / 4, delta);
	put_payload(id, pfn, vmas);
}

static bool parse(struct events *events, uint64_t flags)
{
	uint64_t commit = ring.used | flags;

	memcpy(ring.bytes + 8, &commit, 8);
	return parse_ring_page(ring.bytes, sizeof(ring.bytes), &header, formats, events);
}

static void formats_are_parsed(void)
{
	struct event_format format;
	struct page_format page;

	CHECK(parse_event_format(format_text, &format));
	CHECK(format.id == 77);
	CHECK(format.pid.offset == 4 && format.pid.size == 4);
	CHECK(format.walk.offset == 8 && format.walk.size == 8);
	CHECK(format.kind.offset == 24 && format.kind.size == 4);
	CHECK(format.vmas.offset == 40 && format.vmas.size == 8);
	CHECK(!parse_event_format("name: x\nID: 5\nformat:\n", &format));
	CHECK(parse_page_format(page_text, &page));
	CHECK(page.data.offset == 16 && ring_page_size(&page) == 4096);
	CHECK(!parse_page_format("", &page));
}

static void events_are_read(void)
{
	struct events events = { 0 };

	begin_page(1000);
	put_event(5, 77, 0x1234, 0);
	put_event(7, 80, 0x1234, 20000);
	CHECK(parse(&events, 0));
	CHECK(events.count == 2 && !events.missed);
	CHECK(events.all[0].ns == 1005 && events.all[1].ns == 1012);
	CHECK(events.all[0].kind == WALK_START && events.all[1].kind == WALK_END);
	CHECK(events.all[1].pfn == 0x1234 && events.all[1].vmas == 20000);
	CHECK(events.all[1].pid == 4711 && events.all[1].page == PAGE_KSM);
	free_events(&events);
}

static void events_of_others_are_skipped(void)
{
	struct events events = { 0 };

	begin_page(0);
	put_event(1, 12, 1, 1);
	put_event(1, 77, 2, 2);
	CHECK(parse(&events, 0));
	CHECK(events.count == 1 && events.all[0].pfn == 2 && events.all[0].ns == 2);
	free_events(&events);
}

static void a_long_event_has_its_length_in_a_word(void)
{
	struct events events = { 0 };

	begin_page(0);
	put_header(0, 3);
	put_word(4 + 48);
	put_payload(78, 9, 1);
	put_event(1, 79, 9, 2);
	CHECK(parse(&events, 0));
	CHECK(events.count == 2 && events.all[0].kind == WALK_LOCK && events.all[1].ns == 4);
	free_events(&events);
}

static void times_are_extended(void)
{
	struct events events = { 0 };

	begin_page(100);
	put_header(30, 1);			/* 3 * 2^27 + 1 later */
	put_word(3);
	put_event(1, 77, 1, 0);
	put_header(31, 5);			/* now it is 2 * 2^27 + 5 */
	put_word(2);
	put_event(0, 80, 1, 0);
	CHECK(parse(&events, 0));
	CHECK(events.all[0].ns == 100 + (3ULL << 27) + 2);
	CHECK(events.all[1].ns == (2ULL << 27) + 5);
	free_events(&events);
}

static void an_absolute_time_keeps_the_high_bits(void)
{
	struct events events = { 0 };

	begin_page(1ULL << 60 | 7);
	put_header(31, 5);
	put_word(2);
	put_event(0, 77, 1, 0);
	CHECK(parse(&events, 0));
	CHECK(events.count == 1 && events.all[0].ns == (1ULL << 60 | 2ULL << 27 | 5));
	free_events(&events);
}

static void padding_is_skipped(void)
{
	struct events events = { 0 };

	begin_page(0);
	put_header(29, 10);			/* a discarded event of 8 bytes */
	put_word(8);				/* with this word */
	put_word(0xffffffff);
	put_event(1, 77, 1, 0);
	put_header(29, 0);			/* the rest of the page is empty */
	put_word(0xffffffff);
	CHECK(parse(&events, 0));
	CHECK(events.count == 1);
	free_events(&events);
}

static void lost_events_are_noticed(void)
{
	struct events events = { 0 };

	begin_page(0);
	put_event(1, 77, 1, 0);
	CHECK(parse(&events, 1UL << 31));
	CHECK(events.count == 1 && events.missed);
	free_events(&events);
}

static void damaged_pages_are_refused(void)
{
	struct events events = { 0 };

	begin_page(0);
	put_header(28, 1);			/* 112 bytes that are not there */
	CHECK(!parse(&events, 0));
	begin_page(0);
	put_header(0, 1);
	put_word(3);				/* shorter than its own length */
	CHECK(!parse(&events, 0));
	begin_page(0);
	put_header(2, 1);			/* ours, but too short for its fields */
	put_word(77);
	put_word(0);
	CHECK(!parse(&events, 0));
	begin_page(0);
	ring.used = 5000;
	CHECK(!parse(&events, 0));
	CHECK(!parse_ring_page(ring.bytes, 10, &header, formats, &events));
	CHECK(!events.count);
	free_events(&events);
}

static void events_are_sorted_and_keep_their_order(void)
{
	struct event all[] = {
		{ .ns = 5, .vmas = 1 }, { .ns = 3, .vmas = 2 }, { .ns = 5, .vmas = 3 },
		{ .ns = 1, .vmas = 4 }, { .ns = 5, .vmas = 5 },
	};
	struct events events = { .all = all, .count = 5 };

	sort_events(&events);
	CHECK(all[0].vmas == 4 && all[1].vmas == 2);
	CHECK(all[2].vmas == 1 && all[3].vmas == 3 && all[4].vmas == 5);
}

static struct event make(enum event_kind kind, uint64_t ns, uint64_t walk, uint64_t pfn,
			 uint64_t vmas)
{
	return (struct event){ .kind = kind, .ns = ns, .walk = walk, .pfn = pfn, .vmas = vmas,
			       .pid = 1 };
}

static void pair(struct walks *walks, struct event *all, size_t count)
{
	struct filter filter = { .pid = 1, .pfn = { 10, 11 } };
	struct events events = { .all = all, .count = count };

	pair_events(walks, &events, &filter);
}

static void a_walk_has_holds(void)
{
	struct walks w = { 0 };
	struct event all[] = {
		make(WALK_START, 100, 1, 10, 0),
		make(WALK_LOCK, 110, 1, 10, 0), make(WALK_UNLOCK, 130, 1, 10, 3),
		make(WALK_LOCK, 140, 1, 10, 3), make(WALK_UNLOCK, 145, 1, 10, 4),
		make(WALK_END, 150, 1, 10, 4),
	};

	pair(&w, all, 6);
	CHECK(!w.unpaired && w.duration.count == 1 && w.duration.all[0] == 50);
	CHECK(w.hold.count == 2 && w.hold.all[0] == 20 && w.hold.all[1] == 5);
	CHECK(w.visits.all[0] == 3 && w.visits.all[1] == 1);
	CHECK(w.vmas.all[0] == 4 && w.lookups.all[0] == 2);
	free_walks(&w);
}

static void walks_at_the_same_time_are_told_apart(void)
{
	struct walks w = { 0 };
	struct event all[] = {
		make(WALK_START, 100, 1, 10, 0), make(WALK_START, 110, 2, 11, 0),
		make(WALK_START, 115, 1, 11, 0),
		make(WALK_END, 120, 1, 10, 7), make(WALK_END, 130, 1, 11, 8),
		make(WALK_END, 160, 2, 11, 9),
	};

	pair(&w, all, 6);
	CHECK(!w.unpaired && w.duration.count == 3);
	CHECK(w.duration.all[0] == 20 && w.duration.all[1] == 15 && w.duration.all[2] == 50);
	free_walks(&w);
}

static void strangers_are_filtered(void)
{
	struct walks w = { 0 };
	struct event all[] = {
		make(WALK_START, 100, 1, 12, 0), make(WALK_END, 120, 1, 12, 7),
		make(WALK_START, 100, 1, 10, 0), make(WALK_END, 120, 1, 10, 7),
	};

	all[2].pid = 2;
	all[3].pid = 2;
	pair(&w, all, 4);
	CHECK(!w.duration.count && !w.unpaired);
	free_walks(&w);
}

static void missing_partners_are_counted(void)
{
	struct walks w = { 0 };
	struct event all[] = {
		make(WALK_END, 1, 1, 10, 0),		/* no start */
		make(WALK_START, 2, 1, 10, 0), make(WALK_UNLOCK, 3, 1, 10, 0),
		make(WALK_START, 4, 1, 10, 0),		/* the former did not end */
		make(WALK_LOCK, 5, 1, 10, 0), make(WALK_END, 6, 1, 10, 0),
		make(WALK_START, 7, 1, 10, 0),		/* nor does this */
	};

	pair(&w, all, 7);
	CHECK(w.unpaired == 5);
	CHECK(w.duration.count == 1 && !w.nr_open);
	free_walks(&w);
}

static void more_open_walks_than_fit_are_counted(void)
{
	struct event all[MAX_OPEN + 1];
	struct walks w = { 0 };

	for (int i = 0; i < MAX_OPEN + 1; i++)
		all[i] = make(WALK_START, i, i, 10, 0);
	pair(&w, all, MAX_OPEN + 1);
	CHECK(w.unpaired == MAX_OPEN + 1);
	free_walks(&w);
}

static struct summary of(size_t count)
{
	struct samples samples = { 0 };
	struct summary s;

	for (size_t i = count; i; i--)		/* the greatest first */
		add_sample(&samples, i);
	s = summarize(&samples);
	free_samples(&samples);
	return s;
}

static void statistics(void)
{
	struct summary s = of(0);

	CHECK(!s.count && !s.max);
	s = of(1);
	CHECK(s.count == 1 && s.min == 1 && s.median == 1 && s.p99 == 1 && s.max == 1);
	s = of(4);
	CHECK(s.min == 1 && s.median == 2 && s.p99 == 4 && s.max == 4);
	s = of(5);
	CHECK(s.median == 3);
	s = of(1000);
	CHECK(s.count == 1000 && s.median == 500 && s.p99 == 990 && s.max == 1000);
}

static void lists_of_nodes(void)
{
	int nodes[4];

	CHECK(parse_list("0\n", nodes, 4) == 1 && nodes[0] == 0);
	CHECK(parse_list("0-1,3\n", nodes, 4) == 3 && nodes[1] == 1 && nodes[2] == 3);
	CHECK(parse_list("\n", nodes, 4) == 0);
	CHECK(parse_list("0-9\n", nodes, 4) == -1);
	CHECK(parse_list("x\n", nodes, 4) == -1);
	CHECK(parse_list("3-1\n", nodes, 4) == -1);
}

static const struct setup setup = { 20000, 256, 0, 10 };
static const struct row rows[] = {
	{ "ksm", "migrate", "walk duration", "ns", { 20, 1, 2, 3, 18446744073709551615ULL } },
	{ "ksm", "migrate", "VMAs per walk", "VMAs", { 20, 256, 256, 256, 256 } },
};

static bool prints(enum report_form form, const char *part)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	bool found;

	report(to, form, &setup, rows, 2);
	fclose(to);
	found = strstr(text, part);
	if (!found)
		fprintf(stderr, "'%s' is not in:\n%s", part, text);
	free(text);
	return found;
}

static const struct {
	enum report_form form;
	const char *part;
} printed[] = {
	{ FORM_CSV,
	  "\n20000,256,0,10,ksm,migrate,walk duration,ns,20,1,2,3,18446744073709551615\n",
	},
	{ FORM_JSON,
	  "{\"vmas\": 20000, \"sharers\": 256, \"children\": 0, \"iterations\": 10, \"results\": [\n",
	},
	{ FORM_JSON,
	  "\"measure\": \"VMAs per walk\", \"unit\": \"VMAs\", \"count\": 20, \"min\": 256, \"median\"",
	},
	{ FORM_JSON, "\"median\": 256, \"p99\": 256, \"max\": 256}\n]}\n" },
	{ FORM_TABLE, "20000 VMAs, 256 sharers, 0 children, 10 iterations\n" },
	{ FORM_TABLE, "ksm   migrate  VMAs per walk    VMAs        20         256" },
	{ FORM_METRICS, "metric ksm-migrate-VMAs-per-walk 256\n" },
	{ FORM_METRICS, "metric least-ksm-migrate-walk-duration 1\n" },
};

static void reports(void)
{
	for (size_t i = 0; i < sizeof(printed) / sizeof(*printed); i++)
		CHECK(prints(printed[i].form, printed[i].part));
}

int main(void)
{
	formats_are_parsed();
	events_are_read();
	events_of_others_are_skipped();
	a_long_event_has_its_length_in_a_word();
	times_are_extended();
	an_absolute_time_keeps_the_high_bits();
	padding_is_skipped();
	lost_events_are_noticed();
	damaged_pages_are_refused();
	events_are_sorted_and_keep_their_order();
	a_walk_has_holds();
	walks_at_the_same_time_are_told_apart();
	strangers_are_filtered();
	missing_partners_are_counted();
	more_open_walks_than_fit_are_counted();
	statistics();
	lists_of_nodes();
	reports();
	printf("%d checks, %d failed\n", checks, failed);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
