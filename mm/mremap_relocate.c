// SPDX-License-Identifier: GPL-2.0
/*
 * Relocation of the anonymous memory that mremap() moves.
 *
 * A folio of anonymous memory knows its place: folio->mapping is an anon_vma,
 * folio->index a page offset, and from the two a reverse-map walk computes the
 * address. mremap() keeps both and lets the VMA at the new address carry the old
 * page offset. Such a VMA merges with none of its new neighbours, ever.
 *
 * A relocation gives the VMA the page offset of its new address, and the folios
 * their new index and anon_vma while the page table entries move, folio by folio
 * and each under its lock. Documentation/mm/mremap_relocate.rst says why no walk
 * misses a mapping; in short:
 *
 *  - Who walks the reverse map of an anonymous folio holds the folio lock. So
 *    does who changes index and mapping here, until all entries of that folio
 *    have moved. A walk finds the old place and the entries there, or the new
 *    place and the entries there.
 *
 *  - A folio that belongs to this process alone can have a new place at all. That
 *    a page does, PageAnonExclusive() or the bit of its kind in a swap or
 *    migration entry, is lost by fork, KSM and faults only. All of them need the
 *    mmap_lock or the VMA lock, and mremap() holds both for write.
 *
 * So one look at the page tables says whether a range can be relocated. What
 * happens to it afterwards (pages are swapped out and migrated, large folios are
 * split) gives nothing that could not be relocated as well. The page tables at
 * the new address are allocated before the first folio changes. From then on
 * nothing fails, and nothing is ever undone.
 *
 * Locks: mmap_lock, VMA locks, one folio lock, old PTL, new PTL, in that order.
 * Under a PTL the folio lock is only tried; who has to wait drops the PTLs first.
 * It is one folio at a time, and anon_vma locks are not taken.
 */
#include <linux/cacheflush.h>
#include <linux/hugetlb.h>
#include <linux/kobject.h>
#include <linux/swap.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mremap_relocate.h>
#include <linux/pagemap.h>
#include <linux/pgalloc.h>
#include <linux/rmap.h>
#include <linux/swapops.h>
#include <linux/sysfs.h>
#include <linux/userfaultfd_k.h>

#include <asm/tlbflush.h>

#include "internal.h"
#include "mremap_relocate.h"
#include "swap.h"
#include "swap_table.h"
#include "vma.h"

#define CREATE_TRACE_POINTS
#include <trace/events/mremap.h>

/* Which moves are relocated: none, those that merge then, all. */
enum relocate_mode {
	RELOCATE_NEVER,
	RELOCATE_MERGE,
	RELOCATE_ALWAYS,
};

DEFINE_STATIC_KEY_FALSE(mremap_relocate_key);
static enum relocate_mode relocate_mode __read_mostly = RELOCATE_NEVER;
static unsigned long relocate_max_kb __read_mostly = 256;

/* The results first, and then: */
enum relocate_stat {
	RELOCATE_PAGES = NR_MREMAP_RELOCATE_RESULTS,	/* that were relocated */
	RELOCATE_WAITS,		/* for a folio lock, or for a migration */
	NR_RELOCATE_STATS
};

static DEFINE_PER_CPU(unsigned long [NR_RELOCATE_STATS], relocate_stats);

static void count_relocate(unsigned int stat, unsigned long nr)
{
	this_cpu_add(relocate_stats[stat], nr);
}

/* What a look at the page tables has found so far. */
struct survey {
	struct vm_area_struct *vma;
	/* The pages of a large folio that have to follow, or nothing. */
	unsigned long next_pfn;
	unsigned long end_pfn;
	/* How many page tables would move as a whole, were it not for us. */
	unsigned long nr_whole;
};

/*
 * A relocation under way.
 *
 * At most one folio is locked: that of the entry moved last. If it is large it
 * stays locked, and its mapping is not walked, until its last entry has moved.
 */
struct relocation {
	struct pagetable_move_control *pmc;
	struct mm_struct *mm;
	unsigned long old_addr;		/* of the next entry to move */
	unsigned long new_addr;		/* where to */
	struct folio *folio;		/* locked, or to be waited for, or NULL */
	bool referenced;		/* do we hold a reference of it? */
	bool locked;			/* do we hold its lock? */
	bool migrating;			/* is the next entry a migration entry? */
	unsigned long folio_end;	/* where its last entry was, once relocated */
	unsigned long pages;		/* how many were relocated */
	struct mremap_relocate_request *req;
};

/*
 * How many bytes of @addr to @end are within the naturally aligned @size?
 *
 * What pud_addr_end() and its like say, but for levels that are folded: these leave
 * the end as it is, since a loop over the level above has seen to it.
 */
static unsigned long bytes_within(unsigned long addr, unsigned long end,
				  unsigned long size)
{
	return min(size - (addr & (size - 1)), end - addr);
}

/* How many bytes from @addr on have no page table that could have a PMD? */
static unsigned long hole_extent(struct mm_struct *mm, unsigned long addr,
				 unsigned long end)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	if (!pgd_present(*pgd))
		return bytes_within(addr, end, PGDIR_SIZE);
	p4d = p4d_offset(pgd, addr);
	if (!p4d_present(*p4d))
		return bytes_within(addr, end, P4D_SIZE);
	pud = pud_offset(p4d, addr);
	return pud_present(*pud) ? 0 : bytes_within(addr, end, PUD_SIZE);
}

/* How many bytes from both addresses on are within one page table each? */
static unsigned long table_extent(unsigned long old_addr, unsigned long new_addr,
				  unsigned long old_end)
{
	unsigned long extent = bytes_within(old_addr, old_end, PMD_SIZE);

	return bytes_within(new_addr, new_addr + extent, PMD_SIZE);
}

