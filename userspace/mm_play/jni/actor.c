// SPDX-License-Identifier: GPL-2.0-only
/* The life of a process of the play: burn, touch, report, wait for orders. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"
#include "play.h"

#define SHARER_STACK	(64 * 1024)

/* One actor a process, so what its threads share can be here. */
static struct {
	const struct actor_plan *plan;
	int orders;
	int reports;
} self;

static void send_report(int what, pid_t pid, int error)
{
	struct report report = { .what = what, .pid = pid, .error = error };

	if (write(self.reports, &report, sizeof(report)) != sizeof(report))
		_exit(EXIT_FAILURE);
}

static void fail(void)
{
	send_report(HAS_FAILED, 0, errno);
	_exit(EXIT_FAILURE);
}

static void set_adj(long adj)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%ld", adj);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, length) != length)
		fail();
	close(fd);
}

static void burn(long ms)
{
	struct timespec used;

	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < ms);
}

static void touch(unsigned long bytes)
{
	if (bytes && !touch_new_pages(bytes))
		fail();
	send_report(IS_READY, 0, 0);
}

static int sharer(void *unused)
{
	(void)unused;
	/* Its parent is that of the process that made it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

/* A process of its own that shares all memory, but not the pipes. */
static void start_sharer(void)
{
	char *stack = mmap(NULL, SHARER_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (stack == MAP_FAILED)
		fail();
	pid = clone(sharer, stack + SHARER_STACK, CLONE_VM | CLONE_PARENT | SIGCHLD,
		    NULL);
	if (pid < 0)
		fail();
	send_report(HAS_SHARER, pid, 0);
}

/* A child that touches its share before @ready is closed, and goes with its parent. */
static void be_child(unsigned long bytes, int ready, pid_t parent)
{
	if (!die_with_parent(parent) || !touch_new_pages(bytes))
		_exit(EXIT_FAILURE);
	close(ready);
	for (;;)
		pause();
}

static void start_child(unsigned long bytes)
{
	pid_t parent = getpid();
	int ready[2];
	char none;

	if (pipe(ready))
		fail();
	switch (fork()) {
	case -1:
		fail();
		break;
	case 0:
		be_child(bytes, ready[1], parent);
		break;
	}
	close(ready[1]);
	while (read(ready[0], &none, 1) < 0 && errno == EINTR)
		;
	close(ready[0]);
}

/* Touch what was asked for, then more on order until the parent is gone. */
static void *live(void *unused)
{
	unsigned long bytes = self.plan->bytes;

	(void)unused;
	if (self.plan->kind == SHARED_VM)
		start_sharer();
	if (self.plan->child)
		start_child(self.plan->child);
	do
		touch(bytes);
	while (read(self.orders, &bytes, sizeof(bytes)) == sizeof(bytes));
	_exit(EXIT_SUCCESS);
}

void act(const struct actor_plan *plan, int orders, int reports, pid_t parent)
{
	pthread_t thread;

	self.plan = plan;
	self.orders = orders;
	self.reports = reports;
	if (plan->set_adj)
		set_adj(plan->adj);
	if (!become_user(plan->uid) || !die_with_parent(parent))
		fail();
	burn(plan->burn_ms);
	if (plan->kind != LEADER_EXIT)
		live(NULL);
	errno = pthread_create(&thread, NULL, live, NULL);
	if (errno)
		fail();
	pthread_exit(NULL);
}
