/* SPDX-License-Identifier: GPL-2.0 */
/* Samples and what is said about them; no system calls. */
#ifndef RMAP_STATS_H
#define RMAP_STATS_H

#include <stddef.h>
#include <stdint.h>

struct samples {
	uint64_t *all;
	size_t count, room;
};

struct summary {
	size_t count;
	uint64_t min, median, p99, max;
};

void add_sample(struct samples *samples, uint64_t value);
/* Sorts the samples.  The percentiles are by nearest rank: values that occurred. */
struct summary summarize(struct samples *samples);
void free_samples(struct samples *samples);

#endif
