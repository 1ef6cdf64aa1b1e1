// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>

#include "stats.h"

void add_sample(struct samples *samples, uint64_t value)
{
	if (samples->count == samples->room) {
		samples->room = samples->room ? 2 * samples->room : 256;
		samples->all = realloc(samples->all, samples->room * sizeof(*samples->all));
		if (!samples->all) {
			perror("realloc");
			exit(EXIT_FAILURE);
		}
	}
	samples->all[samples->count++] = value;
}

static int by_value(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* The smallest value that at least this share of all values does not exceed. */
static uint64_t percentile(const struct samples *samples, unsigned int percent)
{
	return samples->all[(samples->count * percent + 99) / 100 - 1];
}

struct summary summarize(struct samples *samples)
{
	if (!samples->count)
		return (struct summary){ 0 };
	qsort(samples->all, samples->count, sizeof(*samples->all), by_value);
	return (struct summary){
		.count = samples->count,
		.min = samples->all[0],
		.median = percentile(samples, 50),
		.p99 = percentile(samples, 99),
		.max = samples->all[samples->count - 1],
	};
}

void free_samples(struct samples *samples)
{
	free(samples->all);
	*samples = (struct samples){ 0 };
}
