// SPDX-License-Identifier: GPL-2.0
/*
 * rmap_benchmark - how long do reverse-map walks take, and what do they visit?
 *
 * Builds one physical page with many mappings, makes the kernel walk them, and
 * reads the walks from the events rmap:rmap_walk_{start,lock,unlock,end}, in an
 * ftrace instance of its own.  See usage() for the options.
 *
 * walk duration	from the start of a walk to its end
 * lock hold		one hold of the lock of an interval tree; KSM's walk takes
 *			it anew for each page that was merged
 * VMAs per walk, per look-up	how many the walk or one hold visited
 *
 * Times include what the events cost.  KSM and reclaim settings are restored
 * at the end, whatever ended it, but for SIGKILL.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages.h"
#include "pairing.h"
#include "report.h"
#include "system.h"
#include "trigger.h"

#define MAX_ROWS	(NR_TYPES * NR_TRIGGERS * 6)
#define EVENT_BYTES	96	/* of a record in the ring, with room to spare */

static struct options {
	struct setup setup;
	bool types[NR_TYPES], triggers[NR_TRIGGERS];
	enum report_form form;
	bool force, untraced;
	long assert_visits;
} options = {
	.setup = { .vmas = 20000, .sharers = 256, .iterations = 10 },
	.types = { true, true, true },
	.triggers = { true },
	.assert_visits = -1,
};

static struct pages pages;
static struct row rows[MAX_ROWS];
static size_t nr_rows;
static uint64_t worst_visits;
static pid_t owner;

static void __noreturn usage(int status)
{
	fputs("rmap_benchmark [OPTION]... - measures reverse-map walks; needs root\n"
	      "  -n VMAS         VMAs in the anon_vma of the KSM page (20000)\n"
	      "  -s SHARERS      mappings of the page, whatever its type (256)\n"
	      "  -c CHILDREN     forked from the process that has the KSM page (0)\n"
	      "  -i ITERATIONS   how often the trigger is pulled (10)\n"
	      "  -t TYPES        of ksm,anon,file,split (ksm,anon,file); split is an\n"
	      "                  anonymous page, mapped once, among -n VMAs\n"
	      "  -m TRIGGERS     of migrate,reclaim,compact,scan (migrate)\n"
	      "  -T SECONDS      limit of each wait (300)\n"
	      "  -F, --force     go on though KSM has merged pages of others\n"
	      "  -N, --no-trace  only time the triggers: for kernels without the events\n"
	      "  --csv, --json, --metrics  instead of a table; metrics are the maxima, and\n"
	      "                  the minima as least-...\n"
	      "  --assert-visits N  fail if a KSM walk visits more VMAs in a look-up\n"
	      "Exit status: 0; 1 failed; 4 this machine can't do it (said why).\n",
	      status ? stderr : stdout);
	exit(status);
}

static void clean_up(void)
{
	if (getpid() != owner)
		return;
	close_trace();
	drop_pages(&pages);
	restore_ksm();
	leave_cgroup();
}

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || *text == '-' || value < least || value > most)
		fail("'%s' is not from %lu to %lu", text, least, most);
	return value;
}

