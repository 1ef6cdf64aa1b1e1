// SPDX-License-Identifier: GPL-2.0

/*
 * When mremap() relocates anonymous memory it gives the range that it moves
 * another page offset and anon_vma. These tests are of which offset
 * vma_relocation_merges() takes, and of what copy_vma() merges the range with.
 *
 * The range always moves to the same place (pages, and their natural offsets):
 *
 *  10  12  14  16          30  32
 *  PPPP****NNNN            SSSS
 *  prev    next            source
 */
#define HOLE_START	0x12UL
#define HOLE_END	0x14UL
#define SOURCE_START	0x30UL
#define NATURAL		HOLE_START

/* What choice() returns for a move that is not to be a relocation, and ... */
#define MOVED		0xbad0UL
/* ... if an assertion failed. */
#define FAILED		0xbad1UL

/* Whose anon_vma a VMA has. */
enum owner {
	NOBODY,
	SOURCE,
	LEFT,
	RIGHT,
	NR_OWNERS,
};

/* A VMA as a test wants it. Two pages if @pages is 0. */
struct vma_spec {
	pgoff_t pgoff;
	enum owner owner;
	bool fork_child;
	bool exec;
	unsigned long pages;
	/* Pages between a neighbour and the place where the range moves to. */
	unsigned long gap;
};

struct scene {
	struct mm_struct mm;
	struct anon_vma anon_vmas[NR_OWNERS];
	struct anon_vma_chain avcs[6];
	int nr_avcs;
	struct vm_area_struct *source;
	struct vm_area_struct *prev;
	struct vm_area_struct *next;
	int map_count;
};

/* The source was moved before, the neighbours were not. */
static const struct vma_spec displaced_source = { .pgoff = 0x80, .owner = SOURCE };
static const struct vma_spec natural_source = { .pgoff = NATURAL, .owner = SOURCE };
static const struct vma_spec natural_prev = { .pgoff = 0x10, .owner = LEFT };
static const struct vma_spec natural_next = { .pgoff = 0x14, .owner = RIGHT };

static unsigned long spec_size(const struct vma_spec *spec)
{
	return (spec->pages ?: 2) << PAGE_SHIFT;
}

/* A VMA that fork() made refers to the anon_vma of the parent as well. */
static void add_avcs(struct scene *s, struct vm_area_struct *vma,
		     const struct vma_spec *spec)
{
	int i;

	for (i = 0; i <= spec->fork_child; i++) {
		struct anon_vma_chain *avc = &s->avcs[s->nr_avcs++];

		avc->anon_vma = vma->anon_vma;
		list_add(&avc->same_vma, &vma->anon_vma_chain);
	}
}

static struct vm_area_struct *link_spec(struct scene *s, unsigned long start,
					const struct vma_spec *spec)
{
	vma_flags_t flags = mk_vma_flags(VMA_READ_BIT, VMA_WRITE_BIT,
					 VMA_MAYREAD_BIT, VMA_MAYWRITE_BIT);
	struct vm_area_struct *vma;

	if (spec->exec)
		vma_flags_set(&flags, VMA_EXEC_BIT);
	vma = alloc_and_link_vma(&s->mm, start, start + spec_size(spec),
				 spec->pgoff, flags);
	if (vma && spec->owner != NOBODY) {
		vma->anon_vma = &s->anon_vmas[spec->owner];
		add_avcs(s, vma, spec);
	}
	return vma;
}

/* Neighbours may be NULL. */
static bool set_scene(struct scene *s, const struct vma_spec *source,
		      const struct vma_spec *prev, const struct vma_spec *next)
{
	*s = (struct scene){};
	s->source = link_spec(s, SOURCE_START << PAGE_SHIFT, source);
	ASSERT_NE(s->source, NULL);
	if (prev) {
		s->prev = link_spec(s, ((HOLE_START - prev->gap) << PAGE_SHIFT) -
				    spec_size(prev), prev);
		ASSERT_NE(s->prev, NULL);
	}
	if (next) {
		s->next = link_spec(s, (HOLE_END + next->gap) << PAGE_SHIFT, next);
		ASSERT_NE(s->next, NULL);
	}
	s->map_count = s->mm.map_count;
	return true;
}

/* Returns how many VMAs there were. */
static int clear_scene(struct scene *s)
{
	VMA_ITERATOR(vmi, &s->mm, 0);

	return cleanup_mm(&s->mm, &vmi);
}

