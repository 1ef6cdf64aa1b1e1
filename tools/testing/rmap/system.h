/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmark does to the machine, and how it takes it back. */
#ifndef RMAP_SYSTEM_H
#define RMAP_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "events.h"

#define EXIT_SKIP 4

#define __noreturn		__attribute__((noreturn))
#define __printf(text, rest)	__attribute__((format(printf, text, rest)))

/* exit() runs the clean-up, in this process only and not in its children. */
void __noreturn __printf(1, 2) fail(const char *format, ...);
void __noreturn __printf(1, 2) skip(const char *format, ...);
/* Notes SIGINT and its like; stop_if_asked() then ends the program. */
void catch_signals(void);
void stop_if_asked(void);
void __printf(1, 2) progress(const char *format, ...);
/* Nanoseconds since some point in the past. */
uint64_t now(void);
/* Sleeps a millisecond; fails when the limit is over. */
uint64_t deadline(void);
void wait_a_little(uint64_t until, const char *what);
extern unsigned int limit_seconds;

/* Files with one value.  try_write() gives 0 or an errno. */
bool read_file(const char *path, char *text, size_t size);
int try_write(const char *path, const char *text);
void write_file(const char *path, const char *text);
unsigned long read_number(const char *path);

/* settings.c */
extern const char *ksm_folder;
void save_ksm(bool force);
void set_ksm(const char *name, unsigned long value);
void restore_ksm(void);

/* trace.c */
void open_trace(size_t bytes_per_cpu);
void trace_on(void);
void trace_off(struct events *events);
void close_trace(void);

#endif
