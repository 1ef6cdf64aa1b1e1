/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Retry of page faults under the per-VMA lock.
 * See Documentation/mm/fault_retry.rst.
 */
#ifndef _LINUX_FAULT_RETRY_H
#define _LINUX_FAULT_RETRY_H

#include <linux/mm.h>

/* Why a fault under the per-VMA lock waited, or could not go on. */
enum fault_wait_reason {
	/* It waited, and that is all: the retry may use the per-VMA lock. */
	FAULT_WAIT_SYNC_READAHEAD,	/* Not in the page cache. */
	FAULT_WAIT_ASYNC_READAHEAD,	/* In it, and the window is moved on. */
	FAULT_WAIT_FOLIO_LOCK,		/* In it, and somebody holds the lock. */
	FAULT_WAIT_READ_FOLIO,		/* In it, not uptodate: ->read_folio(). */
	FAULT_WAIT_SWAP_FOLIO,		/* Swap cache or device-exclusive. */
	FAULT_WAIT_USERFAULTFD,
	FAULT_WAIT_SHMEM_PUNCH,
	/* The per-VMA lock is not enough: the retry needs mmap_lock. */
	FAULT_NEEDS_MMAP_FAULT,		/* ->fault() without ->map_pages(). */
	FAULT_NEEDS_MMAP_ANON_VMA,	/* The first anon_vma of the VMA. */
	FAULT_NEEDS_MMAP_DEVICE,	/* Device-private memory. */
};

enum fault_wait_outcome {
	FAULT_RETRIES_VMA,		/* Again, under the per-VMA lock. */
	FAULT_RETRIES_MMAP,		/* Again, under mmap_lock. */
	FAULT_RESUMES,			/* The VMA lock was taken again. */
	FAULT_KEEPS_LOCK,		/* It waits with the VMA lock held. */
};

#ifdef CONFIG_PER_VMA_LOCK
bool fault_retry_vma(vm_fault_t fault, unsigned int *flags);
vm_fault_t __vmf_retry_soft(const struct vm_fault *vmf,
			    enum fault_wait_reason reason);
vm_fault_t __vmf_retry_hard(const struct vm_fault *vmf,
			    enum fault_wait_reason reason);
#else
static inline bool fault_retry_vma(vm_fault_t fault, unsigned int *flags)
{
	return false;
}

static inline vm_fault_t __vmf_retry_soft(const struct vm_fault *vmf,
					  enum fault_wait_reason reason)
{
	return VM_FAULT_RETRY;
}

static inline vm_fault_t __vmf_retry_hard(const struct vm_fault *vmf,
					  enum fault_wait_reason reason)
{
	return VM_FAULT_RETRY;
}
#endif /* CONFIG_PER_VMA_LOCK */

/**
 * vmf_retry_soft - the result of a handler that released its lock to wait
 * @vmf: The fault. Its lock is not held, @vmf->vma must not be dereferenced.
 * @reason: What it waited for.
 *
 * Not for a handler that released the lock for any other reason, or because a
 * signal ended its wait while it held the lock.
 *
 * Return: VM_FAULT_RETRY, with VM_FAULT_RETRY_VMA if a per-VMA lock was held.
 */
static inline vm_fault_t vmf_retry_soft(const struct vm_fault *vmf,
					enum fault_wait_reason reason)
{
	if (!(vmf->flags & FAULT_FLAG_VMA_LOCK))
		return VM_FAULT_RETRY;
	return __vmf_retry_soft(vmf, reason);
}

/**
 * vmf_retry_hard - the result of a handler that needs mmap_lock
 * @vmf: The fault, handled under a per-VMA lock.
 * @reason: What it needs mmap_lock for.
 *
 * Return: VM_FAULT_RETRY.
 */
static inline vm_fault_t vmf_retry_hard(const struct vm_fault *vmf,
					enum fault_wait_reason reason)
{
	return __vmf_retry_hard(vmf, reason);
}

#endif /* _LINUX_FAULT_RETRY_H */
