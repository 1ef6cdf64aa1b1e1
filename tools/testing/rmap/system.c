// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

unsigned int limit_seconds = 300;
static volatile sig_atomic_t asked;
static bool line_open;

static void say(const char *what, const char *format, va_list ap)
{
	fprintf(stderr, "%srmap_benchmark: %s", line_open ? "\n" : "", what);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	line_open = false;
}

void fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say("", format, ap);
	va_end(ap);
	exit(EXIT_FAILURE);
}

void skip(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say("skipped: ", format, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

/* One line on a terminal, which the next replaces; else a line each. */
void progress(const char *format, ...)
{
	bool tty = isatty(STDERR_FILENO);
	va_list ap;

	fputs(tty ? "\r\033[K" : "", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	if (!tty)
		fputc('\n', stderr);
	line_open = tty && *format;
}

static void note_signal(int number)
{
	asked = number;
}

void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGALRM };
	struct sigaction action = { .sa_handler = note_signal };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

void stop_if_asked(void)
{
	if (asked)
		exit(128 + asked);
}

uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint64_t deadline(void)
{
	return now() + limit_seconds * 1000000000ULL;
}

void wait_a_little(uint64_t until, const char *what)
{
	struct timespec ms = { .tv_nsec = 1000000 };

	stop_if_asked();
	if (now() > until)
		fail("%s took more than %u seconds; -T sets the limit", what, limit_seconds);
	nanosleep(&ms, NULL);
}

bool read_file(const char *path, char *text, size_t size)
{
	size_t used = 0;
	ssize_t got = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
		used += got;
	close(fd);
	text[used] = 0;
	return got >= 0;
}

int try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

void write_file(const char *path, const char *text)
{
	int error = try_write(path, text);

	if (error) {
		stop_if_asked();
		fail("can't write '%s' to %s: %s", text, path, strerror(error));
	}
}

unsigned long read_number(const char *path)
{
	char text[64];

	if (!read_file(path, text, sizeof(text)))
		fail("can't read %s: %s", path, strerror(errno));
	return strtoul(text, NULL, 0);
}
