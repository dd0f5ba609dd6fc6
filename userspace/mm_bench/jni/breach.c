// SPDX-License-Identifier: GPL-2.0-only
/*
 * Breaks the user's limit again and again, page by page.
 *
 * A child of the same user holds so much that it is the one to be killed.  On
 * one CPU the breaker runs at a real-time priority, so that the victim's exit
 * comes after it; then the page that took longest is the one that paid for the
 * kill.  Prints for each breach what that page took, and how many pages beyond
 * the limit it was:
 *
 *   breach NUMBER TIME PAGES
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "mm_user.h"

#define VICTIM_PAGES	1024UL
#define ROOM		256L	/* pages between what there is and the limit */
#define BEYOND		160L	/* pages to go on after the limit, per thread */
#define MAX_THREADS	64

struct longest {
	long long took;		/* ns */
	long page;		/* from 0 */
};

static pid_t start_victim(void)
{
	pid_t parent = getpid(), pid;
	int ready[2];
	char one;

	if (pipe(ready))
		fail("pipe");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		die_with_parent(parent);
		if (!touch_new_pages(VICTIM_PAGES * PAGE) ||
		    write(ready[1], "", 1) != 1)
			_exit(EXIT_FAILURE);
		for (;;)
			pause();
	}
	if (read(ready[0], &one, 1) != 1)
		fail("victim");
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static struct longest touch_all(volatile char *at, long pages)
{
	struct longest longest = { 0, 0 };
	long long before, after;
	long i;

	before = now();
	for (i = 0; i < pages; i++) {
		at[i * PAGE] = 1;
		after = now();
		if (after - before > longest.took)
			longest = (struct longest){ after - before, i };
		before = after;
	}
	return longest;
}

static void *breaker(void *pages)
{
	void *at = mmap(NULL, (long)pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	touch_all(at, (long)pages);
	return at;
}

/* All is kept until the end: they may run one after the other. */
static void run_threads(long count, long pages)
{
	pthread_t threads[MAX_THREADS];
	void *kept[MAX_THREADS];
	long i;

	for (i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, breaker, (void *)pages))
			fail("pthread_create");
	for (i = 0; i < count; i++)
		pthread_join(threads[i], &kept[i]);
	for (i = 0; i < count; i++)
		munmap(kept[i], pages * PAGE);
}

static struct longest breach(long threads, void *memory)
{
	struct longest longest = { 0, ROOM };

	if (set_mm_limits(BENCH_UID, FAR_LIMIT) < 0)
		fail("set_mm_limits");
	/* What has gone to sleep has nothing left that is not counted. */
	settle();
	if (set_mm_limits(BENCH_UID, counted_bytes() + ROOM * PAGE) < 0)
		fail("set_mm_limits");
	settle();
	if (threads > 1)
		run_threads(threads, ROOM / threads + BEYOND);
	else
		longest = touch_all(memory, ROOM + BEYOND);
	madvise(memory, (ROOM + BEYOND) * PAGE, MADV_DONTNEED);
	return longest;
}

static void collect(pid_t victim, long number)
{
	int status, tries;

	for (tries = 0; tries < 100; tries++) {
		if (waitpid(victim, &status, WNOHANG) == victim) {
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
				return;
			break;
		}
		settle();
	}
	complain("mm_bench: the victim of breach %ld was not killed", number);
	kill(victim, SIGKILL);
	exit(EXIT_FAILURE);
}

void run_breaches(long count, long threads)
{
	const struct sched_param priority = { .sched_priority = 1 };
	size_t size = (ROOM + BEYOND) * PAGE;
	struct longest longest;
	pid_t victim;
	long i;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	for (i = 1; i <= count; i++) {
		victim = start_victim();
		if (threads == 1 && sched_setscheduler(0, SCHED_FIFO, &priority))
			fail("sched_setscheduler");
		longest = breach(threads, memory);
		sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
		collect(victim, i);
		if (threads == 1)
			say("breach %ld %lld %ld", i, longest.took,
			    longest.page - ROOM);
	}
	set_mm_limits(BENCH_UID, MM_LIMIT_REMOVE);
	munmap(memory, size);
}
