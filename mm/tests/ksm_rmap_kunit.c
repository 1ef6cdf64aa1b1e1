// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for how KSM finds the mappings of a page that it merged: the page
 * offset that an rmap_item remembers, what that shares memory with, and which
 * VMAs are visited for it.
 *
 * Included by mm/ksm.c, whose static functions they call. Nothing here is known
 * to the rest of the kernel: VMAs are in no mm, the folio is in no memory.
 */
#include <kunit/test.h>

#define TEST_ADDR	(16UL << PAGE_SHIFT)	/* of the first VMA */
#define TEST_PAGES	64UL			/* in all VMAs together */
#define TEST_LEN	(TEST_PAGES << PAGE_SHIFT)

#define page_addr(nr)	(TEST_ADDR + ((nr) << PAGE_SHIFT))

static struct vm_area_struct *test_vma(struct kunit *test, unsigned long start,
				       unsigned long end, pgoff_t pgoff)
{
	struct vm_area_struct *vma;

	vma = kunit_kzalloc(test, sizeof(*vma), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vma);
	INIT_LIST_HEAD(&vma->anon_vma_chain);
	vm_flags_init(vma, VM_MERGEABLE);
	vma->vm_start = start;
	vma->vm_end = end;
	vma->vm_pgoff = pgoff;
	return vma;
}

static struct anon_vma *test_anon_vma(struct kunit *test)
{
	struct anon_vma *anon_vma;

	anon_vma = kunit_kzalloc(test, sizeof(*anon_vma), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, anon_vma);
	anon_vma->root = anon_vma;
	init_rwsem(&anon_vma->rwsem);
	atomic_set(&anon_vma->refcount, 1);
	anon_vma->rb_root = RB_ROOT_CACHED;
	return anon_vma;
}

/* As anon_vma_chain_link() does it. */
static void test_link(struct kunit *test, struct vm_area_struct *vma,
		      struct anon_vma *anon_vma)
{
	struct anon_vma_chain *avc;

	avc = kunit_kzalloc(test, sizeof(*avc), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, avc);
	avc->vma = vma;
	avc->anon_vma = anon_vma;
	list_add(&avc->same_vma, &vma->anon_vma_chain);
	anon_vma_interval_tree_insert(avc, &anon_vma->rb_root);
	if (!vma->anon_vma)
		vma->anon_vma = anon_vma;
}

static struct mm_struct *test_mm(struct kunit *test)
{
	struct mm_struct *mm = kunit_kzalloc(test, sizeof(*mm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mm);
	return mm;
}

static struct ksm_rmap_item *test_item(struct kunit *test,
				       struct vm_area_struct *vma,
				       unsigned long addr)
{
	struct ksm_rmap_item *item = kunit_kzalloc(test, sizeof(*item), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, item);
	item->mm = vma->vm_mm;
	item->address = addr;
	rmap_item_set_stable(item, vma);
	return item;
}

/* A KSM folio that is locked, and a stable node for it without items. */
static struct folio *test_ksm_folio(struct kunit *test)
{
	struct folio *folio = kunit_kzalloc(test, sizeof(*folio), GFP_KERNEL);
	struct ksm_stable_node *node = kunit_kzalloc(test, sizeof(*node), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, folio);
	KUNIT_ASSERT_NOT_NULL(test, node);
	INIT_HLIST_HEAD(&node->hlist);
	__folio_set_locked(folio);
	folio->mapping = (void *)((unsigned long)node | FOLIO_MAPPING_KSM);
	return folio;
}

static void test_append(struct folio *folio, struct ksm_rmap_item *item)
{
	struct ksm_stable_node *node = folio_stable_node(folio);

	item->address |= STABLE_FLAG;
	item->head = node;
	hlist_add_head(&item->hlist, &node->hlist);
}

/* TEST_PAGES VMAs of one page each, in one tree: a VMA that was split a lot. */
struct ksm_rmap_fixture {
	struct mm_struct *mm;
	struct anon_vma *anon_vma;
	struct vm_area_struct *vmas[TEST_PAGES];
	struct folio *folio;
};

static struct ksm_rmap_fixture *test_split_vmas(struct kunit *test)
{
	struct ksm_rmap_fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	unsigned long i;

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->mm = test_mm(test);
	f->anon_vma = test_anon_vma(test);
	f->folio = test_ksm_folio(test);
	for (i = 0; i < TEST_PAGES; i++) {
		f->vmas[i] = test_vma(test, page_addr(i), page_addr(i + 1),
				      page_addr(i) >> PAGE_SHIFT);
		f->vmas[i]->vm_mm = f->mm;
		test_link(test, f->vmas[i], f->anon_vma);
	}
	return f;
}

/* As fork() does it for one of the VMAs: an anon_vma of its own, and ours. */
static struct vm_area_struct *test_fork(struct kunit *test, struct mm_struct *mm,
					struct vm_area_struct *parent)
{
	struct vm_area_struct *vma;

