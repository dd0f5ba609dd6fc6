// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel shows of processes, limits and kills. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"
#include "referee.h"

#define REST_TRIES	5000	/* of 2 ms */

static int log_fd = -1;

/* The sum of a field, in kB, over all lines of a file of a process. */
static bool sum_kb(pid_t pid, const char *name, const char *field, long *sum)
{
	char path[64], line[256];
	FILE *file;
	long kb;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	*sum = 0;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)) &&
		    sscanf(line + strlen(field), "%ld", &kb) == 1)
			*sum += kb;
	fclose(file);
	return true;
}

/* As clock_getcpuclockid(3) has it, which bionic has only since API 23. */
static clockid_t cpu_clock_of(pid_t pid)
{
	return (clockid_t)(~(unsigned int)pid << 3 | 2);
}

static bool cpu_time(pid_t pid, long long *ns)
{
	struct timespec used;

	if (clock_gettime(cpu_clock_of(pid), &used))
		return false;
	*ns = used.tv_sec * 1000000000LL + used.tv_nsec;
	return true;
}

/* A thread that has not run yet, or one that is being killed, is not asleep. */
static bool all_asleep(pid_t pid)
{
	char path[300], state = 'S';
	struct dirent *entry;
	DIR *threads;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	if (!threads)
		return false;
	while (state == 'S' && (entry = readdir(threads))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid,
			 entry->d_name);
		file = fopen(path, "re");
		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = '?';
		if (file)
			fclose(file);
	}
	closedir(threads);
	return state == 'S';
}

/* smaps looks at the page tables, not at the counters that are in question. */
bool try_recount(struct process *p)
{
	struct process seen = *p;

	if (!all_asleep(p->pid) ||
	    !sum_kb(p->pid, "smaps", "Rss:", &seen.rss) ||
	    !sum_kb(p->pid, "status", "VmPTE:", &seen.tables_kb) ||
	    !cpu_time(p->pid, &seen.cpu) || !all_asleep(p->pid))
		return false;
	seen.rss /= 4;
	*p = seen;
	return true;
}

void recount(struct process *p)
{
	int tries;

	for (tries = 0; !try_recount(p); tries++) {
		if (tries == REST_TRIES)
			wrong("process %d does not come to rest", p->pid);
		usleep(2000);
	}
}

bool read_counted(uid_t uid, unsigned long *bytes)
{
	unsigned long row, max, usage;
	bool found = false;
	char line[256];
	FILE *rows = fopen("/proc/mm_limits", "re");

	if (!rows)
		wrong("/proc/mm_limits: %s", strerror(errno));
	while (!found && fgets(line, sizeof(line), rows))
		if (sscanf(line, "%lu %lu %lu", &row, &max, &usage) == 3 &&
		    row == uid) {
			*bytes = usage;
			found = true;
		}
	fclose(rows);
	return found;
}

long total_pages(void)
{
	char line[128];
	long kb = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && !kb && fgets(line, sizeof(line), file))
		sscanf(line, "MemTotal: %ld", &kb);
	if (!kb)
		wrong("/proc/meminfo cannot be read");
	fclose(file);
	return kb / 4;
}

/* What has been read of the kernel's log and not been looked at, as text. */
static char unread[4096];
static size_t nr_unread;

/* False if there is no more at the moment. */
static bool read_log(void)
{
	size_t room = sizeof(unread) - nr_unread;
	ssize_t length = read(log_fd, unread + nr_unread, room);

	if (length < 0 && errno == EAGAIN)
		return false;
	if (length < 0)
		wrong("/proc/kmsg: %s", strerror(errno));
	nr_unread += length;
	return length > 0;
}

/*
 * /dev/kmsg can be read since Linux 3.5 only.  Nobody else reads this one in our
 * guest, and what is read here stays in the log for dmesg.
 */
void open_log(void)
{
	log_fd = open("/proc/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0)
		wrong("/proc/kmsg: %s", strerror(errno));
	while (read_log())
		nr_unread = 0;
}

/* The next line's text, without "<3>[  12.345678] "; false if there is none yet. */
static bool next_line(char *line, size_t size)
{
	char *end, *text;
	size_t length;

	while (!(end = memchr(unread, '\n', nr_unread))) {
		if (nr_unread == sizeof(unread))
			nr_unread = 0; /* no line of ours is that long */
		if (!read_log())
			return false;
	}
	*end = '\0';
	length = end + 1 - unread;
	text = strstr(unread, "] ");
	snprintf(line, size, "%s", text ? text + 2 : unread);
	nr_unread -= length;
	memmove(unread, unread + length, nr_unread);
	return true;
}

static bool field(const char *text, const char *name, unsigned long *value)
{
	const char *at = strstr(text, name);

	if (at)
		*value = strtoul(at + strlen(name), NULL, 10);
	return at;
}

static bool parse_kill(const char *text, struct kill *kill)
{
	unsigned long uid, user_rss, pid, rss, score;

	if (strncmp(text, "uid=", 4) || !field(text, "uid=", &uid) ||
	    !field(text, "uRSS=", &user_rss) ||
	    !field(text, "mm_max=", &kill->max) ||
	    !field(text, "pid=", &pid) || !field(text, "pRSS=", &rss))
		return false;
	kill->uid = uid;
	kill->user_rss = user_rss / PAGE;
	kill->pid = pid;
	kill->rss = rss / PAGE;
	kill->score = -1;
	if (field(text, "total_run_time=", &score) ||
	    field(text, "badness=", &score))
		kill->score = score;
	return true;
}

bool next_kill(struct kill *kill)
{
	char line[sizeof(unread)];

	while (next_line(line, sizeof(line)))
		if (parse_kill(line, kill))
			return true;
	return false;
}
