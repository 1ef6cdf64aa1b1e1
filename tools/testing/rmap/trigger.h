/* SPDX-License-Identifier: GPL-2.0 */
/* What makes the kernel walk the mappings of a page. */
#ifndef RMAP_TRIGGER_H
#define RMAP_TRIGGER_H

#include <stdbool.h>

#include "pages.h"

enum trigger {
	TRIGGER_MIGRATE, TRIGGER_RECLAIM, TRIGGER_COMPACT, TRIGGER_SCAN, NR_TRIGGERS
};

extern const char * const trigger_names[NR_TRIGGERS];

/* NULL, or why this machine can't do it. */
const char *cannot(enum trigger trigger, const struct pages *pages);
/* Does it always walk the mappings of the page? */
bool must_walk(enum trigger trigger);
/* Enters a memory cgroup of its own for the reclaim of shared pages. */
void prepare_trigger(enum trigger trigger, unsigned long mappings);
void pull_trigger(enum trigger trigger, const struct pages *pages);
void leave_cgroup(void);

#endif
