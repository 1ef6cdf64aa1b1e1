// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for how mremap() divides the page tables it moves: a range into
 * extents, each inside one page table at both ends of the move, and an extent
 * into batches of PTEs.
 *
 * Included by mm/mremap.c, whose static functions they call.
 */
#include <kunit/test.h>

#ifdef CONFIG_ARM64_CONTPTE
/* The architecture keeps blocks of this many PTEs, and says so by its hint. */
#define TEST_BLOCK	CONT_PTES
#define test_mkblock(pte)	pte_mkcont(pte)
#else
#define TEST_BLOCK	1
#define test_mkblock(pte)	(pte)
#endif

/* Blocks of PTEs in the order in which they stand in the table. */
enum test_layout {
	TEST_PLAIN,	/* TEST_BLOCK PTEs that are no block. */
	TEST_FOLDED,	/* One block. */
	TEST_NR_LAYOUTS,
};

/*
 * A page frame that no memory and hence no folio stands behind: whoever looks
 * for one comes to grief.
 */
static unsigned long test_pfn(void)
{
	return round_up(highest_memmap_pfn + 1, PTRS_PER_PTE);
}

static void test_fill(pte_t *ptep, enum test_layout layout)
{
	pgprot_t prot = vm_get_page_prot(VM_READ | VM_WRITE);
	int i;

	for (i = 0; i < TEST_BLOCK; i++) {
		pte_t pte = pfn_pte(test_pfn() + i, prot);

		ptep[i] = layout == TEST_FOLDED ? test_mkblock(pte) : pte;
	}
}

/* A page table that alternates between plain PTEs and blocks of them. */
static pte_t *test_alloc_table(struct kunit *test)
{
	pte_t *table = kunit_kcalloc(test, PTRS_PER_PTE, sizeof(pte_t), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, table);
	for (i = 0; i + TEST_BLOCK <= PTRS_PER_PTE; i += TEST_BLOCK)
		test_fill(table + i, i / TEST_BLOCK % TEST_NR_LAYOUTS);

	return table;
}

static unsigned int test_batch(pte_t *ptep, unsigned int max_nr)
{
	return mremap_pte_batch(ptep, ptep_get(ptep), max_nr);
}

struct batch_case {
	const char *name;
	enum test_layout layout;
	unsigned int offset;	/* Of the first PTE in its block. */
	unsigned int max_nr;
	unsigned int expected;
};

static const struct batch_case batch_cases[] = {
	{ "plain, one PTE left", TEST_PLAIN, 0, 1, 1 },
	{ "plain, range goes on", TEST_PLAIN, 0, 2 * TEST_BLOCK, 1 },
	{ "block, one PTE left", TEST_FOLDED, 0, 1, 1 },
	{ "block, range ends with it", TEST_FOLDED, 0, TEST_BLOCK, TEST_BLOCK },
	{ "block, range goes on", TEST_FOLDED, 0, 2 * TEST_BLOCK, TEST_BLOCK },
#ifdef CONFIG_ARM64_CONTPTE
	{ "block, range ends in it", TEST_FOLDED, 0, TEST_BLOCK - 1, TEST_BLOCK - 1 },
	{ "second PTE, range goes on", TEST_FOLDED, 1, TEST_BLOCK, TEST_BLOCK - 1 },
	{ "second PTE, range ends in block", TEST_FOLDED, 1, 2, 2 },
	{ "last PTE, one left", TEST_FOLDED, TEST_BLOCK - 1, 1, 1 },
	{ "last PTE, range goes on", TEST_FOLDED, TEST_BLOCK - 1, PTRS_PER_PTE, 1 },
#endif
};

KUNIT_ARRAY_PARAM_DESC(batch, batch_cases, name);

/* A batch ends with the block or with the range, whichever comes first. */
static void mremap_batch_is_bounded(struct kunit *test)
{
	const struct batch_case *c = test->param_value;
	pte_t *table = test_alloc_table(test);

	test_fill(table, c->layout);
	KUNIT_EXPECT_EQ(test, test_batch(table + c->offset, c->max_nr), c->expected);
}

/* From each PTE of a block, and for each length, a batch is the lesser of both. */
static void mremap_batch_every_offset(struct kunit *test)
{
	pte_t *table = test_alloc_table(test);
	unsigned int offset, max_nr;

	test_fill(table, TEST_FOLDED);
	for (offset = 0; offset < TEST_BLOCK; offset++) {
		for (max_nr = 1; max_nr <= 2 * TEST_BLOCK; max_nr++) {
			KUNIT_EXPECT_EQ_MSG(test, test_batch(table + offset, max_nr),
					    min(TEST_BLOCK - offset, max_nr),
					    "offset %u of %u, %u left",
					    offset, TEST_BLOCK, max_nr);
		}
	}
}