/* The first pages of the source, as many as have room. */
static struct vma_move move_into_hole(struct vm_area_struct *source)
{
	const unsigned long len = (HOLE_END - HOLE_START) << PAGE_SHIFT;

	return (struct vma_move){
		.vma = source,
		.old_addr = source->vm_start,
		.old_len = min(len, source->vm_end - source->vm_start),
		.new_addr = HOLE_START << PAGE_SHIFT,
		.new_len = len,
	};
}

/* Two pages of the source. */
static struct vma_move move_part(struct vm_area_struct *source,
				 unsigned long old_addr, unsigned long new_addr)
{
	return (struct vma_move){
		.vma = source,
		.old_addr = old_addr,
		.old_len = 0x2000,
		.new_addr = new_addr,
		.new_len = 0x2000,
	};
}

static struct vm_area_struct *copy_moved(struct scene *s,
					 const struct vma_move *move,
					 pgoff_t pgoff, bool relocate)
{
	bool need_rmap_locks;

	return copy_vma(&s->source, move->new_addr, move->new_len, pgoff,
			&need_rmap_locks, relocate ? move : NULL);
}

/* Moves the source, as mremap() does before it moves page tables. */
static struct vm_area_struct *move_source(struct scene *s, pgoff_t pgoff,
					  bool relocate)
{
	const struct vma_move move = move_into_hole(s->source);

	return copy_moved(s, &move, pgoff, relocate);
}

/* @start and @end in pages. */
static bool is_vma(struct vm_area_struct *vma, unsigned long start,
		   unsigned long end, pgoff_t pgoff, struct anon_vma *anon_vma)
{
	ASSERT_NE(vma, NULL);
	vma_assert_attached(vma);
	ASSERT_EQ(vma->vm_start, start << PAGE_SHIFT);
	ASSERT_EQ(vma->vm_end, end << PAGE_SHIFT);
	ASSERT_EQ(vma->vm_pgoff, pgoff);
	ASSERT_EQ(vma->anon_vma, anon_vma);
	return true;
}

static bool is_untouched(struct vm_area_struct *vma, const struct vma_spec *spec)
{
	return !spec || (!vma_write_started(vma) &&
			 vma->vm_end - vma->vm_start == spec_size(spec) &&
			 vma->vm_pgoff == spec->pgoff);
}

static bool choose(const struct vma_spec *source, const struct vma_spec *prev,
		   const struct vma_spec *next, bool always, pgoff_t *chosen)
{
	pgoff_t pgoff = source->pgoff;
	struct scene s;
	struct vma_move move;
	bool relocate;

	ASSERT_TRUE(set_scene(&s, source, prev, next));
	move = move_into_hole(s.source);
	relocate = vma_relocation_merges(&move, always, &pgoff);
	ASSERT_TRUE(relocate || pgoff == source->pgoff);

	/* It only looks. */
	ASSERT_TRUE(is_untouched(s.source, source));
	ASSERT_TRUE(is_untouched(s.prev, prev));
	ASSERT_TRUE(is_untouched(s.next, next));
	ASSERT_EQ(clear_scene(&s), s.map_count);

	*chosen = relocate ? pgoff : MOVED;
	return true;
}

/* The offset that the source is to be relocated to, or MOVED. */
static pgoff_t choice(const struct vma_spec *source, const struct vma_spec *prev,
		      const struct vma_spec *next, bool always)
{
	pgoff_t chosen;

	return choose(source, prev, next, always, &chosen) ? chosen : FAILED;
}

/* A relocated range merges with a VMA of another anon_vma on its left. */
static bool test_copy_vma_relocate_left(void)
{
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****                SSSS   ->
	 *  LLLLLLLL                SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &natural_prev, NULL));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x14, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_TRUE(vma_write_started(s.prev));
	/* The source is what it was, until mremap() unmaps it. */
	ASSERT_TRUE(is_vma(s.source, 0x30, 0x32, 0x80, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 2);
	return true;
}

/* And on its right. */
static bool test_copy_vma_relocate_right(void)
{
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *      ****RRRR            SSSS   ->
	 *      RRRRRRRR            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, NULL, &natural_next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.next);
	ASSERT_TRUE(is_vma(s.next, 0x12, 0x16, 0x12, &s.anon_vmas[RIGHT]));
	ASSERT_TRUE(vma_write_started(s.next));
	ASSERT_TRUE(is_vma(s.source, 0x30, 0x32, 0x80, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 2);
	return true;
}

