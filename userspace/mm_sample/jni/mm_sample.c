// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_sample FILE - write down who has how much, from now until it is killed
 *
 * Says its pid and goes to the background.  Two kinds of lines, times in ms since boot and
 * sizes in bytes:
 *
 *	L TIME UID LIMIT USAGE		a row of /proc/mm_limits
 *	P TIME UID PID SIZE NAME	a process of an app's user
 *
 * At each change of the table and each kill, and from time to time; it takes at most a
 * third of one CPU, however many processes there are.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"

#define TABLE		"/proc/mm_limits"
#define FIRST_APP	10000
#define LAST_APP	19999
#define INTERVAL_MS	20
#define SHARE		2
#define MOST_BYTES	(8 << 20)

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void write_limits(FILE *out, long long time)
{
	FILE *table = fopen(TABLE, "re");
	unsigned long max, usage;
	char line[256];
	unsigned int uid;

	while (table && fgets(line, sizeof(line), table))
		if (sscanf(line, "%u %lu %lu", &uid, &max, &usage) == 3)
			fprintf(out, "L %lld %u %lu %lu\n", time, uid, max, usage);
	if (table)
		fclose(table);
}

static bool read_file(const char *pid, const char *name, char *text, size_t size)
{
	char path[300];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0;
}

static void write_process(FILE *out, long long time, const char *pid)
{
	char path[300], name[64], text[128];
	unsigned long size, resident;
	struct stat owner;

	snprintf(path, sizeof(path), "/proc/%s", pid);
	if (stat(path, &owner) || owner.st_uid < FIRST_APP ||
	    owner.st_uid > LAST_APP || !read_file(pid, "statm", text, sizeof(text)) ||
	    sscanf(text, "%lu %lu", &size, &resident) != 2 || !resident ||
	    !read_file(pid, "comm", name, sizeof(name)))
		return;
	name[strcspn(name, "\n")] = 0;
	fprintf(out, "P %lld %u %s %lu %s\n", time, (unsigned int)owner.st_uid, pid,
		resident * (unsigned long)sysconf(_SC_PAGESIZE), name);
}

static void sample(FILE *out)
{
	long long time = now_ms();
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	write_limits(out, time);
	while (proc && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]))
			write_process(out, time, entry->d_name);
	if (proc)
		closedir(proc);
	fflush(out);
}

/* Wait, but no longer than until the table changes or somebody is killed. */
static void wait_for_change(int table, int ms)
{
	struct pollfd poll_table = { .fd = table, .events = POLLPRI };
	char byte;

	if (poll(&poll_table, 1, ms) > 0 && !lseek(table, 0, SEEK_SET))
		(void)!read(table, &byte, 1);
}

int main(int argc, char **argv)
{
	struct sched_param first = { .sched_priority = 1 };
	long long begin, took;
	int table;
	FILE *out;
	pid_t pid;

	if (argc != 2) {
		complain("usage: mm_sample FILE");
		return EXIT_USAGE;
	}
	out = fopen(argv[1], "we");
	if (!out) {
		complain("mm_sample: cannot write %s", argv[1]);
		return EXIT_FAILURE;
	}
	pid = fork();
	if (pid < 0)
		return EXIT_FAILURE;
	if (pid) {
		say("pid=%d", pid);
		return EXIT_SUCCESS;
	}
	setsid();
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	/* What it looks at may burn all the time there is. */
	sched_setscheduler(0, SCHED_FIFO, &first);
	table = open(TABLE, O_RDONLY | O_CLOEXEC);
	while (ftell(out) < MOST_BYTES) {
		begin = now_ms();
		sample(out);
		took = now_ms() - begin;
		wait_for_change(table, took * SHARE > INTERVAL_MS ? took * SHARE :
								    INTERVAL_MS);
	}
	return EXIT_SUCCESS;
}
