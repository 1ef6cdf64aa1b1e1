/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A random operation changes the memory of an arena, and the model of it.  Then the
 * two are compared.
 */
#ifndef _MM_FUZZ_H
#define _MM_FUZZ_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "abi.h"

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

#define __noreturn	__attribute__((noreturn))
#define __printf(a, b)	__attribute__((format(printf, a, b)))
#define __noinline	__attribute__((noinline))
#define BIT_ULL(n)	(1ULL << (n))

#define MAX_THREADS	32
#define MAX_PAGES	16384
#define MAX_OPS		64	/* kinds of operations */
#define MAX_OBJECTS	48	/* files that an arena maps */
#define MAX_NODES	8
#define NOTE_ARGS	7

/*
 * The model
 */

enum kind {
	NOTHING,
	ANON,			/* private anonymous memory */
	SHARED,			/* a shared mapping of an object */
	PRIVATE,		/* a private mapping of an object */
};

/* What a VMA has, so that pages that differ in it are in different ones. */
enum attr {
	A_READ = 1 << 0,
	A_WRITE = 1 << 1,
	A_LOCKED = 1 << 2,
	A_ONFAULT = 1 << 3,
	A_HUGE = 1 << 4,
	A_NOHUGE = 1 << 5,
	A_MERGEABLE = 1 << 6,
	A_DONTFORK = 1 << 7,
	A_WIPE = 1 << 8,
	A_MISSING = 1 << 9,	/* userfaultfd */
	A_WP = 1 << 10,		/* userfaultfd */
	A_PROT = A_READ | A_WRITE,
	A_LOCK = A_LOCKED | A_ONFAULT,
	A_UFFD = A_MISSING | A_WP,
};

enum tri { NO, MAYBE, YES };

struct page {
	uint8_t kind;
	uint8_t policy;		/* of NUMA: 0, or 1 + the node */
	uint16_t attr;
	int16_t obj;
	/*
	 * Is there a page, or swap? Only what was written to, or populated for
	 * writing, is a YES; the zero page is a MAYBE.
	 */
	uint8_t touched;
	bool own;		/* PRIVATE: the page was copied, and has @value */
	bool lazy;		/* MADV_FREE: @value or zeroes, until it is written to */
	bool guard;
	uint8_t wp;		/* is it write-protected by userfaultfd? */
	bool resident;		/* locked, and cannot have been swapped out since */
	/*
	 * Of the VMA. Can it have an anon_vma? Is its page offset that of its address?
	 * @vague pages are where it merges with nothing, or nobody knows.
	 */
	bool faulted;
	bool natural;
	bool vague;
	uint32_t off;		/* in the object, in pages */
	uint64_t fork_gen;	/* see exclusive() */
	uint64_t value;		/* what the page is filled with; 0 is zeroes */
};

enum object_type { FREE_OBJECT, SHMEM, MEMFD, FILE_OBJECT };

/* What can be mapped: its pages, and what they hold. */
struct object {
	enum object_type type;
	int fd;
	size_t size;		/* in pages */
	uint64_t inode;		/* 0: not known yet */
	uint64_t *values;
};

/* A call in words: a format, and up to NOTE_ARGS longs or strings. */
struct note {
	const char *format;
	long args[NOTE_ARGS];
};

/* What the parent can see of a thread, also when it has died. */
struct progress {
	atomic_long index;	/* of the operation, -1 for none */
	atomic_ulong ops, checks;
	struct note note;
	unsigned long results[MAX_OPS][2];	/* succeeded, failed */
};

struct shared {
	atomic_long failed_index;	/* -1: no finding */
	atomic_bool failed;
	const char *what;	/* the format of the finding */
	atomic_ulong merges, relocations;	/* predicted */
	struct progress threads[MAX_THREADS];
};

struct rng {
	uint64_t state;
};

struct arena {
	long id;
	char *base;
	size_t nr;		/* in pages */
	struct page *pages;
	struct page *limbo;	/* what mremap() is moving */
	struct object objects[MAX_OBJECTS];
	struct progress *progress;
	const char *words;	/* what check is going on, for a finding */
	int op;			/* its number in the table */
	int maps, pagemap;	/* of /proc/self */
	int uffd;		/* -1 if there is none */
	unsigned long unlocked;	/* pages: see model_dontunmap() */
	bool dirty;		/* has the layout changed since spread_faulted()? */
	bool is_child;		/* a process forked by an operation */
	pid_t child;		/* 0, or one that waits for a byte to look at its memory */
	int to_child;
	bool thorough;		/* spares_signal() nothing */
	char *buffer;		/* a page */
};

