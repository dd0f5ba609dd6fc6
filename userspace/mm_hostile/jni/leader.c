// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread may have a user of its own, and a process belongs to the user of its
 * leader.  When the leader leaves, or another takes its place, the process, with
 * all it has, becomes somebody else's at that moment.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	50
#define GROWN_MIB	100
#define START_MIB	10
#define HELD_MIB	80
#define READY_MS	10000
#define GROW_MS		20000
#define SETTLE_MS	500

/* glibc's setresuid() would change all threads. */
#ifdef __NR_setresuid32
#define NR_SETRESUID	__NR_setresuid32
#else
#define NR_SETRESUID	__NR_setresuid
#endif

static uid_t user;

static void take(int mib)
{
	char *memory = map_memory(mib * MIB, MAP_PRIVATE);

	if (!memory)
		_exit(EXIT_FAILURE);
	touch_pages(memory, mib * MIB);
}

static void change_user_alone(void)
{
	if (syscall(NR_SETRESUID, user, user, user))
		_exit(EXIT_FAILURE);
}

static void *stay(void *unused)
{
	int mib;

	(void)unused;
	change_user_alone();
	tell(0);
	await_go();
	for (mib = START_MIB; mib < GROWN_MIB; mib++) {
		take(1);
		sleep_ms(5);
	}
	tell(mib);
	hang();
	return NULL;
}

static void *exec_alone(void *unused)
{
	(void)unused;
	change_user_alone();
	tell(0);
	await_go();
	execl("/proc/self/exe", "mm_hostile", "grow", "100", NULL);
	_exit(EXIT_FAILURE);
}

static void leave_to(void *(*other)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, other, NULL))
		_exit(EXIT_FAILURE);
	sleep_ms(SETTLE_MS);
	syscall(__NR_exit, 0);
}

static void leave_with_little(void)
{
	take(START_MIB);
	leave_to(stay);
}

static void leave_with_much(void)
{
	take(HELD_MIB);
	leave_to(stay);
}

static void let_other_exec(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exec_alone, NULL))
		_exit(EXIT_FAILURE);
	hang();
}

/* The child of a vfork() borrows the memory of its parent: until that is dead. */
static void outlive_parent(void)
{
	pid_t pid = vfork();
	int mib;

	if (pid < 0)
		_exit(EXIT_FAILURE);
	if (pid)
		hang();
	kill(getppid(), SIGKILL);
	sleep_ms(SETTLE_MS);
	tell(0);
	await_go();
	for (mib = START_MIB; mib < GROWN_MIB; mib++) {
		take(1);
		sleep_ms(5);
	}
	tell(mib);
	hang();
}

static void start_vfork(void)
{
	pid_t pid = fork();

	if (!pid) {
		take(START_MIB);
		outlive_parent();
	}
	hang();
}

static void check_count(uid_t uid)
{
	long exact = pages_of(uid), count = counted(uid);

	check(exact > 0 && labs(exact - count) <= STOCK_PAGES * nr_cpus(),
	      "the process is counted: %ld pages of %ld", count, exact);
}

static void check_killed_while_it_grows(struct app *app, uid_t uid)
{
	struct watch watch = { .max = PAGES(LIMIT_MIB) + STOCK_PAGES };
	long long late = now_us() + GROW_MS * 1000LL;
	long peak = 0, mib = 0, now;

	while (now_us() < late && !app_ended(app) && !app_hear(app, 0, &mib)) {
		watch_look(&watch, uid);
		now = pages_of(uid);
		if (now > peak)
			peak = now;
		sleep_ms(2);
	}
	check(app_killed(app),
	      "a process that grows to %d MB under %d MB is killed: %s",
	      GROWN_MIB, LIMIT_MIB, mib ? "it has it all" :
	      app_ended(app) ? "it has ended" : "it lives");
	check(peak <= PAGES(LIMIT_MIB + 1), "it had %ld pages at most, of %ld",
	      peak, PAGES(LIMIT_MIB));
}

void leader_leaves(uid_t uid)
{
	struct app app;
	long value;

	user = uid;
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, 0, leave_with_little);
	check(app_hear(&app, READY_MS, &value), "a thread changes its user alone");
	sleep_ms(2 * SETTLE_MS);
	check_count(uid);
	app_go(&app);
	check_killed_while_it_grows(&app, uid);
}

void leader_holds(uid_t uid)
{
	struct app app;
	long value;

	user = uid;
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, 0, leave_with_much);
	check(app_hear(&app, READY_MS, &value), "a thread changes its user alone");
	check(app_wait_end(&app, SETTLE_MS + DECISION_MS) && app_killed(&app),
	      "a process that becomes the user's with %d MB over a limit of %d MB is killed",
	      HELD_MIB, LIMIT_MIB);
}

void leader_execs(uid_t uid)
{
	struct app app;
	long value;

	user = uid;
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, 0, let_other_exec);
	check(app_hear(&app, READY_MS, &value), "a thread changes its user alone");
	app_go(&app);
	check_killed_while_it_grows(&app, uid);
}

/* Here the process that grows is not the one that the judge has started. */
void leader_vforks(uid_t uid)
{
	long long late;
	struct app app;
	long value, peak = 0, mib = 0, now;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, start_vfork);
	check(app_hear(&app, READY_MS, &value), "a child outlives its parent");
	check_count(uid);
	app_go(&app);
	late = now_us() + GROW_MS * 1000LL;
	while (now_us() < late && !kills_of(uid) && !app_hear(&app, 0, &mib)) {
		now = pages_of(uid);
		if (now > peak)
			peak = now;
		sleep_ms(2);
	}
	check(kills_of(uid) > 0,
	      "it grows to %d MB under %d MB: kills %ld, it has told of %ld MB",
	      GROWN_MIB, LIMIT_MIB, kills_of(uid), mib);
	check(peak <= PAGES(LIMIT_MIB + 1), "the user had %ld pages at most, of %ld",
	      peak, PAGES(LIMIT_MIB));
}
