// SPDX-License-Identifier: GPL-2.0
/*
 * mm_fuzz - does memory do what a model of it says, whatever is done with it?
 *
 * Makes random system calls on the memory of an arena, a range of addresses, keeps a
 * model of each page there, and compares: contents, what calls return, which accesses
 * get a signal, and what /proc says of the mappings.  Documentation/mm/mm_fuzz.rst says
 * what exactly.
 *
 *	-s SEED		of the random numbers (the time)
 *	-n OPS		how many operations (20000)
 *	-i LIST		only those of these indices, as 3,17,22
 *	-c OPS		how many to a check of all pages; each fourth reads smaps (500)
 *	-p PAGES	in an arena (128)
 *	-t THREADS	with an arena each, in one address space (1)
 *	-x		one thread more, that pages out, migrates and reads all of it
 *	-d DIR		maps a file there, too
 *	-S DEVICE	a device or a file to swap to while it runs
 *	-e LIST		turn on meanwhile: ksm, thp
 *	-R MODE		relocate_anon: never, merge, always, or random (random)
 *	-f LIST		leave out groups of operations, or single ones
 *	-l		is swap and shared memory free again after the run?
 *	-T SECONDS	that may pass without an operation or check (120)
 *	-v		prints each call
 *	-m		minimises a failing sequence
 *	-r RUNS		with -m: a sequence fails if one of so many runs does (1)
 *	-M MUTANT	be wrong on purpose: drop-page, keep-page, keep-prot, lose-lock,
 *			crash, hang
 *
 * Ends with lines "metric NAME VALUE" and "ok". A finding is printed with the seed and
 * the index of the operation, and the exit status is 1; 2 if an option makes no sense,
 * 3 if something is missing.
 *
 * -e, -R and -S need root. What they set is restored.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mm_fuzz.h"

#define EXIT_USAGE	2

struct options opt = {
	.ops = 20000, .check = 500, .pages = 128, .threads = 1, .relocate = "random",
	.timeout = 120, .repeat = 1,
};

struct shared *shared;
size_t page_size;
int argc_saved;
char **argv_saved;

static const char * const mutants[] = {
	"drop-page", "keep-page", "keep-prot", "lose-lock", "crash", "hang",
};

static void __noreturn __printf(1, 2) usage(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "mm_fuzz: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(EXIT_USAGE);
}

/* Is a word in a list with commas? */
bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (list && *list) {
		if (!strncmp(list, word, len) && (!list[len] || list[len] == ','))
			return true;
		list = strchr(list, ',');
		list += !!list;
	}
	return false;
}

bool is_mutant(const char *name)
{
	return opt.mutant && !strcmp(opt.mutant, name);
}

static long parse_number(const char *name, const char *text, long least, long most)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most)
		usage("%s takes a number from %ld to %ld, not '%s'", name, least, most, text);
	return value;
}

static uint64_t parse_seed(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		usage("-s takes a number, not '%s'", text);
	return value;
}

static void parse_list(char *text)
{
	long last = -1;
	char *word;

	opt.list = malloc((strlen(text) / 2 + 1) * sizeof(*opt.list));
	if (!opt.list)
		die("out of memory");
	while ((word = strsep(&text, ","))) {
		opt.list[opt.nr_list] = parse_number("-i", word, 0, LONG_MAX - 1);
		if (opt.list[opt.nr_list] <= last)
			usage("-i takes indices in ascending order");
		last = opt.list[opt.nr_list++];
	}
}

static void check_names(void)
{
	static const char * const modes[] = { "never", "merge", "always", "random" };
	size_t i, known = 0;

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		known += !strcmp(opt.relocate, modes[i]);
	if (!known)
		usage("-R takes never, merge, always or random, not '%s'", opt.relocate);
	for (i = 0; opt.mutant && i < ARRAY_SIZE(mutants); i++)
		known += is_mutant(mutants[i]);
	if (opt.mutant && known < 2)
		usage("-M knows no '%s'", opt.mutant);
	if (opt.enable && strcmp(opt.enable, "ksm") && strcmp(opt.enable, "thp") &&
	    strcmp(opt.enable, "ksm,thp") && strcmp(opt.enable, "thp,ksm"))
		usage("-e takes ksm and thp, not '%s'", opt.enable);
	if (!list_groups(opt.without))
		usage("-f takes groups and operations, as the table in ops.c has them, not '%s'",
		      opt.without);
}

static const struct {
	char letter;
	long *value, least, most;
} numbers[] = {
	{ 'n', &opt.ops, 1, LONG_MAX / 2 },
	{ 'c', &opt.check, 1, 1L << 40 },
	{ 'p', &opt.pages, 16, MAX_PAGES },
	{ 't', &opt.threads, 1, MAX_THREADS },
	{ 'T', &opt.timeout, 1, 1 << 20 },
	{ 'r', &opt.repeat, 1, 1 << 20 },
};

