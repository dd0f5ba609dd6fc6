// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table has few entries, and each app may take one.  None may be lost to an
 * administrator by that, and no app may get rid of a limit by it.
 */
#include <errno.h>

#include "hostile.h"

#define LENGTH		10	/* MY_MM_LENGTH */
#define FIRST_UID	10900	/* these users have no processes */
#define TIMES		50

static uid_t other(int n)
{
	return FIRST_UID + n;
}

static bool is_there(uid_t uid)
{
	return counted(uid) >= 0;
}

static void administer(int from, int to)
{
	for (; from < to; from++)
		limit(other(from), 100 * MIB);
}

static void clear(void)
{
	int i;

	for (i = 0; i < 3 * LENGTH; i++)
		set_mm_limits(other(i), MM_LIMIT_REMOVE);
}

void evict_own(uid_t uid)
{
	long ret;
	int i, apps = 0;

	administer(0, LENGTH - 1);
	ret = set_as(uid, uid, 200 * MIB);
	check(ret == 0, "the app takes the last of %d entries: %ld", LENGTH, ret);
	ret = set_mm_limits(other(LENGTH - 1), 100 * MIB);
	check(ret == 1, "an administrator's call makes room for one more: %ld",
	      ret);
	check(is_there(other(0)), "the administrator's oldest entry is there");
	check(!is_there(uid), "the app's is gone");
	ret = set_as(uid, uid, 200 * MIB);
	check(ret == -ENOSPC, "in a full table it gets no other: %ld", ret);
	clear();
	set_mm_limits(uid, MM_LIMIT_REMOVE);

	/* A table that is full of apps is as good as an empty one. */
	for (i = 0; i < LENGTH; i++)
		apps += set_as(other(LENGTH + i), other(LENGTH + i), MIB) == 0;
	ret = set_as(uid, uid, MIB);
	check(apps == LENGTH && ret == -ENOSPC,
	      "%d apps fill the table, which has no room for one more: %ld",
	      apps, ret);
	administer(0, LENGTH);
	for (i = 0, apps = 0; i < LENGTH; i++)
		apps += is_there(other(i));
	check(apps == LENGTH, "and %d entries of an administrator take their place",
	      apps);
	clear();
}

void evict_again(uid_t uid)
{
	int i, good = 0;

	for (i = 0; i < TIMES / 2; i++)
		good += set_as(uid, uid, 200 * MIB - i) == 0;
	administer(0, LENGTH - 1);
	for (; i < TIMES; i++)
		good += set_as(uid, uid, 200 * MIB - i) == 0;
	check(good == TIMES, "the app sets its limit %d of %d times", good, TIMES);
	administer(LENGTH - 1, LENGTH);
	check(!is_there(uid) && is_there(other(0)),
	      "its entry is given up first, not the administrator's oldest");
	/* From now on the oldest goes, as ever. */
	administer(LENGTH, LENGTH + 1);
	check(!is_there(other(0)) && is_there(other(1)),
	      "then the administrator's oldest");
	clear();
}

/* An app that could make its entry the first to go would be rid of its limit. */
void evict_lowered(uid_t uid)
{
	administer(0, 1);
	limit(uid, 100 * MIB);
	administer(1, LENGTH - 1);
	check(set_as(uid, uid, 90 * MIB) == 0 &&
	      set_as(uid, uid, 80 * MIB) == 0,
	      "an app lowers the limit that an administrator gave it");
	administer(LENGTH - 1, LENGTH);
	check(is_there(uid) && !is_there(other(0)),
	      "that does not make it the first to be given up");
	administer(LENGTH, LENGTH + 1);
	check(!is_there(uid) && is_there(other(1)),
	      "nor younger than it was: it is the next");
	clear();
}
