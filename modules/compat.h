/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the modules use and older kernels do not have.
 */
#ifndef MM_LIMITS_MODULES_COMPAT_H
#define MM_LIMITS_MODULES_COMPAT_H

#include <linux/errno.h>
#include <linux/mm_limits.h>
#include <linux/ratelimit.h>
#include <linux/types.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(3, 5, 0)

/* A uid in the kernel was a plain number, of whatever user namespace. */
typedef uid_t kuid_t;

#define GLOBAL_ROOT_UID		0
#define make_kuid(ns, uid)	(uid)

static inline bool uid_eq(kuid_t left, kuid_t right)
{
	return left == right;
}

static inline bool uid_valid(kuid_t uid)
{
	return uid != (uid_t)-1;
}

#endif /* before 3.5 */

#ifndef RATELIMIT_MSG_ON_RELEASE

/* A ratelimit always said how much it had held back. */
#define RATELIMIT_MSG_ON_RELEASE	0

static inline void ratelimit_set_flags(struct ratelimit_state *rs,
				       unsigned long flags)
{
}

#endif

#ifndef MY_OOM_KILLER_LOADED

/* There was no policy but the three of the kernel. */
static inline int oom_killer_of_type(int type)
{
	switch (type) {
	case MY_OOM_KILLER_HIGHEST_RSS:
		oom_killer_highest_rss();
		return 0;
	case MY_OOM_KILLER_LONGEST_RUN_TIME:
		oom_killer_longest_run_time();
		return 0;
	case MY_OOM_KILLER_WORST:
		oom_killer_worst();
		return 0;
	}
	return -EINVAL;
}

#endif

#endif /* MM_LIMITS_MODULES_COMPAT_H */
