// SPDX-License-Identifier: GPL-2.0-only
/* What root can see of a user, of the machine and of the kernel's threads. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

#define KTHREADD	2
#define LOG_BYTES	(2 << 20)
#define READ_ALL	3	/* SYSLOG_ACTION_READ_ALL */

long long now_us(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000LL + at.tv_nsec / 1000;
}

void sleep_ms(long ms)
{
	usleep(ms * 1000);
}

static bool read_row(uid_t uid, struct row *row)
{
	bool found = false;
	char line[256];
	unsigned int who;
	FILE *file;

	if (judged_group) {
		group_read_row(row);
		return true;
	}
	file = fopen("/proc/mm_limits", "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%u %lu %lu %*s %lu", &who, &row->max,
			       &row->usage, &row->kills) == 4 && who == uid;
	if (file)
		fclose(file);
	return found;
}

long counted(uid_t uid)
{
	struct row row;

	return read_row(uid, &row) ? (long)(row.usage / PAGE) : -1;
}

long kills_of(uid_t uid)
{
	struct row row;

	return read_row(uid, &row) ? (long)row.kills : -1;
}

/* The sum of a field over all lines of a file, mostly in kB; false if it has none. */
static bool sum_kb(const char *path, const char *field, long *sum)
{
	FILE *file = fopen(path, "re");
	bool found = false;
	char line[256], *text;
	long kb;

	*sum = 0;
	while (file && fgets(line, sizeof(line), file)) {
		text = line + strspn(line, " ");
		if (strncmp(text, field, strlen(field)) ||
		    sscanf(text + strlen(field), "%ld", &kb) != 1)
			continue;
		*sum += kb;
		found = true;
	}
	if (file)
		fclose(file);
	return found;
}

/* The next name in @dir that is a number; 0 after the last. */
static pid_t next_number(DIR *dir)
{
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			return atoi(entry->d_name);
	return 0;
}

/* A leader that has exited shows no memory, its other threads do. */
static long sum_of_process(pid_t pid, const char *name, const char *field)
{
	char path[64];
	pid_t thread;
	DIR *threads;
	long kb;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (sum_kb(path, field, &kb))
		return kb;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	kb = 0;
	while ((thread = next_number(threads))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, thread,
			 name);
		if (sum_kb(path, field, &kb))
			break;
	}
	if (threads)
		closedir(threads);
	return kb;
}

/* The real uid of a process that is more than a zombie, or -1. */
static long owner(pid_t pid)
{
	char path[64], line[256], state = 'Z';
	long uid = -1, threads = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "Uid: %ld", &uid);
		sscanf(line, "Threads: %ld", &threads);
	}
	if (file)
		fclose(file);
	return (state == 'Z' || state == 'X') && threads < 2 ? -1 : uid;
}

/* The user of a process whose leader has left is that of those who stay. */
static long owner_by_threads(pid_t pid)
{
	char path[64], line[256], state;
	long uid, found = -1;
	pid_t thread;
	DIR *threads;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	while (found < 0 && (thread = next_number(threads))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid,
			 thread);
		state = 'Z';
		uid = -1;
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			sscanf(line, "State: %c", &state);
			sscanf(line, "Uid: %ld", &uid);
		}
		if (file)
			fclose(file);
		if (state != 'Z' && state != 'X')
			found = uid;
	}
	if (threads)
		closedir(threads);
	return found;
}

static bool belongs_to(pid_t pid, uid_t uid)
{
	long who = owner(pid);

	return who >= 0 && (who == (long)uid || owner_by_threads(pid) == (long)uid);
}

static long sum_of_user(uid_t uid, const char *name, const char *field)
{
	DIR *proc = opendir("/proc");
	long sum = 0;
	pid_t pid;

	while ((pid = next_number(proc)))
		if (belongs_to(pid, uid))
			sum += sum_of_process(pid, name, field);
	if (proc)
		closedir(proc);
	return sum / (long)(PAGE / 1024);
}

/* smaps looks at the page tables, not at the counters that are in question. */
long pages_of(uid_t uid)
{
	return sum_of_user(uid, "smaps", "Rss:");
}

