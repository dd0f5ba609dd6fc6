// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_random [-t SECONDS] [-s SEED] - is the count of users' memory right?
 *
 * Workers do at random whatever changes what a user has: map, unmap, fork,
 * exec, setuid, threads, processes that share memory, limits that come and go.
 * Then all of them come to rest, and what the kernel has counted for each user
 * must be what an exact sum finds (mm_limits_check in debugfs).
 *
 * Needs root, both modules and CONFIG_USER_MM_LIMITS_DEBUG.  The limits are far
 * above what the workers use, so nothing is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"

#define CHECK		"/sys/kernel/debug/mm_limits_check"
#define FIRST_UID	10120
#define USERS		20
#define WORKERS		16
#define REGIONS		16
#define MAX_PAGES	160
#define HUGE_LIMIT	2000000000UL
#define STACK		(64 * 1024)
#define ROUNDS_APART	2	/* seconds between two comparisons */
#define SETTLE_TRIES	3000	/* of 20 ms each: a debug kernel is slow */

/* Shared by all workers; the parent tells them when to rest. */
static volatile struct {
	int resting;		/* workers are to stop */
	int steps[WORKERS];
	int at_rest[WORKERS];
} *shared;

struct worker {
	unsigned int random;
	size_t page;
	void *regions[REGIONS];
	size_t sizes[REGIONS];
};

static struct worker self;
static const char *program;

static unsigned int below(unsigned int n)
{
	return rand_r(&self.random) % n;
}

static uid_t random_user(void)
{
	return FIRST_UID + below(USERS);
}

static void touch(char *at, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += self.page)
		((volatile char *)at)[i] = 1;
}

static void unmap(unsigned int i)
{
	if (self.regions[i])
		munmap(self.regions[i], self.sizes[i]);
	self.regions[i] = NULL;
}

static void do_map(void)
{
	unsigned int i = below(REGIONS);
	size_t size = (1 + below(MAX_PAGES)) * self.page;
	bool private = below(4);
	void *at;

	unmap(i);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS |
		  (private ? MAP_PRIVATE : MAP_SHARED), -1, 0);
	if (at == MAP_FAILED)
		return;
	touch(at, size);
	self.regions[i] = at;
	self.sizes[i] = size;
}

static void do_unmap(void)
{
	unmap(below(REGIONS));
}

static void do_remap(void)
{
	unsigned int i = below(REGIONS);
	size_t size = (1 + below(MAX_PAGES)) * self.page;
	void *at;

	if (!self.regions[i])
		return;
	at = mremap(self.regions[i], self.sizes[i], size, MREMAP_MAYMOVE);
	if (at == MAP_FAILED)
		return;
	self.regions[i] = at;
	self.sizes[i] = size;
	/* Growing a shared mapping gives addresses without memory behind. */
}

static void do_discard(void)
{
	unsigned int i = below(REGIONS);

	if (self.regions[i])
		madvise(self.regions[i], self.sizes[i], MADV_DONTNEED);
}

/* Pages of the page cache count, too. */
static void do_map_file(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	size_t size = 32 * self.page, i;
	volatile char *at;
	char sum = 0;

	at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		return;
	for (i = 0; i < size; i += self.page)
		sum += at[i];
	munmap((void *)at, size);
	(void)sum;
}

/* The real uid alone decides whose memory it is; so there is a way back. */
static void do_setuid(void)
{
	if (setresuid(random_user(), 0, 0))
		perror("mm_random: setresuid");
}

