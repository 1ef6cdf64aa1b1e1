// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the retry of page faults under the per-VMA lock: who is
 * retried, with which flags, and when a fault may go on after it waited.
 */
#include <kunit/test.h>
#include <linux/fault_retry.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <asm/tlb.h>

#include "../internal.h"

#define NR_PAGES	4
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define TRIED		FAULT_FLAG_TRIED
#define VMA_TRIED	FAULT_FLAG_VMA_TRIED
#define SOFT		(VM_FAULT_RETRY | VM_FAULT_RETRY_VMA)
#define HARD		VM_FAULT_RETRY
#define MAJ		VM_FAULT_MAJOR

/* What one pass under the VMA lock makes of the flags of the next one. */
struct retry_case {
	const char *name;
	unsigned int flags;
	vm_fault_t fault;
	bool again;
	unsigned int flags_after;
};

static const struct retry_case retry_cases[] = {
	/* The first pass. A minor wait leaves TRIED alone: not a major fault. */
	{ "soft minor", 0, SOFT, true, VMA_TRIED },
	{ "soft major", 0, SOFT | MAJ, true, VMA_TRIED | TRIED },
	{ "hard minor", 0, HARD, false, 0 },
	{ "hard major", 0, HARD | MAJ, false, TRIED },
	/* The retry. Two waits are what sets TRIED under mmap_lock. */
	{ "soft minor again", VMA_TRIED, SOFT, false, VMA_TRIED | TRIED },
	{ "soft major again", VMA_TRIED, SOFT | MAJ, false, VMA_TRIED | TRIED },
	{ "soft, then hard minor", VMA_TRIED, HARD, false, VMA_TRIED },
	{ "soft, then hard major", VMA_TRIED, HARD | MAJ, false, VMA_TRIED | TRIED },
	/* The retry of a major fault: TRIED is never taken back. */
	{ "major, soft minor", VMA_TRIED | TRIED, SOFT, false, VMA_TRIED | TRIED },
	{ "major, soft major", VMA_TRIED | TRIED, SOFT | MAJ, false, VMA_TRIED | TRIED },
	{ "major, hard minor", VMA_TRIED | TRIED, HARD, false, VMA_TRIED | TRIED },
	{ "major, hard major", VMA_TRIED | TRIED, HARD | MAJ, false, VMA_TRIED | TRIED },
};