/* And on both sides, if the neighbours can be merged with each other. */
static bool test_copy_vma_relocate_both(void)
{
	const struct vma_spec next = { .pgoff = 0x14, .owner = LEFT };
	const struct vma_spec unfaulted = { .pgoff = 0x10 };
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****LLLL            SSSS   ->
	 *  LLLLLLLLLLLL            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &natural_prev, &next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x16, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_EQ(clear_scene(&s), 2);

	/*
	 * The anon_vma of the whole is that of the VMA with folios that stay, and
	 * not that of the source.
	 *
	 *  10  12  14  16          30  32
	 *  ....****RRRR            SSSS   ->
	 *  RRRRRRRRRRRR            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &unfaulted, &natural_next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x16, 0x10, &s.anon_vmas[RIGHT]));
	ASSERT_TRUE(s.anon_vmas[RIGHT].was_cloned);
	ASSERT_FALSE(s.anon_vmas[SOURCE].was_cloned);
	ASSERT_EQ(clear_scene(&s), 2);
	return true;
}

/* Only on the left if the neighbours have folios of different anon_vmas. */
static bool test_copy_vma_relocate_two_anon_vmas(void)
{
	const struct vma_spec next = { .pgoff = 0x14, .owner = SOURCE };
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****RRRR            SSSS   ->
	 *  LLLLLLLLRRRR            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &natural_prev, &natural_next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x14, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_TRUE(is_vma(s.next, 0x14, 0x16, 0x14, &s.anon_vmas[RIGHT]));
	ASSERT_FALSE(vma_write_started(s.next));
	ASSERT_EQ(clear_scene(&s), 3);

	/* It makes no difference that one of them is the source's. */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &natural_prev, &next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x14, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_TRUE(is_vma(s.next, 0x14, 0x16, 0x14, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 3);
	return true;
}

/*
 * Not with a VMA that fork() made: its anon_vma has the parent's as its root, and
 * with it the lock.
 */
static bool test_copy_vma_relocate_to_fork_child(void)
{
	const struct vma_spec prev = { .pgoff = 0x10, .owner = LEFT, .fork_child = true };
	const struct vma_spec next = { .pgoff = 0x14, .owner = LEFT, .fork_child = true };
	struct vm_area_struct *new;
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****LLLL            SSSS   ->
	 *  LLLLSSSSLLLL            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &displaced_source, &prev, &next));
	new = move_source(&s, NATURAL, /* relocate = */ true);
	ASSERT_TRUE(is_vma(new, 0x12, 0x14, NATURAL, &s.anon_vmas[SOURCE]));
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x12, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_TRUE(is_vma(s.next, 0x14, 0x16, 0x14, &s.anon_vmas[LEFT]));
	ASSERT_EQ(clear_scene(&s), 4);
	return true;
}

/* That the source is one does not matter if its folios are given away ... */
static bool test_copy_vma_relocate_from_fork_child(void)
{
	const struct vma_spec child = { .pgoff = 0x80, .owner = SOURCE, .fork_child = true };
	const struct vma_spec unfaulted = { .pgoff = 0x10 };
	struct vm_area_struct *new;
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****                SSSS   ->
	 *  LLLLLLLL                SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &child, &natural_prev, NULL));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ true), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x14, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_EQ(clear_scene(&s), 2);

	/*
	 * ... but does if a VMA that has no anon_vma would have to take the
	 * source's.
	 *
	 *  10  12  14  16          30  32
	 *  ....****                SSSS   ->
	 *  ....SSSS                SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &child, &unfaulted, NULL));
	new = move_source(&s, NATURAL, /* relocate = */ true);
	ASSERT_TRUE(is_vma(new, 0x12, 0x14, NATURAL, &s.anon_vmas[SOURCE]));
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x12, 0x10, NULL));
	ASSERT_EQ(clear_scene(&s), 3);
	return true;
}

