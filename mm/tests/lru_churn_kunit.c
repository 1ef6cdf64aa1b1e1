// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for folios that die young: which populates drain the batches, and
 * how a full lru_add batch makes room; and how pages are freed that were unmapped
 * together.
 *
 * Included by mm/swap.c, whose static functions they call.
 */
#include <kunit/test.h>

/* A batch of the test's own, and a reference to each folio that ever was in it. */
struct test_batch {
	struct folio_batch fbatch;
	struct folio *folios[4 * FOLIO_BATCH_SIZE];
	bool alive[4 * FOLIO_BATCH_SIZE];
	unsigned int nr;
};

static void test_release(void *data)
{
	struct test_batch *tb = data;
	unsigned int i;

	folio_batch_move_lru(&tb->fbatch, lru_add);
	for (i = 0; i < tb->nr; i++)
		if (tb->alive[i])
			folio_put(tb->folios[i]);
}

static struct test_batch *test_alloc_batch(struct kunit *test)
{
	struct test_batch *tb = kunit_kzalloc(test, sizeof(*tb), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, tb);
	folio_batch_init(&tb->fbatch);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, test_release, tb), 0);
	return tb;
}

/* A charged folio: without a charge, its lruvec would be looked for forever. */
static struct folio *test_alloc_folio(struct kunit *test, struct test_batch *tb,
				      unsigned int order)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE | (order ? __GFP_COMP : 0);
	struct folio *folio = folio_alloc(gfp, order);

	KUNIT_ASSERT_NOT_NULL(test, folio);
	tb->folios[tb->nr] = folio;
	tb->alive[tb->nr++] = true;
	KUNIT_ASSERT_EQ(test, mem_cgroup_charge(folio, NULL, GFP_KERNEL), 0);
	__folio_set_swapbacked(folio);
	return folio;
}

/* Adds a folio as folio_add_lru() does, to the test's batch. */
static unsigned int test_add(struct kunit *test, struct test_batch *tb)
{
	struct folio *folio = test_alloc_folio(test, tb, 0);

	folio_get(folio);
	folio_batch_add_or_move(&tb->fbatch, folio, lru_add);
	KUNIT_EXPECT_LE(test, folio_batch_count(&tb->fbatch), FOLIO_BATCH_SIZE);
	return tb->nr - 1;
}

static void test_fill(struct kunit *test, struct test_batch *tb)
{
	while (folio_batch_space(&tb->fbatch))
		test_add(test, tb);
}

/* What munmap() does to a folio that is in no other place. */
static void test_kill(struct test_batch *tb, unsigned int i)
{
	tb->alive[i] = false;
	folio_put(tb->folios[i]);
}

/* Lets all but the last @live folios of those so far die. */
static void test_kill_all_but(struct test_batch *tb, unsigned int live)
{
	unsigned int i;

	for (i = 0; i + live < tb->nr; i++)
		if (tb->alive[i])
			test_kill(tb, i);
}

static unsigned int test_on_lru(struct test_batch *tb)
{
	unsigned int i, nr = 0;

	for (i = 0; i < tb->nr; i++)
		if (tb->alive[i] && folio_test_lru(tb->folios[i]))
			nr++;
	return nr;
}

struct populate_case {
	const char *name;
	unsigned long nr_pages;
	bool mlocked;
	bool drains;
};

static const struct populate_case populate_cases[] = {
	{ "one page", 1, false, false },
	{ "one less than a batch", FOLIO_BATCH_SIZE - 1, false, false },
	{ "a batch", FOLIO_BATCH_SIZE, false, true },
	{ "a lot", 1UL << 20, false, true },
	{ "nothing", 0, false, false },
	{ "one page, mlocked", 1, true, true },
	{ "a batch, mlocked", FOLIO_BATCH_SIZE, true, true },
};

KUNIT_ARRAY_PARAM_DESC(populate, populate_cases, name);

/* Mlocked memory is drained for the statistics, bulk for other CPUs. */
static void lru_churn_populate(struct kunit *test)
{
	const struct populate_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, populate_needs_drain(c->nr_pages, c->mlocked), c->drains);
}

/* The folio that fills the batch stays in it: it is the one being faulted in. */
static void lru_churn_full_batch_rests(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);

	test_fill(test, tb);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), FOLIO_BATCH_SIZE);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), 0);
}

struct live_case {
	const char *name;
	unsigned int live;	/* Of a full batch. */
	bool stay;		/* In the batch, and not on the LRU. */
};

