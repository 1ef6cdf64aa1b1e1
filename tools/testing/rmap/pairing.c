// SPDX-License-Identifier: GPL-2.0
#include "pairing.h"

static bool wanted(const struct event *e, const struct filter *filter)
{
	return e->pid == filter->pid && (e->pfn == filter->pfn[0] || e->pfn == filter->pfn[1]);
}

/* Walks at the same time differ in task, control and folio, or in one of these. */
static struct open_walk *find_open(struct walks *walks, const struct event *e)
{
	for (size_t i = 0; i < walks->nr_open; i++) {
		struct open_walk *open = &walks->open[i];

		if (open->start.walk == e->walk && open->start.pfn == e->pfn &&
		    open->start.pid == e->pid)
			return open;
	}
	return NULL;
}

static void close_walk(struct walks *walks, struct open_walk *open)
{
	*open = walks->open[--walks->nr_open];
}

static void begin_walk(struct walks *walks, const struct event *e)
{
	struct open_walk *open = find_open(walks, e);

	if (open) {				/* the end of the one before is missing */
		walks->unpaired++;
		close_walk(walks, open);
	}
	if (walks->nr_open == MAX_OPEN) {
		walks->unpaired++;
		return;
	}
	walks->open[walks->nr_open++] = (struct open_walk){ .start = *e };
}

static void end_walk(struct walks *walks, struct open_walk *open, const struct event *e)
{
	if (open->locked)
		walks->unpaired++;
	add_sample(&walks->duration, e->ns - open->start.ns);
	add_sample(&walks->vmas, e->vmas);
	add_sample(&walks->lookups, open->lookups);
	close_walk(walks, open);
}

static void begin_hold(struct walks *walks, struct open_walk *open, const struct event *e)
{
	walks->unpaired += open->locked;
	open->locked = true;
	open->lock = *e;
	open->lookups++;
}

static void end_hold(struct walks *walks, struct open_walk *open, const struct event *e)
{
	if (!open->locked) {
		walks->unpaired++;
		return;
	}
	open->locked = false;
	add_sample(&walks->hold, e->ns - open->lock.ns);
	add_sample(&walks->visits, e->vmas - open->lock.vmas);
}

static void pair_event(struct walks *walks, const struct event *e)
{
	struct open_walk *open;

	if (e->kind == WALK_START) {
		begin_walk(walks, e);
		return;
	}
	open = find_open(walks, e);
	if (!open)
		walks->unpaired++;
	else if (e->kind == WALK_LOCK)
		begin_hold(walks, open, e);
	else if (e->kind == WALK_UNLOCK)
		end_hold(walks, open, e);
	else
		end_walk(walks, open, e);
}

void pair_events(struct walks *walks, const struct events *events, const struct filter *filter)
{
	for (size_t i = 0; i < events->count; i++)
		if (wanted(&events->all[i], filter))
			pair_event(walks, &events->all[i]);
	walks->unpaired += walks->nr_open;
	walks->nr_open = 0;
}

void free_walks(struct walks *walks)
{
	free_samples(&walks->duration);
	free_samples(&walks->hold);
	free_samples(&walks->vmas);
	free_samples(&walks->lookups);
	free_samples(&walks->visits);
}