/* A part of a VMA can be relocated to where it merges with the VMA itself. */
static bool test_copy_vma_relocate_to_source(void)
{
	const struct vma_spec source = { .pgoff = 0x10, .owner = SOURCE, .pages = 4 };
	const struct vma_spec prev = { .pgoff = 0x0c, .owner = SOURCE };
	struct vm_area_struct *expected, *new;
	struct scene s = {};
	struct vma_move move;

	/*
	 * The first two pages move behind the last.
	 *
	 *  0c  0e  10  12  14  16
	 *          SSSSSSSS****   ->
	 *          SSSSSSSSSSSS
	 */
	s.source = link_spec(&s, 0x10000, &source);
	expected = s.source;
	move = move_part(s.source, 0x10000, 0x14000);
	new = copy_moved(&s, &move, 0x14, /* relocate = */ true);
	ASSERT_EQ(new, expected);
	ASSERT_EQ(s.source, expected);
	ASSERT_TRUE(is_vma(new, 0x10, 0x16, 0x10, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 1);

	/*
	 * The last two move between the first and another VMA. That is the one
	 * which remains: from now on it is the source.
	 *
	 *  0c  0e  10  12  14  16
	 *  SSSS****SSSSSSSS       ->
	 *  SSSSSSSSSSSSSSSS
	 */
	expected = link_spec(&s, 0x0c000, &prev);
	s.source = link_spec(&s, 0x10000, &source);
	move = move_part(s.source, 0x12000, 0x0e000);
	new = copy_moved(&s, &move, 0x0e, /* relocate = */ true);
	ASSERT_EQ(new, expected);
	ASSERT_EQ(s.source, expected);
	ASSERT_TRUE(is_vma(new, 0x0c, 0x14, 0x0c, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 1);
	return true;
}

/* A move never merges with a VMA of another anon_vma, whatever its offset. */
static bool test_copy_vma_move_keeps_anon_vma(void)
{
	const struct vma_spec prev = { .pgoff = 0x10, .owner = SOURCE };
	struct vm_area_struct *new;
	struct scene s;

	/*
	 *  10  12  14  16          30  32
	 *  LLLL****RRRR            SSSS   ->
	 *  LLLLSSSSRRRR            SSSS
	 */
	ASSERT_TRUE(set_scene(&s, &natural_source, &natural_prev, &natural_next));
	new = move_source(&s, NATURAL, /* relocate = */ false);
	ASSERT_TRUE(is_vma(new, 0x12, 0x14, NATURAL, &s.anon_vmas[SOURCE]));
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x12, 0x10, &s.anon_vmas[LEFT]));
	ASSERT_TRUE(is_vma(s.next, 0x14, 0x16, 0x14, &s.anon_vmas[RIGHT]));
	ASSERT_EQ(clear_scene(&s), 4);

	/* It does with one of its own. */
	ASSERT_TRUE(set_scene(&s, &natural_source, &prev, &natural_next));
	ASSERT_EQ(move_source(&s, NATURAL, /* relocate = */ false), s.prev);
	ASSERT_TRUE(is_vma(s.prev, 0x10, 0x14, 0x10, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 3);
	return true;
}

/* The natural offset is taken if no other merges with more neighbours. */
static bool test_relocation_to_natural_offset(void)
{
	const struct vma_spec prev = { .pgoff = 0x50, .owner = LEFT };
	const struct vma_spec next = { .pgoff = 0x64, .owner = RIGHT };
	const struct vma_spec next_of_prev = { .pgoff = 0x14, .owner = LEFT };

	ASSERT_EQ(choice(&displaced_source, &natural_prev, NULL, false), NATURAL);
	ASSERT_EQ(choice(&displaced_source, NULL, &natural_next, false), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &natural_prev, &next_of_prev, false), NATURAL);

	/* The other neighbour could be merged with instead. */
	ASSERT_EQ(choice(&displaced_source, &natural_prev, &next, false), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &prev, &natural_next, false), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &prev, &natural_next, true), NATURAL);

	/* The offset remains, and only the anon_vma changes. */
	ASSERT_EQ(choice(&natural_source, &natural_prev, NULL, false), NATURAL);
	return true;
}

