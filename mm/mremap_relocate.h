/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Relocation of the anonymous memory that mremap() moves.
 */
#ifndef _MM_MREMAP_RELOCATE_H
#define _MM_MREMAP_RELOCATE_H

#include <linux/jump_label.h>
#include <linux/mm_types.h>

#include "vma.h"

struct pagetable_move_control;

DECLARE_STATIC_KEY_FALSE(mremap_relocate_key);

/* Is any move to be a relocation? */
static inline bool mremap_relocate_enabled(void)
{
	return static_branch_unlikely(&mremap_relocate_key);
}

/**
 * struct mremap_relocate_request - A move that may be a relocation
 * @move:	What moves where to.
 * @dontunmap:	Does the VMA stay, without its pages?
 * @explicit:	Does the caller ask for it, whatever the mode and the size?
 * @spares:	Page tables that mremap_relocate_prepare() has allocated.
 * @nr_spares:	How many of them have not been used.
 */
struct mremap_relocate_request {
	struct vma_move move;
	bool dontunmap;
	bool explicit;
	pgtable_t *spares;
	unsigned long nr_spares;
};

bool mremap_relocate_prepare(struct mremap_relocate_request *req, pgoff_t *pgoff);
unsigned long mremap_relocate_page_tables(struct mremap_relocate_request *req,
					  struct pagetable_move_control *pmc);
void mremap_relocate_free_spares(struct mremap_relocate_request *req);

#endif /* _MM_MREMAP_RELOCATE_H */