	vma = test_vma(test, parent->vm_start, parent->vm_end, parent->vm_pgoff);
	vma->vm_mm = mm;
	test_link(test, vma, test_anon_vma(test));
	test_link(test, vma, parent->anon_vma);
	return vma;
}

struct ksm_rmap_visits {
	unsigned long nr;
	struct vm_area_struct *last;
	unsigned long addr;
};

static bool test_visit(struct folio *folio, struct vm_area_struct *vma,
		       unsigned long addr, void *arg)
{
	struct ksm_rmap_visits *visits = arg;

	visits->nr++;
	visits->last = vma;
	visits->addr = addr;
	return true;
}

static unsigned long test_walk(struct folio *folio, struct ksm_rmap_visits *visits)
{
	struct rmap_walk_control rwc = { .rmap_one = test_visit, .arg = visits };

	*visits = (struct ksm_rmap_visits) {};
	return rmap_walk_ksm(folio, &rwc);
}

/*
 * The offset takes the place of what the scans had learnt, of nothing else, and
 * the item is no larger for it.
 */
static void ksm_rmap_union_stable(struct kunit *test)
{
	struct ksm_rmap_item item = {
		.rmap_list = (void *)1UL,
		.anon_vma = (void *)2UL,
		.mm = (void *)3UL,
		.address = TEST_ADDR | STABLE_FLAG,
		.head = (void *)5UL,
		.hlist = { .next = (void *)6UL, .pprev = (void *)7UL },
	};

	item.pgoff = -1UL;
	KUNIT_EXPECT_PTR_EQ(test, item.rmap_list, (void *)1UL);
	KUNIT_EXPECT_PTR_EQ(test, item.anon_vma, (void *)2UL);
	KUNIT_EXPECT_PTR_EQ(test, item.mm, (void *)3UL);
	KUNIT_EXPECT_EQ(test, item.address, TEST_ADDR | STABLE_FLAG);
	KUNIT_EXPECT_PTR_EQ(test, item.head, (void *)5UL);
	KUNIT_EXPECT_PTR_EQ(test, item.hlist.next, (void *)6UL);
	KUNIT_EXPECT_PTR_EQ(test, (void *)item.hlist.pprev, (void *)7UL);
	KUNIT_EXPECT_EQ(test, sizeof(item), IS_ENABLED(CONFIG_64BIT) ? 64 : 36);
}

/* In the unstable tree an item has its history, a node id and a tree node. */
static void ksm_rmap_union_unstable(struct kunit *test)
{
	struct ksm_rmap_item item = {
		.address = TEST_ADDR | UNSTABLE_FLAG,
		.oldchecksum = 0x12345678,
		.age = 9,
		.remaining_skips = 3,
	};

	memset(&item.node, 0xff, sizeof(item.node));
	DO_NUMA(item.nid = -1);
	KUNIT_EXPECT_EQ(test, item.address, TEST_ADDR | UNSTABLE_FLAG);
	KUNIT_EXPECT_EQ(test, item.oldchecksum, 0x12345678);
	KUNIT_EXPECT_EQ(test, item.age, 9);
	KUNIT_EXPECT_EQ(test, item.remaining_skips, 3);
}

/*
 * Once the offset is of no use the history starts afresh, and the reference of
 * the anon_vma is given back.
 */
static void ksm_rmap_reset(struct kunit *test)
{
	struct anon_vma *anon_vma = test_anon_vma(test);
	struct vm_area_struct *vma = test_vma(test, TEST_ADDR,
					      TEST_ADDR + TEST_LEN, -1UL - TEST_PAGES);
	struct ksm_rmap_item *item;

	vma->anon_vma = anon_vma;
	item = test_item(test, vma, TEST_ADDR);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), 2);
	KUNIT_EXPECT_EQ(test, item->pgoff, -1UL - TEST_PAGES);

	item->address |= STABLE_FLAG;
	item->head = kunit_kzalloc(test, sizeof(*item->head), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, item->head);
	rmap_item_clear_stable(item);
	KUNIT_EXPECT_NULL(test, item->head);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), 1);
	KUNIT_EXPECT_EQ(test, item->address, TEST_ADDR);
	KUNIT_EXPECT_EQ(test, item->oldchecksum, 0);
	KUNIT_EXPECT_EQ(test, item->age, 0);
	KUNIT_EXPECT_EQ(test, item->remaining_skips, 0);
}

