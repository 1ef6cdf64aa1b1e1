// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for which folio lock a fault waits with its VMA lock held.
 */
#include <kunit/test.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "../internal.h"

struct keep_case {
	const char *name;
	unsigned int flags;
	bool device;		/* has the page for itself */
	bool swapcache;
	bool uptodate;
	bool writeback;
	bool keeps;
};

static const struct keep_case keep_cases[] = {
	{ "uptodate", FAULT_FLAG_VMA_LOCK, false, true, true, false, true },
	{ "read", FAULT_FLAG_VMA_LOCK, false, true, false, false, false },
	{ "written", FAULT_FLAG_VMA_LOCK, false, true, true, true, false },
	{ "read and written", FAULT_FLAG_VMA_LOCK, false, true, false, true, false },
	{ "not in the swap cache", FAULT_FLAG_VMA_LOCK, false, false, true, false, false },
	{ "of a device", FAULT_FLAG_VMA_LOCK, true, true, true, false, false },
	{ "mmap_lock, uptodate", 0, false, true, true, false, false },
	{ "mmap_lock, read", 0, false, true, false, false, false },
	{ "mmap_lock, written", 0, false, true, true, true, false },
};

static void keep_case_name(const struct keep_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(keep, keep_cases, keep_case_name);

static void test_keeps_lock(struct kunit *test)
{
	const struct keep_case *c = test->param_value;
	struct vm_fault vmf = { .flags = FAULT_FLAG_DEFAULT | c->flags };
	struct folio *folio = folio_alloc(GFP_KERNEL, 0);
	bool keeps;

	KUNIT_ASSERT_NOT_NULL(test, folio);
	if (c->device && !IS_ENABLED(CONFIG_DEVICE_PRIVATE)) {
		folio_put(folio);
		kunit_skip(test, "build the kernel with CONFIG_DEVICE_PRIVATE");
	}
	vmf.orig_pte = swp_entry_to_pte(c->device ?
					make_device_exclusive_entry(folio_pfn(folio)) :
					swp_entry(0, 1));
	if (c->swapcache) {
		__folio_set_swapbacked(folio);
		folio_set_swapcache(folio);
	}
	if (c->uptodate)
		folio_mark_uptodate(folio);
	if (c->writeback)
		set_bit(PG_writeback, &folio->flags.f);
	keeps = fault_keeps_lock(&vmf, folio);
	clear_bit(PG_writeback, &folio->flags.f);
	if (c->swapcache) {
		folio_clear_swapcache(folio);
		__folio_clear_swapbacked(folio);
	}
	folio_put(folio);

	KUNIT_EXPECT_EQ(test, keeps, c->keeps);
}

static struct kunit_case fault_keep_lock_cases[] = {
	KUNIT_CASE_PARAM(test_keeps_lock, keep_gen_params),
	{}
};

static struct kunit_suite fault_keep_lock_suite = {
	.name = "fault_keep_lock",
	.test_cases = fault_keep_lock_cases,
};

kunit_test_suite(fault_keep_lock_suite);
