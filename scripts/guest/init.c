// SPDX-License-Identifier: GPL-2.0
/*
 * init - the first process of the guest
 *
 * Linked statically and started from an initramfs, so that the same program
 * serves every architecture.  With "unstall.root=9p" on the command line it
 * moves to the host's root directory, which it sees read-only over 9p with a
 * tmpfs laid over it; otherwise it stays in the initramfs.
 *
 * It then works through the job that the host left in /unstall/job, a line for
 * each step:
 *
 *	NAME <tab> SECONDS <tab> COMMAND
 *
 * COMMAND is given to a shell where there is one, else split at blanks.  The
 * built-in command "kunit" prints the results of all KUnit suites.  What a step
 * prints goes to the virtio-serial port "unstall.output", framed by the lines
 *
 *	@@unstall begin NAME
 *	@@unstall end NAME STATUS MILLISECONDS
 *
 * where STATUS is the exit status, 128 + n after signal n, or "timeout".  A
 * last line "@@unstall done" tells the host that the guest did not die.  With
 * "unstall.shell" the console gets a shell instead.
 *
 * An error of this program itself is printed on the console and ends the guest
 * without "done": the host reports that the guest died.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOB "/unstall/job"

static char cmdline[4096];
static int output = STDOUT_FILENO;

static void __attribute__((noreturn)) power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	/* No power management: -no-reboot makes QEMU exit here as well. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "unstall-init: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(errno));
	power_off();
}

static bool read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = -1;

	if (fd >= 0) {
		len = read(fd, buf, size - 1);
		close(fd);
	}
	buf[len > 0 ? len : 0] = '\0';
	return len >= 0;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "unstall-init: %s: %s\n", path, strerror(errno));
	close(fd);
}

/* The value of "name=value" or "name" on the kernel's command line, or NULL. */
static const char *option(const char *name)
{
	static char value[1024];
	size_t len = strlen(name);
	const char *p = cmdline;

	while ((p = strstr(p, name))) {
		bool starts = p == cmdline || p[-1] == ' ';

		p += len;
		if (!starts || !strchr("= \n", *p))
			continue;
		value[0] = '\0';
		if (*p == '=')
			sscanf(p + 1, "%1023s", value);
		return value;
	}
	return NULL;
}

static void mount_or_die(const char *what, const char *where, const char *type,
			 unsigned long flags, const char *data)
{
	mkdir(where, 0755);
	if (mount(what, where, type, flags, data))
		die("mount %s on %s", type, where);
}

/* For file systems that a trimmed kernel may lack. */
static void mount_if_there(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL) && errno != ENODEV && errno != ENOENT)
		fprintf(stderr, "unstall-init: mount %s: %s\n", type, strerror(errno));
}

static void copy_file(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t len;

	if (in < 0 || out < 0)
		die("copy %s", from);
	while ((len = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, len) != len)
			die("copy %s", from);
	close(in);
	close(out);
}

/* Makes the host's root, with a tmpfs over it, the root directory. */
static void enter_host_root(void)
{
	mount_or_die("hostfs", "/lower", "9p", MS_RDONLY,
		     "trans=virtio,version=9p2000.L,msize=512000,cache=loose");
	mount_or_die("tmpfs", "/upper", "tmpfs", 0, "size=60%");
	mkdir("/upper/data", 0755);
	mkdir("/upper/work", 0755);
	mount_or_die("overlay", "/newroot", "overlay", 0,
		     "lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work");
	mkdir("/newroot/unstall", 0755);
	copy_file(JOB, "/newroot" JOB);
	if (chdir("/newroot") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		die("enter the host's root");
}

/*
 * An empty /tmp, but for the folders of the host's that the job needs: a checkout
 * may lie there.  "unstall.keep" names them, divided by commas.
 */
static void mount_tmp(void)
{
	char names[1024] = "", path[1200];
	const char *keep = option("unstall.keep");

	if (keep)
		snprintf(names, sizeof(names), "%s", keep);
	mount_or_die("tmpfs", "/unstall/tmp", "tmpfs", 0, "size=50%");
	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		snprintf(path, sizeof(path), "/unstall%s", name);
		mkdir(path, 0755);
		if (mount(name, path, NULL, MS_BIND, NULL))
			die("bind %s", name);
	}
	mkdir("/tmp", 01777);
	if (mount("/unstall/tmp", "/tmp", NULL, MS_MOVE, NULL))
		die("move a tmpfs to /tmp");
}

static void link_or_die(const char *target, const char *path)
{
	if (symlink(target, path) && errno != EEXIST)
		die("%s", path);
}

