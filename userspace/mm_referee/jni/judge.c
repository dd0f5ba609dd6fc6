// SPDX-License-Identifier: GPL-2.0-only
/*
 * Was a kill right?  The user must have been over the limit by our own recount,
 * and the victim the one the policy chooses among what we saw.
 *
 * All processes slept since the recount but one, the grower, whose memory and
 * time are known within bounds only; its memory follows from the others'.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "referee.h"

/* Page tables and the stack may grow with the grower. */
#define SLACK_PAGES	80
#define SLACK_MS	1000

static bool counted_before(int index, uid_t uid)
{
	int i;

	for (i = 0; i < index; i++)
		if (processes[i].alive && processes[i].uid == uid &&
		    processes[i].mm == processes[index].mm)
			return true;
	return false;
}

long usage_of(uid_t uid, const struct process *except)
{
	long sum = 0;
	int i;

	for (i = 0; i < nr_processes; i++) {
		struct process *p = &processes[i];

		if (!p->alive || p->uid != uid || counted_before(i, uid))
			continue;
		if (!except || p->mm != except->mm)
			sum += p->rss;
	}
	return sum;
}

bool can_be_killed(uid_t uid)
{
	int i;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].alive && processes[i].uid == uid &&
		    processes[i].adj != -1000)
			return true;
	return false;
}

/* Until Linux 3.6 badness was in thousandths of memory; since then, in pages. */
static bool badness_is_in_pages(void)
{
	int major = 0, minor = 0;
	struct utsname kernel;

	uname(&kernel);
	sscanf(kernel.release, "%d.%d", &major, &minor);
	return major > 3 || (major == 3 && minor >= 6);
}

static long badness(const struct process *p)
{
	long points;

	if (badness_is_in_pages())
		return p->rss + p->tables_kb / 4 +
		       p->adj * (total_pages() / 1000);
	/*
	 * A page table was 2 KB and counted as a page; who has CAP_SYS_ADMIN, as
	 * all of ours do because only their real uid changes, was let off 30.
	 */
	points = (p->rss + p->tables_kb / 2) * 1000 / total_pages();
	points += p->adj - 30;
	return points < 1 ? 1 : points > 1000 ? 1000 : points;
}

/* What so many pages more can add to the badness of a process, at most. */
static long badness_of_pages(long pages)
{
	return badness_is_in_pages() ? pages : pages * 1000 / total_pages() + 1;
}

/* As the policy scores it: pages, ms, or badness. */
static long score(const struct process *p, enum policy policy)
{
	switch (policy) {
	case POLICY_RSS:
		return p->rss;
	case POLICY_RUNTIME:
		return p->cpu / 1000000;
	case POLICY_BADNESS:
		return badness(p);
	}
	return 0;
}

static struct process *find(pid_t pid)
{
	int i;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].alive && processes[i].pid == pid)
			return &processes[i];
	return NULL;
}

/* Nobody else may score more than the victim; "slack" is what the grower may. */
static void judge_choice(const struct process *victim, enum policy policy,
			 const struct process *grower, long slack, long logged)
{
	long own = logged >= 0 ? logged : score(victim, policy), other;
	int i;

	for (i = 0; i < nr_processes; i++) {
		struct process *p = &processes[i];

		if (!p->alive || p->uid != victim->uid || p->adj == -1000 ||
		    p == victim)
			continue;
		other = score(p, policy);
		if (grower && p->mm == grower->mm)
			continue;
		if (other > own)
			wrong("process %d was killed, which scores %ld; process %d scores %ld",
			      victim->pid, own, p->pid, other);
	}
	if (grower && grower->alive && grower->mm != victim->mm &&
	    grower->uid == victim->uid && grower->adj != -1000 &&
	    score(grower, policy) > own)
		wrong("process %d was killed, which scores %ld; process %d that grew scored %ld before",
		      victim->pid, own, grower->pid, score(grower, policy));
	if (logged >= 0 && (!grower || grower->mm != victim->mm) &&
	    logged != score(victim, policy))
		wrong("process %d scores %ld by the log, %ld by recount",
		      victim->pid, logged, score(victim, policy));
	if (logged >= 0 && grower && grower->mm == victim->mm &&
	    (logged < score(victim, policy) ||
	     logged > score(victim, policy) + slack))
		wrong("process %d scores %ld by the log, %ld to %ld by recount",
		      victim->pid, logged, score(victim, policy),
		      score(victim, policy) + slack);
}

static void bury_all_with(int mm)
{
	int i;

	/* Youngest first: a sharer's parent is older than it. */
	for (i = nr_processes - 1; i >= 0; i--)
		if (processes[i].mm == mm && processes[i].alive)
			bury(&processes[i]);
}

void judge_kill(const struct kill *kill, uid_t uid, unsigned long max,
		enum policy policy, const struct process *grower, long growth)
{
	struct process *victim = find(kill->pid);
	long others = usage_of(uid, grower), grown, rss;
	bool grows = grower && grower->alive;

	if (kill->uid != uid || kill->max != max)
		wrong("a kill for uid %u, limit %lu; the limit is on uid %u, %lu",
		      kill->uid, kill->max, uid, max);
	if (!victim || victim->uid != uid)
		wrong("process %d was killed, which uid %u does not have",
		      kill->pid, uid);
	if (victim->adj == -1000)
		wrong("process %d was killed, which is protected", kill->pid);
	/* What the grower has is what the kernel counted beyond the others. */
	grown = kill->user_rss - others;
	if (grows && (grown < grower->rss || grown > grower->rss + growth))
		wrong("uid %u has %ld pages by the log, %ld and what grew from %ld by at most %ld by recount",
		      uid, kill->user_rss, others, grower->rss, growth);
	if (!grows && grown)
		wrong("uid %u has %ld pages by the log, %ld by recount", uid,
		      kill->user_rss, others);
	if (kill->user_rss <= (long)(max / PAGE))
		wrong("process %d was killed though uid %u has %ld pages of %ld",
		      kill->pid, uid, kill->user_rss, (long)(max / PAGE));
	rss = grows && victim->mm == grower->mm ? grown : victim->rss;
	if (kill->rss != rss)
		wrong("process %d has %ld pages by the log, %ld by recount",
		      kill->pid, kill->rss, rss);
	if (policy == POLICY_RSS)
		judge_choice(victim, policy, grower, growth, rss);
	else
		judge_choice(victim, policy, grower,
			     policy == POLICY_RUNTIME ? SLACK_MS :
			     badness_of_pages(growth + SLACK_PAGES), kill->score);
	bury_all_with(victim->mm);
}