/* One that continues a neighbour's is taken if only that merges, or merges more. */
static bool test_relocation_to_neighbours_offset(void)
{
	const struct vma_spec prev = { .pgoff = 0x50, .owner = LEFT };
	const struct vma_spec child_prev = { .pgoff = 0x50, .owner = LEFT, .fork_child = true };
	const struct vma_spec next = { .pgoff = 0x64, .owner = RIGHT };
	const struct vma_spec next_of_prev = { .pgoff = 0x54, .owner = LEFT };
	const struct vma_spec source_of_prev = { .pgoff = 0x52, .owner = LEFT };
	const struct vma_spec source_of_next = { .pgoff = 0x52, .owner = RIGHT };
	const struct vma_spec unfaulted = { .pgoff = 0x54 };

	ASSERT_EQ(choice(&displaced_source, &prev, NULL, false), 0x52);
	ASSERT_EQ(choice(&displaced_source, NULL, &next, false), 0x62);
	ASSERT_EQ(choice(&displaced_source, &prev, &next_of_prev, false), 0x52);

	/* Either merges with one: with the left, as copy_vma() would. */
	ASSERT_EQ(choice(&displaced_source, &prev, &next, false), 0x52);
	/* Only the right can be merged with. */
	ASSERT_EQ(choice(&displaced_source, &child_prev, &next, false), 0x62);

	/* A move merges with one of them, and a relocation with both. */
	ASSERT_EQ(choice(&source_of_next, &prev, &unfaulted, false), 0x52);
	/* A move merges with both. */
	ASSERT_EQ(choice(&source_of_prev, &prev, &next_of_prev, false), MOVED);
	return true;
}

/* What merges with as many neighbours when it is moved is not relocated ... */
static bool test_relocation_that_merges_as_many(void)
{
	const struct vma_spec prev = { .pgoff = 0x10, .owner = SOURCE };
	const struct vma_spec displaced_prev = { .pgoff = 0x7e, .owner = SOURCE };
	const struct vma_spec displaced_next = { .pgoff = 0x82, .owner = SOURCE };

	ASSERT_EQ(choice(&displaced_source, NULL, NULL, false), MOVED);
	ASSERT_EQ(choice(&natural_source, &prev, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &displaced_prev, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &displaced_next, false), MOVED);
	/* Another neighbour, but not more of them. */
	ASSERT_EQ(choice(&displaced_source, &natural_prev, &displaced_next, false), MOVED);
	return true;
}

/* ... unless it always is to be, and then only to the natural offset. */
static bool test_relocation_always(void)
{
	const struct vma_spec prev = { .pgoff = 0x10, .owner = SOURCE };
	const struct vma_spec displaced_prev = { .pgoff = 0x7e, .owner = SOURCE };
	const struct vma_spec displaced_next = { .pgoff = 0x82, .owner = SOURCE };

	ASSERT_EQ(choice(&displaced_source, NULL, NULL, true), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &natural_prev, &displaced_next, true), NATURAL);

	/* It has that offset. */
	ASSERT_EQ(choice(&natural_source, NULL, NULL, true), MOVED);
	ASSERT_EQ(choice(&natural_source, &prev, NULL, true), MOVED);

	/* It would not merge at that offset, and does when it is moved. */
	ASSERT_EQ(choice(&displaced_source, &displaced_prev, NULL, true), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &displaced_next, true), MOVED);
	return true;
}

/* Only adjacent VMAs count. */
static bool test_relocation_into_larger_hole(void)
{
	const struct vma_spec far_prev = { .pgoff = 0x10, .owner = LEFT, .gap = 1 };
	const struct vma_spec far_next = { .pgoff = 0x14, .owner = RIGHT, .gap = 1 };
	const struct vma_spec prev = { .pgoff = 0x50, .owner = LEFT };
	const struct vma_spec next = { .pgoff = 0x64, .owner = RIGHT };

	ASSERT_EQ(choice(&displaced_source, &far_prev, &far_next, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &far_prev, &far_next, true), NATURAL);
	ASSERT_EQ(choice(&natural_source, &far_prev, &far_next, true), MOVED);

	/* The hole ends or begins with the range. */
	ASSERT_EQ(choice(&displaced_source, &prev, &far_next, false), 0x52);
	ASSERT_EQ(choice(&displaced_source, &far_prev, &next, false), 0x62);
	return true;
}

/* There is no offset below zero. */
static bool test_relocation_offset_underflow(void)
{
	const struct vma_spec at_zero = { .pgoff = 0, .owner = RIGHT };
	const struct vma_spec at_one = { .pgoff = 1, .owner = RIGHT };
	const struct vma_spec at_two = { .pgoff = 2, .owner = RIGHT };

	ASSERT_EQ(choice(&displaced_source, NULL, &at_zero, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &at_one, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &at_one, true), NATURAL);
	ASSERT_EQ(choice(&displaced_source, NULL, &at_two, false), 0);
	return true;
}