/*
 * Does the PMD at @addr have entries below it, or is it one itself? @pmdval says
 * which.
 *
 * __discard_anon_folio_pmd_locked() clears a huge PMD and may put it back, under
 * the PMD lock. So it is none only if that lock says so.
 *
 * None of our entries comes then: our VMA is write-locked. The PMD itself does
 * not have to remain so where the range does not have all of it. The rest may
 * belong to another VMA, in which a fault needs that VMA's lock only.
 */
static pmd_t *find_populated_pmd(struct mm_struct *mm, unsigned long addr,
				 pmd_t *pmdval)
{
	pmd_t *pmd = mm_find_pmd(mm, addr);
	spinlock_t *ptl;	/* of the PMD */

	if (!pmd)
		return NULL;
	*pmdval = pmdp_get_lockless(pmd);
	if (pmd_none(*pmdval)) {
		ptl = pmd_lock(mm, pmd);
		*pmdval = pmdp_get(pmd);
		spin_unlock(ptl);
	}
	return pmd_none(*pmdval) ? NULL : pmd;
}

/*
 * The populated PMD at @old_addr, as above, or NULL. *@extent bytes from both
 * addresses on are behind it, or within a hole at the old address.
 *
 * A page table that turns up when we have seen a hole is somebody else's. Who
 * sees it gets the extent of a table, whatever was there before.
 */
static pmd_t *next_populated_pmd(struct mm_struct *mm, unsigned long old_addr,
				 unsigned long new_addr, unsigned long old_end,
				 pmd_t *pmdval, unsigned long *extent)
{
	pmd_t *pmd = find_populated_pmd(mm, old_addr, pmdval);
	unsigned long hole = pmd ? 0 : hole_extent(mm, old_addr, old_end);

	*extent = hole ?: table_extent(old_addr, new_addr, old_end);
	return pmd;
}

/* Is a page of a large folio still missing? */
static bool in_large_folio(const struct survey *s)
{
	return s->next_pfn < s->end_pfn;
}

/*
 * A large folio has one place for all of its pages. Each must be mapped in the
 * range, one after the other, and by this process alone: then there is no mapping
 * of the folio outside of the range, nor will there be when it is split, swapped
 * out in part or migrated.
 *
 * The folio is not locked. It does not have to be the same folio when the entries
 * move, it is the pages that have been accounted for.
 */
static enum mremap_relocate_result survey_large(struct survey *s,
						struct folio *folio,
						unsigned long pfn)
{
	if (!in_large_folio(s)) {
		s->next_pfn = folio_pfn(folio);
		s->end_pfn = s->next_pfn + folio_nr_pages(folio);
	}
	if (s->next_pfn != pfn)
		return MREMAP_RELOCATE_LARGE;
	s->next_pfn++;
	return MREMAP_RELOCATE_DONE;
}

/*
 * Can @folio, mapped through @page, be relocated?
 *
 * Under the page table lock. PageAnonExclusive() implies that there is no mapping
 * but this one, also none that is a swap entry now.
 */
static enum mremap_relocate_result survey_folio(struct survey *s,
						struct folio *folio,
						struct page *page)
{
	if (folio_is_zone_device(folio))
		return MREMAP_RELOCATE_DEVICE;
	if (folio_test_ksm(folio))
		return MREMAP_RELOCATE_KSM;
	if (!folio_test_anon(folio))
		return MREMAP_RELOCATE_UNKNOWN;
	if (!PageAnonExclusive(page))
		return MREMAP_RELOCATE_SHARED;
	if (folio_test_large(folio) || in_large_folio(s))
		return survey_large(s, folio, page_to_pfn(page));
	return MREMAP_RELOCATE_DONE;
}

#ifdef CONFIG_SWAP
/* Does the swap cache have @folio for @entry? Under the lock of the cluster. */
static bool is_cached_as(struct swap_cluster_info *ci, const struct folio *folio,
			 softleaf_t entry)
{
	unsigned long swp_tb = __swap_table_get(ci, swp_cluster_offset(entry));

	return swp_tb_is_folio(swp_tb) && swp_tb_to_folio(swp_tb) == folio;
}

/*
 * The folio in the swap cache that @entry stands for and that has a place, with a
 * reference, or NULL. Under the page table lock.
 *
 * A folio in the swap cache that is not anonymous was read in and has never been
 * mapped, so it has no index and no anon_vma. It gets them by a fault, or by
 * swapoff, and both need the mmap_lock.
 *
 * swap_cache_get_folio() may return a folio that just left the swap cache and is
 * something else now, while the one that replaced it has a place. Migration and
 * split give it that place, and put it in the swap cache, under the lock of the
 * cluster. So what that lock says is in the swap cache is seen with its place.
 */
static struct folio *get_swap_folio(softleaf_t entry)
{
	struct swap_cluster_info *ci;
	struct folio *folio;
	bool cached, anon;

	for (;;) {
		folio = swap_cache_get_folio(entry);
		if (!folio)
			return NULL;
		ci = swap_cluster_lock(__swap_entry_to_info(entry),
				       swp_offset(entry));
		cached = is_cached_as(ci, folio, entry);
		anon = folio_test_anon(folio);
		swap_cluster_unlock(ci);
		if (cached && anon)
			return folio;
		folio_put(folio);
		if (cached)
			return NULL;
	}
}
#else
static struct folio *get_swap_folio(softleaf_t entry)
{
	return NULL;
}
#endif

/*
 * Can a page that was swapped out, by an entry that is all there is of it or with
 * a folio in the swap cache, be relocated?
 */
static enum mremap_relocate_result survey_swap(pte_t pte, softleaf_t entry)
{
	enum mremap_relocate_result result = MREMAP_RELOCATE_DONE;
	struct folio *folio;

	if (!pte_swp_exclusive(pte))
		return MREMAP_RELOCATE_SHARED;

	folio = get_swap_folio(entry);
	if (!folio)
		return MREMAP_RELOCATE_DONE;
	if (folio_test_large(folio))
		result = MREMAP_RELOCATE_LARGE;
	folio_put(folio);
	return result;
}

