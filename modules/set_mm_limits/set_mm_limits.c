// SPDX-License-Identifier: GPL-2.0-only
/*
 * set_mm_limits - the system call that sets the memory limit of a user
 *
 * The table belongs to the kernel; this module says who may change what in it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/init.h>
#include <linux/mm_limits.h>
#include <linux/module.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>

#include "../compat.h"

/*
 * A full table is many lines, which could wash everything else out of the kernel
 * log.  Others than the administrator see their own entry only.
 */
static DEFINE_RATELIMIT_STATE(log_table, 5 * HZ, 200);

static void log_change(kuid_t uid, bool privileged)
{
	if (!privileged)
		mm_limits_log_own(uid);
	else if (__ratelimit(&log_table))
		mm_limits_log();
}

/* A user without privilege has a say in its own limit only. */
static long change_limit(kuid_t uid, unsigned long mm_max, bool privileged)
{
	if (!privileged && !uid_eq(uid, current_uid()))
		return -EPERM;
	if (mm_max != MM_LIMIT_REMOVE)
		return mm_limits_set(uid, mm_max, privileged);
	return privileged ? mm_limits_remove(uid) : -EPERM;
}

/*
 * set_mm_limits(uid, mm_max) - limit the resident memory of @uid to @mm_max
 * bytes, or remove its limit if @mm_max is MM_LIMIT_REMOVE.
 *
 * Returns 0; 1 if a full table gave up an entry to make room; -EINVAL
 * for a uid that cannot have a limit or for no bytes; -EPERM and -ENOSPC for
 * what needs CAP_SYS_RESOURCE; -ESRCH if there is no limit to remove; -ENOMEM.
 */
static long set_mm_limits(uid_t uid, unsigned long mm_max)
{
	kuid_t kuid = make_kuid(current_user_ns(), uid);
	bool privileged;
	long ret;

	if (!uid || !uid_valid(kuid) || uid_eq(kuid, GLOBAL_ROOT_UID) ||
	    !mm_max)
		return -EINVAL;

	privileged = capable(CAP_SYS_RESOURCE);
	ret = change_limit(kuid, mm_max, privileged);
	if (ret >= 0)
		log_change(kuid, privileged);
	return ret;
}

static const struct mm_syscall set_mm_limits_syscall = {
	.owner		= THIS_MODULE,
	.set_mm_limits	= set_mm_limits,
};

static int __init set_mm_limits_init(void)
{
	int ret;

	ratelimit_set_flags(&log_table, RATELIMIT_MSG_ON_RELEASE);

	ret = mm_syscall_register(MM_SYSCALL_SET_LIMITS, &set_mm_limits_syscall);
	if (ret)
		pr_err("the system call has an implementation already\n");
	return ret;
}
module_init(set_mm_limits_init);

static void __exit set_mm_limits_exit(void)
{
	mm_syscall_unregister(MM_SYSCALL_SET_LIMITS);
}
module_exit(set_mm_limits_exit);

MODULE_DESCRIPTION("System call that sets per-user memory limits");
MODULE_LICENSE("GPL");
