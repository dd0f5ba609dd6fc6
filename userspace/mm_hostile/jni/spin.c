// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many that take a little each: no cache of a task is ever full, and none sleeps.
 * The user must not be over for longer than a decision takes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	20
#define PROCESSES	400
#define GROUPS		20
#define GROUP_THREADS	20
#define TOUCHED		60	/* pages: a task's cache takes 64 faults */
#define FORKS		200
#define FORKER_MIB	1
#define READY_MS	60000
#define AFTER_MS	3000
#define SETTLE_MS	10000
#define GIVE_UP_AFTER	10	/* forks that failed */

static void touch_and_spin(void)
{
	char *memory = map_memory(TOUCHED * PAGE, MAP_PRIVATE);

	if (!memory)
		_exit(EXIT_FAILURE);
	touch_pages(memory, TOUCHED * PAGE);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void *spinner(void *unused)
{
	(void)unused;
	touch_and_spin();
	return NULL;
}

static void spin_in_threads(void)
{
	pthread_t thread;
	int i;

	for (i = 1; i < GROUP_THREADS; i++)
		pthread_create(&thread, NULL, spinner, NULL);
	touch_and_spin();
}

/* A user that is at its limit may not fork: then it has all that it can get. */
static void start_many(int number, void (*child)(void))
{
	int i, failed = 0, started = 0;
	pid_t pid;

	for (i = 0; i < number && failed < GIVE_UP_AFTER; i++) {
		pid = fork_child();
		if (!pid) {
			child();
			_exit(EXIT_SUCCESS);
		}
		failed += pid < 0;
		started += pid > 0;
	}
	tell(started);
	hang();
}

static void start_processes(void)
{
	start_many(PROCESSES, touch_and_spin);
}

static void start_groups(void)
{
	start_many(GROUPS, spin_in_threads);
}

static void start_copies(void)
{
	char *memory = map_memory(FORKER_MIB * MIB, MAP_PRIVATE);

	if (!memory)
		_exit(EXIT_FAILURE);
	touch_pages(memory, FORKER_MIB * MIB);
	start_many(FORKS, hang);
}

/*
 * Hundreds that spin keep the killed from exiting for a while.  Their memory
 * must be back soon all the same.
 */
static long settled_pages(uid_t uid, long max)
{
	long long late = now_us() + SETTLE_MS * 1000LL;
	long pages;

	do {
		pages = pages_of(uid);
	} while (pages > max && now_us() < late);
	return pages;
}

static void judge_spinners(uid_t uid, void (*act)(void), long least)
{
	struct watch watch = { .max = PAGES(LIMIT_MIB) + STOCK_PAGES };
	long long late = now_us() + READY_MS * 1000LL;
	long started = 0, exact;
	bool told = false;
	struct app app;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, act);
	while (now_us() < late) {
		watch_look(&watch, uid);
		if (!told && (app_hear(&app, 10, &started) || app_ended(&app))) {
			told = true;
			late = now_us() + AFTER_MS * 1000LL;
		}
		sleep_ms(10);
	}
	watch_look(&watch, uid);
	exact = settled_pages(uid, watch.max);
	note("%ld started, kills %ld, %ld pages over the bound at worst",
	     started, kills_of(uid), watch.worst);
	check(told && (started >= least || kills_of(uid) > 0),
	      "%ld are started, or some were killed", started);
	check(watch.longest_ms <= DECISION_MS,
	      "the count is over the limit and %d pages for %ld ms at most",
	      STOCK_PAGES, watch.longest_ms);
	if (kills_of(uid))
		check(worst_kill(uid) <= STOCK_PAGES,
		      "at a kill the user was %ld pages over at most; %d may be",
		      worst_kill(uid), STOCK_PAGES);
	check(exact <= watch.max, "in the end the user has %ld pages of %ld",
	      exact, PAGES(LIMIT_MIB));
}

void spin_processes(uid_t uid)
{
	judge_spinners(uid, start_processes, PROCESSES / 20);
}

void spin_threads(uid_t uid)
{
	judge_spinners(uid, start_groups, GROUPS / 4);
}

void spin_forks(uid_t uid)
{
	judge_spinners(uid, start_copies, LIMIT_MIB / FORKER_MIB / 2);
}