/*
 * Is the page of a migration entry one of a large folio, or of one that is being
 * split? A split freezes the references, and the head of a part is for a moment not
 * large, although the part will be. With a reference of ours nobody can split the
 * folio, and the page is either still one of it, or of another.
 */
static bool is_large_now(struct page *page)
{
	struct folio *folio = page_folio(page);
	bool large;

	if (!folio_try_get(folio))
		return true;
	large = folio_test_large(folio) || page_folio(page) != folio;
	folio_put(folio);
	return large;
}

/*
 * Can a page under migration be relocated? Nobody waits here: what the entry is
 * turned into is as exclusive as the entry is. mremap_relocate_page_tables()
 * waits when it gets there. Of a large folio we cannot tell here where it begins,
 * as it may be about to be split.
 *
 * A folio of a device may remain one, if its migration fails. None becomes one:
 * who migrates to a device needs the mmap_lock.
 */
static enum mremap_relocate_result survey_migration(softleaf_t entry)
{
	struct page *page = softleaf_to_page(entry);

	if (is_zone_device_page(page))
		return MREMAP_RELOCATE_DEVICE;
	if (softleaf_is_migration_read(entry))
		return MREMAP_RELOCATE_SHARED;
	return is_large_now(page) ? MREMAP_RELOCATE_LARGE : MREMAP_RELOCATE_DONE;
}

/* Can what an entry that is not present stands for be relocated? */
static enum mremap_relocate_result survey_softleaf(pte_t pte)
{
	softleaf_t entry = softleaf_from_pte(pte);

	if (softleaf_is_swap(entry))
		return survey_swap(pte, entry);
	if (softleaf_is_migration(entry))
		return survey_migration(entry);
	if (softleaf_is_device_private(entry) ||
	    softleaf_is_device_exclusive(entry))
		return MREMAP_RELOCATE_DEVICE;
	/* They have no place. */
	if (softleaf_is_marker(entry) || softleaf_is_hwpoison(entry))
		return MREMAP_RELOCATE_DONE;
	return MREMAP_RELOCATE_UNKNOWN;
}

/* Can what an entry stands for be relocated? Under the page table lock. */
static enum mremap_relocate_result survey_pte(struct survey *s,
					      unsigned long addr, pte_t pte)
{
	struct page *page = NULL;

	if (pte_present(pte)) {
		page = vm_normal_page(s->vma, addr, pte);
		if (page)
			return survey_folio(s, page_folio(page), page);
	}

	if (in_large_folio(s))
		return MREMAP_RELOCATE_LARGE;
	/* Neither nothing nor the zero page has a place. */
	if (pte_none(pte) || pte_present(pte))
		return MREMAP_RELOCATE_DONE;
	return survey_softleaf(pte);
}

/* Can all entries of one page table, from @addr on, be relocated? */
static enum mremap_relocate_result survey_table(struct survey *s, pmd_t *pmd,
						unsigned long addr,
						unsigned long end)
{
	enum mremap_relocate_result result = MREMAP_RELOCATE_DONE;
	pte_t *start_pte, *ptep;
	spinlock_t *ptl;	/* of the page table */

	start_pte = pte_offset_map_lock(s->vma->vm_mm, pmd, addr, &ptl);
	if (!start_pte)
		return MREMAP_RELOCATE_UNKNOWN;
	for (ptep = start_pte; addr < end && !result; addr += PAGE_SIZE, ptep++)
		result = survey_pte(s, addr, ptep_get(ptep));
	pte_unmap_unlock(start_pte, ptl);
	return result;
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
/* Can the huge page that a PMD maps be relocated? Under the PMD lock. */
static enum mremap_relocate_result survey_huge(struct survey *s, pmd_t pmd)
{
	enum mremap_relocate_result result;
	struct page *page;

	if (in_large_folio(s))
		return MREMAP_RELOCATE_LARGE;
	if (is_huge_zero_pmd(pmd))
		return MREMAP_RELOCATE_DONE;
	if (!pmd_present(pmd))
		return MREMAP_RELOCATE_HUGE;

	page = pmd_page(pmd);
	if (folio_nr_pages(page_folio(page)) != HPAGE_PMD_NR)
		return MREMAP_RELOCATE_HUGE;
	/* All pages are exclusive if the first is, and none is missing. */
	result = survey_folio(s, page_folio(page), page);
	s->next_pfn = s->end_pfn;
	return result;
}
#endif

/* Can what is behind a PMD, from @addr on, be relocated? */
static enum mremap_relocate_result survey_pmd(struct survey *s, pmd_t *pmd,
					      unsigned long addr,
					      unsigned long end)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	enum mremap_relocate_result result;
	spinlock_t *ptl;	/* of the PMD */

	/* move_page_tables() would split it, too. */
	if (end - addr != HPAGE_PMD_SIZE)
		split_huge_pmd(s->vma, pmd, addr);

	ptl = pmd_trans_huge_lock(pmd, s->vma);
	if (ptl) {
		result = survey_huge(s, pmdp_get(pmd));
		spin_unlock(ptl);
		return result;
	}
#endif
	return survey_table(s, pmd, addr, end);
}

/* Can all that is mapped in the range be relocated? */
static enum mremap_relocate_result survey_range(struct survey *s,
						const struct vma_move *move)
{
	const unsigned long old_end = move->old_addr + move->old_len;
	unsigned long old_addr = move->old_addr;
	unsigned long new_addr = move->new_addr;
	enum mremap_relocate_result result;
	unsigned long extent;
	pmd_t *pmd, pmdval;

	for (; old_addr < old_end; old_addr += extent, new_addr += extent) {
		pmd = next_populated_pmd(s->vma->vm_mm, old_addr, new_addr,
					 old_end, &pmdval, &extent);
		if (!pmd && in_large_folio(s))
			return MREMAP_RELOCATE_LARGE;
		if (!pmd)
			continue;
		result = survey_pmd(s, pmd, old_addr, old_addr + extent);
		if (result)
			return result;
		s->nr_whole += extent == PMD_SIZE;
		/* Whether it merges is of no interest to who is about to die. */
		if (fatal_signal_pending(current))
			return MREMAP_RELOCATE_UNKNOWN;
		cond_resched();
	}
	return in_large_folio(s) ? MREMAP_RELOCATE_LARGE : MREMAP_RELOCATE_DONE;
}