static void choose(char *list, const char * const *names, int count, bool *chosen)
{
	memset(chosen, 0, count * sizeof(*chosen));
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		int i = 0;

		while (i < count && strcmp(word, names[i]))
			i++;
		if (i == count)
			fail("'%s' is unknown; --help lists what there is", word);
		chosen[i] = true;
	}
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "csv", 0, NULL, 'C' }, { "json", 0, NULL, 'J' }, { "metrics", 0, NULL, 'M' },
		{ "assert-visits", 1, NULL, 'A' }, { "force", 0, NULL, 'F' },
		{ "no-trace", 0, NULL, 'N' }, { "help", 0, NULL, 'h' }, { 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "n:s:c:i:t:m:T:FNh", names, NULL)) != -1) {
		if (opt == 'n')
			options.setup.vmas = number(optarg, 2, 10000000);
		else if (opt == 's')
			options.setup.sharers = number(optarg, 1, 1000000);
		else if (opt == 'c')
			options.setup.children = number(optarg, 0, 10000);
		else if (opt == 'i')
			options.setup.iterations = number(optarg, 1, 1000000);
		else if (opt == 't')
			choose(optarg, type_names, NR_TYPES, options.types);
		else if (opt == 'm')
			choose(optarg, trigger_names, NR_TRIGGERS, options.triggers);
		else if (opt == 'T')
			limit_seconds = number(optarg, 1, 86400);
		else if (opt == 'F')
			options.force = true;
		else if (opt == 'N')
			options.untraced = true;
		else if (opt == 'A')
			options.assert_visits = number(optarg, 0, 1000000000);
		else if (opt == 'C')
			options.form = FORM_CSV;
		else if (opt == 'J')
			options.form = FORM_JSON;
		else if (opt == 'M')
			options.form = FORM_METRICS;
		else
			usage(opt == 'h' ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	if (optind < argc)
		fail("'%s' is no option; see --help", argv[optind]);
	if (options.setup.sharers > options.setup.vmas)
		fail("-s must not exceed -n: every sharer is in a VMA of its own");
	if (options.assert_visits >= 0 && (options.untraced || !options.types[TYPE_KSM]))
		fail("--assert-visits needs the events and -t ksm");
}

/* The worst case of events: three passes, each with a lock and an unlock per sharer. */
static size_t ring_size(void)
{
	size_t walks = 8, per_walk = 4 * options.setup.sharers + 4;

	return walks * per_walk * EVENT_BYTES + (1 << 20);
}

static void prepare_ksm(void)
{
	save_ksm(options.force);
	set_ksm("max_page_sharing", options.setup.sharers < 256 ? 256 : options.setup.sharers + 1);
	set_ksm("merge_across_nodes", 1);
	set_ksm("use_zero_pages", 0);
	set_ksm("smart_scan", 0);
	set_ksm("pages_to_scan", 100000);
	set_ksm("sleep_millisecs", 0);
}

/* Reclaim takes the page away, and what is swapped in is no longer merged. */
static void rebuild_pages(void)
{
	uint64_t pfn = pages.region ? pfn_of(pages.page) : 0;

	if (pfn && mappings_of(pfn) == mappings_wanted(&pages))
		return;
	if (pages.region && pfn && mappings_of(pfn) == ~0ULL)
		return;
	drop_pages(&pages);
	build_pages(&pages);
}

static void iterate(enum trigger trigger, struct walks *walks, struct samples *durations)
{
	struct filter filter = { .pid = getpid() };
	struct events events = { 0 };
	uint64_t begin;

	rebuild_pages();
	filter.pfn[0] = pfn_of(pages.page);
	trace_on();
	begin = now();
	pull_trigger(trigger, &pages);
	add_sample(durations, now() - begin);
	trace_off(&events);
	filter.pfn[1] = pfn_of(pages.page);
	pair_events(walks, &events, &filter);
	free_events(&events);
}

static void add_row(enum trigger trigger, const char *measure, const char *unit,
		    struct samples *samples)
{
	rows[nr_rows++] = (struct row){
		type_names[pages.type], trigger_names[trigger], measure, unit, summarize(samples),
	};
}

static void add_rows(enum trigger trigger, struct walks *walks)
{
	if (options.untraced)
		return;
	if (walks->unpaired)
		fail("%zu events of %s have no partner", walks->unpaired, type_names[pages.type]);
	if (!walks->duration.count && must_walk(trigger))
		fail("no walk was seen; is this the initial PID namespace?");
	if (!walks->duration.count)
		progress("%s did not walk the %s page", trigger_names[trigger],
			 type_names[pages.type]);
	add_row(trigger, "walk duration", "ns", &walks->duration);
	add_row(trigger, "lock hold", "ns", &walks->hold);
	add_row(trigger, "VMAs per walk", "VMAs", &walks->vmas);
	add_row(trigger, "look-ups per walk", "", &walks->lookups);
	add_row(trigger, "VMAs per look-up", "VMAs", &walks->visits);
	if (pages.type == TYPE_KSM && rows[nr_rows - 1].s.max > worst_visits)
		worst_visits = rows[nr_rows - 1].s.max;
}

/* Once a second: what has to be written interrupts what is measured next. */
static void show_iteration(enum trigger trigger, unsigned long number)
{
	static uint64_t shown;

	if (shown && now() - shown < 1000000000)
		return;
	shown = now();
	progress("%s: %s %lu of %lu", type_names[pages.type], trigger_names[trigger], number,
		 options.setup.iterations);
}

static bool run(enum trigger trigger)
{
	const char *why = cannot(trigger, &pages);
	struct samples durations = { 0 };
	struct walks walks = { 0 };

	if (why) {
		progress("%s skipped: %s", trigger_names[trigger], why);
		return false;
	}
	prepare_trigger(trigger, mappings_wanted(&pages));
	for (unsigned long i = 0; i < options.setup.iterations; i++) {
		stop_if_asked();
		show_iteration(trigger, i + 1);
		iterate(trigger, &walks, &durations);
	}
	add_row(trigger, "trigger", "ns", &durations);
	add_rows(trigger, &walks);
	free_samples(&durations);
	free_walks(&walks);
	return true;
}

static bool run_type(enum page_type type)
{
	bool any = false;

	pages = (struct pages){ .type = type, .vmas = options.setup.vmas,
		.sharers = options.setup.sharers, .children = options.setup.children };
	for (int i = 0; i < NR_TRIGGERS; i++)
		if (options.triggers[i])
			any |= run(i);
	drop_pages(&pages);
	return any;
}

int main(int argc, char **argv)
{
	bool any = false;

	parse_options(argc, argv);
	if (geteuid())
		skip("not root");
	owner = getpid();
	catch_signals();
	atexit(clean_up);
	if (!options.untraced)
		open_trace(ring_size());
	if (options.types[TYPE_KSM])
		prepare_ksm();
	for (int i = 0; i < NR_TYPES; i++)
		if (options.types[i])
			any |= run_type(i);
	if (!any)
		skip("no trigger can work here");
	progress("%s", "");
	report(stdout, options.form, &options.setup, rows, nr_rows);
	if (options.assert_visits >= 0 && worst_visits > (uint64_t)options.assert_visits)
		fail("a KSM walk visited %llu VMAs in a look-up, more than %ld",
		     (unsigned long long)worst_visits, options.assert_visits);
	return EXIT_SUCCESS;
}