/*
 * The batches of a walk tile its range: none is empty, none reaches into
 * another block, the last one ends where the range does and not a PTE later,
 * be that the end of the table.
 */
static void test_walk(struct kunit *test, pte_t *table, unsigned int first,
		      unsigned int end)
{
	unsigned int i, nr;

	for (i = first; i < end; i += nr) {
		nr = test_batch(table + i, end - i);
		KUNIT_ASSERT_GE(test, nr, 1u);
		KUNIT_ASSERT_LE_MSG(test, i + nr, end, "[%u, %u)", first, end);
		KUNIT_ASSERT_EQ_MSG(test, i / TEST_BLOCK, (i + nr - 1) / TEST_BLOCK,
				    "[%u, %u) at %u", first, end, i);
	}
}

static void mremap_batch_tiles_range(struct kunit *test)
{
	const unsigned int span = 3 * TEST_BLOCK;
	pte_t *table = test_alloc_table(test);
	unsigned int first, end;

	for (first = PTRS_PER_PTE - span; first < PTRS_PER_PTE; first++)
		for (end = first + 1; end <= PTRS_PER_PTE; end++)
			test_walk(test, table, first, end);
}

/* A PTE that hardware does not see is present, but it is in no block. */
static void mremap_batch_protnone(struct kunit *test)
{
	pte_t *table = test_alloc_table(test);
	pgprot_t none = vm_get_page_prot(VM_NONE);
	int i;

	for (i = 0; i < TEST_BLOCK; i++)
		table[i] = test_mkblock(pfn_pte(test_pfn() + i, none));
	if (!pte_present(table[0]))
		kunit_skip(test, "PROT_NONE is not present on this architecture");
	KUNIT_EXPECT_EQ(test, test_batch(table, TEST_BLOCK), 1u);
}

/*
 * An address or a length, in page tables and pages: PMD_SIZE is no constant
 * where the MMU is chosen at boot, as on 64-bit powerpc.
 */
struct test_span {
	long tables;
	long pages;
};

static unsigned long test_bytes(struct test_span span)
{
	return span.tables * PMD_SIZE + span.pages * PAGE_SIZE;
}

struct extent_case {
	const char *name;
	struct test_span old_addr;
	struct test_span new_addr;
	struct test_span len;
	struct test_span expected;
};

static const struct extent_case extent_cases[] = {
	{ "whole table", { 4 }, { 64 }, { 1 }, { 1 } },
	{ "range goes on", { 4 }, { 64 }, { 3 }, { 1 } },
	{ "range ends first", { 4 }, { 64 }, { 0, 1 }, { 0, 1 } },
	{ "range ends a page before the table",
	  { 4 }, { 64 }, { 1, -1 }, { 1, -1 } },
	{ "old table ends first", { 5, -1 }, { 64 }, { 1 }, { 0, 1 } },
	{ "new table ends first", { 4 }, { 65, -1 }, { 1 }, { 0, 1 } },
	{ "both end, the old one first", { 4, 3 }, { 64, 1 }, { 2 }, { 1, -3 } },
	{ "both end, the new one first", { 4, 1 }, { 64, 3 }, { 2 }, { 1, -3 } },
	{ "both end with the range", { 4, 1 }, { 64, 1 }, { 1, -1 }, { 1, -1 } },
	{ "last table of the address space", { -1 }, { 64 }, { 1 }, { 1 } },
	{ "range ends before both", { 4, 1 }, { 64, 2 }, { 0, 1 }, { 0, 1 } },
};

KUNIT_ARRAY_PARAM_DESC(extent, extent_cases, name);

/*
 * An extent ends with the range, with the old page table or with the new one,
 * whichever comes first. A batch that is bounded by the extent hence stays in
 * both page tables.
 */
static void mremap_batch_extent(struct kunit *test)
{
	const struct extent_case *c = test->param_value;
	struct pagetable_move_control pmc = {
		.old_addr = test_bytes(c->old_addr),
		.old_end = test_bytes(c->old_addr) + test_bytes(c->len),
		.new_addr = test_bytes(c->new_addr),
		.len_in = test_bytes(c->len),
	};

	KUNIT_EXPECT_EQ(test, get_extent(NORMAL_PMD, &pmc), test_bytes(c->expected));
}

static struct kunit_case mremap_batch_test_cases[] = {
	KUNIT_CASE_PARAM(mremap_batch_is_bounded, batch_gen_params),
	KUNIT_CASE(mremap_batch_every_offset),
	KUNIT_CASE(mremap_batch_tiles_range),
	KUNIT_CASE(mremap_batch_protnone),
	KUNIT_CASE_PARAM(mremap_batch_extent, extent_gen_params),
	{}
};

static struct kunit_suite mremap_batch_test_suite = {
	.name = "mremap_batch",
	.test_cases = mremap_batch_test_cases,
};

kunit_test_suite(mremap_batch_test_suite);