/* Smart scan must not count up an age where the offset is, nor skip the item. */
static void ksm_rmap_stable_not_skipped(struct kunit *test)
{
	struct vm_area_struct *vma = test_vma(test, TEST_ADDR,
					      TEST_ADDR + TEST_LEN, -1UL - TEST_PAGES);
	struct folio *folio = kunit_kzalloc(test, sizeof(*folio), GFP_KERNEL);
	struct ksm_rmap_item *item;

	KUNIT_ASSERT_NOT_NULL(test, folio);
	vma->anon_vma = test_anon_vma(test);
	item = test_item(test, vma, TEST_ADDR);
	item->address |= STABLE_FLAG;

	KUNIT_EXPECT_FALSE(test, should_skip_rmap_item(folio, item));
	KUNIT_EXPECT_EQ(test, item->pgoff, -1UL - TEST_PAGES);
}

struct offset_case {
	const char *name;
	pgoff_t pgoff;		/* of the VMA at TEST_ADDR */
};

static const struct offset_case offset_cases[] = {
	{ "at its birthplace", TEST_ADDR >> PAGE_SHIFT },
	{ "moved up", 1 },
	{ "moved down", (TEST_ADDR >> PAGE_SHIFT) + 12345 },
	{ "private file at 0", 0 },
	{ "beyond 32 bits of bytes", 1UL << 20 },
	{ "at the end of the offsets", -1UL - TEST_PAGES },
};

KUNIT_ARRAY_PARAM_DESC(offset, offset_cases, name);

/* The offset is that of the page, counted from the VMA's, not the address. */
static void ksm_rmap_offset(struct kunit *test)
{
	const struct offset_case *c = test->param_value;
	struct vm_area_struct *vma = test_vma(test, TEST_ADDR,
					      TEST_ADDR + TEST_LEN, c->pgoff);
	unsigned long i;

	vma->anon_vma = test_anon_vma(test);
	for (i = 0; i < TEST_PAGES; i++) {
		struct ksm_rmap_item *item = test_item(test, vma, page_addr(i));

		KUNIT_EXPECT_EQ(test, item->pgoff, c->pgoff + i);
		KUNIT_EXPECT_TRUE(test, vma_covers_rmap_item(vma, item));
	}
}

/*
 * A split leaves every page of both parts at the offset that it had: whichever
 * page was merged before the split is covered by the one part that has it.
 */
static void ksm_rmap_offset_split(struct kunit *test)
{
	const struct offset_case *c = test->param_value;
	struct vm_area_struct *vma, *low, *high;
	unsigned long at, i;

	vma = test_vma(test, TEST_ADDR, TEST_ADDR + TEST_LEN, c->pgoff);
	vma->anon_vma = test_anon_vma(test);
	low = test_vma(test, TEST_ADDR, 0, c->pgoff);
	high = test_vma(test, 0, TEST_ADDR + TEST_LEN, 0);

	for (i = 0; i < TEST_PAGES; i++) {
		struct ksm_rmap_item *item = test_item(test, vma, page_addr(i));

		for (at = 1; at < TEST_PAGES; at++) {
			low->vm_end = page_addr(at);
			high->vm_start = page_addr(at);
			high->vm_pgoff = c->pgoff + at;
			KUNIT_EXPECT_EQ(test, vma_covers_rmap_item(low, item), i < at);
			KUNIT_EXPECT_EQ(test, vma_covers_rmap_item(high, item), i >= at);
		}
	}
}