/* Nor is there one beyond the last. */
static bool test_relocation_offset_overflow(void)
{
	const struct vma_spec ends = { .pgoff = -2UL, .owner = LEFT };
	const struct vma_spec no_room = { .pgoff = -4UL, .owner = LEFT };
	const struct vma_spec room = { .pgoff = -5UL, .owner = LEFT };

	ASSERT_EQ(choice(&displaced_source, &ends, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &ends, NULL, true), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &no_room, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &room, NULL, false), -3UL);
	return true;
}

/* A relocation is for nothing if the VMAs cannot be merged at any offset. */
static bool test_relocation_next_to_unmergeable(void)
{
	const struct vma_spec exec = { .pgoff = 0x10, .owner = LEFT, .exec = true };
	const struct vma_spec displaced_exec = { .pgoff = 0x50, .owner = LEFT, .exec = true };
	const struct vma_spec child = { .pgoff = 0x10, .owner = LEFT, .fork_child = true };
	const struct vma_spec far_child = { .pgoff = 0x54, .owner = RIGHT, .fork_child = true };

	ASSERT_EQ(choice(&displaced_source, &exec, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &displaced_exec, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, &exec, NULL, true), NATURAL);
	ASSERT_EQ(choice(&displaced_source, &child, NULL, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &far_child, false), MOVED);
	ASSERT_EQ(choice(&displaced_source, NULL, &far_child, true), NATURAL);
	return true;
}

/* A VMA that has no anon_vma takes the source's, if that is not a fork child. */
static bool test_relocation_next_to_unfaulted(void)
{
	const struct vma_spec child = { .pgoff = 0x80, .owner = SOURCE, .fork_child = true };
	const struct vma_spec prev = { .pgoff = 0x10 };
	const struct vma_spec next = { .pgoff = 0x14 };

	ASSERT_EQ(choice(&displaced_source, &prev, NULL, false), NATURAL);
	ASSERT_EQ(choice(&displaced_source, NULL, &next, false), NATURAL);
	ASSERT_EQ(choice(&child, &prev, &next, false), MOVED);

	/* Without relocation it merges as well. */
	ASSERT_EQ(choice(&natural_source, &prev, &next, false), MOVED);
	/* And here with one of them only. */
	ASSERT_EQ(choice(&natural_source, &prev, &natural_next, false), NATURAL);
	return true;
}

/* The rest of the VMA that a part of moves is a neighbour like any other. */
static bool test_relocation_next_to_source(void)
{
	const struct vma_spec natural = { .pgoff = 0x10, .owner = SOURCE, .pages = 4 };
	const struct vma_spec displaced = { .pgoff = 0x50, .owner = SOURCE, .pages = 4 };
	struct scene s = {};
	struct vma_move move;
	pgoff_t pgoff;

	/*
	 * The first two pages move behind the last.
	 *
	 *  10  12  14  16
	 *  SSSSSSSS****
	 */
	s.source = link_spec(&s, 0x10000, &natural);
	pgoff = 0x10;
	move = move_part(s.source, 0x10000, 0x14000);
	ASSERT_TRUE(vma_relocation_merges(&move, false, &pgoff));
	ASSERT_EQ(pgoff, 0x14);
	ASSERT_EQ(clear_scene(&s), 1);

	s.source = link_spec(&s, 0x10000, &displaced);
	pgoff = 0x50;
	move = move_part(s.source, 0x10000, 0x14000);
	ASSERT_TRUE(vma_relocation_merges(&move, false, &pgoff));
	ASSERT_EQ(pgoff, 0x54);
	ASSERT_EQ(clear_scene(&s), 1);
	return true;
}

/*
 * Memory that slides by its own size: the source is beside the new address, and
 * gone afterwards. Returns the offset, or MOVED.
 */