static const struct {
	char letter;
	const char **value;
} strings[] = {
	{ 'd', &opt.dir }, { 'S', &opt.swap }, { 'e', &opt.enable }, { 'R', &opt.relocate },
	{ 'f', &opt.without }, { 'M', &opt.mutant },
};

static const struct {
	char letter;
	bool *value;
} flags[] = {
	{ 'x', &opt.disturb }, { 'l', &opt.leaks }, { 'v', &opt.verbose },
	{ 'm', &opt.minimise },
};

static void parse_option(int c)
{
	const char name[] = { '-', c, '\0' };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		if (c == numbers[i].letter)
			*numbers[i].value = parse_number(name, optarg, numbers[i].least,
							 numbers[i].most);
	for (i = 0; i < ARRAY_SIZE(strings); i++)
		if (c == strings[i].letter)
			*strings[i].value = optarg;
	for (i = 0; i < ARRAY_SIZE(flags); i++)
		if (c == flags[i].letter)
			*flags[i].value = true;
	if (c == 's')
		opt.seed = parse_seed(optarg);
	if (c == 'i')
		parse_list(optarg);
	if (c == '?')
		exit(EXIT_USAGE);	/* getopt() has said why. */
}

static void parse(int argc, char **argv)
{
	int c;

	opt.seed = time(NULL);
	while ((c = getopt(argc, argv, "s:n:i:c:p:t:xd:S:e:R:f:lT:vmr:M:")) != -1)
		parse_option(c);
	if (optind < argc)
		usage("'%s' is no option", argv[optind]);
	check_names();
}

/* Ends the child, and puts the settings back. */
static void on_signal(int sig)
{
	restore_system();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void catch_signals(void)
{
	sigset_t set;

	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void map_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap: %s", strerror(errno));
}

static void print_counts(void)
{
	unsigned long results[2];
	int op;
	long t;

	for (op = 0; op < nr_op_types; op++) {
		results[0] = 0;
		results[1] = 0;
		for (t = 0; t < opt.threads; t++) {
			results[0] += shared->threads[t].results[op][0];
			results[1] += shared->threads[t].results[op][1];
		}
		printf("metric calls-%s %lu\nmetric failed-%s %lu\n", op_table[op].name,
		       results[0], op_table[op].name, results[1]);
	}
}

static void print_metrics(double seconds)
{
	unsigned long ops = 0, checks = 0;
	long t;

	for (t = 0; t < opt.threads; t++) {
		ops += shared->threads[t].ops;
		checks += shared->threads[t].checks;
	}
	printf("metric operations %lu\nmetric checks %lu\n", ops, checks);
	printf("metric operations-per-second %.0f\n", ops / seconds);
	printf("metric merges-checked %lu\nmetric relocations-checked %lu\n",
	       shared->merges, shared->relocations);
	if (opt.verbose)
		print_counts();
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* How a process ended that cannot tell itself. */
void print_end(enum verdict verdict)
{
	long t;

	if (verdict != CRASHED && verdict != HUNG)
		return;
	if (verdict == HUNG)
		printf("mm_fuzz: seed %llu: nothing has happened for %ld seconds\n",
		       (unsigned long long)opt.seed, opt.timeout);
	else if (WIFSIGNALED(run_status))
		printf("mm_fuzz: seed %llu: the process died of signal %d\n",
		       (unsigned long long)opt.seed, WTERMSIG(run_status));
	else
		printf("mm_fuzz: seed %llu: the process ended with status %d\n",
		       (unsigned long long)opt.seed, WEXITSTATUS(run_status));
	for (t = 0; t < opt.threads; t++) {
		printf("  thread %ld, operation %ld, call: ", t, (long)shared->threads[t].index);
		fflush(stdout);
		print_note(&shared->threads[t].note);
	}
}

static int run_once(void)
{
	double begin = now();
	enum verdict verdict = run_in_child(false);

	print_end(verdict);
	if (verdict != PASSED)
		return EXIT_FAILURE;
	print_metrics(now() - begin);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int status;

	/* What an operation executes in a child. */
	if (argc == 2 && !strcmp(argv[1], "--exit"))
		return EXIT_SUCCESS;
	argc_saved = argc;
	argv_saved = argv;
	parse(argc, argv);
	page_size = sysconf(_SC_PAGESIZE);
	map_shared();
	catch_signals();
	setup_system();
	if (!choose_ops())
		usage("-f leaves out everything");
	remember_usage();
	status = opt.minimise ? run_minimiser() : run_once();
	if (!check_usage())
		status = EXIT_FAILURE;
	restore_system();
	if (!status && !opt.minimise)
		printf("ok\n");
	return status;
}
