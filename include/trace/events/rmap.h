/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rmap

#if !defined(_TRACE_RMAP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_RMAP_H

#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/rmap.h>
#include <linux/tracepoint.h>

/* The kinds of folios whose mappings are found in different ways. */
#define RMAP_WALK_ANON	0
#define RMAP_WALK_FILE	1
#define RMAP_WALK_KSM	2

/*
 * A reverse-map walk, or one hold of a lock in it.
 *
 * @folio:	whose mappings are looked for
 * @rwc:	the walk's control; the same for all events of a walk
 * @vmas:	how many VMAs the walk has visited so far, wanted or not
 *
 * A task is in one walk at a time, and walks at the same time differ in @rwc,
 * but for those of page_idle, which share one: tell them apart by task too.
 */
DECLARE_EVENT_CLASS(rmap_walk,

	TP_PROTO(const struct folio *folio, const struct rmap_walk_control *rwc,
		 unsigned long vmas),

	TP_ARGS(folio, rwc, vmas),

	TP_STRUCT__entry(
		__field(const void *, walk)
		__field(unsigned long, pfn)
		__field(unsigned int, kind)
		__field(const void *, rmap_one)
		__field(unsigned long, vmas)
	),

	TP_fast_assign(
		__entry->walk		= rwc;
		__entry->pfn		= folio_pfn(folio);
		__entry->kind		= folio_test_ksm(folio) ? RMAP_WALK_KSM :
					  folio_test_anon(folio) ? RMAP_WALK_ANON :
					  RMAP_WALK_FILE;
		__entry->rmap_one	= rwc->rmap_one;
		__entry->vmas		= vmas;
	),

	TP_printk("walk=%p pfn=0x%lx kind=%s rmap_one=%ps vmas=%lu",
		  __entry->walk, __entry->pfn,
		  __print_symbolic(__entry->kind,
				   { RMAP_WALK_ANON, "anon" },
				   { RMAP_WALK_FILE, "file" },
				   { RMAP_WALK_KSM, "ksm" }),
		  __entry->rmap_one, __entry->vmas)
);

/* Before a walk, before any lock is waited for. */
DEFINE_EVENT(rmap_walk, rmap_walk_start,
	TP_PROTO(const struct folio *folio, const struct rmap_walk_control *rwc,
		 unsigned long vmas),
	TP_ARGS(folio, rwc, vmas)
);

/* After it. */
DEFINE_EVENT(rmap_walk, rmap_walk_end,
	TP_PROTO(const struct folio *folio, const struct rmap_walk_control *rwc,
		 unsigned long vmas),
	TP_ARGS(folio, rwc, vmas)
);

/*
 * The walk has just locked an interval tree: the root anon_vma's or the
 * mapping's rwsem.  mapping_wrprotect_range() walks without a folio, and
 * outside of rmap_walk(): it has no events.
 */
DEFINE_EVENT_CONDITION(rmap_walk, rmap_walk_lock,
	TP_PROTO(const struct folio *folio, const struct rmap_walk_control *rwc,
		 unsigned long vmas),
	TP_ARGS(folio, rwc, vmas),
	TP_CONDITION(folio)
);

/* The walk is about to unlock it. */
DEFINE_EVENT_CONDITION(rmap_walk, rmap_walk_unlock,
	TP_PROTO(const struct folio *folio, const struct rmap_walk_control *rwc,
		 unsigned long vmas),
	TP_ARGS(folio, rwc, vmas),
	TP_CONDITION(folio)
);

#endif /* _TRACE_RMAP_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
