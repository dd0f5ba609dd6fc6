// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of who has begun to exit and does not get on with it: a tracer holds its
 * children at PTRACE_EVENT_EXIT, where they still have all they had.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	20
#define CHILDREN	8
#define EACH_MIB	15
#define REST_MS		3000
#define STOP_MS		10000
/* Programs' own pages; and what the kernel needs for so many processes. */
#define SLACK_MIB	2
#define FREE_SLACK_MIB	8

static void (*child_part)(void);
static pid_t last_held;

/* --- the children ------------------------------------------------------------ */

static void be_traced(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	syscall(__NR_tgkill, getpid(), (pid_t)syscall(__NR_gettid), SIGSTOP);
}

static void take(int flags)
{
	char *memory = map_memory(EACH_MIB * MIB, flags);

	if (memory)
		touch_pages(memory, EACH_MIB * MIB);
}

static void leave_with_private(void)
{
	be_traced();
	take(MAP_PRIVATE);
	_exit(EXIT_SUCCESS);
}

static void leave_with_shared(void)
{
	be_traced();
	take(MAP_SHARED);
	_exit(EXIT_SUCCESS);
}

/* Has room for it, and has touched nothing when it is held. */
static void leave_with_nothing(void)
{
	be_traced();
	_exit(EXIT_SUCCESS);
}

static void *sleeper(void *unused)
{
	(void)unused;
	hang();
	return NULL;
}

static void leave_a_thread(void)
{
	pthread_t thread;

	be_traced();
	if (pthread_create(&thread, NULL, sleeper, NULL))
		_exit(EXIT_FAILURE);
	take(MAP_PRIVATE);
	syscall(__NR_exit, 0);
}

static volatile bool traced;

static void *traced_thread(void *unused)
{
	be_traced();
	traced = true;
	return sleeper(unused);
}

/* exec waits for all other threads to exit, and keeps the old memory meanwhile. */
static void wait_in_exec(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, traced_thread, NULL))
		_exit(EXIT_FAILURE);
	while (!traced)
		sleep_ms(1);
	take(MAP_PRIVATE);
	execl("/proc/self/exe", "mm_hostile", "nothing", NULL);
	_exit(EXIT_FAILURE);
}

/* --- their tracer ------------------------------------------------------------ */

/* Wait for a stop; false if @child has ended, or does not stop. */
static pid_t next_stop(pid_t child, int what)
{
	long long late = now_us() + STOP_MS * 1000LL;
	int status;
	pid_t pid;

	while (now_us() < late) {
		pid = waitpid(-1, &status, WNOHANG | __WALL);
		if (pid <= 0)
			sleep_ms(1);
		else if (WIFSTOPPED(status) && status >> 8 == what)
			return pid;
		else if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, pid, NULL, NULL);
		else if (pid == child)
			return 0;
	}
	return 0;
}

static bool hold_one(void)
{
	pid_t child = fork_child(), pid;

	if (child < 0)
		return false;
	if (!child) {
		child_part();
		_exit(EXIT_SUCCESS);
	}
	pid = next_stop(child, SIGSTOP);
	if (!pid)
		return false;
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACEEXIT);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	last_held = next_stop(child, SIGTRAP | PTRACE_EVENT_EXIT << 8);
	return last_held;
}

static void hold_all(void)
{
	long held = 0;
	int i;

	for (i = 0; i < CHILDREN; i++) {
		held += hold_one();
		tell(held);
	}
	hang();
}

/* What is held does not grow by itself, but its tracer can make it grow. */
static void fill_one(void)
{
	char *memory = map_memory(CHILDREN * EACH_MIB * MIB, MAP_PRIVATE);
	size_t at;
	pid_t pid;

	if (!memory || !hold_one())
		_exit(EXIT_FAILURE);
	pid = last_held;
	for (at = 0; at < CHILDREN * EACH_MIB * MIB; at += PAGE)
		if (ptrace(PTRACE_POKEDATA, pid, memory + at, (void *)1L))
			break;
	tell(at / PAGE);
	hang();
}

/* --- the judge --------------------------------------------------------------- */

static void judge_holders(uid_t uid, void (*part)(void))
{
	long held = 0, rounds = 0, before, fell, resident;
	struct app app;

	child_part = part;
	limit(uid, LIMIT_MIB * MIB);
	before = free_pages();
	app_start(&app, uid, hold_all);
	while (rounds < CHILDREN && app_hear(&app, 2 * STOP_MS, &held))
		rounds++;
	sleep_ms(REST_MS);
	fell = before - free_pages();
	resident = resident_of(uid);
	note("%ld of %d children were held; the kernel counts %ld pages, kills %ld",
	     held, CHILDREN, counted(uid), kills_of(uid));
	check(held > 0 || app_killed(&app),
	      "%ld children were held at their exit, or the tracer was killed",
	      held);
	check(resident <= PAGES(LIMIT_MIB + SLACK_MIB),
	      "after 3 s the user's processes have %ld pages of %ld",
	      resident, PAGES(LIMIT_MIB));
	check(fell <= PAGES(LIMIT_MIB + FREE_SLACK_MIB),
	      "after 3 s %ld pages less are free, of %ld that the user may have",
	      fell, PAGES(LIMIT_MIB));
}

void exit_private(uid_t uid)
{
	judge_holders(uid, leave_with_private);
}

void exit_shared(uid_t uid)
{
	judge_holders(uid, leave_with_shared);
}

void exit_thread(uid_t uid)
{
	judge_holders(uid, leave_a_thread);
}

void exit_exec(uid_t uid)
{
	judge_holders(uid, wait_in_exec);
}

void exit_filled(uid_t uid)
{
	long filled = 0, resident;
	struct app app;

	child_part = leave_with_nothing;
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, fill_one);
	app_hear(&app, 2 * STOP_MS, &filled);
	sleep_ms(REST_MS);
	resident = pages_of(uid);
	note("the kernel counts %ld pages, kills %ld", counted(uid),
	     kills_of(uid));
	check(filled > 0 || app_killed(&app),
	      "the tracer could write to %ld pages of its child, or was killed",
	      filled);
	check(resident <= PAGES(LIMIT_MIB + SLACK_MIB),
	      "after 3 s the user's processes have %ld pages of %ld",
	      resident, PAGES(LIMIT_MIB));
}