static void mount_all(void)
{
	mount_or_die("proc", "/proc", "proc", 0, NULL);
	mount_or_die("sysfs", "/sys", "sysfs", 0, NULL);
	mount_or_die("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount_or_die("tmpfs", "/dev/shm", "tmpfs", 0, NULL);
	mount_tmp();
	mount_or_die("tmpfs", "/run", "tmpfs", 0, NULL);
	mount_if_there("devpts", "/dev/pts");
	mount_if_there("debugfs", "/sys/kernel/debug");
	mount_if_there("tracefs", "/sys/kernel/tracing");
	mount_if_there("cgroup2", "/sys/fs/cgroup");
	/* There is no udev to make them; shells and kselftest's runner want them. */
	link_or_die("/proc/self/fd", "/dev/fd");
	link_or_die("/proc/self/fd/0", "/dev/stdin");
	link_or_die("/proc/self/fd/1", "/dev/stdout");
	link_or_die("/proc/self/fd/2", "/dev/stderr");
}

/* Finds a disk by the serial number that QEMU's command line gave it. */
static bool find_disk(const char *serial, char *path, size_t size)
{
	char name[64], text[64];
	struct dirent *ent;
	DIR *dir = opendir("/sys/block");

	while (dir && (ent = readdir(dir))) {
		snprintf(name, sizeof(name), "/sys/block/%.32s/serial", ent->d_name);
		if (read_file(name, text, sizeof(text)) && !strcmp(text, serial)) {
			snprintf(path, size, "/dev/%.32s", ent->d_name);
			closedir(dir);
			return true;
		}
	}
	if (dir)
		closedir(dir);
	return false;
}

static void attach_disks(void)
{
	char disk[64];

	if (find_disk("swap", disk, sizeof(disk)) && swapon(disk, 0))
		die("swapon %s", disk);
	if (find_disk("scratch", disk, sizeof(disk))) {
		mkdir("/mnt", 0755);
		mount_or_die(disk, "/mnt/scratch", "ext4", 0, NULL);
	}
}

static void bring_up_loopback(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		ioctl(fd, SIOCSIFFLAGS, &ifr);
		close(fd);
	}
}

static void show_modules(void)
{
	const char *dir = option("unstall.modules");

	if (!dir)
		return;
	mkdir("/lib/modules", 0755);
	if (mount(dir, "/lib/modules", NULL, MS_BIND, NULL))
		die("bind %s to /lib/modules", dir);
}

static void set_environment(void)
{
	struct rlimit files = { .rlim_cur = 65536, .rlim_max = 65536 };

	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "linux", 0);
	setenv("LC_ALL", "C.UTF-8", 1);
	setenv("TMPDIR", "/tmp", 1);
	setrlimit(RLIMIT_NOFILE, &files);
	if (sethostname("unstall", 7))
		die("sethostname");
}