static void retry_case_name(const struct retry_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(retry, retry_cases, retry_case_name);

static void test_retry_vma(struct kunit *test)
{
	const struct retry_case *c = test->param_value;
	unsigned int flags = FAULT_FLAG_DEFAULT | FAULT_FLAG_USER | c->flags;
	bool again;

	again = fault_retry_vma(c->fault, &flags);

	KUNIT_EXPECT_EQ(test, again, c->again);
	KUNIT_EXPECT_EQ(test, flags, FAULT_FLAG_DEFAULT | FAULT_FLAG_USER | c->flags_after);
}

/* However often a handler says that it waited, one retry is all it gets. */
static void test_retry_is_bounded(struct kunit *test)
{
	const vm_fault_t results[] = { SOFT, SOFT | MAJ };
	unsigned int flags;
	int i;

	for (i = 0; i < ARRAY_SIZE(results); i++) {
		flags = FAULT_FLAG_DEFAULT;
		KUNIT_EXPECT_TRUE(test, fault_retry_vma(results[i], &flags));
		KUNIT_EXPECT_FALSE(test, fault_retry_vma(results[i], &flags));
		KUNIT_EXPECT_FALSE(test, fault_retry_vma(results[i], &flags));
	}
}

/* A bit that is part of another one would be taken for an error or an index. */
static void test_bits_are_disjoint(struct kunit *test)
{
	const unsigned int bit = (__force unsigned int)VM_FAULT_RETRY_VMA;
	const unsigned int others = (__force unsigned int)
		(VM_FAULT_ERROR | VM_FAULT_HINDEX_MASK | VM_FAULT_MAJOR |
		 VM_FAULT_NOPAGE | VM_FAULT_LOCKED | VM_FAULT_RETRY |
		 VM_FAULT_DONE_COW | VM_FAULT_NEEDDSYNC | VM_FAULT_COMPLETED);
	const unsigned int flags = FAULT_FLAG_WRITE | FAULT_FLAG_MKWRITE |
		FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT |
		FAULT_FLAG_KILLABLE | FAULT_FLAG_TRIED | FAULT_FLAG_USER |
		FAULT_FLAG_REMOTE | FAULT_FLAG_INSTRUCTION |
		FAULT_FLAG_INTERRUPTIBLE | FAULT_FLAG_UNSHARE |
		FAULT_FLAG_ORIG_PTE_VALID | FAULT_FLAG_VMA_LOCK;

	KUNIT_EXPECT_EQ(test, hweight32(bit), 1);
	KUNIT_EXPECT_EQ(test, bit & others, 0);
	KUNIT_EXPECT_EQ(test, hweight32(FAULT_FLAG_VMA_TRIED), 1);
	KUNIT_EXPECT_EQ(test, hweight32(FAULT_FLAG_RESUMED), 1);
	KUNIT_EXPECT_EQ(test, FAULT_FLAG_VMA_TRIED & flags, 0);
	KUNIT_EXPECT_EQ(test, FAULT_FLAG_RESUMED & (flags | FAULT_FLAG_VMA_TRIED), 0);
}

/* Only a fault that held a VMA lock may be told to use one again. */
static void test_soft_needs_vma_lock(struct kunit *test)
{
	struct vm_fault vmf = { .flags = FAULT_FLAG_DEFAULT };

	KUNIT_EXPECT_EQ(test, vmf_retry_soft(&vmf, FAULT_WAIT_FOLIO_LOCK), HARD);
	vmf.flags |= FAULT_FLAG_VMA_LOCK;
	KUNIT_EXPECT_EQ(test, vmf_retry_soft(&vmf, FAULT_WAIT_FOLIO_LOCK), SOFT);
	KUNIT_EXPECT_EQ(test, vmf_retry_hard(&vmf, FAULT_NEEDS_MMAP_FAULT), HARD);
}

/* A private anonymous mapping, with nothing beside it to merge with. */
static unsigned long test_mmap(struct kunit *test, unsigned long addr,
			       unsigned long size, unsigned long flags)
{
	addr = kunit_vm_mmap(test, NULL, addr, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | flags, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	KUNIT_ASSERT_NE(test, addr, 0);
	return addr;
}

static unsigned long test_mmap_alone(struct kunit *test)
{
	unsigned long addr = test_mmap(test, 0, SIZE * 3, 0);

	KUNIT_ASSERT_EQ(test, vm_munmap(addr, SIZE), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + SIZE * 2, SIZE), 0);
	return addr + SIZE;
}

static void change_nothing(struct kunit *test, unsigned long addr)
{
}

static void lock_mmap_only(struct kunit *test, unsigned long addr)
{
	mmap_write_lock(current->mm);
	mmap_write_unlock(current->mm);
}

static void change_another_vma(struct kunit *test, unsigned long addr)
{
	unsigned long other;

	/* Not of the same protection, or it might merge. */
	other = kunit_vm_mmap(test, NULL, 0, SIZE, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(other));
	KUNIT_ASSERT_EQ(test, vm_munmap(other, SIZE), 0);
}

static void zap_pages(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, do_madvise(current->mm, addr, SIZE, MADV_DONTNEED), 0);
}

static void unmap_all(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, vm_munmap(addr, SIZE), 0);
}

static void unmap_and_map_again(struct kunit *test, unsigned long addr)
{
	unmap_all(test, addr);
	test_mmap(test, addr, SIZE, MAP_FIXED);
}

static void map_over(struct kunit *test, unsigned long addr)
{
	test_mmap(test, addr, SIZE, MAP_FIXED);
}

static void unmap_tail(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + SIZE - PAGE_SIZE, PAGE_SIZE), 0);
}

static void split_off_head(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, do_madvise(current->mm, addr, PAGE_SIZE, MADV_DONTFORK), 0);
}

