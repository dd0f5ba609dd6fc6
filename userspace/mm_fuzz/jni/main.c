// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_fuzz [-n LENGTH] [-t SECONDS] [-s SEED] - are the calls what they promise?
 *
 * Calls set_mm_limits() and my_oom_killer() with random and edge values, as root
 * and as apps.  What each returns is compared with a model of the table, and each
 * thousand calls /proc/mm_limits too, as root and as each app sees it.
 *
 * LENGTH is that of the table, 10 by default.  Needs root, both modules, and a
 * table that is empty and nobody else uses.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define APPS		8
#define FIRST_UID	10081	/* the apps, and as many users without a process */
#define USERS		24
#define COMPARE_EVERY	1000
#define FAR_BYTES	(1UL << 28)	/* the apps' processes must live */
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

static struct {
	unsigned int random;
	long seed, calls, by_apps, evictions, compared;
	struct model model;
} self;

static struct entry rows[MAX_LENGTH];

/* All users there can be here, without asking what may be wrong itself. */
static void clear_table(void)
{
	static const uid_t others[] = { 1, -2, INT_MAX, INT_MIN };
	size_t i;

	for (i = 0; i < USERS; i++)
		set_mm_limits(FIRST_UID + i, MM_LIMIT_REMOVE);
	for (i = 0; i < ARRAY_SIZE(others); i++)
		set_mm_limits(others[i], MM_LIMIT_REMOVE);
}

void wrong(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("wrong: %s", text);
	say("wrong: after %ld calls with seed %ld", self.calls, self.seed);
	clear_table();
	exit(EXIT_FAILURE);
}

static unsigned int below(unsigned int n)
{
	return rand_r(&self.random) % n;
}

static bool is_app(uid_t uid)
{
	return uid - FIRST_UID < APPS;
}

static uid_t some_uid(void)
{
	static const uid_t edges[] = { 0, -1, -2, 1, INT_MAX, INT_MIN };

	if (!below(16))
		return edges[below(ARRAY_SIZE(edges))];
	return FIRST_UID + below(USERS);
}

/* Whoever has a process must stay within its limit. */
static unsigned long some_bytes(uid_t uid)
{
	static const unsigned long edges[] = {
		0, 1, 4095, 4096, INT_MAX, 1UL + INT_MAX, LONG_MAX,
		1UL + LONG_MAX, ULONG_MAX, ULONG_MAX - 1, ULONG_MAX - 4095,
	};
	unsigned long bytes;

	if (!below(4))
		bytes = MM_LIMIT_REMOVE;
	else if (!below(4))
		bytes = edges[below(ARRAY_SIZE(edges))];
	else
		bytes = (unsigned long)below(INT_MAX) << below(4);
	return bytes && is_app(uid) && bytes < FAR_BYTES ? FAR_BYTES + bytes :
		bytes;
}

static int read_all(void)
{
	return read_rows(rows, MAX_LENGTH, 1 + below(5000));
}

static void check_return(uid_t caller, const char *call, long value, long ret,
			 long must)
{
	if (ret != must)
		wrong("%s of %ld by uid %u returned %ld, it must return %ld",
		      call, value, caller, ret, must);
}

/* -1 is root. */
static struct answer ask(int app, struct request request)
{
	self.calls++;
	self.by_apps += app >= 0;
	return app < 0 ? serve(request) : ask_app(app, request);
}

static void fuzz_set(int app)
{
	uid_t caller = app < 0 ? 0 : FIRST_UID + app;
	/* An app asks for its own limit most of the time. */
	uid_t uid = app >= 0 && below(4) ? caller : some_uid();
	unsigned long bytes = some_bytes(uid);
	struct answer answer;
	long must;

	/* uid 1 and the like are nobody's here that must live. */
	if (!is_app(uid) && uid - FIRST_UID >= USERS && uid && uid != (uid_t)-1 &&
	    app < 0 && bytes != MM_LIMIT_REMOVE)
		bytes = FAR_BYTES;
	answer = ask(app, (struct request){ SET, uid, bytes });
	must = model_set(&self.model, caller, uid, bytes);
	check_return(caller, "set_mm_limits()", uid, answer.ret, must);
	if (answer.ret != 1)
		return;
	self.evictions++;
	model_evict(&self.model, rows, read_all());
}