static const struct live_case live_cases[] = {
	{ "all dead", 0, true },
	{ "one alive", 1, true },
	{ "most dead", FOLIO_BATCH_SIZE / 2, true },
	{ "most alive", FOLIO_BATCH_SIZE / 2 + 1, false },
	{ "one dead", FOLIO_BATCH_SIZE - 1, false },
	{ "all alive", FOLIO_BATCH_SIZE, false },
};

KUNIT_ARRAY_PARAM_DESC(live, live_cases, name);

/* The live ones stay where most are dead, and go to the LRU together otherwise. */
static void lru_churn_make_room(struct kunit *test)
{
	const struct live_case *c = test->param_value;
	struct test_batch *tb = test_alloc_batch(test);

	test_fill(test, tb);
	test_kill_all_but(tb, c->live);
	test_add(test, tb);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), (c->stay ? c->live : 0) + 1);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), c->stay ? 0 : c->live);
}

/* Who stayed once goes to the LRU the next time, with all others that live. */
static void lru_churn_stays_once(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);
	struct folio *old;
	unsigned int i;

	test_fill(test, tb);
	test_kill_all_but(tb, 1);
	old = tb->folios[tb->nr - 1];
	test_add(test, tb);
	test_fill(test, tb);
	KUNIT_EXPECT_FALSE(test, folio_test_lru(old));

	for (i = FOLIO_BATCH_SIZE; i < tb->nr; i++)
		test_kill(tb, i);
	test_add(test, tb);
	KUNIT_EXPECT_TRUE(test, folio_test_lru(old));
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 1);
}

/* One that stayed and died is no reason to take the lock for the young ones. */
static void lru_churn_stayed_and_died(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);

	test_fill(test, tb);
	test_kill_all_but(tb, 1);
	test_add(test, tb);
	test_fill(test, tb);
	test_kill_all_but(tb, 2);
	test_add(test, tb);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), 0);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 3);
}

/* A reference that somebody else got, for a moment, keeps a folio alive. */
static void lru_churn_speculative_reference(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);
	struct folio *folio;

	test_fill(test, tb);
	folio = tb->folios[0];
	folio_get(folio);
	test_kill_all_but(tb, 0);
	test_add(test, tb);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 2);
	KUNIT_EXPECT_PTR_EQ(test, tb->fbatch.folios[0], folio);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 2);
	folio_put(folio);
}

/* These flags must not reach the page allocator, which calls that a bad page. */
static void lru_churn_flags(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);
	struct folio_batch dead;
	struct folio *folio;

	folio_batch_init(&dead);
	test_add(test, tb);
	test_add(test, tb);
	folio_set_active(tb->folios[0]);
	folio_set_unevictable(tb->folios[1]);
	test_kill_all_but(tb, 0);
	while ((folio = folio_batch_next(&tb->fbatch))) {
		KUNIT_EXPECT_TRUE(test, lru_add_reap(folio, &dead));
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 0);
		KUNIT_EXPECT_FALSE(test, folio_test_active(folio));
		KUNIT_EXPECT_FALSE(test, folio_test_unevictable(folio));
	}
	folio_batch_reinit(&tb->fbatch);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&dead), 2);
	lru_add_free_dead(&dead);
}

/* A large folio waits for nothing, and fits after a full batch. */
static void lru_churn_large_folio(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);
	struct folio *large;

	test_fill(test, tb);
	test_kill_all_but(tb, 2);
	large = test_alloc_folio(test, tb, 2);
	folio_get(large);
	folio_batch_add_or_move(&tb->fbatch, large, lru_add);
	KUNIT_EXPECT_TRUE(test, folio_test_lru(large));
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 0);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), 3);
}

/* A drain leaves nothing behind, however young. */
static void lru_churn_drain_is_full(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);

	test_fill(test, tb);
	test_kill_all_but(tb, 1);
	folio_batch_move_lru(&tb->fbatch, lru_add);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 0);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), 1);
}

static void test_enable_cache(void *unused)
{
	lru_cache_enable();
}

/* Nothing waits while somebody isolates what he has drained. */
static void lru_churn_cache_disabled(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);

	lru_cache_disable();
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, test_enable_cache, NULL), 0);
	test_add(test, tb);
	test_add(test, tb);
	KUNIT_EXPECT_EQ(test, folio_batch_count(&tb->fbatch), 0);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), 2);
}

