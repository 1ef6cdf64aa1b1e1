// SPDX-License-Identifier: GPL-2.0
/* The settings of KSM: saved before the first change, restored at the end. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "system.h"

const char *ksm_folder = "/sys/kernel/mm/ksm";

/*
 * In the order of restoring.  The page counts can only be written while the
 * advisor is off, and how pages are shared only while none are; "run" is last.
 */
static struct {
	const char *name;
	char value[64];
	bool saved;
} settings[] = {
	{ .name = "max_page_sharing" },
	{ .name = "merge_across_nodes" },
	{ .name = "use_zero_pages" },
	{ .name = "smart_scan" },
	{ .name = "pages_to_scan" },
	{ .name = "sleep_millisecs" },
	{ .name = "advisor_mode" },
	{ .name = "run" },
};

#define NR_SETTINGS (sizeof(settings) / sizeof(*settings))

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", ksm_folder, name);
	return path;
}

/* "a [b] c" is a choice of b. */
static void take_choice(char *value)
{
	char *begin = strchr(value, '['), *end = strchr(value, ']');

	value[strcspn(value, "\n")] = 0;
	if (begin && end > begin) {
		*end = 0;
		memmove(value, begin + 1, end - begin);
	}
}

static bool exists(const char *name)
{
	return !access(path_of(name), F_OK);
}

void save_ksm(bool force)
{
	if (!exists("run"))
		skip("this kernel has no KSM; build one with CONFIG_KSM=y");
	if (read_number(path_of("pages_shared")) && !force)
		skip("KSM has merged pages of others, which would be unmerged; -F does it");
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		if (!read_file(path_of(settings[i].name), settings[i].value,
			       sizeof(settings[i].value)))
			continue;	/* of a later kernel, or without NUMA */
		take_choice(settings[i].value);
		settings[i].saved = true;
	}
	write_file(path_of("run"), "2");
	if (exists("advisor_mode"))
		write_file(path_of("advisor_mode"), "none");
}

void set_ksm(const char *name, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	if (exists(name))
		write_file(path_of(name), text);
}

void restore_ksm(void)
{
	if (!settings[NR_SETTINGS - 1].saved)
		return;
	/* A page that is being migrated or freed makes this busy for a moment. */
	for (int i = 0; i < 1000 && try_write(path_of("run"), "2"); i++)
		usleep(1000);
	try_write(path_of("advisor_mode"), "none");
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		int error;

		if (!settings[i].saved)
			continue;
		error = try_write(path_of(settings[i].name), settings[i].value);
		if (error)
			fprintf(stderr, "rmap_benchmark: can't restore %s to '%s': %s\n",
				path_of(settings[i].name), settings[i].value, strerror(error));
		settings[i].saved = false;
	}
}