/* Settings of the run */
struct options {
	uint64_t seed;
	long ops;
	long *list;		/* the indices to run, or NULL for all */
	long nr_list;
	long check;		/* how many operations to a check of everything */
	long pages;
	long threads;
	bool disturb;
	const char *dir;
	const char *swap;
	const char *without;	/* groups */
	const char *enable;	/* ksm, thp */
	const char *relocate;	/* a mode, or "random" */
	const char *mutant;
	long timeout;
	long repeat;
	bool minimise, verbose, leaks;
};

extern struct options opt;
extern struct shared *shared;
extern size_t page_size;
extern bool is_root, can_lock, thp_active;
extern bool is_old_kernel;	/* older than 7.2 */
extern int nr_nodes;
extern struct arena arenas[MAX_THREADS];

/* What a call is to return: 0, an error, or: */
#define ANY	LONG_MIN
#define FAILS	(LONG_MIN + 1)

enum verdict { PASSED, FAILED, CRASHED, HUNG };

/* mm_fuzz.c */
extern int argc_saved;
extern char **argv_saved;
bool has_word(const char *list, const char *word);
bool is_mutant(const char *name);
void print_end(enum verdict verdict);

/* system.c */
void __noreturn __printf(1, 2) die(const char *format, ...);
bool read_text(const char *path, char *text, size_t size);
bool write_text(const char *path, const char *text);
void setup_system(void);
void restore_system(void);
void remember_usage(void);
bool check_usage(void);
bool has_relocation(void);
bool has_remote_access(void);
bool set_relocation(const char *mode);
bool cycle_swap(void);
long read_field(const char *path, const char *field);

/* run.c */
enum verdict run_in_child(bool quiet);
extern int run_status;
void print_note(const struct note *note);
void print_result(struct arena *a, long ret);
void __noreturn __printf(2, 3) finding(struct arena *a, const char *format, ...);
uint64_t hash64(uint64_t x);
uint64_t next_random(struct rng *r);
size_t below(struct rng *r, size_t n);
bool one_in(struct rng *r, unsigned int n);
struct rng rng_of(uint64_t seed, uint64_t index);

/* access.c */
#define WHOLE_PAGE true

/* What a page was seen to hold. */
struct sample {
	uint64_t value;
	long torn;		/* the first word that does not go with it, or -1 */
};

void catch_faults(void);
int read_page(const char *addr, bool whole, struct sample *sample);
int write_page(char *addr, uint64_t value);
void fill_page(char *addr, uint64_t value);
void sample_page(const char *addr, bool whole, struct sample *sample);

/* model.c */
extern atomic_uint_fast64_t forks_begun, forks_ended;

bool same_vma(const struct page *p, const struct page *next);
size_t alike(struct arena *a, size_t start, size_t nr);
size_t mapped_from(struct arena *a, size_t start, size_t nr);
bool is_mapped(const struct page *p);
uint64_t content(struct arena *a, const struct page *p);
int access_signal(struct arena *a, const struct page *p, bool write, bool *maybe);
uint8_t touched_now(const struct page *p);
bool exclusive(const struct page *p);
void stamp_fork_gen(struct page *p);
void wrote(struct arena *a, size_t i, uint64_t value);
void failed_to_write(struct arena *a, size_t i);
void clear_pages(struct arena *a, size_t start, size_t nr);
void drop_content(struct page *p);
void mark_faulted(struct arena *a, size_t start, size_t nr);
void spread_faulted(struct arena *a);
bool surely_merge(struct arena *a, const struct page *p, const struct page *next);
struct object *object_of(struct arena *a, const struct page *p);
void child_model(struct arena *a);

/* vmas.c */
struct vma {
	long start, end;	/* in pages of the arena; may be beyond it */
	bool shared;
	uint64_t inode, offset;
	int prot;		/* A_READ, A_WRITE */
};

bool vma_at(struct arena *a, size_t i, struct vma *vma);
size_t clip_to_vma(struct arena *a, size_t start, size_t nr);
void resolve_own(struct arena *a, size_t start, size_t nr);
void check_smaps(struct arena *all, int nr);
void remember_sizes(void);
void open_proc(struct arena *a);