/**
 * mremap_relocate_free_spares - Free the page tables that were not needed
 * @req: Of mremap_relocate_prepare().
 */
void mremap_relocate_free_spares(struct mremap_relocate_request *req)
{
	while (req->nr_spares)
		pte_free(req->move.vma->vm_mm, req->spares[--req->nr_spares]);
	kvfree(req->spares);
	req->spares = NULL;
}

/* Reclaims, charges the cgroup, and fails where an OOM killer would be called. */
#define SPARE_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/*
 * pte_alloc_one() calls the OOM killer before it fails, and nobody is to be killed
 * for what nobody needs. So ask for a page like that first, in a way that fails.
 * What is given back at once lies in the free list of this CPU, and its charge in
 * the stock of this CPU, where pte_alloc_one() finds both. Somebody else may come
 * first, and then it is as for a move between addresses that are not congruent.
 */
static bool spare_is_affordable(void)
{
	struct page *page = alloc_page(SPARE_GFP);

	if (!page)
		return false;
	__free_page(page);
	return true;
}

/*
 * Where both addresses are congruent a move takes whole page tables and huge PMDs
 * along, and needs no memory for that. A relocation does: a page table to move the
 * entries to, or one for a huge PMD that is split after the survey. So that nothing
 * fails which would not without us, they are allocated while we can still refuse.
 */
static bool alloc_spares(struct mremap_relocate_request *req, unsigned long nr)
{
	if (!nr)
		return true;
	req->spares = kvmalloc_array(nr, sizeof(*req->spares), SPARE_GFP);
	if (!req->spares)
		return false;
	for (; req->nr_spares < nr; req->nr_spares++) {
		pgtable_t spare = NULL;

		if (!fatal_signal_pending(current) && spare_is_affordable())
			spare = pte_alloc_one(req->move.vma->vm_mm);
		if (!spare) {
			mremap_relocate_free_spares(req);
			return false;
		}
		req->spares[req->nr_spares] = spare;
		cond_resched();
	}
	return true;
}

/*
 * Can memory of this kind be relocated? What grows by itself is not to merge: how
 * far it may depends on where it began.
 */
static enum mremap_relocate_result survey_vma(struct vm_area_struct *vma)
{
	if (!vma_is_anonymous(vma) || vma->vm_file || is_vm_hugetlb_page(vma) ||
	    vma->vm_flags & (VM_SPECIAL | VM_SHARED | VM_MAYSHARE |
			     VM_SHADOW_STACK | VM_GROWSDOWN | VM_GROWSUP))
		return MREMAP_RELOCATE_VMA;
	if (userfaultfd_armed(vma))
		return MREMAP_RELOCATE_UFFD;
	return MREMAP_RELOCATE_DONE;
}

/*
 * The VMAs first: they are few, and most moves end here. The size next, and the
 * page tables of those moves only that would be worth it.
 */
static enum mremap_relocate_result
survey_move(struct mremap_relocate_request *req, pgoff_t *pgoff)
{
	const bool always = req->explicit ||
			    READ_ONCE(relocate_mode) == RELOCATE_ALWAYS;
	const unsigned long max_kb = req->explicit ? 0 :
				     READ_ONCE(relocate_max_kb);
	const struct vma_move *move = &req->move;
	struct survey s = { .vma = move->vma };
	enum mremap_relocate_result result;
	pgoff_t new_pgoff = *pgoff;

	result = survey_vma(s.vma);
	if (result)
		return result;
	if (!vma_relocation_merges(move, always, &new_pgoff))
		return MREMAP_RELOCATE_NO_GAIN;
	if (req->dontunmap)
		return MREMAP_RELOCATE_DONTUNMAP;
	if (max_kb && move->old_len >> 10 > max_kb)
		return MREMAP_RELOCATE_SIZE;
	result = survey_range(&s, move);
	if (result)
		return result;
	if (!alloc_spares(req, s.nr_whole))
		return MREMAP_RELOCATE_NO_SPARES;
	*pgoff = new_pgoff;
	return MREMAP_RELOCATE_DONE;
}

static void report_result(const struct vma_move *move, pgoff_t pgoff,
			  enum mremap_relocate_result result, unsigned long pages)
{
	count_relocate(result, 1);
	if (pages)
		count_relocate(RELOCATE_PAGES, pages);
	trace_mremap_relocate(move->old_addr, move->new_addr, move->old_len,
			      pgoff, result, pages);
}

/**
 * mremap_relocate_prepare - Is a move to be a relocation?
 * @req:   What mremap() is to do.
 * @pgoff: The page offset that the range is to have at its new address. It is
 *	   changed if the move is to be a relocation.
 *
 * If so, the caller gives @pgoff and req->move to copy_vma(), and moves the page
 * tables by mremap_relocate_page_tables(). If there is no VMA to move them to, it
 * calls mremap_relocate_free_spares().
 *
 * Context: The mmap_lock and the lock of the VMA that is moved are held for write,
 *	    and must be until all is done. Nothing is mapped at the new address.
 * Return: true if the move is to be a relocation.
 */
