// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is measured.  A round of a workload is many laps, each shorter than the
 * time between two timer ticks, and of each lap the fastest of all rounds counts:
 * so no tick is in the figure, where a whole round always has two or three.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "mm_user.h"

#define PAGES		8192UL
#define FORK_PAGES	2560UL	/* 10 MB */
#define OPERATIONS	16	/* of fork, of exec in one round */
#define SETUIDS		256
#define LAP_SETUIDS	64
#define SWITCHES	256	/* to and fro */
#define LAP_SWITCHES	64
#define CLONES		64
#define LAPS		32	/* at most */
#define CHURN_LAP_PAGES	(4 * CHURN_PAGES)
#define SHIFT_PAGES	5UL	/* no divisor of what is taken at once */
#define LAP_PAGES	(PAGES / 8)
#define FILE_NAME	"/tmp/mm_bench"

struct laps {
	size_t count;
	long long last, fastest[LAPS];	/* ns */
};

static void start(struct laps *laps)
{
	laps->count = 0;
	laps->last = now();
}

static void lap(struct laps *laps)
{
	long long at = now(), took = at - laps->last;
	long long *fastest = &laps->fastest[laps->count++];

	if (!*fastest || took < *fastest)
		*fastest = took;
	laps->last = at;
}

/* Where all laps are the same work, the fastest of them all counts. */
static void same_lap(struct laps *laps)
{
	laps->count = 0;
	lap(laps);
}

static long long sum(const struct laps *laps)
{
	long long all = 0;
	size_t i;

	for (i = 0; i < laps->count; i++)
		all += laps->fastest[i];
	return all;
}

static void *map(size_t pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static void touch(volatile char *at, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

static void page(struct laps *laps)
{
	char *before = map(LAP_PAGES), *at = map(PAGES);
	size_t i;

	/* How many pages this CPU has at hand depends on what was freed before. */
	touch(before, LAP_PAGES);
	start(laps);
	for (i = 0; i < PAGES; i += LAP_PAGES) {
		touch(at + i * PAGE, LAP_PAGES);
		lap(laps);
	}
	munmap(at, PAGES * PAGE);
	lap(laps);
	munmap(before, LAP_PAGES * PAGE);
}

/* So much that one percent of it is more than what is not counted yet. */
void hold_memory(void)
{
	static void *held;

	if (!held)
		held = touch_new_pages(PAGES * PAGE);
	if (!held)
		fail("mmap");
}

/*
 * Pages alone: what mmap() and munmap() themselves allocate is freed by RCU some
 * time later, and then costs more or less.
 */
static void churn(struct laps *laps)
{
	static char *at;
	unsigned long i;

	hold_memory();
	if (!at)
		at = map(CHURN_PAGES);
	start(laps);
	for (i = CHURN_PAGES; i <= PAGES; i += CHURN_PAGES) {
		touch(at, CHURN_PAGES);
		madvise(at, CHURN_PAGES * PAGE, MADV_DONTNEED);
		if (i % CHURN_LAP_PAGES == 0)
			same_lap(laps);
	}
}

/* Made once; what is measured is mapping pages that are in the cache. */
static int cached_file(void)
{
	static int fd = -1;
	char *block;
	unsigned long i;

	if (fd >= 0)
		return fd;
	fd = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		fail(FILE_NAME);
	unlink(FILE_NAME);
	block = calloc(1, PAGE);
	for (i = 0; block && i < PAGES; i++)
		if (write(fd, block, PAGE) != (ssize_t)PAGE)
			fail(FILE_NAME);
	free(block);
	return fd;
}

static void file(struct laps *laps)
{
	volatile char *at = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED,
				 cached_file(), 0);
	unsigned long i;

	if (at == MAP_FAILED)
		fail("mmap");
	start(laps);
	for (i = 1; i <= PAGES; i++) {
		(void)at[(i - 1) * PAGE];
		if (i % LAP_PAGES == 0)
			lap(laps);
	}
	munmap((void *)at, PAGES * PAGE);
	lap(laps);
}

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("child");
}

static void fork_exit(struct laps *laps)
{
	static char *memory;
	pid_t pid;
	int i;

	if (!memory)
		memory = map(FORK_PAGES);
	touch(memory, FORK_PAGES);
	start(laps);
	for (i = 0; i < OPERATIONS; i++) {
		pid = fork();
		if (!pid)
			_exit(0);
		wait_for(pid);
		lap(laps);
	}
}

static void exec(struct laps *laps)
{
	pid_t pid;
	int i;

	start(laps);
	for (i = 0; i < OPERATIONS; i++) {
		pid = vfork();
		if (!pid) {
			execl("/proc/self/exe", "mm_bench", "--nothing", NULL);
			_exit(1);
		}
		wait_for(pid);
		lap(laps);
	}
}

/* To another user and back. */
static void setuid_back(struct laps *laps)
{
	int i;

	start(laps);
	for (i = 1; i <= SETUIDS; i++) {
		if (setresuid(SPARE_UID, -1, -1) ||
		    setresuid(BENCH_UID, -1, -1))
			fail("setresuid");
		if (i % LAP_SETUIDS == 0)
			same_lap(laps);
	}
}