/* check.c */
void check_page(struct arena *a, size_t i, bool whole);
void check_range(struct arena *a, size_t start, size_t nr);
void check_arena(struct arena *a);
bool settle(struct arena *a, long ret, long expected);
const char *error_name(long error);

/* shrink.c */
int run_minimiser(void);

/* ops.c */
struct op {
	const char *name;
	const char *group;
	unsigned int weight;
	void (*run)(struct arena *a, struct rng *r);
	bool layout;		/* can it split, merge or move VMAs? */
};

extern const struct op op_table[];
extern const int nr_op_types;
bool choose_ops(void);
void run_op(struct arena *a, long index);
void run_child_ops(struct arena *a, struct rng *r);
bool list_groups(const char *list);
long sys(long ret);
void note_(struct arena *a, const char *format, const long *args, size_t nr);
#define note(a, format, ...)							\
	note_(a, format, (const long []){ 0, ##__VA_ARGS__ } + 1,		\
	      sizeof((long []){ 0, ##__VA_ARGS__ }) / sizeof(long) - 1)
char *addr_of(struct arena *a, size_t i);
size_t random_start(struct arena *a, struct rng *r);
size_t seek(struct arena *a, size_t start, bool (*wanted)(const struct page *p));
bool spares_signal(struct arena *a, size_t i);
size_t random_length(struct arena *a, struct rng *r, size_t start);
void random_range(struct arena *a, struct rng *r, size_t *start, size_t *nr);
uint64_t random_value(struct rng *r);

/* ops_map.c */
void op_mmap(struct arena *a, struct rng *r);
void op_munmap(struct arena *a, struct rng *r);
void op_mprotect(struct arena *a, struct rng *r);
void op_mlock(struct arena *a, struct rng *r);
void op_munlock(struct arena *a, struct rng *r);
void op_mbind(struct arena *a, struct rng *r);
void op_move_pages(struct arena *a, struct rng *r);
void populated(struct arena *a, size_t start, size_t nr, bool write, bool all);

/* ops_mremap.c */
void op_mremap_move(struct arena *a, struct rng *r);
void op_mremap_resize(struct arena *a, struct rng *r);
void op_mremap_elsewhere(struct arena *a, struct rng *r);
void op_mremap_duplicate(struct arena *a, struct rng *r);
void op_mremap_bad(struct arena *a, struct rng *r);
void op_relocate(struct arena *a, struct rng *r);
void begin_relocation(void);

/* ops_advice.c */
void discard(struct arena *a, size_t start, size_t nr);
void op_dontneed(struct arena *a, struct rng *r);
void op_free(struct arena *a, struct rng *r);
void op_pageout(struct arena *a, struct rng *r);
void op_cold(struct arena *a, struct rng *r);
void op_populate(struct arena *a, struct rng *r);
void op_mergeable(struct arena *a, struct rng *r);
void op_hugepage(struct arena *a, struct rng *r);
void op_collapse(struct arena *a, struct rng *r);
void op_guard_install(struct arena *a, struct rng *r);
void op_guard_remove(struct arena *a, struct rng *r);
void op_fork_advice(struct arena *a, struct rng *r);
void op_remove(struct arena *a, struct rng *r);

/* ops_process.c */
void op_write(struct arena *a, struct rng *r);
void op_read(struct arena *a, struct rng *r);
void op_remote(struct arena *a, struct rng *r);
void op_file_write(struct arena *a, struct rng *r);
void op_fork(struct arena *a, struct rng *r);
void op_exec(struct arena *a, struct rng *r);
void op_swapoff(struct arena *a, struct rng *r);
void end_child(struct arena *a);
void write_some(struct arena *a, struct rng *r, size_t start, size_t nr);

/* ops_uffd.c */
void open_uffd(struct arena *a);
void op_uffd_register(struct arena *a, struct rng *r);
void op_uffd_unregister(struct arena *a, struct rng *r);
void op_uffd_copy(struct arena *a, struct rng *r);
void op_uffd_zeropage(struct arena *a, struct rng *r);
void op_uffd_wp(struct arena *a, struct rng *r);
void op_uffd_move(struct arena *a, struct rng *r);
void forget_uffd(struct arena *a, size_t start, size_t nr);

#endif