static void fuzz_killer(int app)
{
	static const int edges[] = { -1, 3, 4, INT_MAX, INT_MIN };
	int type = below(2) ? (int)below(3) : edges[below(ARRAY_SIZE(edges))];
	struct answer answer;
	long must = type < 0 || type > 2 ? -EINVAL : 0;

	answer = ask(app, (struct request){ KILLER, 0, type });
	if (app < 0)
		check_return(0, "my_oom_killer()", type, answer.ret, must);
	else if (answer.ret != -EPERM && (!must || answer.ret != must))
		wrong("my_oom_killer(%d) by an app returned %ld", type,
		      answer.ret);
}

/* Seeks and reads where no row begins: only that nothing breaks. */
static void fuzz_file(void)
{
	static char text[8192];
	int fd = open("/proc/mm_limits", O_RDONLY | O_CLOEXEC), i;
	struct pollfd table = { .fd = fd, .events = POLLIN | POLLPRI };

	if (fd < 0)
		wrong("/proc/mm_limits: %m");
	for (i = 0; i < 4; i++) {
		if (pread(fd, text, 1 + below(sizeof(text)), below(3000)) < 0 &&
		    errno != EINVAL)
			wrong("reading /proc/mm_limits: %m");
		if (lseek(fd, (off_t)below(INT_MAX) - 1000, SEEK_SET) < 0 &&
		    errno != EINVAL)
			wrong("seeking in /proc/mm_limits: %m");
		poll(&table, 1, 0);
	}
	if (write(fd, "", 1) >= 0)
		wrong("/proc/mm_limits can be written");
	close(fd);
}

static void compare(void)
{
	struct request read = { ROWS, 0, 1 + below(300) };
	struct answer answer;
	int app;

	model_compare(&self.model, rows, read_all());
	for (app = 0; app < APPS; app++) {
		answer = ask_app(app, read);
		model_compare_own(&self.model, FIRST_UID + app, answer.rows,
				  answer.nr);
	}
	self.compared++;
}

static void step(void)
{
	int app = below(3) ? -1 : (int)below(APPS);

	if (below(20))
		fuzz_set(app);
	else if (below(4))
		fuzz_killer(app);
	else
		fuzz_file();
	if (self.calls % COMPARE_EVERY == 0)
		compare();
}

int main(int argc, char **argv)
{
	long seconds = 60, length = 10;
	int option, app;
	time_t end;

	self.seed = 1;
	while ((option = getopt(argc, argv, "n:t:s:")) != -1) {
		if (option == 'n' && parse_number(optarg, 1, MAX_LENGTH, &length))
			continue;
		if (option == 't' && parse_number(optarg, 1, 86400, &seconds))
			continue;
		if (option != 's' ||
		    !parse_number(optarg, 0, 1L << 30, &self.seed)) {
			complain("usage: mm_fuzz [-n LENGTH] [-t SECONDS] [-s SEED]");
			return EXIT_USAGE;
		}
	}
	if (getuid() || optind != argc) {
		complain("mm_fuzz: takes options only, and must be run as root");
		return EXIT_USAGE;
	}
	self.random = self.seed;
	self.model.length = length;
	signal(SIGPIPE, SIG_IGN);
	clear_table();
	for (app = 0; app < APPS; app++)
		start_app(app, FIRST_UID + app);
	for (end = time(NULL) + seconds; time(NULL) < end;)
		step();
	compare();
	clear_table();
	say("fuzz calls=%ld by_apps=%ld evictions=%ld compared=%ld wrong=0",
	    self.calls, self.by_apps, self.evictions, self.compared);
	return self.evictions && self.by_apps ? EXIT_SUCCESS : EXIT_FAILURE;
}
