// SPDX-License-Identifier: GPL-2.0
#include <inttypes.h>
#include <stdlib.h>

#include "report.h"

#define CSV_HEADING	"vmas,sharers,children,iterations,type,trigger,measure,unit," \
			"count,min,median,p99,max\n"

static void table(FILE *to, const struct setup *setup, const struct row *rows, size_t count)
{
	fprintf(to, "%lu VMAs, %lu sharers, %lu children, %lu iterations\n",
		setup->vmas, setup->sharers, setup->children, setup->iterations);
	fprintf(to, "%-6s%-9s%-17s%-5s%9s%12s%12s%12s%12s\n", "type", "trigger", "measure",
		"unit", "count", "min", "median", "p99", "max");
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];

		fprintf(to, "%-6s%-9s%-17s%-5s%9zu%12" PRIu64 "%12" PRIu64 "%12" PRIu64
			"%12" PRIu64 "\n", r->type, r->trigger, r->measure, r->unit,
			r->s.count, r->s.min, r->s.median, r->s.p99, r->s.max);
	}
}

static void csv(FILE *to, const struct setup *setup, const struct row *rows, size_t count)
{
	fputs(CSV_HEADING, to);
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];

		fprintf(to, "%lu,%lu,%lu,%lu,%s,%s,%s,%s,%zu,%" PRIu64 ",%" PRIu64 ",%" PRIu64
			",%" PRIu64 "\n", setup->vmas, setup->sharers, setup->children,
			setup->iterations, r->type, r->trigger, r->measure, r->unit,
			r->s.count, r->s.min, r->s.median, r->s.p99, r->s.max);
	}
}

static void json(FILE *to, const struct setup *setup, const struct row *rows, size_t count)
{
	fprintf(to, "{\"vmas\": %lu, \"sharers\": %lu, \"children\": %lu, ",
		setup->vmas, setup->sharers, setup->children);
	fprintf(to, "\"iterations\": %lu, \"results\": [", setup->iterations);
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];

		fprintf(to, "%s\n {\"type\": \"%s\", \"trigger\": \"%s\", \"measure\": \"%s\", ",
			i ? "," : "", r->type, r->trigger, r->measure);
		fprintf(to, "\"unit\": \"%s\", \"count\": %zu, \"min\": %" PRIu64 ", ",
			r->unit, r->s.count, r->s.min);
		fprintf(to, "\"median\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"max\": %" PRIu64 "}",
			r->s.median, r->s.p99, r->s.max);
	}
	fprintf(to, "\n]}\n");
}

/* A line "metric NAME VALUE" without blanks in the name. */
static void put_metric(FILE *to, const char *prefix, const struct row *r, uint64_t value)
{
	fprintf(to, "metric %s%s-%s-", prefix, r->type, r->trigger);
	for (const char *c = r->measure; *c; c++)
		fputc(*c == ' ' ? '-' : *c, to);
	fprintf(to, " %" PRIu64 "\n", value);
}

static void metrics(FILE *to, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		put_metric(to, "", &rows[i], rows[i].s.max);
		put_metric(to, "least-", &rows[i], rows[i].s.min);
	}
}

void report(FILE *to, enum report_form form, const struct setup *setup,
	    const struct row *rows, size_t count)
{
	switch (form) {
	case FORM_TABLE:
		table(to, setup, rows, count);
		break;
	case FORM_CSV:
		csv(to, setup, rows, count);
		break;
	case FORM_JSON:
		json(to, setup, rows, count);
		break;
	case FORM_METRICS:
		metrics(to, rows, count);
		break;
	}
}

int parse_list(const char *text, int *nodes, int room)
{
	int count = 0;

	while (*text && *text != '\n') {
		char *end;
		long first = strtol(text, &end, 10), last = first;

		if (end == text || first < 0)
			return -1;
		if (*end == '-') {
			text = end + 1;
			last = strtol(text, &end, 10);
			if (end == text || last < first)
				return -1;
		}
		for (long node = first; node <= last; node++) {
			if (count == room)
				return -1;
			nodes[count++] = node;
		}
		if (*end == ',')
			end++;
		else if (*end && *end != '\n')
			return -1;
		text = end;
	}
	return count;
}
