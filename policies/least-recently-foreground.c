// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Android's framework gives the highest oom_score_adj goes first: the app
 * that was in the foreground longest ago.  Among equals the one with most memory.
 */

#include <linux/user_oom_policy.h>

/* More pages than any process has. */
#define STEP	(1 << 30)

static s64 score(struct task_struct *p, long rss)
{
	return (s64)p->signal->oom_score_adj * STEP + rss;
}

USER_OOM_POLICY("least-recently-foreground", score, "adj", STEP);
