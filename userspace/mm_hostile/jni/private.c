// SPDX-License-Identifier: GPL-2.0-only
/* What an app learns of others, and what its calls write where all can read. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

#define CALLS_MS	3000
#define LINES_A_SECOND	5
#define BURST		10
#define READY_MS	5000
#define POLL_MS		2000

static uid_t own_uid;

/* Rows of this user, and of others. */
static void count_rows(uid_t uid, long *own, long *foreign)
{
	FILE *file = fopen("/proc/mm_limits", "re");
	char line[256];
	unsigned int who;

	*own = *foreign = 0;
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%u", &who) != 1)
			continue;
		*(who == uid ? own : foreign) += 1;
	}
	if (file)
		fclose(file);
}

static void read_as_app(void)
{
	struct pollfd table = { .events = POLLPRI };
	long own, foreign;

	count_rows(getuid(), &own, &foreign);
	tell(own);
	tell(foreign);
	table.fd = open("/proc/mm_limits", O_RDONLY);
	if (table.fd < 0)
		_exit(EXIT_FAILURE);
	tell(poll(&table, 1, 100) == 0);
	tell(poll(&table, 1, POLL_MS) == 1 && table.revents & POLLPRI);
}

void private_rows(uid_t uid)
{
	long own = 0, foreign = 0, quiet = 0, woken = 0;
	struct app app;

	limit(uid, 100 * MIB);
	limit(uid + 1, 100 * MIB);
	limit(uid + 2, 100 * MIB);
	count_rows(uid, &own, &foreign);
	check(own == 1 && foreign >= 2, "root sees %ld rows", own + foreign);
	app_start(&app, uid, read_as_app);
	app_hear(&app, READY_MS, &own);
	app_hear(&app, READY_MS, &foreign);
	app_hear(&app, READY_MS, &quiet);
	sleep_ms(100);
	limit(uid, 99 * MIB);
	app_hear(&app, READY_MS, &woken);
	check(own == 1, "the app sees its own row: %ld", own);
	check(foreign == 0, "and none of others: %ld", foreign);
	check(quiet == 1 && woken == 1,
	      "it can wait for a change of its own with poll()");
	set_mm_limits(uid + 1, MM_LIMIT_REMOVE);
	set_mm_limits(uid + 2, MM_LIMIT_REMOVE);
}

static void call_often(void)
{
	long long end = now_us() + CALLS_MS * 1000LL;
	unsigned long bytes = 100 * MIB;
	long calls = 0;

	while (now_us() < end && !set_mm_limits(getuid(), bytes--))
		calls++;
	/* Calls that fail, too. */
	while (set_mm_limits(getuid(), 200 * MIB) < 0 && calls < 100)
		calls++;
	tell(calls);
	hang();
}

/* Lines since the mark that name a user. */
static void count_lines(uid_t uid, long *own, long *foreign)
{
	char *log = read_log(), *at = log;

	*own = *foreign = 0;
	while ((at = strstr(at, "uid="))) {
		at += strlen("uid=");
		*(strtoul(at, NULL, 10) == uid ? own : foreign) += 1;
	}
	free(log);
}

void private_log(uid_t uid)
{
	long calls = 0, own, foreign, bound;
	struct app app;

	limit(uid + 1, 100 * MIB);
	limit(uid + 2, 100 * MIB);
	mark_log();
	app_start(&app, uid, call_often);
	app_hear(&app, CALLS_MS + READY_MS, &calls);
	count_lines(uid, &own, &foreign);
	bound = LINES_A_SECOND * CALLS_MS / 1000 + BURST;
	check(calls > 100, "the app has set its limit %ld times in %d ms", calls,
	      CALLS_MS);
	check(foreign == 0, "that has logged the entries of others %ld times",
	      foreign);
	check(own >= 1 && own <= bound, "and its own in %ld lines, of %ld at most",
	      own, bound);
	set_mm_limits(uid + 1, MM_LIMIT_REMOVE);
	set_mm_limits(uid + 2, MM_LIMIT_REMOVE);
}

static bool write_map(void)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "0 %u 1", own_uid);
	int fd = open("/proc/self/uid_map", O_WRONLY);
	bool good = fd >= 0 && write(fd, text, length) == length;

	close(fd);
	return good;
}

/* There it has all capabilities, but over nothing that matters here. */
static void be_root_somewhere(void)
{
	long own, foreign;

	own_uid = getuid();
	if (unshare(CLONE_NEWUSER) || !write_map()) {
		tell(-1);
		return;
	}
	count_rows(0, &own, &foreign);
	tell(own);
	tell(foreign);
	tell(set_mm_limits(own_uid + 1, 1) < 0 &&
	     set_mm_limits(own_uid, 1UL << 30) < 0 &&
	     set_mm_limits(0, 1UL << 30) < 0 &&
	     set_mm_limits(0, MM_LIMIT_REMOVE) < 0);
}

void private_namespace(uid_t uid)
{
	long own = 0, foreign = 0, refused = 0;
	struct app app;

	limit(uid, 100 * MIB);
	limit(uid + 1, 100 * MIB);
	app_start(&app, uid, be_root_somewhere);
	app_hear(&app, READY_MS, &own);
	if (own < 0) {
		skip("no user namespaces without privilege");
		goto out;
	}
	app_hear(&app, READY_MS, &foreign);
	app_hear(&app, READY_MS, &refused);
	check(own == 1 && foreign == 0,
	      "root of a user namespace sees %ld row of its own and %ld of others",
	      own, foreign);
	check(refused == 1, "it can neither raise nor remove a limit");
out:
	set_mm_limits(uid + 1, MM_LIMIT_REMOVE);
}
