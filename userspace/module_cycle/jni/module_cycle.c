// SPDX-License-Identifier: GPL-2.0-only
/*
 * module_cycle ROUNDS SET_MODULE KILLER_MODULE - load and unload both modules
 * under two processes that call them all the time
 *
 * Every call must either work or fail with ENOSYS.  Starts with the modules
 * unloaded, leaves them loaded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_user.h"
#include "module_file.h"

#define CALLERS		2
#define UNUSED_UID	10190	/* a user that has no processes */

/* What the callers count, each in its own; the parent reads it. */
struct counts {
	unsigned long calls;
	unsigned long enosys;
	unsigned long bad;
	int bad_errno;
};

static int usage(const char *program)
{
	complain("usage: %s ROUNDS SET_MODULE KILLER_MODULE", program);
	complain("  ROUNDS   1 to 100000");
	complain("  *_MODULE paths of set_mm_limits.ko and my_oom_killer.ko");
	return EXIT_USAGE;
}

static long call_set(void)
{
	return set_mm_limits(UNUSED_UID, 1000000000);
}

static long call_killer(void)
{
	return my_oom_killer(MY_OOM_KILLER_HIGHEST_RSS);
}

/*
 * Bursts, so that calls are in flight when a module goes, with a pause between
 * them: each call of set_mm_limits() logs the table.
 */
static void call_for_ever(long (*call)(void), struct counts *counts)
{
	int i;

	for (;;) {
		for (i = 0; i < 5; i++) {
			counts->calls++;
			if (call() >= 0)
				continue;
			if (errno == ENOSYS) {
				counts->enosys++;
				continue;
			}
			counts->bad++;
			counts->bad_errno = errno;
		}
		poll(NULL, 0, 1);
	}
}

static pid_t start_caller(long (*call)(void), struct counts *counts)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		die_with_parent(parent);
		call_for_ever(call, counts);
	}
	return pid;
}

static bool cycle(long rounds, const struct module_file *modules)
{
	long i;

	for (i = 0; i < rounds; i++) {
		if (!load_module(&modules[0]) || !load_module(&modules[1]))
			return false;
		if (!unload_module(&modules[0]) || !unload_module(&modules[1]))
			return false;
	}
	return load_module(&modules[0]) && load_module(&modules[1]);
}

int main(int argc, char **argv)
{
	struct counts *counts, sum = { 0 };
	struct module_file modules[2];
	pid_t pids[CALLERS];
	bool done;
	long rounds;
	int i;

	if (argc != 4 || !parse_number(argv[1], 1, 100000, &rounds))
		return usage(argv[0]);
	if (!read_module(argv[2], &modules[0]) ||
	    !read_module(argv[3], &modules[1]))
		return EXIT_USAGE;
	counts = mmap(NULL, CALLERS * sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return EXIT_FAILURE;

	pids[0] = start_caller(call_set, &counts[0]);
	pids[1] = start_caller(call_killer, &counts[1]);
	done = pids[0] > 0 && pids[1] > 0 && cycle(rounds, modules);
	/* Let both see the modules that stay. */
	poll(NULL, 0, 50);
	for (i = 0; i < CALLERS; i++) {
		if (pids[i] > 0 && !kill(pids[i], SIGKILL))
			waitpid(pids[i], NULL, 0);
		sum.calls += counts[i].calls;
		sum.enosys += counts[i].enosys;
		sum.bad += counts[i].bad;
		if (counts[i].bad)
			complain("module_cycle: a call failed with %s",
				 errno_name(counts[i].bad_errno));
	}
	set_mm_limits(UNUSED_UID, MM_LIMIT_REMOVE);
	say("cycle rounds=%ld calls=%lu enosys=%lu bad=%lu", rounds, sum.calls,
	    sum.enosys, sum.bad);
	return done && !sum.bad && sum.enosys && sum.enosys < sum.calls ?
		EXIT_SUCCESS : EXIT_FAILURE;
}
