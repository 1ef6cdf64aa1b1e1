/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mremap

#if !defined(_TRACE_MREMAP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MREMAP_H

#include <linux/mremap_relocate.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(MREMAP_RELOCATE_DONE);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_NO_GAIN);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_DONTUNMAP);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_SIZE);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_VMA);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_UFFD);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_SHARED);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_KSM);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_LARGE);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_HUGE);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_DEVICE);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_UNKNOWN);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_NO_SPARES);
TRACE_DEFINE_ENUM(MREMAP_RELOCATE_NOMEM);

/*
 * mremap() of anonymous memory: was it relocated, and if not, why not?
 *
 * @old_addr:	where the range was
 * @new_addr:	where it is to be
 * @len:	its length in bytes
 * @pgoff:	the page offset it gets if it is relocated, or keeps if it is not
 * @result:	of enum mremap_relocate_result
 * @pages:	how many pages got their new offset
 */
TRACE_EVENT(mremap_relocate,

	TP_PROTO(unsigned long old_addr, unsigned long new_addr,
		 unsigned long len, unsigned long pgoff, int result,
		 unsigned long pages),

	TP_ARGS(old_addr, new_addr, len, pgoff, result, pages),

	TP_STRUCT__entry(
		__field(unsigned long, old_addr)
		__field(unsigned long, new_addr)
		__field(unsigned long, len)
		__field(unsigned long, pgoff)
		__field(int, result)
		__field(unsigned long, pages)
	),

	TP_fast_assign(
		__entry->old_addr	= old_addr;
		__entry->new_addr	= new_addr;
		__entry->len		= len;
		__entry->pgoff		= pgoff;
		__entry->result		= result;
		__entry->pages		= pages;
	),

	TP_printk("old=0x%lx new=0x%lx len=0x%lx pgoff=0x%lx result=%s pages=%lu",
		  __entry->old_addr, __entry->new_addr, __entry->len,
		  __entry->pgoff,
		  __print_symbolic(__entry->result,
				   { MREMAP_RELOCATE_DONE, "relocated" },
				   { MREMAP_RELOCATE_NO_GAIN, "no_gain" },
				   { MREMAP_RELOCATE_DONTUNMAP, "refused_dontunmap" },
				   { MREMAP_RELOCATE_SIZE, "refused_size" },
				   { MREMAP_RELOCATE_VMA, "refused_vma" },
				   { MREMAP_RELOCATE_UFFD, "refused_uffd" },
				   { MREMAP_RELOCATE_SHARED, "refused_shared" },
				   { MREMAP_RELOCATE_KSM, "refused_ksm" },
				   { MREMAP_RELOCATE_LARGE, "refused_large" },
				   { MREMAP_RELOCATE_HUGE, "refused_huge" },
				   { MREMAP_RELOCATE_DEVICE, "refused_device" },
				   { MREMAP_RELOCATE_UNKNOWN, "refused_unknown" },
				   { MREMAP_RELOCATE_NO_SPARES, "refused_nomem" },
				   { MREMAP_RELOCATE_NOMEM, "failed_nomem" }),
		  __entry->pages)
);

#endif /* _TRACE_MREMAP_H */

#include <trace/define_trace.h>
