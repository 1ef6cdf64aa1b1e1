/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MREMAP_RELOCATE_H
#define _LINUX_MREMAP_RELOCATE_H

/*
 * What became of a move that could have been a relocation. All but the first and
 * the last are moves as without relocation.
 */
enum mremap_relocate_result {
	MREMAP_RELOCATE_DONE,		/* and the folios with it */
	MREMAP_RELOCATE_NO_GAIN,	/* nothing more would merge */
	MREMAP_RELOCATE_DONTUNMAP,	/* MREMAP_DONTUNMAP */
	MREMAP_RELOCATE_SIZE,		/* beyond relocate_max_kb */
	MREMAP_RELOCATE_VMA,		/* not plain anonymous memory */
	MREMAP_RELOCATE_UFFD,		/* userfaultfd is registered */
	MREMAP_RELOCATE_SHARED,		/* a page may have other users */
	MREMAP_RELOCATE_KSM,		/* a KSM page */
	MREMAP_RELOCATE_LARGE,		/* a large folio, in part */
	MREMAP_RELOCATE_HUGE,		/* a huge PMD under migration */
	MREMAP_RELOCATE_DEVICE,		/* device memory */
	MREMAP_RELOCATE_UNKNOWN,	/* nothing we know */
	MREMAP_RELOCATE_NO_SPARES,	/* no page tables that a move needs not */
	MREMAP_RELOCATE_NOMEM,		/* no page tables: mremap() failed */
	NR_MREMAP_RELOCATE_RESULTS
};

#endif /* _LINUX_MREMAP_RELOCATE_H */
