// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pages of a fork count in both processes.  A fork that does not fit fails
 * with ENOMEM; it harms nobody who was within the limit before it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	100
#define LARGE_MIB	60	/* two of them do not fit */
#define SMALL_MIB	40	/* two of them do */
#define RUNS		6
#define STACK		(64 * 1024)
#define READY_MS	60000
#define RACE_MS		4000
#define RACE_MIB	15	/* two may fit, and may not, as it comes and goes */
#define RACE_FORKS	5
#define OVER_PAGES	512

static void take(int mib)
{
	char *memory = map_memory(mib * MIB, MAP_PRIVATE);

	if (!memory)
		_exit(EXIT_FAILURE);
	touch_pages(memory, mib * MIB);
}

static void become_nothing(void)
{
	execl("/proc/self/exe", "mm_hostile", "nothing", NULL);
	_exit(EXIT_FAILURE);
}

/* 0: the child has done its exec; ENOMEM: there was none; else it has died. */
static int run_child(pid_t pid, int error)
{
	int status;

	if (pid < 0)
		return error;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status))
		return ECHILD;
	return 0;
}

static int fork_and_exec(void)
{
	pid_t pid = fork();

	if (!pid)
		become_nothing();
	return run_child(pid, errno);
}

static int vfork_and_exec(void)
{
	pid_t pid = vfork();

	if (!pid)
		become_nothing();
	return run_child(pid, errno);
}

static int exec_in_child(void *unused)
{
	(void)unused;
	become_nothing();
	return 0;
}

/* As posix_spawn() does it. */
static int spawn(void)
{
	char *stack = map_memory(STACK, MAP_PRIVATE);
	pid_t pid;
	int ret;

	if (!stack)
		return ENOMEM;
	pid = clone(exec_in_child, stack + STACK,
		    CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	ret = run_child(pid, errno);
	munmap(stack, STACK);
	return ret;
}

/* Tells how many runs did not fit, how many worked, and how many did neither. */
static void repeat(int (*run)(void))
{
	int i, ret;
	long refused = 0, worked = 0;

	for (i = 0; i < RUNS; i++) {
		ret = run();
		refused += ret == ENOMEM;
		worked += !ret;
	}
	tell(refused);
	tell(worked);
}

static void large_forks(void)
{
	take(LARGE_MIB);
	repeat(fork_and_exec);
	hang();
}

static void small_forks(void)
{
	take(SMALL_MIB);
	repeat(fork_and_exec);
	take(LARGE_MIB - SMALL_MIB);
	repeat(vfork_and_exec);
	repeat(spawn);
	hang();
}

static void check_alive(struct app *app, uid_t uid)
{
	check(!app_ended(app) && !kills_of(uid), "nobody was killed: kills %ld",
	      kills_of(uid));
}

static bool hear_two(struct app *app, long *refused, long *worked)
{
	*refused = *worked = 0;
	return app_hear(app, READY_MS, refused) &&
	       app_hear(app, READY_MS, worked);
}

void fork_exec(uid_t uid)
{
	long refused, worked;
	struct app app;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, large_forks);
	hear_two(&app, &refused, &worked);
	check(refused + worked == RUNS,
	      "of %d times to fork and exec with %d MB under %d MB, %ld get ENOMEM and %ld work",
	      RUNS, LARGE_MIB, LIMIT_MIB, refused, worked);
	check_alive(&app, uid);
}

void fork_fits(uid_t uid)
{
	static const char *const ways[] = {
		"fork() with 40 MB", "vfork() with 60 MB", "spawn with 60 MB"
	};
	long refused, worked;
	struct app app;
	int i;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, small_forks);
	for (i = 0; i < 3; i++) {
		hear_two(&app, &refused, &worked);
		check(worked == RUNS,
		      "%s under %d MB: %ld of %d work, %ld get ENOMEM", ways[i],
		      LIMIT_MIB, worked, RUNS, refused);
	}
	check_alive(&app, uid);
}

static void large_copy(void)
{
	pid_t pid;

	take(LARGE_MIB);
	tell(0);
	await_go();
	pid = fork();
	if (!pid)
		hang();
	tell(pid < 0 ? errno : 0);
	hang();
}

void fork_bound(uid_t uid)
{
	struct watch watch = { .max = PAGES(LIMIT_MIB) + OVER_PAGES };
	long error = -1, exact, worst = 0;
	struct app app;
	int i;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, large_copy);
	app_hear(&app, READY_MS, &error);
	app_go(&app);
	for (i = 0; i < 100; i++) {
		watch_look(&watch, uid);
		sleep_ms(5);
	}
	exact = pages_of(uid);
	worst = watch.worst;
	error = -1;
	app_hear(&app, READY_MS, &error);
	check(error == 0 || error == ENOMEM, "fork() with %d MB under %d MB: %s",
	      LARGE_MIB, LIMIT_MIB, error < 0 ? "no answer" : errno_name(error));
	check(exact <= watch.max && worst <= 0,
	      "the user has %ld pages then and had %ld more than it may at most",
	      exact, worst);
	check_alive(&app, uid);
}

static void *grow_and_shrink(void *unused)
{
	size_t bytes = RACE_MIB * MIB;
	char *memory = map_memory(bytes, MAP_PRIVATE);

	(void)unused;
	while (memory) {
		touch_pages(memory, bytes);
		madvise(memory, bytes, MADV_DONTNEED);
	}
	return NULL;
}

/* Whether a copy fits changes all the time, also while it is made. */
static void fork_while_growing(void)
{
	pthread_t thread;
	pid_t pid;

	take(SMALL_MIB);
	if (pthread_create(&thread, NULL, grow_and_shrink, NULL))
		_exit(EXIT_FAILURE);
	for (;;) {
		pid = fork();
		if (!pid) {
			sleep_ms(20);
			_exit(EXIT_SUCCESS);
		}
		tell(pid > 0);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		sleep_ms(5);
	}
}

/* Together they may be over, and then the larger one is killed. */
static void race_again_and_again(void)
{
	pid_t pid;

	for (;;) {
		pid = fork_child();
		if (!pid)
			fork_while_growing();
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

void fork_race(uid_t uid)
{
	struct watch watch = { .max = PAGES(LIMIT_MIB) + OVER_PAGES };
	long long end = now_us() + RACE_MS * 1000LL;
	long rounds = 0, worked = 0, value;
	struct app app;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, race_again_and_again);
	while (now_us() < end) {
		watch_look(&watch, uid);
		while (app_hear(&app, 0, &value)) {
			rounds++;
			worked += value;
		}
		sleep_ms(2);
	}
	note("kills %ld", kills_of(uid));
	check(rounds >= RACE_FORKS, "%ld forks, of which %ld worked", rounds,
	      worked);
	check(worst_kill(uid) <= OVER_PAGES,
	      "at a kill the user was %ld pages over at most; %d may be",
	      worst_kill(uid), OVER_PAGES);
	check(watch.worst <= 0,
	      "the count was never more than %d pages over the limit: %ld more",
	      OVER_PAGES, watch.worst);
}
