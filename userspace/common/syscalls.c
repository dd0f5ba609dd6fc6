// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two system calls: those of the patched kernel; or, for other people's kernels, what
 * two variables say:
 *
 *	MM_SET_MM_LIMITS=NUMBER,SWAPPED,UNIT	SWAPPED: the limit comes before the uid
 *	MM_MY_OOM_KILLER=NUMBER
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_user.h"

#if !defined(__NR_set_mm_limits) || !defined(__NR_my_oom_killer)
#error "needs the exported headers of the patched kernel (make headers)"
#endif

long set_mm_limits(uid_t uid, unsigned long mm_max)
{
	const char *other = getenv("MM_SET_MM_LIMITS");
	unsigned long unit;
	long number;
	int swapped;

	if (!other ||
	    sscanf(other, "%ld,%d,%lu", &number, &swapped, &unit) != 3 || !unit)
		return syscall(__NR_set_mm_limits, uid, mm_max);
	if (mm_max != MM_LIMIT_REMOVE)
		mm_max /= unit;
	return swapped ? syscall(number, mm_max, uid) : syscall(number, uid, mm_max);
}

long my_oom_killer(int type)
{
	const char *other = getenv("MM_MY_OOM_KILLER");

	return syscall(other ? atol(other) : __NR_my_oom_killer, type);
}
