// SPDX-License-Identifier: GPL-2.0
/*
 * Retry of page faults under the per-VMA lock.
 * See Documentation/mm/fault_retry.rst.
 */
#include <linux/fault_retry.h>
#include <linux/mmdebug.h>
#include <linux/vmstat.h>

#define CREATE_TRACE_POINTS
#include <trace/events/fault_retry.h>

/**
 * fault_retry_vma - may a fault be retried under the per-VMA lock?
 * @fault: What handle_mm_fault() returned for FAULT_FLAG_VMA_LOCK; it has
 *	   VM_FAULT_RETRY.
 * @flags: The flags of the fault, made ready for the next pass.
 *
 * At most one retry of a fault is under the per-VMA lock. FAULT_FLAG_TRIED is
 * set exactly when a pass under mmap_lock in place of this one would have set
 * it, for it says whether the next pass may release its lock to wait, and
 * whether the fault counts as a major one.
 *
 * Context: No lock held; the caller has looked at pending signals.
 * Return: true to look the VMA up again with lock_vma_under_rcu(), false to go
 * on with mmap_lock.
 */
bool fault_retry_vma(vm_fault_t fault, unsigned int *flags)
{
	const bool soft = fault & VM_FAULT_RETRY_VMA;
	const bool tried = *flags & FAULT_FLAG_VMA_TRIED;

	VM_WARN_ON_ONCE(!(fault & VM_FAULT_RETRY));

	if ((fault & VM_FAULT_MAJOR) || (soft && tried))
		*flags |= FAULT_FLAG_TRIED;

	if (!soft || tried) {
		count_vm_vma_lock_event(VMA_LOCK_RETRY_MMAP);
		return false;
	}

	*flags |= FAULT_FLAG_VMA_TRIED;
	count_vm_vma_lock_event(VMA_LOCK_RETRY_VMA);
	return true;
}

vm_fault_t __vmf_retry_soft(const struct vm_fault *vmf,
			    enum fault_wait_reason reason)
{
	const bool tried = vmf->flags & FAULT_FLAG_VMA_TRIED;

	trace_mm_fault_retry(vmf->address, vmf->flags, reason,
			     tried ? FAULT_RETRIES_MMAP : FAULT_RETRIES_VMA);
	return VM_FAULT_RETRY | VM_FAULT_RETRY_VMA;
}

vm_fault_t __vmf_retry_hard(const struct vm_fault *vmf,
			    enum fault_wait_reason reason)
{
	trace_mm_fault_retry(vmf->address, vmf->flags, reason,
			     FAULT_RETRIES_MMAP);
	return VM_FAULT_RETRY;
}
