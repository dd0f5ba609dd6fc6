// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_referee [-o] [-t SECONDS] [-s SEED] POLICY - does the right process die?
 *
 * Processes of 20 users do at random what changes who has how much memory, then
 * all sleep.  All of them are recounted from user space, by their page tables.
 * Then one user gets over its limit: by a limit that is set below what it has,
 * by a process that grows, or, with the policy none, by a call of a killer.  Each
 * kill in the kernel's log is judged by the recount, no more and no fewer may
 * come, and at the end the kernel's count must be what is left.
 *
 * POLICY is the kernel's: rss, runtime, badness or none.  Needs root and both
 * modules.  With -o others are at work: their kills are not judged, and the modules
 * may be away for a moment.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"
#include "referee.h"

#define CHANGES		12	/* between two breaches */
#define WANTED		24	/* processes to have at a time */
#define LATE_MS		5000	/* a kill must have come by then */
#define COUNT_TRIES	100	/* of 20 ms, for a count to settle */

struct process processes[MAX_PROCESSES];
int nr_processes;

static struct {
	unsigned int random;
	enum policy policy;
	bool by_call;		/* the kernel has no policy of its own */
	bool others;		/* are at work, too */
	long breaches, kills, counts;
} self;

unsigned int below(unsigned int n)
{
	return rand_r(&self.random) % n;
}

void wrong(const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	say("wrong: %s", text);
	say("wrong: after %ld breaches and %ld kills", self.breaches, self.kills);
	end_all();
	exit(EXIT_FAILURE);
}

static void forget_the_dead(void)
{
	int i, kept = 0;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].alive)
			processes[kept++] = processes[i];
	nr_processes = kept;
}

static struct process *some_leader(void)
{
	struct process *p;

	do {
		p = &processes[below(nr_processes)];
	} while (!p->leads);
	return p;
}

static uid_t some_user(void)
{
	return FIRST_UID + below(USERS);
}

/* Protection is rare, or nobody would be left to kill. */
static int some_adj(void)
{
	switch (below(6)) {
	case 0:
		return -1000;
	case 1:
		return below(300);
	default:
		return 0;
	}
}

static void change(void)
{
	struct process *p;

	if (nr_processes < WANTED) {
		start_actor(some_user());
		return;
	}
	p = some_leader();
	switch (below(9)) {
	case 0:
	case 1:
		ask_grow(p, 1 + below(400));
		while (!answer_grow(p))
			usleep(500);
		break;
	case 2:
		shrink(p);
		break;
	case 3:
		burn(p, 1 + below(15));
		break;
	case 4:
		change_user(p, some_user());
		break;
	case 5:
		if (nr_processes < MAX_PROCESSES - CHANGES)
			start_sharer(p);
		break;
	case 6:
		start_thread(p);
		break;
	case 7:
		set_adj(p, some_adj());
		break;
	case 8:
		retire(p);
		forget_the_dead();
		break;
	}
}

static bool comes_back(void)
{
	if (!self.others || errno != ENOSYS)
		return false;
	usleep(1000);
	return true;
}

static void limit(uid_t uid, unsigned long bytes)
{
	long ret;

	do {
		ret = set_mm_limits(uid, bytes);
	} while (ret < 0 && comes_back());
	if (ret < 0)
		wrong("set_mm_limits(%u, %lu) failed", uid, bytes);
}

static long now_ms(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000L + at.tv_nsec / 1000000;
}

static bool is_over(uid_t uid, unsigned long max)
{
	return usage_of(uid, NULL) > (long)(max / PAGE) && can_be_killed(uid);
}

/* Judge what the log has; returns how many kills that were. */
static long judge_log(uid_t uid, unsigned long max, struct process *grower,
		      long growth)
{
	struct kill kill;
	long found = 0;

	while (next_kill(&kill)) {
		if (self.others && kill.uid - FIRST_UID >= USERS)
			continue;
		judge_kill(&kill, uid, max, self.policy, grower, growth);
		found++;
	}
	self.kills += found;
	return found;
}

static void judge_until_settled(uid_t uid, unsigned long max,
				struct process *grower, long growth)
{
	struct process before = {}, now;
	long late = now_ms() + LATE_MS;
	bool growing = grower, settled = false;

