/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM fault_retry

#if !defined(_TRACE_FAULT_RETRY_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_FAULT_RETRY_H

#include <linux/fault_retry.h>
#include <linux/mm.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(FAULT_WAIT_SYNC_READAHEAD);
TRACE_DEFINE_ENUM(FAULT_WAIT_ASYNC_READAHEAD);
TRACE_DEFINE_ENUM(FAULT_WAIT_FOLIO_LOCK);
TRACE_DEFINE_ENUM(FAULT_WAIT_READ_FOLIO);
TRACE_DEFINE_ENUM(FAULT_WAIT_SWAP_FOLIO);
TRACE_DEFINE_ENUM(FAULT_WAIT_USERFAULTFD);
TRACE_DEFINE_ENUM(FAULT_WAIT_SHMEM_PUNCH);
TRACE_DEFINE_ENUM(FAULT_NEEDS_MMAP_FAULT);
TRACE_DEFINE_ENUM(FAULT_NEEDS_MMAP_ANON_VMA);
TRACE_DEFINE_ENUM(FAULT_NEEDS_MMAP_DEVICE);
TRACE_DEFINE_ENUM(FAULT_RETRIES_VMA);
TRACE_DEFINE_ENUM(FAULT_RETRIES_MMAP);
TRACE_DEFINE_ENUM(FAULT_RESUMES);
TRACE_DEFINE_ENUM(FAULT_KEEPS_LOCK);

#define show_fault_wait_reason(x)					\
	__print_symbolic(x,					\
		{ FAULT_WAIT_SYNC_READAHEAD,	"sync_readahead" },	\
		{ FAULT_WAIT_ASYNC_READAHEAD,	"async_readahead" },	\
		{ FAULT_WAIT_FOLIO_LOCK,	"folio_lock" },	\
		{ FAULT_WAIT_READ_FOLIO,	"read_folio" },	\
		{ FAULT_WAIT_SWAP_FOLIO,	"swap_folio" },	\
		{ FAULT_WAIT_USERFAULTFD,	"userfaultfd" },	\
		{ FAULT_WAIT_SHMEM_PUNCH,	"shmem_punch" },	\
		{ FAULT_NEEDS_MMAP_FAULT,	"no_map_pages" },	\
		{ FAULT_NEEDS_MMAP_ANON_VMA,	"anon_vma" },	\
		{ FAULT_NEEDS_MMAP_DEVICE,	"device_private" })

#define show_fault_wait_outcome(x)					\
	__print_symbolic(x,					\
		{ FAULT_RETRIES_VMA,		"retry_vma" },	\
		{ FAULT_RETRIES_MMAP,		"retry_mmap" },	\
		{ FAULT_RESUMES,		"resume" },	\
		{ FAULT_KEEPS_LOCK,		"keep_lock" })

/**
 * mm_fault_retry - a fault under a per-VMA lock had to wait or needs mmap_lock
 * @address: The address that faulted, rounded down to a page.
 * @flags: The FAULT_FLAG_* of this pass.
 * @reason: What it waited for, first if for several things.
 * @outcome: How the fault goes on, if no signal and no writer of the VMA comes
 *	     before a retry.
 */
TRACE_EVENT(mm_fault_retry,

	TP_PROTO(unsigned long address, unsigned int flags,
		 enum fault_wait_reason reason,
		 enum fault_wait_outcome outcome),

	TP_ARGS(address, flags, reason, outcome),

	TP_STRUCT__entry(
		__field(unsigned long, address)
		__field(unsigned int, flags)
		__field(int, reason)
		__field(int, outcome)
	),

	TP_fast_assign(
		__entry->address = address;
		__entry->flags = flags;
		__entry->reason = reason;
		__entry->outcome = outcome;
	),

	TP_printk("address=0x%lx flags=%s reason=%s outcome=%s",
		  __entry->address,
		  __print_flags(__entry->flags, "|", FAULT_FLAG_TRACE),
		  show_fault_wait_reason(__entry->reason),
		  show_fault_wait_outcome(__entry->outcome))
);

#endif /* _TRACE_FAULT_RETRY_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