static void grow_by_merge(struct kunit *test, unsigned long addr)
{
	test_mmap(test, addr + SIZE, PAGE_SIZE, MAP_FIXED);
}

static void change_flags(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, do_madvise(current->mm, addr, SIZE, MADV_DONTFORK), 0);
}

static void change_flags_and_back(struct kunit *test, unsigned long addr)
{
	change_flags(test, addr);
	KUNIT_ASSERT_EQ(test, do_madvise(current->mm, addr, SIZE, MADV_DOFORK), 0);
}

static void change_protection_of_vma(struct kunit *test, unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma, *prev;
	struct vma_iterator vmi;
	struct mmu_gather tlb;
	int err;

	mmap_write_lock(mm);
	vma_iter_init(&vmi, mm, addr);
	vma_next(&vmi);
	prev = vma_prev(&vmi);
	vma = vma_next(&vmi);
	tlb_gather_mmu(&tlb, mm);
	err = mprotect_fixup(&vmi, &tlb, vma, &prev, vma->vm_start, vma->vm_end,
			     vma->vm_flags & ~VM_WRITE);
	tlb_finish_mmu(&tlb);
	mmap_write_unlock(mm);
	KUNIT_ASSERT_EQ(test, err, 0);
}

/* What dup_mmap() does to each VMA of a process that forks. */
static void lock_as_fork(struct kunit *test, unsigned long addr)
{
	mmap_write_lock(current->mm);
	vma_start_write(vma_lookup(current->mm, addr));
	mmap_write_unlock(current->mm);
}

struct resume_case {
	const char *name;
	void (*change)(struct kunit *test, unsigned long addr);
	bool resumes;
};

static const struct resume_case resume_cases[] = {
	{ "nothing", change_nothing, true },
	{ "mmap_lock only", lock_mmap_only, true },
	{ "another VMA", change_another_vma, true },
	{ "pages zapped", zap_pages, true },
	{ "unmapped", unmap_all, false },
	{ "unmapped and mapped again", unmap_and_map_again, false },
	{ "mapped over", map_over, false },
	{ "tail unmapped", unmap_tail, false },
	{ "head split off", split_off_head, false },
	{ "grown by a merge", grow_by_merge, false },
	{ "flags changed", change_flags, false },
	{ "flags changed and back", change_flags_and_back, false },
	{ "protection changed", change_protection_of_vma, false },
	{ "locked for fork", lock_as_fork, false },
};

static void resume_case_name(const struct resume_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(resume, resume_cases, resume_case_name);

static struct vm_fault test_fault(struct vm_area_struct *vma, unsigned long addr)
{
	return (struct vm_fault) {
		.vma = vma,
		.pgoff = linear_page_index(vma, addr),
		.address = addr,
		.real_address = addr,
		.flags = FAULT_FLAG_DEFAULT | FAULT_FLAG_VMA_LOCK,
	};
}

static struct vm_area_struct *test_lock_vma(struct kunit *test,
					    unsigned long addr)
{
	struct vm_area_struct *vma = lock_vma_under_rcu(current->mm, addr);

	KUNIT_ASSERT_NOT_NULL(test, vma);
	return vma;
}

/* As a fault does that has to wait; vmf->vma is not looked at if it fails. */
static bool test_resume(struct vm_fault *vmf)
{
	bool resumed = vmf_resume_vma(vmf, FAULT_WAIT_FOLIO_LOCK);

	if (resumed)
		vma_end_read(vmf->vma);
	return resumed;
}

static void test_resume_after(struct kunit *test)
{
	const struct resume_case *c = test->param_value;
	unsigned long start = test_mmap_alone(test);
	unsigned long addr = start + PAGE_SIZE;
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);

	release_fault_lock(&vmf);
	c->change(test, start);

	KUNIT_EXPECT_EQ(test, test_resume(&vmf), c->resumes);
	KUNIT_EXPECT_EQ(test, !!(vmf.flags & FAULT_FLAG_RESUMED), c->resumes);
}

