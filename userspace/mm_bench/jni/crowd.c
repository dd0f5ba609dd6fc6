// SPDX-License-Identifier: GPL-2.0-only
/* Processes that do nothing but be there. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "mm_user.h"

static void be_there(uid_t owner, pid_t parent, int ready)
{
	die_with_parent(parent);
	if (setresuid(owner, owner, owner))
		fail("setresuid");
	/* What sets uids also forgets whose death is to be followed. */
	die_with_parent(parent);
	if (write(ready, "", 1) != 1)
		_exit(EXIT_FAILURE);
	close(ready);
	for (;;)
		pause();
}

void gather_crowd(long count, uid_t owner)
{
	pid_t pid, parent = getpid();
	int ready[2];
	long i;
	char one;

	if (!count)
		return;
	if (pipe(ready))
		fail("pipe");
	for (i = 0; i < count; i++) {
		pid = fork();
		if (pid < 0)
			fail("fork");
		if (!pid) {
			close(ready[0]);
			be_there(owner, parent, ready[1]);
		}
		if (read(ready[0], &one, 1) != 1)
			fail("a process of the crowd");
	}
	close(ready[0]);
	close(ready[1]);
	settle();
}
