// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many processes of the user that take a little each, go on running, and together
 * want more than there is.  How far the user was over, the kernel's log tells, or
 * the peak of a memory cgroup.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "mm_user.h"

#define SPINNERS	400
#define TOUCHED		60UL	/* pages: less than a task caches */
#define SPIN_LIMIT	(20UL << 20)
#define SPIN_SECONDS	4
#define GIVE_UP_AFTER	10	/* forks that failed: the user is at its limit */

static void touch_and_spin(void)
{
	if (!touch_new_pages(TOUCHED * PAGE))
		_exit(EXIT_FAILURE);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void start_spinners(void)
{
	int i, failed = 0;
	pid_t pid;

	if (setpgid(0, 0) || setresuid(BENCH_UID, BENCH_UID, BENCH_UID))
		fail("setresuid");
	for (i = 0; i < SPINNERS && failed < GIVE_UP_AFTER; i++) {
		pid = fork();
		if (!pid)
			touch_and_spin();
		failed += pid < 0;
	}
	for (;;)
		pause();
}

static void spin_once(void)
{
	pid_t starter = fork();

	if (starter < 0)
		fail("fork");
	if (!starter)
		start_spinners();
	setpgid(starter, starter);
	sleep(SPIN_SECONDS);
	kill(-starter, SIGKILL);
	if (waitpid(starter, NULL, 0) != starter)
		fail("waitpid");
	settle();
}

/* The one that judges is not the user's, and is not to be killed. */
void run_spinners(long count, bool limited)
{
	if (setresuid(SPARE_UID, 0, 0))
		fail("setresuid");
	while (count--) {
		if (limited && set_mm_limits(BENCH_UID, SPIN_LIMIT) < 0)
			fail("set_mm_limits");
		spin_once();
	}
	if (limited)
		set_mm_limits(BENCH_UID, MM_LIMIT_REMOVE);
	setresuid(BENCH_UID, 0, 0);
}