/* A merge after the split gives the offset that one before it would have. */
static void ksm_rmap_offset_after_split(struct kunit *test)
{
	struct vm_area_struct *vma = test_vma(test, TEST_ADDR, TEST_ADDR + TEST_LEN, 7);
	struct vm_area_struct *high = test_vma(test, page_addr(5),
					       TEST_ADDR + TEST_LEN, 7 + 5);
	unsigned long i;

	vma->anon_vma = test_anon_vma(test);
	high->anon_vma = vma->anon_vma;
	for (i = 5; i < TEST_PAGES; i++)
		KUNIT_EXPECT_EQ(test, test_item(test, vma, page_addr(i))->pgoff,
				test_item(test, high, page_addr(i))->pgoff);
}

/* An item is stale once its address has another page, or another anon_vma. */
static void ksm_rmap_stale(struct kunit *test)
{
	struct vm_area_struct *vma = test_vma(test, TEST_ADDR, TEST_ADDR + TEST_LEN, 7);
	struct ksm_rmap_item *item;

	vma->anon_vma = test_anon_vma(test);
	item = test_item(test, vma, page_addr(3));
	KUNIT_EXPECT_FALSE(test, rmap_item_is_stale(item, vma));

	item->address |= STABLE_FLAG;
	KUNIT_EXPECT_FALSE(test, rmap_item_is_stale(item, vma));

	vma->vm_pgoff = 8;
	KUNIT_EXPECT_TRUE(test, rmap_item_is_stale(item, vma));

	vma->vm_pgoff = 7;
	vma->anon_vma = test_anon_vma(test);
	KUNIT_EXPECT_TRUE(test, rmap_item_is_stale(item, vma));

	/* An item that is not stable has no offset to be wrong. */
	item->address &= PAGE_MASK;
	KUNIT_EXPECT_FALSE(test, rmap_item_is_stale(item, vma));
}

/* Of all VMAs in the tree, the look-up comes to the one with the page. */
static void ksm_rmap_one_vma(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct anon_vma_chain *vmac;
	unsigned long i;

	for (i = 0; i < TEST_PAGES; i++) {
		struct ksm_rmap_item *item = test_item(test, f->vmas[i], page_addr(i));
		unsigned long nr = 0;

		rmap_item_foreach_vmac(vmac, item) {
			KUNIT_EXPECT_PTR_EQ(test, vmac->vma, f->vmas[i]);
			nr++;
		}
		KUNIT_EXPECT_EQ(test, nr, 1);
	}
}

/*
 * A walk visits one VMA for each item, however many there are in the tree, and
 * has no second look where there are no forks.
 */
static void ksm_rmap_walk(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct ksm_rmap_visits visits;
	unsigned long i;

	for (i = 0; i < TEST_PAGES; i++) {
		test_append(f->folio, test_item(test, f->vmas[i], page_addr(i)));
		KUNIT_EXPECT_EQ(test, test_walk(f->folio, &visits), i + 1);
		KUNIT_EXPECT_EQ(test, visits.nr, i + 1);
	}
}

/* A child has the page at the parent's address, and is visited after it. */
static void ksm_rmap_walk_fork(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct vm_area_struct *child = test_fork(test, test_mm(test), f->vmas[5]);
	struct ksm_rmap_visits visits;

	test_append(f->folio, test_item(test, f->vmas[5], page_addr(5)));

	/* Two VMAs, in two passes. */
	KUNIT_EXPECT_EQ(test, test_walk(f->folio, &visits), 4);
	KUNIT_EXPECT_EQ(test, visits.nr, 2);
	KUNIT_EXPECT_PTR_EQ(test, visits.last, child);
	KUNIT_EXPECT_EQ(test, visits.addr, page_addr(5));
}

/* The parent has gone, the child still has the page: a fork all the same. */
static void ksm_rmap_walk_orphan(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct vm_area_struct *child = test_fork(test, test_mm(test), f->vmas[5]);
	struct ksm_rmap_visits visits;

	test_append(f->folio, test_item(test, f->vmas[5], page_addr(5)));
	/* Its old address, but other pages, which have nothing to do with it. */
	f->vmas[5]->vm_start = page_addr(4) + TEST_LEN;
	f->vmas[5]->vm_end = page_addr(5) + TEST_LEN;

	test_walk(f->folio, &visits);
	KUNIT_EXPECT_EQ(test, visits.nr, 1);
	KUNIT_EXPECT_PTR_EQ(test, visits.last, child);
}

