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
/*
 * What a call may take.  The host may stop the guest for longer than that at any
 * moment, so it is the best of some calls, or nine of ten, that is held to it.
 */
#define CALL_US		100000
#define STALL_US	2000000
#define CALLS		5
#define SAMPLES		256
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

/* The best of some calls, in us; -1 if one failed. */
static long time_calls(void)
{
	long best = -1;
	int i;

	for (i = 0; i < CALLS; i++) {
		long long begin = now_us();
		long took;

		if (set_mm_limits(getuid(), (1UL << 30) - i))
			return -1;
		took = now_us() - begin;
		if (best < 0 || took < best)
			best = took;
	}
	return best;
}

static void share(void)
{
	pthread_t id;
	int made;

	for (made = 0; made < wanted && make_one(); made++)
		;
	tell(made);
	tell(time_more());
	tell(time_calls());
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
	check(call >= 0 && call <= CALL_US,
	      "with %d the app's set_mm_limits() takes %ld us, the best of %d",
	      number, call, CALLS);
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

/* How long something took, each time, in us. */
struct samples {
	long us[SAMPLES];
	int number;
};

static void sample_since(struct samples *samples, long long begin)
{
	if (samples->number < SAMPLES)
		samples->us[samples->number++] = now_us() - begin;
}

static int compare_longs(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

static void check_samples(struct samples *samples, const char *what)
{
	int number = samples->number;
	long most, worst;

	if (!number) {
		check(false, "%s is measured", what);
		return;
	}
	qsort(samples->us, number, sizeof(*samples->us), compare_longs);
	most = samples->us[number * 9 / 10];
	worst = samples->us[number - 1];
	check(most <= CALL_US && worst <= STALL_US,
	      "%s takes %ld us nine times of ten, %ld us at most, of %d", what,
	      most, worst, number);
}

/* Two users without a process stand for all the others. */
void storm_calls(uid_t uid)
{
	static struct samples calls, reads;
	long long begin, end;
	long value, used;
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
		sample_since(&calls, begin);
		begin = now_us();
		counted(uid + 1);
		sample_since(&reads, begin);
		sleep_ms(20);
	}
	used = kernel_threads_ms() - used;
	set_mm_limits(uid + 1, MM_LIMIT_REMOVE);
	check(!app_ended(&app), "the app lowers its limit all the time");
	check_samples(&calls, "meanwhile a call for another user");
	check_samples(&reads, "and reading /proc/mm_limits");
	check_kernel_threads(used);
}
