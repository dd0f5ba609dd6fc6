/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef REFEREE_H
#define REFEREE_H

#include <stdbool.h>
#include <sys/types.h>

#define FIRST_UID	10140
#define USERS		20
#define MAX_PROCESSES	64
#define FAR_LIMIT	2000000000UL
#define PAGE		4096UL

/*
 * What is known of a process.  Numbers are as of the last recount, at which the
 * process slept; they are what user space can see, not what the kernel counts.
 */
struct process {
	pid_t pid;
	uid_t uid;		/* real */
	int mm;			/* processes with the same number share memory */
	bool alive;
	bool leads;		/* can be told what to do; a sharer cannot */
	bool contested;		/* its memory may have stopped being charged */
	int adj;		/* oom_score_adj */
	long rss;		/* resident, in pages */
	long tables_kb;		/* of page tables, in KB */
	long long cpu;		/* ns */
	int command, answer;	/* pipes */
};

/* A line of the kernel's log; sizes in pages. */
struct kill {
	unsigned int uid;
	long user_rss, rss;
	unsigned long max;	/* bytes */
	pid_t pid;
	long score;		/* ms, or badness; -1 if the line has none */
};

enum policy { POLICY_RSS, POLICY_RUNTIME, POLICY_BADNESS };

/* All processes, oldest first; the kernel prefers the youngest of equals. */
extern struct process processes[MAX_PROCESSES];
extern int nr_processes;

unsigned int below(unsigned int n);
/* Print what is wrong and end, with everything that was started. */
void wrong(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* actor.c: start a process; tell one that leads what to do, and wait for it. */
struct process *start_actor(uid_t uid);
void ask_grow(struct process *p, long pages);
bool answer_grow(struct process *p);	/* false: not yet, or never */
void shrink(struct process *p);
void burn(struct process *p, long ms);
void change_user(struct process *p, uid_t uid);
void start_sharer(struct process *p);
void start_thread(struct process *p);
void set_adj(struct process *p, int adj);
void retire(struct process *p);		/* end it and all that share its memory */
void bury(struct process *p);		/* it has been killed: wait for its end */
void end_all(void);

/* procfs.c: recount once it sleeps (try: if it does); the limit's row; the log. */
void recount(struct process *p);
bool try_recount(struct process *p);
bool read_counted(uid_t uid, unsigned long *bytes);
long total_pages(void);
void open_log(void);
bool next_kill(struct kill *kill);	/* false: no more so far */

/* judge.c: pages of a user by the last recount; is this kill right? */
long usage_of(uid_t uid, const struct process *except);
bool can_be_killed(uid_t uid);
void judge_kill(const struct kill *kill, uid_t uid, unsigned long max,
		enum policy policy, const struct process *grower, long growth);

#endif /* REFEREE_H */