/*
 * A child that moved its VMA keeps the offset but not the page, which mremap()
 * unmerged: nothing of it is to be touched, at neither address.
 */
static void ksm_rmap_walk_moved_child(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct vm_area_struct *child = test_fork(test, test_mm(test), f->vmas[5]);
	struct ksm_rmap_visits visits;

	test_append(f->folio, test_item(test, f->vmas[5], page_addr(5)));
	child->vm_start += TEST_LEN;
	child->vm_end += TEST_LEN;

	/* Seen in the tree, not visited; and no second pass for it. */
	KUNIT_EXPECT_EQ(test, test_walk(f->folio, &visits), 2);
	KUNIT_EXPECT_EQ(test, visits.nr, 1);
	KUNIT_EXPECT_PTR_EQ(test, visits.last, f->vmas[5]);
}

/* A folio in the swap cache is mapped as it is where a walk comes to it. */
static void ksm_rmap_swapin(struct kunit *test)
{
	struct ksm_rmap_fixture *f = test_split_vmas(test);
	struct vm_area_struct *child = test_fork(test, test_mm(test), f->vmas[5]);
	struct vm_area_struct *stranger = test_vma(test, page_addr(5), page_addr(6),
						   f->vmas[5]->vm_pgoff);

	stranger->vm_mm = f->mm;
	test_link(test, stranger, test_anon_vma(test));
	test_append(f->folio, test_item(test, f->vmas[5], page_addr(5)));

	KUNIT_EXPECT_TRUE(test, ksm_walk_would_find(f->folio, f->vmas[5], page_addr(5)));
	KUNIT_EXPECT_TRUE(test, ksm_walk_would_find(f->folio, child, page_addr(5)));

	/* No item for the address; no way from the item to the VMA. */
	KUNIT_EXPECT_FALSE(test, ksm_walk_would_find(f->folio, f->vmas[6], page_addr(6)));
	KUNIT_EXPECT_FALSE(test, ksm_walk_would_find(f->folio, stranger, page_addr(5)));

	/* Another page of the same anon_vma was moved to the item's address. */
	f->vmas[5]->vm_pgoff++;
	KUNIT_EXPECT_FALSE(test, ksm_walk_would_find(f->folio, f->vmas[5], page_addr(5)));
	f->vmas[5]->vm_pgoff--;

	/* MADV_UNMERGEABLE: nothing of KSM is to be mapped here. */
	vm_flags_init(f->vmas[5], 0);
	KUNIT_EXPECT_FALSE(test, ksm_walk_would_find(f->folio, f->vmas[5], page_addr(5)));

	/* Merged, but not in the stable tree. */
	f->folio->mapping = (void *)FOLIO_MAPPING_KSM;
	KUNIT_EXPECT_FALSE(test, ksm_walk_would_find(f->folio, child, page_addr(5)));
}

static struct kunit_case ksm_rmap_test_cases[] = {
	KUNIT_CASE(ksm_rmap_union_stable),
	KUNIT_CASE(ksm_rmap_union_unstable),
	KUNIT_CASE(ksm_rmap_reset),
	KUNIT_CASE(ksm_rmap_stable_not_skipped),
	KUNIT_CASE_PARAM(ksm_rmap_offset, offset_gen_params),
	KUNIT_CASE_PARAM(ksm_rmap_offset_split, offset_gen_params),
	KUNIT_CASE(ksm_rmap_offset_after_split),
	KUNIT_CASE(ksm_rmap_stale),
	KUNIT_CASE(ksm_rmap_one_vma),
	KUNIT_CASE(ksm_rmap_walk),
	KUNIT_CASE(ksm_rmap_walk_fork),
	KUNIT_CASE(ksm_rmap_walk_orphan),
	KUNIT_CASE(ksm_rmap_walk_moved_child),
	KUNIT_CASE(ksm_rmap_swapin),
	{}
};

static struct kunit_suite ksm_rmap_test_suite = {
	.name = "ksm_rmap",
	.test_cases = ksm_rmap_test_cases,
};

kunit_test_suite(ksm_rmap_test_suite);