bool mremap_relocate_prepare(struct mremap_relocate_request *req, pgoff_t *pgoff)
{
	struct vm_area_struct *vma = req->move.vma;
	enum mremap_relocate_result result;

	mmap_assert_write_locked(vma->vm_mm);
	vma_assert_write_locked(vma);

	/* Has no folios. copy_vma() takes the natural page offset as it is. */
	if (!vma->anon_vma)
		return false;

	result = survey_move(req, pgoff);
	if (result)
		report_result(&req->move, *pgoff, result, 0);
	return !result;
}

static pmd_t *alloc_new_pmd(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	p4d = p4d_alloc(mm, pgd, addr);
	if (!p4d)
		return NULL;
	pud = pud_alloc(mm, p4d, addr);
	if (!pud)
		return NULL;
	return pmd_alloc(mm, pud, addr);
}

/*
 * Where there are entries at the old address there must be a page table for them
 * at the new one, or a spare.
 */
static bool alloc_new_table(struct relocation *r, unsigned long new_addr,
			    unsigned long extent)
{
	pmd_t *new_pmd = alloc_new_pmd(r->mm, new_addr);

	if (!new_pmd)
		return false;
	return extent == PMD_SIZE || !pte_alloc(r->mm, new_pmd);
}

/* Allocates the page tables that the range needs at its new address. */
static bool alloc_new_tables(struct relocation *r)
{
	const struct pagetable_move_control *pmc = r->pmc;
	unsigned long old_addr = pmc->old_addr;
	unsigned long new_addr = pmc->new_addr;
	unsigned long extent;
	pmd_t pmdval;

	for (; old_addr < pmc->old_end; old_addr += extent, new_addr += extent) {
		if (next_populated_pmd(r->mm, old_addr, new_addr, pmc->old_end,
				       &pmdval, &extent) &&
		    !alloc_new_table(r, new_addr, extent))
			return false;
		cond_resched();
	}
	return true;
}

static void skip(struct relocation *r, unsigned long extent)
{
	r->old_addr += extent;
	r->new_addr += extent;
}

/* Is there a folio whose last entry has moved? */
static bool has_moved(const struct relocation *r)
{
	return r->folio_end && r->folio_end <= r->old_addr;
}

/*
 * Lets go of the folio whose entries have moved, or that we wanted to wait for.
 *
 * The mappings of a folio hold references, and to take one away needs its lock or
 * the mmap_lock. But folio_unlock() still uses the folio when that lock is free.
 * So either we hold a reference, or the page table lock at the new address, which
 * who has the folio lock next needs to unmap it.
 */
static void release_folio(struct relocation *r)
{
	if (!r->folio)
		return;
	/* Who walks its mappings from now on must find them at the new place. */
	VM_WARN_ON_ONCE(r->old_addr < r->folio_end);
	r->folio_end = 0;
	if (r->locked)
		folio_unlock(r->folio);
	if (r->referenced)
		folio_put(r->folio);
	r->folio = NULL;
	r->locked = false;
	r->referenced = false;
}

/* Keeps the folio when the page table locks are dropped. */
static void hold_folio(struct relocation *r)
{
	if (!r->folio || r->referenced)
		return;
	folio_get(r->folio);
	r->referenced = true;
}

/*
 * Makes @folio the one to be locked. Returns false if that has to be done later,
 * when we can wait.
 */
static bool try_lock_folio(struct relocation *r, struct folio *folio)
{
	r->folio = folio;
	r->locked = folio_trylock(folio);
	if (!r->locked)
		hold_folio(r);
	return r->locked;
}

/* Locks the folio that a present entry maps, if any. */
static bool lock_mapped_folio(struct relocation *r, pte_t pte)
{
	/* No other kind of page without a folio has passed the survey. */
	struct folio *folio = is_zero_pfn(pte_pfn(pte)) ? NULL :
			      page_folio(pte_page(pte));

	if (folio && folio == r->folio)
		return true;
	release_folio(r);
	return !folio || try_lock_folio(r, folio);
}

/*
 * Locks the folio in the swap cache that a swap entry stands for, if there is one
 * that has a place. It can leave the swap cache as long as it is not locked.
 */
static bool lock_swap_folio(struct relocation *r, softleaf_t entry)
{
	struct folio *folio;

	for (;;) {
		folio = get_swap_folio(entry);
		if (folio && folio == r->folio) {
			folio_put(folio);
		} else {
			release_folio(r);
			if (!folio)
				return true;
			r->referenced = true;
			if (!try_lock_folio(r, folio))
				return false;
		}
		if (folio_matches_swap_entry(folio, entry))
			return true;
		release_folio(r);
	}
}

/*
 * Sees to it that we hold the lock of the folio that @pte stands for, if any.
 * Returns false if we have to wait for it, without page table locks.
 */
static bool lock_entry_folio(struct relocation *r, pte_t pte)
{
	softleaf_t entry;

	if (pte_present(pte))
		return lock_mapped_folio(r, pte);
	entry = softleaf_from_pte(pte);
	if (softleaf_is_swap(entry))
		return lock_swap_folio(r, entry);
	/* What has a folio has not passed the survey, if it has a place. */
	VM_WARN_ON_ONCE(softleaf_has_pfn(entry) && !softleaf_is_hwpoison(entry));
	/* A poisoned page is still one of a large folio that could not be split. */
	if (r->old_addr >= r->folio_end)
		release_folio(r);
	return true;
}

/* Which page of the folio does the entry stand for? */
static unsigned long entry_page_idx(struct folio *folio, pte_t pte)
{
	if (!folio_test_large(folio))
		return 0;
	if (pte_present(pte))
		return pte_pfn(pte) - folio_pfn(folio);
	return swp_offset(softleaf_from_pte(pte)) - swp_offset(folio->swap);
}