/* A writer that is not done: taking the lock would mean to wait for it. */
static void test_resume_while_locked(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);
	bool resumed;

	release_fault_lock(&vmf);
	mmap_write_lock(current->mm);
	vma_start_write(vmf.vma);
	resumed = test_resume(&vmf);
	mmap_write_unlock(current->mm);

	KUNIT_EXPECT_FALSE(test, resumed);
}

/* A writer of other VMAs does not stand in the way. */
static void test_resume_while_mmap_locked(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);
	bool resumed;

	release_fault_lock(&vmf);
	mmap_write_lock(current->mm);
	resumed = test_resume(&vmf);
	mmap_write_unlock(current->mm);

	KUNIT_EXPECT_TRUE(test, resumed);
}

/* The number tells, even if struct vm_area_struct is at the old address. */
static void test_resume_compares_number(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);

	release_fault_lock(&vmf);
	vmf.vma_seq--;

	KUNIT_EXPECT_FALSE(test, test_resume(&vmf));
}

static void lock_vmas_together(unsigned long addr, unsigned long other)
{
	mmap_write_lock(current->mm);
	vma_start_write(vma_lookup(current->mm, addr));
	vma_start_write(vma_lookup(current->mm, other));
	mmap_write_unlock(current->mm);
}

static unsigned int test_vma_seq(struct kunit *test, unsigned long addr)
{
	struct vm_area_struct *vma = test_lock_vma(test, addr);
	unsigned int seq = vma->vm_lock_seq;

	vma_end_read(vma);
	return seq;
}

static struct vm_area_struct *vma_lookup_unlocked(struct kunit *test,
						  unsigned long addr)
{
	struct vm_area_struct *vma = test_lock_vma(test, addr);

	vma_end_read(vma);
	return vma;
}

/* The address tells, even if both VMAs were locked in the same section. */
static void test_resume_compares_vma(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	unsigned long other = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(vma_lookup_unlocked(test, addr), other);

	lock_vmas_together(addr, other);
	vmf.vma_seq = test_vma_seq(test, other);
	KUNIT_ASSERT_EQ(test, vmf.vma_seq, test_vma_seq(test, addr));

	KUNIT_EXPECT_FALSE(test, test_resume(&vmf));
}

/* A fault that held mmap_lock has no VMA lock to take again. */
static void test_resume_needs_vma_lock(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);

	release_fault_lock(&vmf);
	vmf.flags &= ~FAULT_FLAG_VMA_LOCK;

	KUNIT_EXPECT_FALSE(test, test_resume(&vmf));
}

/* A fault may wait more than once; each time counts for itself. */
static void test_resume_twice(struct kunit *test)
{
	unsigned long addr = test_mmap_alone(test);
	struct vm_fault vmf = test_fault(test_lock_vma(test, addr), addr);

	release_fault_lock(&vmf);
	KUNIT_ASSERT_TRUE(test, vmf_resume_vma(&vmf, FAULT_WAIT_FOLIO_LOCK));
	release_fault_lock(&vmf);
	lock_as_fork(test, addr);

	KUNIT_EXPECT_FALSE(test, test_resume(&vmf));
}

static struct kunit_case fault_retry_cases[] = {
	KUNIT_CASE_PARAM(test_retry_vma, retry_gen_params),
	KUNIT_CASE(test_retry_is_bounded),
	KUNIT_CASE(test_bits_are_disjoint),
	KUNIT_CASE(test_soft_needs_vma_lock),
	KUNIT_CASE_PARAM(test_resume_after, resume_gen_params),
	KUNIT_CASE(test_resume_while_locked),
	KUNIT_CASE(test_resume_while_mmap_locked),
	KUNIT_CASE(test_resume_compares_number),
	KUNIT_CASE(test_resume_compares_vma),
	KUNIT_CASE(test_resume_needs_vma_lock),
	KUNIT_CASE(test_resume_twice),
	{}
};

static struct kunit_suite fault_retry_suite = {
	.name = "fault_retry",
	.test_cases = fault_retry_cases,
};

kunit_test_suite(fault_retry_suite);
