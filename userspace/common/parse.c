// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm_user.h"

#define ANDROID_FIRST_APP_UID	10000
#define ANDROID_LAST_APP	89999

/* All of @text must be digits: strtoul() would take signs and blanks. */
static bool parse_ulong(const char *text, unsigned long *value,
			const char **rest)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoul(text, &end, 10);
	*rest = end;
	return !errno;
}

bool parse_number(const char *text, long min, long max, long *number)
{
	bool negative = *text == '-';
	unsigned long value;
	const char *rest;

	if (!parse_ulong(text + negative, &value, &rest) || *rest ||
	    value > LONG_MAX)
		return false;
	*number = negative ? -(long)value : (long)value;
	return *number >= min && *number <= max;
}

/* A static program cannot ask glibc's name service, but it can read the file. */
static const struct passwd *find_user(const char *name)
{
#ifdef __ANDROID__
	return getpwnam(name);
#else
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *entry = NULL;

	if (!file)
		return NULL;
	do
		entry = fgetpwent(file);
	while (entry && strcmp(entry->pw_name, name));
	fclose(file);
	return entry;
#endif
}

bool parse_user(const char *text, uid_t *uid)
{
	const struct passwd *entry = find_user(text);
	unsigned long value;
	const char *rest;

	if (entry) {
		*uid = entry->pw_uid;
		return true;
	}
	if (!strncmp(text, "u0_a", 4)) {
		if (!parse_ulong(text + 4, &value, &rest) || *rest ||
		    value > ANDROID_LAST_APP)
			return false;
		*uid = ANDROID_FIRST_APP_UID + value;
		return true;
	}
	if (!parse_ulong(text, &value, &rest) || *rest || value > UINT_MAX)
		return false;
	*uid = value;
	return true;
}

bool parse_size(const char *text, unsigned long *bytes)
{
	static const char suffixes[] = "KMG";
	const char *rest, *suffix;
	unsigned int shift = 0;
	unsigned long value;

	if (!parse_ulong(text, &value, &rest))
		return false;
	if (*rest) {
		suffix = strchr(suffixes, *rest);
		if (!suffix || rest[1])
			return false;
		shift = 10 * (suffix - suffixes + 1);
	}
	if (value > ULONG_MAX >> shift)
		return false;
	*bytes = value << shift;
	return true;
}

bool parse_killer(const char *text, int *type)
{
	static const char *const names[] = {
		[MY_OOM_KILLER_HIGHEST_RSS] = "rss",
		[MY_OOM_KILLER_LONGEST_RUN_TIME] = "runtime",
		[MY_OOM_KILLER_WORST] = "badness",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i])) {
			*type = i;
			return true;
		}
	}
	return false;
}