static pgoff_t slide(struct scene *s, unsigned long from, const struct vma_spec *next,
		     bool always, struct vm_area_struct **new)
{
	const struct vma_spec source = { .pgoff = from, .owner = SOURCE };
	pgoff_t pgoff = source.pgoff;
	struct vma_move move;
	bool relocate;

	*s = (struct scene){};
	s->source = link_spec(s, from << PAGE_SHIFT, &source);
	if (next)
		s->next = link_spec(s, 0x14000, next);
	move = move_part(s->source, from << PAGE_SHIFT, 0x12000);
	relocate = vma_relocation_merges(&move, always, &pgoff);
	*new = copy_moved(s, &move, pgoff, relocate);
	return relocate ? pgoff : MOVED;
}

static bool test_relocation_slides(void)
{
	const struct vma_spec displaced_next = { .pgoff = 0x64, .owner = RIGHT };
	struct vm_area_struct *new;
	struct scene s;

	/*
	 *  10  12  14  16
	 *  SSSS****NNNN
	 */
	ASSERT_EQ(slide(&s, 0x10, NULL, false, &new), MOVED);
	ASSERT_NE(new, s.source);
	ASSERT_EQ(clear_scene(&s), 2);

	ASSERT_EQ(slide(&s, 0x10, &natural_next, false, &new), NATURAL);
	ASSERT_EQ(new, s.next);
	ASSERT_TRUE(is_vma(new, 0x12, 0x16, 0x12, &s.anon_vmas[RIGHT]));
	ASSERT_TRUE(is_vma(s.source, 0x10, 0x12, 0x10, &s.anon_vmas[SOURCE]));
	ASSERT_EQ(clear_scene(&s), 2);

	ASSERT_EQ(slide(&s, 0x10, &displaced_next, false, &new), 0x62);
	ASSERT_EQ(new, s.next);
	ASSERT_EQ(clear_scene(&s), 2);

	/* With its natural offset, and still not with the source. */
	ASSERT_EQ(slide(&s, 0x10, NULL, true, &new), NATURAL);
	ASSERT_NE(new, s.source);
	ASSERT_EQ(clear_scene(&s), 2);

	/*
	 *  12  14  16
	 *  ****SSSS
	 */
	ASSERT_EQ(slide(&s, 0x14, NULL, false, &new), MOVED);
	ASSERT_NE(new, s.source);
	ASSERT_EQ(clear_scene(&s), 2);
	ASSERT_EQ(slide(&s, 0x14, NULL, true, &new), NATURAL);
	ASSERT_NE(new, s.source);
	ASSERT_EQ(clear_scene(&s), 2);
	return true;
}

/* It is the size at the new address that counts. */
static bool test_relocation_changes_size(void)
{
	const struct vma_spec expanded = { .pgoff = 0x80, .owner = SOURCE, .pages = 1 };
	const struct vma_spec part = { .pgoff = 0x80, .owner = SOURCE, .pages = 4 };
	const struct vma_spec next = { .pgoff = 0x64, .owner = RIGHT };
	const struct vma_spec prev = { .pgoff = 0x50, .owner = LEFT, .pages = 3 };

	ASSERT_EQ(choice(&expanded, NULL, &next, false), 0x62);
	ASSERT_EQ(choice(&part, NULL, &next, false), 0x62);
	ASSERT_EQ(choice(&expanded, &prev, NULL, false), 0x53);
	return true;
}

/* With how many neighbours the source merges if it goes to that offset. */
static int count_merges(const struct vma_spec *source, const struct vma_spec *prev,
			const struct vma_spec *next, pgoff_t pgoff, bool relocate)
{
	struct scene s;

	if (!set_scene(&s, source, prev, next) || !move_source(&s, pgoff, relocate))
		return -1;
	return s.map_count + 1 - clear_scene(&s);
}

/* vma_relocation_merges() against what copy_vma() does at each offset. */
static bool is_best_choice(const struct vma_spec *source, const struct vma_spec *prev,
			   const struct vma_spec *next, bool always)
{
	/* All offsets that continue that of a neighbour. */
	const pgoff_t offsets[] = { NATURAL, 0x52, 0x62 };
	const int moved = count_merges(source, prev, next, source->pgoff, false);
	const int natural = count_merges(source, prev, next, NATURAL, true);
	const pgoff_t chosen = choice(source, prev, next, always);
	int i, most = -1;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		int n = count_merges(source, prev, next, offsets[i], true);

		most = n > most ? n : most;
	}

	ASSERT_TRUE(moved >= 0 && natural >= 0);
	/* A relocation never merges with fewer. */
	ASSERT_TRUE(most >= moved);
	if (natural == most && (most > moved || (always && source->pgoff != NATURAL)))
		ASSERT_EQ(chosen, NATURAL);
	else if (most > moved)
		ASSERT_EQ(count_merges(source, prev, next, chosen, true), most);
	else
		ASSERT_EQ(chosen, MOVED);
	return true;
}