/* Gives a folio its new place: @idx of its pages are before the next address. */
static void relocate_folio(struct relocation *r, unsigned long idx)
{
	struct vm_area_struct *vma = r->pmc->new;
	unsigned long nr = folio_nr_pages(r->folio);

	VM_WARN_ON_ONCE_FOLIO(!folio_test_anon(r->folio), r->folio);
	VM_WARN_ON_ONCE_FOLIO(folio_test_ksm(r->folio), r->folio);

	folio_move_anon_rmap(r->folio, vma);
	WRITE_ONCE(r->folio->index, linear_page_index(vma, r->new_addr) - idx);
	r->folio_end = r->old_addr + (nr - idx) * PAGE_SIZE;
	r->pages += nr;
}

/* Moves one entry, as move_ptes() does. Returns true if it needs a TLB flush. */
static bool move_entry(struct relocation *r, pte_t *old_ptep, pte_t *new_ptep)
{
	pte_t pte = ptep_get_and_clear(r->mm, r->old_addr, old_ptep);
	bool present = pte_present(pte);

	pte = move_pte(pte, r->old_addr, r->new_addr);
	if (pgtable_supports_soft_dirty())
		pte = present ? pte_mksoft_dirty(pte) : pte_swp_mksoft_dirty(pte);
	set_pte_at(r->mm, r->new_addr, new_ptep, pte);
	return present;
}

/* Is there nothing to wait for before the entry can move? */
static bool claim_entry(struct relocation *r, pte_t pte)
{
	r->migrating = !pte_present(pte) &&
		       softleaf_is_migration(softleaf_from_pte(pte));

	/* Not of a folio whose lock we hold: who migrates it holds that. */
	return !r->migrating && lock_entry_folio(r, pte);
}

/*
 * Moves entries up to @old_end, or up to one that has to be waited for. Both PTLs
 * are held. Returns true if one of the entries needs a TLB flush.
 */
static bool move_entries(struct relocation *r, unsigned long old_end,
			 pte_t *old_ptep, pte_t *new_ptep)
{
	bool flush = false;
	pte_t pte;

	while (r->old_addr < old_end) {
		pte = ptep_get(old_ptep);
		if (!pte_none(pte)) {
			VM_WARN_ON_ONCE(!pte_none(ptep_get(new_ptep)));
			if (!claim_entry(r, pte))
				break;
			if (r->folio && !r->folio_end)
				relocate_folio(r, entry_page_idx(r->folio, pte));
			flush |= move_entry(r, old_ptep, new_ptep);
		}
		r->old_addr += PAGE_SIZE;
		r->new_addr += PAGE_SIZE;
		old_ptep++;
		new_ptep++;
	}
	return flush;
}

/*
 * The same, and takes the locks for it. The TLB is flushed before a PTL is
 * dropped, for the reasons that move_ptes() gives.
 *
 * A folio may be unlocked before that flush. Who locks it then and walks its
 * mappings gets to the new PTL, and waits there.
 */
static void move_locked_entries(struct relocation *r, pmd_t *old_pmd,
				pmd_t *new_pmd, unsigned long old_end)
{
	unsigned long start = r->old_addr;
	spinlock_t *old_ptl, *new_ptl;
	pte_t *old_ptep, *new_ptep;
	pmd_t dummy;
	bool flush;

	/* What would take a page table away needs the mmap_lock, too. */
	old_ptep = pte_offset_map_lock(r->mm, old_pmd, r->old_addr, &old_ptl);
	if (WARN_ON_ONCE(!old_ptep))
		goto skip;
	new_ptep = pte_offset_map_rw_nolock(r->mm, new_pmd, r->new_addr, &dummy,
					    &new_ptl);
	if (WARN_ON_ONCE(!new_ptep)) {
		pte_unmap_unlock(old_ptep, old_ptl);
		goto skip;
	}
	if (new_ptl != old_ptl)
		spin_lock_nested(new_ptl, SINGLE_DEPTH_NESTING);
	flush_tlb_batched_pending(r->mm);

	/*
	 * Not in lazy MMU mode: who gets the lock of a folio that we unlock must
	 * find its entry.
	 */
	flush = move_entries(r, old_end, old_ptep, new_ptep);
	if (flush)
		flush_tlb_range(r->pmc->old, start, r->old_addr);
	if (has_moved(r))
		release_folio(r);
	hold_folio(r);

	if (new_ptl != old_ptl)
		spin_unlock(new_ptl);
	pte_unmap(new_ptep);
	pte_unmap_unlock(old_ptep, old_ptl);
	return;
skip:
	skip(r, old_end - r->old_addr);
}

/*
 * Who holds a folio lock does not wait for our mmap_lock: that is further up in
 * the lock order (mm/rmap.c).
 */
static void wait_for_folio(struct relocation *r)
{
	count_relocate(RELOCATE_WAITS, 1);
	folio_lock(r->folio);
	r->locked = true;
}

/* Waits for what keeps the next entry from moving. */
static void wait_for_entry(struct relocation *r, pmd_t *old_pmd)
{
	if (!r->migrating) {
		wait_for_folio(r);
		return;
	}
	release_folio(r);
	count_relocate(RELOCATE_WAITS, 1);
	migration_entry_wait(r->mm, old_pmd, r->old_addr);
}

