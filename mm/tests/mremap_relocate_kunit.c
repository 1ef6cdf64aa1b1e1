// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the survey that says whether a range can be relocated: what each
 * kind of page table entry is taken for, and which large folios are complete.
 *
 * Included by mm/mremap_relocate.c, whose static functions they call. Swap entries
 * that are exclusive are not made up here: the survey looks into the swap cache of
 * the device, and there is none. The kselftests have them.
 */
#include <kunit/test.h>
#include <linux/gfp.h>

/* The folios are as big as this, so that all orders up to it can be had. */
#define TEST_ORDER	2
#define TEST_NR		BIT(TEST_ORDER)

/* Any aligned address will do for an anon_vma: nobody looks at it. */
#define TEST_ANON_VMA	0x1000UL

#define TEST_ADDR	(16 * PMD_SIZE)

static void test_free_folio(void *data)
{
	struct folio *folio = data;
	int i;

	for (i = 0; i < folio_nr_pages(folio); i++)
		if (folio_test_anon(folio) && !folio_test_ksm(folio))
			ClearPageAnonExclusive(folio_page(folio, i));
	folio->mapping = NULL;
	folio_unlock(folio);
	folio_put(folio);
}

/* A folio, locked, anonymous, and exclusive in each of its pages. */
static struct folio *test_alloc_folio(struct kunit *test, unsigned int order)
{
	struct folio *folio = folio_alloc(GFP_KERNEL, order);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, folio);
	folio_lock(folio);
	folio->mapping = (void *)(TEST_ANON_VMA | FOLIO_MAPPING_ANON);
	for (i = 0; i < folio_nr_pages(folio); i++)
		SetPageAnonExclusive(folio_page(folio, i));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, test_free_folio, folio));
	return folio;
}

static pte_t test_mk_pte(struct folio *folio, unsigned long idx)
{
	return mk_pte(folio_page(folio, idx), vm_get_page_prot(VM_READ | VM_WRITE));
}

static struct survey *test_survey(struct kunit *test)
{
	struct vm_area_struct *vma;
	struct survey *s;

	vma = kunit_kzalloc(test, sizeof(*vma), GFP_KERNEL);
	s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vma);
	KUNIT_ASSERT_NOT_NULL(test, s);
	vma->vm_start = TEST_ADDR;
	vma->vm_end = TEST_ADDR + PMD_SIZE;
	s->vma = vma;
	return s;
}

enum test_kind {
	TEST_NONE,
	TEST_ZERO_PAGE,
	TEST_PAGE,
	TEST_PAGE_SHARED,
	TEST_PAGE_KSM,
	TEST_PAGE_FILE,
	TEST_SWAP_SHARED,
	TEST_MIGRATION_READ,
	TEST_MIGRATION_READ_EXCLUSIVE,
	TEST_MIGRATION_WRITE,
	TEST_GUARD,
	TEST_POISON,
	TEST_HWPOISON,
	TEST_DEVICE_PRIVATE,
	TEST_DEVICE_EXCLUSIVE,
};

static softleaf_t test_mk_softleaf(enum test_kind kind, struct folio *folio)
{
	switch (kind) {
	case TEST_SWAP_SHARED:
		return swp_entry(0, 1);
	case TEST_MIGRATION_READ:
		return make_readable_migration_entry(folio_pfn(folio));
	case TEST_MIGRATION_READ_EXCLUSIVE:
		return make_readable_exclusive_migration_entry(folio_pfn(folio));
	case TEST_MIGRATION_WRITE:
		return make_writable_migration_entry(folio_pfn(folio));
	case TEST_GUARD:
		return make_guard_swp_entry();
	case TEST_POISON:
		return make_poisoned_swp_entry();
	case TEST_HWPOISON:
		return make_hwpoison_entry(&folio->page);
	case TEST_DEVICE_PRIVATE:
		return make_writable_device_private_entry(folio_pfn(folio));
	case TEST_DEVICE_EXCLUSIVE:
		return make_device_exclusive_entry(folio_pfn(folio));
	default:
		return softleaf_mk_none();
	}
}