static int open_port(const char *name)
{
	char path[128], text[64];
	glob_t found;
	int fd = -1;

	if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &found))
		return -1;
	for (size_t i = 0; i < found.gl_pathc && fd < 0; i++) {
		char *port = found.gl_pathv[i] + strlen("/sys/class/virtio-ports/");

		if (!read_file(found.gl_pathv[i], text, sizeof(text)))
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(text, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%.*s", (int)strcspn(port, "/"), port);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	globfree(&found);
	return fd;
}

/* The port takes 32 KiB at most in one write. */
static void to_host(const char *text, size_t len)
{
	while (len) {
		ssize_t done = write(output, text, len);

		if (done <= 0)
			die("write to the host");
		text += done;
		len -= done;
	}
}

static void __attribute__((format(printf, 1, 2))) report(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	to_host(line, len);
}

/* Prints what debugfs holds of every KUnit suite, as one KTAP document each. */
static int print_kunit_results(void)
{
	char buf[65536];
	ssize_t len;
	glob_t found;

	if (glob("/sys/kernel/debug/kunit/*/results", 0, NULL, &found)) {
		puts("1..0 # SKIP this kernel has no KUnit suite built in");
		return 0;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);

		while (fd >= 0 && (len = read(fd, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, len, stdout);
		if (fd >= 0)
			close(fd);
	}
	globfree(&found);
	return 0;
}

static void __attribute__((noreturn)) exec_command(char *command, int out)
{
	char *argv[64];
	sigset_t none;
	int argc = 0;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	if (!strcmp(command, "kunit")) {
		int status = print_kunit_results();

		fflush(stdout);
		_exit(status);
	}
	if (!access("/bin/sh", X_OK)) {
		execl("/bin/sh", "sh", "-c", command, NULL);
	} else {
		for (char *p = strtok(command, " "); p && argc < 63; p = strtok(NULL, " "))
			argv[argc++] = p;
		argv[argc] = NULL;
		execvp(argv[0], argv);
	}
	fprintf(stderr, "unstall-init: %s: %s\n", command, strerror(errno));
	_exit(127);
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Passes on what a step printed.  The step writes to a pipe, not to the port:
 * a port can be open only once, and /dev/stdout means to open it again.
 */
static void forward(int from)
{
	char buf[65536];
	ssize_t len;

	while ((len = read(from, buf, sizeof(buf))) > 0)
		to_host(buf, len);
}

/* Waits for one child until a deadline; orphans are reaped on the way. */
static bool wait_for(pid_t pid, long deadline, int sigfd, int from, int *status)
{
	struct pollfd pfd[] = {
		{ .fd = sigfd, .events = POLLIN },
		{ .fd = from, .events = POLLIN },
	};
	struct signalfd_siginfo info;

	for (;;) {
		long left = deadline - now_ms();
		pid_t got;

		while ((got = waitpid(-1, status, WNOHANG)) > 0)
			if (got == pid)
				return true;
		if (left <= 0)
			return false;
		if (poll(pfd, 2, left) <= 0)
			continue;
		if (pfd[0].revents && read(sigfd, &info, sizeof(info)) < 0)
			die("signalfd");
		forward(from);
		/* All writers are gone: nothing more will come, do not spin. */
		if (pfd[1].revents & POLLHUP)
			pfd[1].fd = -1;
	}
}

/* Whatever a step left behind must not disturb the next one. */
static void kill_leftovers(int sigfd)
{
	struct pollfd pfd = { .fd = sigfd, .events = POLLIN };
	struct signalfd_siginfo info;
	long deadline = now_ms() + 2000;

	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) >= 0 && now_ms() < deadline)
		if (poll(&pfd, 1, 100) > 0 && read(sigfd, &info, sizeof(info)) < 0)
			die("signalfd");
}

static void run_step(char *name, long seconds, char *command, int sigfd)
{
	long start = now_ms();
	char result[32];
	int fds[2], status;
	pid_t pid;

	report("@@unstall begin %s\n", name);
	if (pipe2(fds, O_CLOEXEC) || fcntl(fds[0], F_SETFL, O_NONBLOCK))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		exec_command(command, fds[1]);
	close(fds[1]);
	if (!wait_for(pid, start + seconds * 1000, sigfd, fds[0], &status)) {
		/* Blocked tasks and all back traces: why it hung is on the console. */
		write_file("/proc/sysrq-trigger", "w");
		write_file("/proc/sysrq-trigger", "l");
		snprintf(result, sizeof(result), "timeout");
	} else if (WIFSIGNALED(status)) {
		snprintf(result, sizeof(result), "%d", 128 + WTERMSIG(status));
	} else {
		snprintf(result, sizeof(result), "%d", WEXITSTATUS(status));
	}
	forward(fds[0]);
	report("\n@@unstall end %s %s %ld\n", name, result, now_ms() - start);
	close(fds[0]);
	kill_leftovers(sigfd);
}

static void run_job(void)
{
	FILE *job = fopen(JOB, "re");
	sigset_t chld;
	char *line = NULL;
	size_t size = 0;
	int sigfd;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	sigfd = signalfd(-1, &chld, SFD_CLOEXEC);
	if (!job || sigfd < 0)
		die("%s", JOB);
	report("@@unstall ready\n");
	while (getline(&line, &size, job) > 0) {
		char *name = strtok(line, "\t");
		char *seconds = strtok(NULL, "\t");
		char *command = strtok(NULL, "\n");

		if (!name || !seconds || !command)
			die("a line of %s is not a step", JOB);
		run_step(name, atol(seconds), command, sigfd);
	}
	report("@@unstall done\n");
	fclose(job);
}

static void run_shell(void)
{
	pid_t pid = fork();

	if (!pid) {
		setsid();
		ioctl(STDIN_FILENO, TIOCSCTTY, 1);
		execl("/bin/bash", "bash", "-l", NULL);
		die("/bin/bash");
	}
	while (waitpid(-1, NULL, 0) != pid)
		;
}

int main(void)
{
	mount_or_die("proc", "/proc", "proc", 0, NULL);
	if (!read_file("/proc/cmdline", cmdline, sizeof(cmdline)))
		die("/proc/cmdline");
	umount("/proc");
	if (option("unstall.root"))
		enter_host_root();
	mount_all();
	set_environment();
	bring_up_loopback();
	show_modules();
	attach_disks();
	if (option("unstall.shell")) {
		run_shell();
		power_off();
	}
	output = open_port("unstall.output");
	if (output < 0)
		die("the port unstall.output");
	run_job();
	power_off();
}
