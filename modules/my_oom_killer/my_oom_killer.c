// SPDX-License-Identifier: GPL-2.0-only
/*
 * my_oom_killer - the system call that runs a per-user OOM killer now
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/init.h>
#include <linux/mm_limits.h>
#include <linux/module.h>

#include "../compat.h"

/*
 * my_oom_killer(type) - hold every user to its limit, by policy @type.
 *
 * Returns 0; -EINVAL if there is no such policy; -EPERM without
 * CAP_SYS_RESOURCE.
 */
static long my_oom_killer(int type)
{
	if (!capable(CAP_SYS_RESOURCE))
		return -EPERM;
	return oom_killer_of_type(type);
}

static const struct mm_syscall my_oom_killer_syscall = {
	.owner		= THIS_MODULE,
	.my_oom_killer	= my_oom_killer,
};

static int __init my_oom_killer_init(void)
{
	int ret = mm_syscall_register(MM_SYSCALL_OOM_KILLER,
				      &my_oom_killer_syscall);

	if (ret)
		pr_err("the system call has an implementation already\n");
	return ret;
}
module_init(my_oom_killer_init);

static void __exit my_oom_killer_exit(void)
{
	mm_syscall_unregister(MM_SYSCALL_OOM_KILLER);
}
module_exit(my_oom_killer_exit);

MODULE_DESCRIPTION("System call that runs a per-user OOM killer");
MODULE_LICENSE("GPL");