/* What an empty entry is made of differs: s390 has a bit set in it. */
static pte_t test_mk_none(void)
{
	pte_t pte = __pte(0);

	pte_clear(&init_mm, TEST_ADDR, &pte);
	return pte;
}

static pte_t test_mk_entry(enum test_kind kind, struct folio *folio)
{
	switch (kind) {
	case TEST_NONE:
		return test_mk_none();
	case TEST_ZERO_PAGE:
		return pte_mkspecial(pfn_pte(zero_pfn(TEST_ADDR),
					     vm_get_page_prot(VM_READ)));
	case TEST_PAGE_SHARED:
		ClearPageAnonExclusive(&folio->page);
		return test_mk_pte(folio, 0);
	case TEST_PAGE_KSM:
		ClearPageAnonExclusive(&folio->page);
		folio->mapping = (void *)(TEST_ANON_VMA | FOLIO_MAPPING_KSM);
		return test_mk_pte(folio, 0);
	case TEST_PAGE_FILE:
		ClearPageAnonExclusive(&folio->page);
		folio->mapping = NULL;
		return test_mk_pte(folio, 0);
	case TEST_PAGE:
		return test_mk_pte(folio, 0);
	default:
		return softleaf_to_pte(test_mk_softleaf(kind, folio));
	}
}