/* Moves the entries of one page table to another. */
static void move_table(struct relocation *r, pmd_t *old_pmd, pmd_t *new_pmd,
		       unsigned long extent)
{
	unsigned long old_end = r->old_addr + extent;

	for (;;) {
		move_locked_entries(r, old_pmd, new_pmd, old_end);
		if (r->old_addr >= old_end)
			break;
		wait_for_entry(r, old_pmd);
	}
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
/*
 * Locks the folio that a PMD maps, if it maps one and not the huge zero page. Who
 * would split the PMD or clear it needs that lock, or the mmap_lock.
 *
 * Returns false if this is a page table now, or nothing.
 */
static bool lock_huge_folio(struct relocation *r, pmd_t *pmd)
{
	struct folio *folio;
	spinlock_t *ptl;	/* of the PMD */
	pmd_t pmdval;
	bool locked;

	for (;;) {
		ptl = pmd_lock(r->mm, pmd);
		pmdval = pmdp_get(pmd);
		if (!pmd_is_huge(pmdval)) {
			spin_unlock(ptl);
			return false;
		}
		if (!pmd_present(pmdval)) {
			spin_unlock(ptl);
			release_folio(r);
			count_relocate(RELOCATE_WAITS, 1);
			pmd_migration_entry_wait(r->mm, pmd);
			continue;
		}
		folio = is_huge_zero_pmd(pmdval) ? NULL : pmd_folio(pmdval);
		if (!folio || folio == r->folio) {
			spin_unlock(ptl);
			return true;
		}
		release_folio(r);
		locked = try_lock_folio(r, folio);
		hold_folio(r);
		spin_unlock(ptl);
		if (!locked)
			wait_for_folio(r);
	}
}

/*
 * Moves what a huge PMD maps, as a whole. A walk of its mappings needs the folio
 * lock, which we hold, so it is all the same in which order it gets its new place
 * and moves there.
 *
 * Returns false if there is a page table instead now, or nothing.
 */
static bool move_huge(struct relocation *r, pmd_t *old_pmd, pmd_t *new_pmd)
{
	release_folio(r);
	if (!lock_huge_folio(r, old_pmd)) {
		release_folio(r);
		return false;
	}
	if (r->folio) {
		VM_WARN_ON_ONCE_FOLIO(!PageAnonExclusive(&r->folio->page),
				      r->folio);
		relocate_folio(r, 0);
	}
	WARN_ON_ONCE(!move_huge_pmd(r->pmc->old, r->old_addr, r->new_addr,
				    old_pmd, new_pmd));
	skip(r, HPAGE_PMD_SIZE);
	release_folio(r);
	return true;
}

#else
static bool move_huge(struct relocation *r, pmd_t *old_pmd, pmd_t *new_pmd)
{
	return false;
}
#endif

/*
 * Entries are about to move to where no page table may be. Then it is a whole
 * PMD that they move to, so none of a neighbour's comes there.
 */
static void install_spare(struct relocation *r, pmd_t *new_pmd)
{
	struct mremap_relocate_request *req = r->req;
	pgtable_t *spare;

	if (!pmd_none(pmdp_get_lockless(new_pmd)) ||
	    WARN_ON_ONCE(!req->nr_spares))
		return;
	spare = &req->spares[req->nr_spares - 1];
	pmd_install(r->mm, new_pmd, spare);
	if (!WARN_ON_ONCE(*spare))
		req->nr_spares--;
}

/*
 * Did alloc_new_tables() find entries of ours at the old address? It has made a
 * page table for them then, or there is a spare. If not, the old PMD has been
 * populated since, for a neighbour that it is shared with, and we have nothing
 * there to move.
 */
static bool has_new_table(pmd_t *new_pmd, unsigned long extent)
{
	const bool whole = extent == PMD_SIZE;

	if (WARN_ON_ONCE(whole && !new_pmd) || !new_pmd)
		return false;
	return whole || !pmd_none(pmdp_get_lockless(new_pmd));
}

/* Moves what is behind one PMD, or skips a hole. */
static void move_pmd(struct relocation *r)
{
	pmd_t *new_pmd = mm_find_pmd(r->mm, r->new_addr);
	pmd_t *old_pmd, pmdval;
	unsigned long extent;

	old_pmd = next_populated_pmd(r->mm, r->old_addr, r->new_addr,
				     r->pmc->old_end, &pmdval, &extent);
	if (old_pmd && pmd_is_huge(pmdval)) {
		if (move_huge(r, old_pmd, new_pmd))
			return;
		/* It was split or, after MADV_FREE, discarded. */
		old_pmd = find_populated_pmd(r->mm, r->old_addr, &pmdval);
	}
	if (!old_pmd || !has_new_table(new_pmd, extent)) {
		skip(r, extent);
		return;
	}
	install_spare(r, new_pmd);
	move_table(r, old_pmd, new_pmd, extent);
}

static void move_pmds(struct relocation *r)
{
	while (r->old_addr < r->pmc->old_end) {
		move_pmd(r);
		cond_resched();
	}
	release_folio(r);
}

/**
 * mremap_relocate_page_tables - Move page tables, and relocate the folios
 * @req: What mremap_relocate_prepare() said true of. Its spares are used or freed.
 * @pmc: The same. copy_vma() has made or enlarged pmc->new, with the page offset
 *	 that mremap_relocate_prepare() gave, and pmc->old is what is the source
 *	 since then. They may be one VMA.
 *
 * Context: As for mremap_relocate_prepare(), whose locks are still held.
 * Return: The length of the range, or 0 if there was no memory for page tables.
 *	   Then nothing was moved.
 */
unsigned long mremap_relocate_page_tables(struct mremap_relocate_request *req,
					  struct pagetable_move_control *pmc)
{
	struct relocation r = {
		.pmc = pmc,
		.mm = pmc->old->vm_mm,
		.old_addr = pmc->old_addr,
		.new_addr = pmc->new_addr,
		.req = req,
	};
	const pgoff_t pgoff = linear_page_index(pmc->new, pmc->new_addr);
	struct mmu_notifier_range range;

	vma_assert_write_locked(pmc->old);
	vma_assert_write_locked(pmc->new);
	VM_WARN_ON_ONCE_VMA(!pmc->new->anon_vma, pmc->new);

	req->move.vma = pmc->old;
	if (!alloc_new_tables(&r)) {
		mremap_relocate_free_spares(req);
		report_result(&req->move, pgoff, MREMAP_RELOCATE_NOMEM, 0);
		return 0;
	}

	flush_cache_range(pmc->old, pmc->old_addr, pmc->old_end);
	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, r.mm, pmc->old_addr,
				pmc->old_end);
	mmu_notifier_invalidate_range_start(&range);
	move_pmds(&r);
	mmu_notifier_invalidate_range_end(&range);
	mremap_relocate_free_spares(req);

	report_result(&req->move, pgoff, MREMAP_RELOCATE_DONE, r.pages);
	return pmc->len_in;
}