#define TEST_GATHERED	(GATHERED_FOLIOS_PER_LOCK + 20)

/* Folios on the LRU, and an array of them as mmu_gather has it. */
static struct test_batch *test_gather(struct kunit *test, struct encoded_page **pages)
{
	struct test_batch *tb = test_alloc_batch(test);
	unsigned int i;

	for (i = 0; i < TEST_GATHERED; i++) {
		test_add(test, tb);
		pages[i] = encode_page(&tb->folios[i]->page, 0);
	}
	folio_batch_move_lru(&tb->fbatch, lru_add);
	return tb;
}

/* Who has another reference stays on the LRU; the others are off it, and dead. */
static void lru_churn_gathered(struct kunit *test)
{
	struct encoded_page *pages[TEST_GATHERED];
	struct test_batch *tb;
	unsigned int i, dead;

	tb = test_gather(test, pages);
	folio_get(tb->folios[3]);
	folio_get(tb->folios[40]);
	for (i = 0; i < GATHERED_FOLIOS_PER_LOCK; i++)
		tb->alive[i] = i == 3 || i == 40;

	KUNIT_ASSERT_EQ(test, gathered_drop_swap_cache(pages, TEST_GATHERED),
			GATHERED_FOLIOS_PER_LOCK);
	dead = gathered_put_off_lru(pages, GATHERED_FOLIOS_PER_LOCK);
	KUNIT_ASSERT_EQ(test, dead, GATHERED_FOLIOS_PER_LOCK - 2);
	for (i = 0; i < dead; i++) {
		struct folio *folio = gathered_folio(pages[i]);

		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 0);
		KUNIT_EXPECT_FALSE(test, folio_test_lru(folio));
	}
	gathered_free(pages, dead);
	KUNIT_EXPECT_EQ(test, test_on_lru(tb), TEST_GATHERED - dead);
	KUNIT_EXPECT_EQ(test, folio_ref_count(tb->folios[3]), 1);
	KUNIT_EXPECT_EQ(test, folio_ref_count(tb->folios[40]), 1);
}

/* More than the lock is held for: none is left out. */
static void lru_churn_gathered_whole(struct kunit *test)
{
	struct encoded_page *pages[TEST_GATHERED];
	struct test_batch *tb;
	unsigned int i;

	tb = test_gather(test, pages);
	for (i = 0; i < TEST_GATHERED; i++)
		folio_get(tb->folios[i]);
	free_gathered_pages(pages, TEST_GATHERED);
	for (i = 0; i < TEST_GATHERED; i++)
		KUNIT_EXPECT_EQ(test, folio_ref_count(tb->folios[i]), 1);
}

/* An entry with a number behind it is one folio, and that many references. */
static void lru_churn_gathered_references(struct kunit *test)
{
	struct test_batch *tb = test_alloc_batch(test);
	struct folio *folio = test_alloc_folio(test, tb, 2);
	struct encoded_page *pages[] = {
		encode_page(&folio->page, ENCODED_PAGE_BIT_NR_PAGES_NEXT),
		encode_nr_pages(3),
		encode_page(folio_page(folio, 3), 0),
	};

	folio_ref_add(folio, 4);
	KUNIT_ASSERT_EQ(test, gathered_drop_swap_cache(pages, 3), 3);
	KUNIT_EXPECT_EQ(test, gathered_put_off_lru(pages, 3), 0);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
}

static struct kunit_case lru_churn_test_cases[] = {
	KUNIT_CASE_PARAM(lru_churn_populate, populate_gen_params),
	KUNIT_CASE(lru_churn_full_batch_rests),
	KUNIT_CASE_PARAM(lru_churn_make_room, live_gen_params),
	KUNIT_CASE(lru_churn_stays_once),
	KUNIT_CASE(lru_churn_stayed_and_died),
	KUNIT_CASE(lru_churn_speculative_reference),
	KUNIT_CASE(lru_churn_flags),
	KUNIT_CASE(lru_churn_large_folio),
	KUNIT_CASE(lru_churn_drain_is_full),
	KUNIT_CASE(lru_churn_cache_disabled),
	KUNIT_CASE(lru_churn_gathered),
	KUNIT_CASE(lru_churn_gathered_whole),
	KUNIT_CASE(lru_churn_gathered_references),
	{}
};

static struct kunit_suite lru_churn_test_suite = {
	.name = "lru_churn",
	.test_cases = lru_churn_test_cases,
};

kunit_test_suite(lru_churn_test_suite);
