// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mm_user.h"

void *touch_new_pages(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE), i;
	volatile char *memory;

	/* A limit is on resident memory, so the pages must be written to. */
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	for (i = 0; i < bytes; i += page)
		memory[i] = 1;
	return (void *)memory;
}

bool become_user(uid_t uid)
{
	gid_t gid = uid;

	if (getuid() == uid)
		return true;
	return !setgroups(1, &gid) && !setgid(gid) && !setuid(uid);
}

bool die_with_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return false;
	/* It may have died before the call. */
	if (getppid() != parent)
		raise(SIGKILL);
	return true;
}
