// SPDX-License-Identifier: GPL-2.0-only
/*
 * The process that has most memory together with all its descendants goes first:
 * one that hides what it uses in many small children does not get away.
 */

#include <linux/user_oom_policy.h>

static bool is_descendant(struct task_struct *q, struct task_struct *p)
{
	for (; q->pid; q = rcu_dereference(q->real_parent))
		if (same_thread_group(q, p))
			return true;
	return false;
}

/* In bytes.  Each process looks at all, so thousands would take a while. */
static s64 score(struct task_struct *p, long rss)
{
	struct task_struct *q;
	s64 pages = 0;

	for_each_process(q)
		if (is_descendant(q, p))
			pages += user_oom_rss(q);
	return pages << PAGE_SHIFT;
}

USER_OOM_POLICY("largest-group", score, "group_rss", 1);