static void wait_for(pid_t pid)
{
	while (pid > 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

static void do_fork(void)
{
	pid_t pid = fork();

	if (!pid) {
		self.random += getpid();
		if (below(2))
			do_setuid();
		do_map();
		do_unmap();
		if (below(4) == 0)
			raise(SIGKILL);
		_exit(0);
	}
	wait_for(pid);
}

static void do_exec(void)
{
	pid_t pid = vfork();

	if (!pid) {
		execl("/proc/self/exe", program, "--nothing", NULL);
		_exit(1);
	}
	wait_for(pid);
}

static void *thread(void *unused)
{
	size_t size = 20 * sysconf(_SC_PAGESIZE);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	if (at != MAP_FAILED) {
		touch(at, size);
		munmap(at, size);
	}
	return NULL;
}

static void do_threads(void)
{
	pthread_t threads[2];
	int i, n;

	for (n = 0; n < 2; n++)
		if (pthread_create(&threads[n], NULL, thread, NULL))
			break;
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static int sharer(void *at)
{
	touch(at, 10 * self.page);
	return 0;
}

static void do_share(void)
{
	char *stack = mmap(NULL, STACK + 10 * self.page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return;
	wait_for(clone(sharer, stack + STACK, CLONE_VM | SIGCHLD, stack + STACK));
	munmap(stack, STACK + 10 * self.page);
}

static void do_limit(void)
{
	/* Each time the whole table is logged. */
	if (below(8))
		return;
	if (below(3))
		set_mm_limits(random_user(), HUGE_LIMIT);
	else
		set_mm_limits(random_user(), MM_LIMIT_REMOVE);
}

static void work(int number, unsigned int seed, pid_t parent)
{
	static void (*const steps[])(void) = {
		do_map, do_map, do_map, do_unmap, do_remap, do_discard,
		do_map_file, do_setuid, do_fork, do_exec, do_threads, do_share,
		do_limit,
	};

	die_with_parent(parent);
	self.random = seed * 7919 + number;
	self.page = sysconf(_SC_PAGESIZE);
	do_setuid();
	for (;;) {
		while (shared->resting) {
			shared->at_rest[number] = 1;
			usleep(5000);
		}
		shared->at_rest[number] = 0;
		steps[below(sizeof(steps) / sizeof(steps[0]))]();
		shared->steps[number]++;
	}
}

static bool all_at_rest(void)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (!shared->at_rest[i])
			return false;
	return true;
}

/* Returns how many users are counted wrongly, -1 if that cannot be told. */
static int compare(bool tell, int *users)
{
	unsigned long exact;
	int wrong = 0, uid;
	long counted;
	FILE *file = fopen(CHECK, "re");

	*users = 0;
	if (!file)
		return -1;
	while (fscanf(file, "%d %ld %lu", &uid, &counted, &exact) == 3) {
		++*users;
		if (counted == (long)exact)
			continue;
		wrong++;
		if (tell)
			say("wrong uid=%d counted=%ld exact=%lu", uid, counted,
			    exact);
	}
	fclose(file);
	return wrong;
}

/* All rest and are compared; the last of an exit may take a moment. */
static int rest_and_compare(int *users)
{
	int tries, wrong = -1;

	shared->resting = 1;
	for (tries = 0; tries < SETTLE_TRIES; tries++) {
		usleep(20000);
		if (!all_at_rest())
			continue;
		wrong = compare(tries == SETTLE_TRIES - 1, users);
		if (!wrong)
			break;
	}
	shared->resting = 0;
	if (wrong < 0)
		say("wrong: the workers did not come to rest");
	return wrong;
}

static int usage(void)
{
	complain("usage: mm_random [-t SECONDS] [-s SEED]");
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	long seconds = 60, seed = 1, comparisons = 0, steps = 0, compared = 0;
	int option, i, users, wrong = 0;
	pid_t pids[WORKERS], parent = getpid();
	time_t end;

	program = argv[0];
	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return EXIT_SUCCESS;
	while ((option = getopt(argc, argv, "t:s:")) != -1) {
		if (option == 't' && parse_number(optarg, 1, 86400, &seconds))
			continue;
		if (option != 's' || !parse_number(optarg, 0, 1L << 30, &seed))
			return usage();
	}
	if (optind != argc)
		return usage();
	if (compare(false, &users) < 0) {
		complain("mm_random: " CHECK ": %s; is this a kernel with USER_MM_LIMITS_DEBUG?",
			 strerror(errno));
		return EXIT_USAGE;
	}
	say("random seed=%ld seconds=%ld", seed, seconds);

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return EXIT_FAILURE;
	for (i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		if (!pids[i])
			work(i, seed, parent);
	}
	for (end = time(NULL) + seconds; !wrong && time(NULL) < end;) {
		sleep(ROUNDS_APART);
		wrong = rest_and_compare(&users);
		comparisons++;
		compared += users;
	}
	for (i = 0; i < WORKERS; i++) {
		steps += shared->steps[i];
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	for (i = 0; i < USERS; i++)
		set_mm_limits(FIRST_UID + i, MM_LIMIT_REMOVE);
	say("random steps=%ld comparisons=%ld users=%ld wrong=%d", steps,
	    comparisons, compared, wrong);
	return wrong || !compared ? EXIT_FAILURE : EXIT_SUCCESS;
}
