// SPDX-License-Identifier: GPL-2.0-only
/* What an app can make others wait for, without privilege. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define SHARERS		3000
#define THREADS		1000
#define PROCESSES	200
#define MORE		20	/* that are timed one by one */
#define MEASURE_MS	4000
#define CALL_US		100000
#define CPU_PERCENT	5
#define READY_MS	120000
#define THREAD_STACK	(16 * 1024)

static bool (*make_one)(void);
static int wanted;

static int sharer(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	hang();
	return 0;
}

static bool make_sharer(void)
{
	static char *stacks;
	static size_t used;

	if (!stacks)
		stacks = map_memory((SHARERS + 3 * MORE) * PAGE, MAP_PRIVATE);
	if (!stacks)
		return false;
	used += PAGE;
	return clone(sharer, stacks + used, CLONE_VM | SIGCHLD, NULL) > 0;
}

static void *thread(void *unused)
{
	sharer(unused);
	return NULL;
}

static bool make_thread(void)
{
	pthread_attr_t attr;
	pthread_t id;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	return !pthread_create(&id, &attr, thread, NULL);
}

/* The mean of some, in us. */
static long time_more(void)
{
	long long begin = now_us();
	int i;

	for (i = 0; i < MORE; i++)
		make_one();
	return (now_us() - begin) / MORE;
}

/* In the state of a sleeper most of the time, and on a CPU all of it. */
static void *poller(void *unused)
{
	while (waitpid(-1, NULL, WNOHANG) >= 0 || errno == ECHILD)
		;
	return unused;
}

static void share(void)
{
	long long begin;
	pthread_t id;
	int made;

	for (made = 0; made < wanted && make_one(); made++)
		;
	tell(made);
	tell(time_more());
	begin = now_us();
	if (set_mm_limits(getuid(), 1UL << 30))
		_exit(EXIT_FAILURE);
	tell(now_us() - begin);
	tell(time_more());
	if (pthread_create(&id, NULL, poller, NULL))
		_exit(EXIT_FAILURE);
	for (made = 0; made < MORE / 4; made++) {
		make_one();
		sleep_ms(20);
	}
	tell(0);
	hang();
}

static void check_kernel_threads(long used_ms)
{
	check(used_ms <= MEASURE_MS * CPU_PERCENT / 100,
	      "the kernel's workers use %ld ms of CPU time in %d ms", used_ms,
	      MEASURE_MS);
}

static void allow_processes(void)
{
	struct rlimit limit = { 100000, 100000 };

	setrlimit(RLIMIT_NPROC, &limit);
}

static void judge_share(uid_t uid, bool (*make)(void), int number)
{
	long made = 0, before = 0, call = -1, after = 0, ready, used;
	struct app app;

	make_one = make;
	wanted = number;
	allow_processes();
	app_start(&app, uid, share);
	if (!app_hear(&app, READY_MS, &made) || made < number ||
	    !app_hear(&app, READY_MS, &before) ||
	    !app_hear(&app, READY_MS, &call) ||
	    !app_hear(&app, READY_MS, &after) ||
	    !app_hear(&app, READY_MS, &ready)) {
		check(false, "the app gets ready: %ld of %d made, its call took %ld us",
		      made, number, call);
		return;
	}
	check(call <= CALL_US, "with %d the app's set_mm_limits() takes %ld us",
	      number, call);
	check(after <= 3 * before + 1000,
	      "one more takes %ld us with a limit, %ld us without", after,
	      before);
	used = kernel_threads_ms();
	sleep_ms(MEASURE_MS);
	check_kernel_threads(kernel_threads_ms() - used);
}

void storm_sharers(uid_t uid)
{
	judge_share(uid, make_sharer, SHARERS);
}

void storm_threads(uid_t uid)
{
	judge_share(uid, make_thread, THREADS);
}

static void lower_for_ever(void)
{
	unsigned long bytes = 1UL << 30;
	int i;

	for (i = 0; i < PROCESSES; i++)
		if (!fork_child())
			hang();
	tell(PROCESSES);
	await_go();
	while (set_mm_limits(getuid(), bytes--) >= 0)
		;
	_exit(EXIT_FAILURE);
}

/* Two users without a process stand for all the others. */
void storm_calls(uid_t uid)
{
	long worst_call = 0, worst_read = 0, value, used;
	long long begin, end;
	struct app app;

	app_start(&app, uid, lower_for_ever);
	if (!app_hear(&app, READY_MS, &value)) {
		check(false, "the app gets ready");
		return;
	}
	app_go(&app);
	used = kernel_threads_ms();
	for (end = now_us() + MEASURE_MS * 1000LL; now_us() < end;) {
		begin = now_us();
		limit(uid + 1, MIB);
		if (now_us() - begin > worst_call)
			worst_call = now_us() - begin;
		begin = now_us();
		counted(uid + 1);
		if (now_us() - begin > worst_read)
			worst_read = now_us() - begin;
		sleep_ms(20);
	}
	used = kernel_threads_ms() - used;
	set_mm_limits(uid + 1, MM_LIMIT_REMOVE);
	check(!app_ended(&app), "the app lowers its limit all the time");
	check(worst_call <= CALL_US,
	      "meanwhile a call for another user takes %ld us at most",
	      worst_call);
	check(worst_read <= CALL_US,
	      "and reading /proc/mm_limits %ld us at most", worst_read);
	check_kernel_threads(used);
}
