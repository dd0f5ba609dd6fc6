// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same limits by a memory cgroup, for a comparison.  All apps join the group,
 * which is what holds them there: it does not go by users.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

const char *judged_group;

static FILE *group_file(const char *name, const char *mode)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", judged_group, name);
	return fopen(path, mode);
}

static bool group_write(const char *name, unsigned long value)
{
	FILE *file = group_file(name, "we");
	bool good = file && fprintf(file, "%lu", value) > 0;

	return file && !fclose(file) && good;
}

/* The number after @key, or the only one of the file if that is "". */
static unsigned long group_read(const char *name, const char *key)
{
	FILE *file = group_file(name, "re");
	unsigned long value = 0;
	bool found = false;
	char line[128];

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, key, strlen(key)) &&
			sscanf(line + strlen(key), "%lu", &value) == 1;
	if (file)
		fclose(file);
	if (!found)
		give_up(name);
	return value;
}

void group_limit(unsigned long bytes)
{
	if (!group_write("memory.max", bytes))
		give_up("memory.max");
}

void group_read_row(struct row *row)
{
	row->max = group_read("memory.max", "");
	row->usage = group_read("memory.current", "");
	row->kills = group_read("memory.events", "oom_kill ");
}

long group_worst_kill(void)
{
	unsigned long peak = group_read("memory.peak", "");
	unsigned long max = group_read("memory.max", "");

	return peak > max ? (long)((peak - max) / PAGE) : 0;
}

bool group_join(void)
{
	return group_write("cgroup.procs", getpid());
}
