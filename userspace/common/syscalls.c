// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_user.h"

#if !defined(__NR_set_mm_limits) || !defined(__NR_my_oom_killer)
#error "needs the exported headers of the patched kernel (make headers)"
#endif

long set_mm_limits(uid_t uid, unsigned long mm_max)
{
	return syscall(__NR_set_mm_limits, uid, mm_max);
}

long my_oom_killer(int type)
{
	return syscall(__NR_my_oom_killer, type);
}
