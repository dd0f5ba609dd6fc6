// SPDX-License-Identifier: GPL-2.0-only
/* Processes that share the memory of the one that measures, and sleep. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define STACK	4096UL	/* of a process that does nothing */

static int sleep_on(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

struct sharers start_sharers(long count)
{
	struct sharers sharers = { .count = count };
	long i;

	sharers.pids = calloc(count, sizeof(*sharers.pids));
	sharers.stacks = mmap(NULL, count * STACK, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!sharers.pids || sharers.stacks == MAP_FAILED)
		fail("sharers");
	for (i = 0; i < count; i++) {
		sharers.pids[i] = clone(sleep_on, sharers.stacks + (i + 1) * STACK,
					CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD,
					NULL);
		if (sharers.pids[i] < 0)
			fail("clone");
	}
	return sharers;
}

void end_sharers(struct sharers *sharers)
{
	long i;

	for (i = 0; i < sharers->count; i++)
		kill(sharers->pids[i], SIGKILL);
	for (i = 0; i < sharers->count; i++)
		waitpid(sharers->pids[i], NULL, 0);
	munmap(sharers->stacks, sharers->count * STACK);
	free(sharers->pids);
}
