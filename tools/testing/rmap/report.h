/* SPDX-License-Identifier: GPL-2.0 */
/* Prints results as a table, as CSV or as JSON; no system calls. */
#ifndef RMAP_REPORT_H
#define RMAP_REPORT_H

#include <stdio.h>

#include "stats.h"

enum report_form { FORM_TABLE, FORM_CSV, FORM_JSON, FORM_METRICS };

/* One line: a distribution. */
struct row {
	const char *type, *trigger;
	const char *measure, *unit;	/* "walk duration", "ns" */
	struct summary s;
};

struct setup {
	unsigned long vmas, sharers, children, iterations;
};

void report(FILE *to, enum report_form form, const struct setup *setup,
	    const struct row *rows, size_t count);

/* Reads a list such as "0-1,3" into nodes[]; returns how many, or -1. */
int parse_list(const char *text, int *nodes, int room);

#endif
