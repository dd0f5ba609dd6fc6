// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who started last goes first: it has the least work to lose.
 */

#include <linux/user_oom_policy.h>

static s64 score(struct task_struct *p, long rss)
{
	return user_oom_start_time(p);
}

USER_OOM_POLICY("youngest", score, "start_time", NSEC_PER_MSEC);