/*
 * By the counters, where smaps would wait: Linux 3.4 locks the process out that
 * waits in exec for its other threads.
 */
long resident_of(uid_t uid)
{
	return sum_of_user(uid, "status", "VmRSS:");
}

long peak_of(uid_t uid)
{
	return sum_of_user(uid, "status", "VmHWM:");
}

long processes_of(uid_t uid)
{
	DIR *proc = opendir("/proc");
	long n = 0;
	pid_t pid;

	while ((pid = next_number(proc)))
		n += belongs_to(pid, uid);
	if (proc)
		closedir(proc);
	return n;
}

void signal_all(uid_t uid, int number)
{
	DIR *proc = opendir("/proc");
	pid_t pid;

	while ((pid = next_number(proc)))
		if (pid != getpid() && belongs_to(pid, uid))
			kill(pid, number);
	if (proc)
		closedir(proc);
}

/* Since Linux 6.7 what CPUs keep at hand grows to megabytes, and is as free as the rest. */
long free_pages(void)
{
	long kb, at_hand = 0;

	if (!sum_kb("/proc/meminfo", "MemFree:", &kb))
		give_up("/proc/meminfo");
	sum_kb("/proc/zoneinfo", "count:", &at_hand);
	return kb / (long)(PAGE / 1024) + at_hand;
}

long nr_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

/* The kernel's workers, and threads of the limits' own. */
static bool works_for_limits(const char *stat)
{
	return strstr(stat, "(kworker") || strstr(stat, "(user_oom") ||
	       strstr(stat, "(mm_limit");
}

long kernel_threads_ms(void)
{
	unsigned long user, system, ticks = 0;
	char path[64], line[512], *rest;
	int parent;
	DIR *proc = opendir("/proc");
	FILE *file;
	pid_t pid;

	while ((pid = next_number(proc))) {
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "re");
		rest = file && fgets(line, sizeof(line), file) &&
		       works_for_limits(line) ? strrchr(line, ')') : NULL;
		if (file)
			fclose(file);
		/* state ppid pgrp session tty tpgid flags, 4 of faults, times */
		if (rest && sscanf(rest + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				   &parent, &user, &system) == 3 &&
		    (parent == KTHREADD || pid == KTHREADD))
			ticks += user + system;
	}
	if (proc)
		closedir(proc);
	return ticks * 1000 / sysconf(_SC_CLK_TCK);
}

static char mark[48];

void mark_log(void)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	snprintf(mark, sizeof(mark), "mm_hostile: begin %d %lld", getpid(),
		 now_us());
	if (fd < 0 || write(fd, mark, strlen(mark)) < 0)
		give_up("/dev/kmsg");
	close(fd);
}

char *read_log(void)
{
	char *log = malloc(LOG_BYTES), *at;
	int length = log ? klogctl(READ_ALL, log, LOG_BYTES - 1) : -1;

	if (length < 0)
		give_up("the kernel log");
	log[length] = '\0';
	at = strstr(log, mark);
	if (!at) {
		complain("mm_hostile: the kernel log has lost lines");
		*log = '\0';
		return log;
	}
	memmove(log, at, strlen(at) + 1);
	return log;
}

long worst_kill(uid_t uid)
{
	unsigned long has, max, pid;
	unsigned int who;
	long worst = 0;
	char *log, *at;

	if (judged_group)
		return group_worst_kill();
	at = log = read_log();
	while ((at = strstr(at, "uid="))) {
		if (sscanf(at, "uid=%u, uRSS=%lu, mm_max=%lu, pid=%lu", &who,
			   &has, &max, &pid) == 4 && who == uid &&
		    has > max && (long)((has - max) / PAGE) > worst)
			worst = (has - max) / PAGE;
		at++;
	}
	free(log);
	return worst;
}

void watch_look(struct watch *watch, uid_t uid)
{
	long over = counted(uid) - watch->max, ms;

	if (over > watch->worst)
		watch->worst = over;
	if (over <= 0) {
		watch->over_since = 0;
		return;
	}
	if (!watch->over_since)
		watch->over_since = now_us();
	ms = (now_us() - watch->over_since) / 1000;
	if (ms > watch->longest_ms)
		watch->longest_ms = ms;
}