/* Each kind of neighbour that differs in what it merges with, and none at all. */
static const struct vma_spec neighbours[] = {
	{ .owner = NOBODY },
	{ .owner = SOURCE },
	{ .owner = SOURCE, .fork_child = true },
	{ .owner = LEFT },
	{ .owner = LEFT, .fork_child = true },
	{ .owner = RIGHT },
	{ .owner = RIGHT, .fork_child = true },
	{ .owner = LEFT, .exec = true },
};

/* The @i-th neighbour, of all kinds at each of the offsets. NULL: none. */
static const struct vma_spec *get_neighbour(int i, const pgoff_t *offsets,
					    struct vma_spec *spec)
{
	if (!i)
		return NULL;
	*spec = neighbours[(i - 1) % ARRAY_SIZE(neighbours)];
	spec->pgoff = offsets[(i - 1) / ARRAY_SIZE(neighbours)];
	return spec;
}

static void print_spec(const char *name, const struct vma_spec *spec)
{
	if (spec)
		fprintf(stderr, "%s: offset %lx, anon_vma %d, fork child %d, exec %d\n",
			name, spec->pgoff, spec->owner, spec->fork_child, spec->exec);
}

static bool is_best_choice_between(const struct vma_spec *prev,
				   const struct vma_spec *next)
{
	const pgoff_t offsets[] = { NATURAL, 0x52, 0x80 };
	struct vma_spec source = { .owner = SOURCE };
	int i;

	for (i = 0; i < 4 * ARRAY_SIZE(offsets); i++) {
		const bool always = i & 1;

		source.fork_child = i & 2;
		source.pgoff = offsets[i / 4];
		if (!is_best_choice(&source, prev, next, always)) {
			print_spec("source", &source);
			print_spec("prev", prev);
			print_spec("next", next);
			fprintf(stderr, "always %d\n", always);
			return false;
		}
	}
	return true;
}

/* All kinds of neighbours on both sides. */
static bool test_relocation_merges_most(void)
{
	const pgoff_t prev_offsets[] = { 0x10, 0x50 };
	const pgoff_t next_offsets[] = { 0x14, 0x54, 0x64 };
	const int nr_prev = ARRAY_SIZE(prev_offsets) * ARRAY_SIZE(neighbours);
	const int nr_next = ARRAY_SIZE(next_offsets) * ARRAY_SIZE(neighbours);
	const struct vma_spec *prev, *next;
	struct vma_spec prev_spec, next_spec;
	int i, j;

	for (i = 0; i <= nr_prev; i++) {
		prev = get_neighbour(i, prev_offsets, &prev_spec);
		for (j = 0; j <= nr_next; j++) {
			next = get_neighbour(j, next_offsets, &next_spec);
			ASSERT_TRUE(is_best_choice_between(prev, next));
		}
	}
	return true;
}

static void run_relocate_tests(int *num_tests, int *num_fail)
{
	/* What a relocated range merges with. */
	TEST(copy_vma_relocate_left);
	TEST(copy_vma_relocate_right);
	TEST(copy_vma_relocate_both);
	TEST(copy_vma_relocate_two_anon_vmas);
	TEST(copy_vma_relocate_to_fork_child);
	TEST(copy_vma_relocate_from_fork_child);
	TEST(copy_vma_relocate_to_source);
	TEST(copy_vma_move_keeps_anon_vma);

	/* Which offset it is relocated to, if any. */
	TEST(relocation_to_natural_offset);
	TEST(relocation_to_neighbours_offset);
	TEST(relocation_that_merges_as_many);
	TEST(relocation_always);
	TEST(relocation_into_larger_hole);
	TEST(relocation_offset_underflow);
	TEST(relocation_offset_overflow);
	TEST(relocation_next_to_unmergeable);
	TEST(relocation_next_to_unfaulted);
	TEST(relocation_next_to_source);
	TEST(relocation_slides);
	TEST(relocation_changes_size);
	TEST(relocation_merges_most);
}
