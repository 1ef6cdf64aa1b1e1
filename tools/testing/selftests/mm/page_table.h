/* SPDX-License-Identifier: GPL-2.0-only */
/* What tests of page tables share, which are of several sizes. Comes after vm_util.h. */
#ifndef _PAGE_TABLE_H
#define _PAGE_TABLE_H

#define NO_ROOM		"a page table maps too much for 32 bits: use a kernel with smaller pages"

/*
 * What a page table maps. Without THPs nobody tells, but it is not more than a page
 * full of entries maps, and that is a multiple of it.
 */
static inline size_t table_size(void)
{
	static size_t size;

	if (!size)
		size = read_pmd_pagesize();
	if (!size)
		size = psize() * (psize() / sizeof(void *));
	return size;
}

#endif
