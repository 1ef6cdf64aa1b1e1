/* SPDX-License-Identifier: GPL-2.0 */
/* One physical page with many mappings: merged, inherited, or of a file. */
#ifndef RMAP_PAGES_H
#define RMAP_PAGES_H

#include <stdbool.h>
#include <stdint.h>

enum page_type { TYPE_KSM, TYPE_ANON, TYPE_FILE, TYPE_SPLIT, NR_TYPES };
extern const char * const type_names[NR_TYPES];

struct pages {
	enum page_type type;
	unsigned long vmas, sharers, children;
	char *region, *page;	/* all of it, and the page that triggers take */
	unsigned long region_pages;
	int *pids;
	unsigned long nr_pids;
};

void build_pages(struct pages *pages);
void drop_pages(struct pages *pages);
void scan_by_ksmd(unsigned long nr);
/* 0 when the page is not present. */
uint64_t pfn_of(const void *address);
/* How often the page is mapped; ~0 when the kernel does not say. */
uint64_t mappings_of(uint64_t pfn);
unsigned long mappings_wanted(const struct pages *pages);

#endif