	if (grower)
		before = *grower;
	for (;;) {
		/* A kill may be of any moment since the growth began. */
		judge_log(uid, max, grower, growth);
		if (growing && (!grower->alive || answer_grow(grower)))
			growing = false;
		settled = !growing;
		if (settled && grower && grower->alive) {
			settled = try_recount(grower);
			now = *grower;
			settled = settled && !is_over(uid, max);
			*grower = before;
		} else if (settled) {
			settled = !is_over(uid, max);
		}
		if (settled)
			break;
		if (now_ms() > late)
			wrong("uid %u has %ld pages of %ld, and nobody is killed",
			      uid, usage_of(uid, NULL), (long)(max / PAGE));
		usleep(2000);
	}
	if (judge_log(uid, max, grower, growth))
		wrong("uid %u was within its limit, and a process was killed",
		      uid);
	if (grower && grower->alive)
		*grower = now;
}

/*
 * Memory that another user has as well when a limit is set is charged to nobody
 * from then on, also when it is one user's alone again.
 */
static void mark_contested(uid_t uid)
{
	int i, k;

	for (i = 0; i < nr_processes; i++)
		for (k = 0; k < nr_processes; k++)
			if (processes[i].mm == processes[k].mm &&
			    processes[i].uid == uid && processes[k].uid != uid)
				processes[i].contested = processes[k].contested = true;
}

/* The count must be what the page tables of those that are left say. */
static void compare_count(uid_t uid)
{
	long expected = usage_of(uid, NULL);
	unsigned long counted = 0;
	int i, tries;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].alive && processes[i].uid == uid &&
		    processes[i].contested)
			return;
	for (tries = 0; tries < COUNT_TRIES; tries++) {
		if (!read_counted(uid, &counted))
			wrong("uid %u is not in /proc/mm_limits", uid);
		if ((long)(counted / PAGE) == expected) {
			self.counts++;
			return;
		}
		usleep(20000);
	}
	wrong("uid %u has %lu pages by the kernel's count, %ld by recount", uid,
	      counted / PAGE, expected);
}

static void breach_by_growth(uid_t uid, struct process *grower)
{
	long room = below(200), growth = room + 80 + below(200);
	unsigned long max = (usage_of(uid, NULL) + room) * PAGE;

	limit(uid, max);
	ask_grow(grower, growth);
	/* The region that makes room for the new one may be unmapped first. */
	judge_until_settled(uid, max, grower, growth + 8);
}

static void breach_by_limit(uid_t uid)
{
	unsigned long max = (1 + below(usage_of(uid, NULL))) * PAGE;
	long ret;

	limit(uid, max);
	if (self.by_call) {
		self.policy = below(3);
		do {
			ret = my_oom_killer(self.policy);
		} while (ret < 0 && comes_back());
		if (ret)
			wrong("my_oom_killer(%d) failed", self.policy);
	}
	judge_until_settled(uid, max, NULL, 0);
}

static void breach(void)
{
	struct process *p = some_leader();
	uid_t uid = p->uid;
	int i;

	/* From here on all sleep; with a limit, what they cached is flushed. */
	limit(uid, FAR_LIMIT);
	mark_contested(uid);
	usleep(10000);
	for (i = 0; i < nr_processes; i++)
		recount(&processes[i]);
	if (!self.by_call && below(2))
		breach_by_growth(uid, p);
	else
		breach_by_limit(uid);
	compare_count(uid);
	limit(uid, MM_LIMIT_REMOVE);
	forget_the_dead();
	self.breaches++;
}

static int usage(void)
{
	complain("usage: mm_referee [-o] [-t SECONDS] [-s SEED] rss|runtime|badness|none");
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	long seconds = 60, seed = 1, end;
	int option, type = 0, i;

	while ((option = getopt(argc, argv, "ot:s:")) != -1) {
		if (option == 'o') {
			self.others = true;
			continue;
		}
		if (option == 't' && parse_number(optarg, 1, 86400, &seconds))
			continue;
		if (option != 's' || !parse_number(optarg, 0, 1L << 30, &seed))
			return usage();
	}
	if (optind != argc - 1)
		return usage();
	self.by_call = !strcmp(argv[optind], "none");
	if (!self.by_call && !parse_killer(argv[optind], &type))
		return usage();
	self.policy = type;
	self.random = seed;
	/* Sharers outlive the process that started them; they come to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	open_log();
	say("referee seed=%ld seconds=%ld policy=%s", seed, seconds,
	    argv[optind]);
	for (i = 0; i < WANTED; i++)
		start_actor(some_user());
	for (end = now_ms() + seconds * 1000; now_ms() < end;) {
		for (i = 0; i < CHANGES; i++)
			change();
		breach();
	}
	end_all();
	say("referee breaches=%ld kills=%ld counts=%ld wrong=0", self.breaches,
	    self.kills, self.counts);
	return self.kills ? EXIT_SUCCESS : EXIT_FAILURE;
}