/* Answers each byte with one until its pipe ends. */
static void echo(const int in[2], const int out[2])
{
	char byte;

	close(in[1]);
	close(out[0]);
	while (read(in[0], &byte, 1) == 1 && write(out[1], &byte, 1) == 1)
		;
	_exit(EXIT_SUCCESS);
}

/* Each byte puts one of two processes to sleep and wakes the other, twice. */
static void switch_back(struct laps *laps)
{
	int there[2], back[2], i;
	char byte = 0;
	pid_t pid;

	if (pipe(there) || pipe(back))
		fail("pipe");
	pid = fork();
	if (!pid)
		echo(there, back);
	close(there[0]);
	close(back[1]);
	start(laps);
	for (i = 1; i <= SWITCHES; i++) {
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			fail("echo");
		if (i % LAP_SWITCHES == 0)
			same_lap(laps);
	}
	close(there[1]);
	close(back[0]);
	wait_for(pid);
}

static void *end_at_once(void *unused)
{
	return unused;
}

/* A thread, born and joined, of a process whose memory @count others share. */
static void clone_among(struct laps *laps, long count)
{
	struct sharers sharers = start_sharers(count);
	pthread_t thread;
	int i;

	settle();
	start(laps);
	for (i = 0; i < CLONES; i++) {
		if (pthread_create(&thread, NULL, end_at_once, NULL) ||
		    pthread_join(thread, NULL))
			fail("pthread_create");
		same_lap(laps);
	}
	end_sharers(&sharers);
}

static void clone_among_10(struct laps *laps)
{
	clone_among(laps, 10);
}

static void clone_among_1000(struct laps *laps)
{
	clone_among(laps, 1000);
}

unsigned long shifted_pages(long rounds)
{
	return 1 + (rounds - 1) * SHIFT_PAGES;
}

static const struct workload {
	const char *name;
	void (*run)(struct laps *laps);	/* one round */
	double per;		/* what the sum of the laps is divided by */
} workloads[] = {
	{ "page", page, PAGES },
	{ "churn", churn, CHURN_LAP_PAGES },
	{ "file", file, PAGES },
	{ "fork", fork_exit, OPERATIONS },
	{ "exec", exec, OPERATIONS },
	{ "setuid", setuid_back, LAP_SETUIDS },
	{ "switch", switch_back, LAP_SWITCHES },
	{ "clone-10", clone_among_10, 1 },
	{ "clone-1000", clone_among_1000, 1 },
};

/*
 * Where the per-CPU lists of free pages run empty depends on how many pages are
 * taken already, and would be the same in all rounds.  So each begins elsewhere.
 */
static void measure(const struct workload *workload, long rounds)
{
	struct laps laps = { 0 };
	size_t shift;
	char *pages;
	long i;

	for (i = 0; i < rounds; i++) {
		shift = shifted_pages(i + 1);
		pages = map(shift);
		touch(pages, shift);
		settle();
		workload->run(&laps);
		munmap(pages, shift * PAGE);
	}
	say("figure %s %.3f", workload->name, sum(&laps) / workload->per);
}

static void read_all_the_time(const char *name, pid_t parent)
{
	char text[4096];
	int fd;

	die_with_parent(parent);
	for (;;) {
		fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			_exit(EXIT_FAILURE);
		while (read(fd, text, sizeof(text)) > 0)
			;
		close(fd);
	}
}

static pid_t start_reader(const char *name)
{
	pid_t parent = getpid(), reader = fork();

	if (reader < 0)
		fail("fork");
	if (!reader)
		read_all_the_time(name, parent);
	kill(reader, SIGSTOP);
	return reader;
}

/*
 * The same pages while somebody on another CPU reads the table, and while somebody
 * reads a file that has nothing to do with memory: a CPU that works makes all
 * others of an emulated machine slower.  By turns, as what else the host does is
 * no constant.
 */
static void measure_reader(long rounds)
{
	pid_t readers[2] = {
		start_reader("/proc/uptime"), start_reader("/proc/mm_limits"),
	};
	struct laps laps[2] = { 0 };
	long i;

	for (i = 0; i < 2 * rounds; i++) {
		kill(readers[i % 2], SIGCONT);
		settle();
		page(&laps[i % 2]);
		kill(readers[i % 2], SIGSTOP);
	}
	for (i = 0; i < 2; i++) {
		kill(readers[i], SIGKILL);
		waitpid(readers[i], NULL, 0);
	}
	say("figure unread %.3f", (double)sum(&laps[0]) / PAGES);
	say("figure read %.3f", (double)sum(&laps[1]) / PAGES);
}

bool run_workload(const char *name, long rounds)
{
	size_t i;

	if (!strcmp(name, "reader")) {
		measure_reader(rounds);
		return true;
	}
	for (i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
		if (strcmp(workloads[i].name, name))
			continue;
		measure(&workloads[i], rounds);
		return true;
	}
	return false;
}
