/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <sys/types.h>

/* Real uid of the measuring process; a limit is set on it, or on nobody. */
#define BENCH_UID	10150
/* Users that have a limit and nothing else: this one and those after it. */
#define OTHER_UID	20000
/* Where setuid() goes to and comes back from; never has a limit. */
#define SPARE_UID	10151

#define PAGE		4096UL
#define CHURN_PAGES	64UL	/* what the workload of that name has at most */

/* CLOCK_MONOTONIC_RAW in ns; with -icount shift=0, instructions. */
long long now(void);

/* Let what is going on come to an end: who sleeps leaves nothing uncounted. */
void settle(void);

/* The most anybody is limited to who is not to notice. */
#define FAR_LIMIT	2000000000UL

/* What the kernel has counted for the user, in bytes; it must have a limit. */
unsigned long counted_bytes(void);

void fail(const char *what) __attribute__((noreturn));

/* workload.c: what churn has all the time, with no limit as with one */
void hold_memory(void);

/* workload.c: what the last of so many rounds has besides, in pages */
unsigned long shifted_pages(long rounds);

/* workload.c: returns false if there is no workload of that name. */
bool run_workload(const char *name, long rounds);

/* crowd.c: so many processes of @owner that sleep until the end. */
void gather_crowd(long count, uid_t owner);

/* sharers.c */
struct sharers {
	long count;
	pid_t *pids;
	char *stacks;
};

struct sharers start_sharers(long count);
void end_sharers(struct sharers *sharers);

/*
 * spin.c: so many times, let 400 processes want more than there is; without
 * @limited something else is to hold them.
 */
void run_spinners(long count, bool limited);

/* breach.c: let the user's limit be broken so many times, by so many threads. */
void run_breaches(long count, long threads);

#endif /* BENCH_H */