#ifdef CONFIG_SYSFS
static const char * const relocate_modes[] = {
	[RELOCATE_NEVER]	= "never",
	[RELOCATE_MERGE]	= "merge",
	[RELOCATE_ALWAYS]	= "always",
};

static void set_relocate_mode(enum relocate_mode mode)
{
	static DEFINE_MUTEX(lock);

	guard(mutex)(&lock);
	WRITE_ONCE(relocate_mode, mode);
	if (mode == RELOCATE_NEVER)
		static_branch_disable(&mremap_relocate_key);
	else
		static_branch_enable(&mremap_relocate_key);
}

static ssize_t relocate_anon_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	const enum relocate_mode mode = READ_ONCE(relocate_mode);
	ssize_t len = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(relocate_modes); i++)
		len += sysfs_emit_at(buf, len, i == mode ? "%s[%s]" : "%s%s",
				     i ? " " : "", relocate_modes[i]);
	return len + sysfs_emit_at(buf, len, "\n");
}

static ssize_t relocate_anon_store(struct kobject *kobj,
				   struct kobj_attribute *attr,
				   const char *buf, size_t count)
{
	int mode = sysfs_match_string(relocate_modes, buf);

	if (mode < 0)
		return mode;
	set_relocate_mode(mode);
	return count;
}

static ssize_t relocate_max_kb_show(struct kobject *kobj,
				    struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(relocate_max_kb));
}

static ssize_t relocate_max_kb_store(struct kobject *kobj,
				     struct kobj_attribute *attr,
				     const char *buf, size_t count)
{
	unsigned long max_kb;
	int err;

	err = kstrtoul(buf, 0, &max_kb);
	if (err)
		return err;
	WRITE_ONCE(relocate_max_kb, max_kb);
	return count;
}

static struct kobj_attribute relocate_anon_attr = __ATTR_RW(relocate_anon);
static struct kobj_attribute relocate_max_kb_attr = __ATTR_RW(relocate_max_kb);

static struct attribute *mremap_attrs[] = {
	&relocate_anon_attr.attr,
	&relocate_max_kb_attr.attr,
	NULL
};

static const struct attribute_group mremap_attr_group = {
	.attrs = mremap_attrs,
};

static ssize_t show_stat(char *buf, unsigned int stat)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(relocate_stats, cpu)[stat];
	return sysfs_emit(buf, "%lu\n", sum);
}

#define RELOCATE_STAT(stat, name)					\
static ssize_t name##_show(struct kobject *kobj,			\
			   struct kobj_attribute *attr, char *buf)	\
{									\
	return show_stat(buf, stat);					\
}									\
static struct kobj_attribute name##_attr = __ATTR_RO(name)

RELOCATE_STAT(MREMAP_RELOCATE_DONE, relocated);
RELOCATE_STAT(MREMAP_RELOCATE_NO_GAIN, no_gain);
RELOCATE_STAT(MREMAP_RELOCATE_DONTUNMAP, refused_dontunmap);
RELOCATE_STAT(MREMAP_RELOCATE_SIZE, refused_size);
RELOCATE_STAT(MREMAP_RELOCATE_VMA, refused_vma);
RELOCATE_STAT(MREMAP_RELOCATE_UFFD, refused_uffd);
RELOCATE_STAT(MREMAP_RELOCATE_SHARED, refused_shared);
RELOCATE_STAT(MREMAP_RELOCATE_KSM, refused_ksm);
RELOCATE_STAT(MREMAP_RELOCATE_LARGE, refused_large);
RELOCATE_STAT(MREMAP_RELOCATE_HUGE, refused_huge);
RELOCATE_STAT(MREMAP_RELOCATE_DEVICE, refused_device);
RELOCATE_STAT(MREMAP_RELOCATE_UNKNOWN, refused_unknown);
RELOCATE_STAT(MREMAP_RELOCATE_NO_SPARES, refused_nomem);
RELOCATE_STAT(MREMAP_RELOCATE_NOMEM, failed_nomem);
RELOCATE_STAT(RELOCATE_PAGES, relocated_pages);
RELOCATE_STAT(RELOCATE_WAITS, waited);

static struct attribute *relocate_stat_attrs[] = {
	&relocated_attr.attr,
	&no_gain_attr.attr,
	&refused_dontunmap_attr.attr,
	&refused_size_attr.attr,
	&refused_vma_attr.attr,
	&refused_uffd_attr.attr,
	&refused_shared_attr.attr,
	&refused_ksm_attr.attr,
	&refused_large_attr.attr,
	&refused_huge_attr.attr,
	&refused_device_attr.attr,
	&refused_unknown_attr.attr,
	&refused_nomem_attr.attr,
	&failed_nomem_attr.attr,
	&relocated_pages_attr.attr,
	&waited_attr.attr,
	NULL
};

static const struct attribute_group relocate_stat_group = {
	.name = "stats",
	.attrs = relocate_stat_attrs,
};

static const struct attribute_group *mremap_attr_groups[] = {
	&mremap_attr_group,
	&relocate_stat_group,
	NULL
};

static int __init mremap_relocate_init(void)
{
	struct kobject *kobj = kobject_create_and_add("mremap", mm_kobj);
	int err;

	if (!kobj)
		return -ENOMEM;
	err = sysfs_create_groups(kobj, mremap_attr_groups);
	if (err)
		kobject_put(kobj);
	return err;
}
subsys_initcall(mremap_relocate_init);
#endif /* CONFIG_SYSFS */

#ifdef CONFIG_MREMAP_RELOCATE_KUNIT_TEST
#include "tests/mremap_relocate_kunit.c"
#endif
