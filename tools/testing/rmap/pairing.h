/* SPDX-License-Identifier: GPL-2.0 */
/* Makes walks and lock holds of single events; no system calls. */
#ifndef RMAP_PAIRING_H
#define RMAP_PAIRING_H

#include "events.h"
#include "stats.h"

#define MAX_OPEN 32

struct open_walk {
	struct event start, lock;
	uint64_t lookups;
	bool locked;
};

/* What one trigger on one kind of page gave. */
struct walks {
	struct samples duration;	/* ns, start to end */
	struct samples hold;		/* ns, lock to unlock */
	struct samples vmas;		/* visited in a walk */
	struct samples lookups;		/* times that a walk took the lock */
	struct samples visits;		/* VMAs visited in one hold of the lock */
	size_t unpaired;
	struct open_walk open[MAX_OPEN];
	size_t nr_open;
};

/* Which events count: those of one task, on one of two page frames. */
struct filter {
	uint32_t pid;
	uint64_t pfn[2];
};

void pair_events(struct walks *walks, const struct events *events, const struct filter *filter);
void free_walks(struct walks *walks);

#endif