/* What to do for entries that only a kernel with CONFIG_@option has, or NULL. */
#define NEEDS(option) \
	(IS_ENABLED(CONFIG_##option) ? NULL : "build the kernel with CONFIG_" #option)

struct entry_case {
	const char *name;
	enum test_kind kind;
	enum mremap_relocate_result expected;
	const char *needs;	/* what this kernel lacks to have such entries */
};

static const struct entry_case entry_cases[] = {
	{ "none", TEST_NONE, MREMAP_RELOCATE_DONE },
	{ "zero page", TEST_ZERO_PAGE, MREMAP_RELOCATE_DONE,
	  NEEDS(ARCH_HAS_PTE_SPECIAL) },
	{ "exclusive page", TEST_PAGE, MREMAP_RELOCATE_DONE },
	{ "page shared by fork", TEST_PAGE_SHARED, MREMAP_RELOCATE_SHARED },
	{ "KSM page", TEST_PAGE_KSM, MREMAP_RELOCATE_KSM,
	  NEEDS(KSM) },
	{ "page of a file", TEST_PAGE_FILE, MREMAP_RELOCATE_UNKNOWN },
	{ "swapped page, not exclusive", TEST_SWAP_SHARED,
	  MREMAP_RELOCATE_SHARED },
	{ "migrating page, not exclusive", TEST_MIGRATION_READ,
	  MREMAP_RELOCATE_SHARED, NEEDS(MIGRATION) },
	{ "migrating page, exclusive", TEST_MIGRATION_READ_EXCLUSIVE,
	  MREMAP_RELOCATE_DONE, NEEDS(MIGRATION) },
	{ "migrating page, writable", TEST_MIGRATION_WRITE,
	  MREMAP_RELOCATE_DONE, NEEDS(MIGRATION) },
	{ "guard marker", TEST_GUARD, MREMAP_RELOCATE_DONE },
	{ "poison marker", TEST_POISON, MREMAP_RELOCATE_DONE },
	{ "hardware poison", TEST_HWPOISON, MREMAP_RELOCATE_DONE,
	  NEEDS(MEMORY_FAILURE) },
	{ "device-private page", TEST_DEVICE_PRIVATE, MREMAP_RELOCATE_DEVICE,
	  NEEDS(DEVICE_PRIVATE) },
	{ "device-exclusive page", TEST_DEVICE_EXCLUSIVE, MREMAP_RELOCATE_DEVICE,
	  NEEDS(DEVICE_PRIVATE) },
};

KUNIT_ARRAY_PARAM_DESC(entry, entry_cases, name);

/* Each kind of entry is taken for what it is. */
static void mremap_relocate_entry(struct kunit *test)
{
	const struct entry_case *c = test->param_value;
	struct survey *s = test_survey(test);
	struct folio *folio;

	if (c->needs)
		kunit_skip(test, "%s", c->needs);

	folio = test_alloc_folio(test, 0);
	KUNIT_EXPECT_EQ(test, c->expected,
			survey_pte(s, TEST_ADDR, test_mk_entry(c->kind, folio)));
}

/* Nothing but the next page of a large folio may follow a page of it. */
static void mremap_relocate_entry_interleaved(struct kunit *test)
{
	const struct entry_case *c = test->param_value;
	struct folio *large = test_alloc_folio(test, TEST_ORDER);
	struct survey *s = test_survey(test);
	struct folio *folio;

	if (c->needs)
		kunit_skip(test, "%s", c->needs);

	folio = test_alloc_folio(test, 0);
	KUNIT_ASSERT_EQ(test, MREMAP_RELOCATE_DONE,
			survey_pte(s, TEST_ADDR, test_mk_pte(large, 0)));
	KUNIT_EXPECT_NE(test, MREMAP_RELOCATE_DONE,
			survey_pte(s, TEST_ADDR, test_mk_entry(c->kind, folio)));
}

struct large_case {
	const char *name;
	int pages[2 * TEST_NR + 1];	/* of two large folios; -1 ends them */
	bool complete;
};

static const struct large_case large_cases[] = {
	{ "whole", { 0, 1, 2, 3, -1 }, true },
	{ "two of them", { 0, 1, 2, 3, 4, 5, 6, 7, -1 }, true },
	{ "the second first", { 4, 5, 6, 7, 0, 1, 2, 3, -1 }, true },
	{ "without its head", { 1, 2, 3, -1 }, false },
	{ "without its tail", { 0, 1, 2, -1 }, false },
	{ "with a gap", { 0, 2, 3, -1 }, false },
	{ "backwards", { 3, 2, 1, 0, -1 }, false },
	{ "exchanged", { 0, 2, 1, 3, -1 }, false },
	{ "a page twice", { 0, 1, 1, 3, -1 }, false },
	{ "with a page of another", { 0, 1, 6, 3, -1 }, false },
	{ "without its tail, then another", { 0, 1, 2, 4, 5, 6, 7, -1 }, false },
	{ "then a tail", { 0, 1, 2, 3, 5, 6, 7, -1 }, false },
};

KUNIT_ARRAY_PARAM_DESC(large, large_cases, name);

/* A large folio is complete if its pages follow one another, from first to last. */
static void mremap_relocate_large(struct kunit *test)
{
	enum mremap_relocate_result result = MREMAP_RELOCATE_DONE;
	const struct large_case *c = test->param_value;
	struct survey *s = test_survey(test);
	struct folio *folios[2];
	int i;

	for (i = 0; i < 2; i++)
		folios[i] = test_alloc_folio(test, TEST_ORDER);

	for (i = 0; c->pages[i] >= 0 && !result; i++)
		result = survey_pte(s, TEST_ADDR,
				    test_mk_pte(folios[c->pages[i] / TEST_NR],
						c->pages[i] % TEST_NR));
	KUNIT_EXPECT_EQ(test, c->complete, !result && !in_large_folio(s));
}

/* A large folio is shared if one of its pages is, be it the last. */
static void mremap_relocate_large_shared(struct kunit *test)
{
	struct folio *folio = test_alloc_folio(test, TEST_ORDER);
	enum mremap_relocate_result result;
	struct survey *s = test_survey(test);
	int i;

	ClearPageAnonExclusive(folio_page(folio, TEST_NR - 1));
	for (i = 0; i < TEST_NR; i++) {
		result = survey_pte(s, TEST_ADDR, test_mk_pte(folio, i));
		KUNIT_EXPECT_EQ(test, result, i < TEST_NR - 1 ?
				MREMAP_RELOCATE_DONE : MREMAP_RELOCATE_SHARED);
	}
}

/* What leaves a device may have to remain there, and has its place then. */
static void mremap_relocate_device_migrating(struct kunit *test)
{
#if defined(CONFIG_MIGRATION) && defined(CONFIG_ZONE_DEVICE)
	struct folio *folio = test_alloc_folio(test, 0);
	const enum zone_type zone = folio_zonenum(folio);
	struct survey *s = test_survey(test);
	enum mremap_relocate_result result;

	set_page_zone(&folio->page, ZONE_DEVICE);
	result = survey_pte(s, TEST_ADDR,
			    test_mk_entry(TEST_MIGRATION_WRITE, folio));
	set_page_zone(&folio->page, zone);
	KUNIT_EXPECT_EQ(test, result, MREMAP_RELOCATE_DEVICE);
#else
	kunit_skip(test, "build the kernel with CONFIG_MIGRATION and CONFIG_ZONE_DEVICE");
#endif
}

/*
 * A PMD that a neighbour has populated since the page tables were allocated. It is
 * shared, so that the range has a part of it only.
 */
static void mremap_relocate_neighbours_table(struct kunit *test)
{
	pmd_t none[2];		/* arm without LPAE has them in pairs */

	pmd_clear(none);
	KUNIT_EXPECT_FALSE(test, has_new_table(NULL, PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, has_new_table(none, PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, has_new_table(none, PMD_SIZE - PAGE_SIZE));
	/* A whole one has a spare. */
	KUNIT_EXPECT_TRUE(test, has_new_table(none, PMD_SIZE));
}

/* A page of a large folio in migration is not relocated. */
static void mremap_relocate_large_migrating(struct kunit *test)
{
	struct folio *folio = test_alloc_folio(test, TEST_ORDER);
	struct survey *s = test_survey(test);

	if (NEEDS(MIGRATION))
		kunit_skip(test, "%s", NEEDS(MIGRATION));

	KUNIT_EXPECT_EQ(test, MREMAP_RELOCATE_LARGE,
			survey_pte(s, TEST_ADDR,
				   test_mk_entry(TEST_MIGRATION_WRITE, folio)));
}

/* A folio that is being split may become a large one that is not ours alone. */
static void mremap_relocate_splitting(struct kunit *test)
{
	struct folio *folio = test_alloc_folio(test, 0);
	struct survey *s = test_survey(test);
	enum mremap_relocate_result result;

	if (NEEDS(MIGRATION))
		kunit_skip(test, "%s", NEEDS(MIGRATION));

	KUNIT_ASSERT_TRUE(test, folio_ref_freeze(folio, 1));
	result = survey_pte(s, TEST_ADDR,
			    test_mk_entry(TEST_MIGRATION_WRITE, folio));
	folio_ref_unfreeze(folio, 1);
	KUNIT_EXPECT_EQ(test, result, MREMAP_RELOCATE_LARGE);
}

/* The place of a folio is told from any of its pages. */
static void mremap_relocate_page_idx(struct kunit *test)
{
	struct folio *folio = test_alloc_folio(test, TEST_ORDER);
	int i;

	for (i = 0; i < TEST_NR; i++)
		KUNIT_EXPECT_EQ(test, i,
				entry_page_idx(folio, test_mk_pte(folio, i)));
}

struct vma_case {
	const char *name;
	vm_flags_t vm_flags;
	enum mremap_relocate_result expected;
};

static const struct vma_case vma_cases[] = {
	{ "plain", VM_READ | VM_WRITE, MREMAP_RELOCATE_DONE },
	{ "locked", VM_READ | VM_LOCKED, MREMAP_RELOCATE_DONE },
	{ "mergeable", VM_READ | VM_MERGEABLE, MREMAP_RELOCATE_DONE },
	{ "shared", VM_READ | VM_SHARED | VM_MAYSHARE, MREMAP_RELOCATE_VMA },
	{ "pfnmap", VM_READ | VM_PFNMAP, MREMAP_RELOCATE_VMA },
	{ "mixedmap", VM_READ | VM_MIXEDMAP, MREMAP_RELOCATE_VMA },
	{ "io", VM_READ | VM_IO, MREMAP_RELOCATE_VMA },
	{ "stack", VM_READ | VM_STACK, MREMAP_RELOCATE_VMA },
#ifdef CONFIG_HUGETLB_PAGE
	{ "hugetlb", VM_READ | VM_HUGETLB, MREMAP_RELOCATE_VMA },
#endif
#ifdef CONFIG_USERFAULTFD
	{ "userfaultfd missing", VM_READ | VM_UFFD_MISSING, MREMAP_RELOCATE_UFFD },
	{ "userfaultfd wp", VM_READ | VM_UFFD_WP, MREMAP_RELOCATE_UFFD },
#endif
};

KUNIT_ARRAY_PARAM_DESC(vma, vma_cases, name);

/* Memory that is not plain is refused before a page table is looked at. */
static void mremap_relocate_vma(struct kunit *test)
{
	const struct vma_case *c = test->param_value;
	struct survey *s = test_survey(test);

	vm_flags_init(s->vma, c->vm_flags);
	KUNIT_EXPECT_EQ(test, c->expected, survey_vma(s->vma));
}

/*
 * An address or a length, in page tables and pages: PMD_SIZE is no constant
 * where the MMU is chosen at boot, as on 64-bit powerpc.
 */
struct test_span {
	long tables, pages;
};

static unsigned long test_bytes(struct test_span span)
{
	return span.tables * PMD_SIZE + span.pages * PAGE_SIZE;
}

/* A stretch ends with the table it begins in, also if its level is folded. */
static void mremap_relocate_within(struct kunit *test)
{
	const unsigned long sizes[] = { PMD_SIZE, PUD_SIZE, P4D_SIZE, PGDIR_SIZE };
	unsigned long size, end;
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		size = sizes[i];
		end = 2 * size + PAGE_SIZE;
		KUNIT_EXPECT_EQ(test, size, bytes_within(size, end, size));
		KUNIT_EXPECT_EQ(test, PAGE_SIZE,
				bytes_within(end - 2 * PAGE_SIZE, end, size));
		KUNIT_EXPECT_EQ(test, PAGE_SIZE,
				bytes_within(size, size + PAGE_SIZE, size));
		KUNIT_EXPECT_EQ(test, size - PAGE_SIZE,
				bytes_within(-size, -PAGE_SIZE, size));
	}
}

struct extent_case {
	const char *name;
	struct test_span old_addr, new_addr, len, expected;
};

static const struct extent_case extent_cases[] = {
	{ "both aligned", { 1 }, { 5 }, { 2 }, { 1 } },
	{ "old table ends first", { 2, -1 }, { 5 }, { 1 }, { 0, 1 } },
	{ "new table ends first", { 1 }, { 6, -3 }, { 1 }, { 0, 3 } },
	{ "range ends first", { 1 }, { 5 }, { 0, 1 }, { 0, 1 } },
};

KUNIT_ARRAY_PARAM_DESC(extent, extent_cases, name);

/* What is moved under one pair of locks lies in one page table at both ends. */
static void mremap_relocate_extent(struct kunit *test)
{
	const struct extent_case *c = test->param_value;
	unsigned long old_addr = test_bytes(c->old_addr);

	KUNIT_EXPECT_EQ(test, test_bytes(c->expected),
			table_extent(old_addr, test_bytes(c->new_addr),
				     old_addr + test_bytes(c->len)));
}

static struct kunit_case mremap_relocate_test_cases[] = {
	KUNIT_CASE_PARAM(mremap_relocate_entry, entry_gen_params),
	KUNIT_CASE_PARAM(mremap_relocate_entry_interleaved, entry_gen_params),
	KUNIT_CASE_PARAM(mremap_relocate_large, large_gen_params),
	KUNIT_CASE(mremap_relocate_large_shared),
	KUNIT_CASE(mremap_relocate_large_migrating),
	KUNIT_CASE(mremap_relocate_splitting),
	KUNIT_CASE(mremap_relocate_device_migrating),
	KUNIT_CASE(mremap_relocate_neighbours_table),
	KUNIT_CASE(mremap_relocate_page_idx),
	KUNIT_CASE_PARAM(mremap_relocate_vma, vma_gen_params),
	KUNIT_CASE(mremap_relocate_within),
	KUNIT_CASE_PARAM(mremap_relocate_extent, extent_gen_params),
	{}
};

static struct kunit_suite mremap_relocate_test_suite = {
	.name = "mremap_relocate",
	.test_cases = mremap_relocate_test_cases,
};

kunit_test_suite(mremap_relocate_test_suite);
