// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is measured.  A workload does its work once and returns how long the
 * parts of it took; the least of many rounds is the one with fewest interrupts.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
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
#define FILE_NAME	"/tmp/mm_bench"

struct parts {
	long long first, second;	/* ns */
};

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

static struct parts page(void)
{
	char *at = map(PAGES);
	long long start = now(), touched;

	touch(at, PAGES);
	touched = now();
	munmap(at, PAGES * PAGE);
	return (struct parts){ touched - start, now() - touched };
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

static struct parts churn(void)
{
	long long start;
	unsigned long i;
	char *at;

	hold_memory();
	start = now();
	for (i = 0; i < PAGES / CHURN_PAGES; i++) {
		at = map(CHURN_PAGES);
		touch(at, CHURN_PAGES);
		munmap(at, CHURN_PAGES * PAGE);
	}
	return (struct parts){ now() - start, 0 };
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

static struct parts file(void)
{
	volatile char *at = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED,
				 cached_file(), 0);
	long long start = now(), touched;
	unsigned long i;
	char sum = 0;

	if (at == MAP_FAILED)
		fail("mmap");
	for (i = 0; i < PAGES; i++)
		sum += at[i * PAGE];
	touched = now();
	munmap((void *)at, PAGES * PAGE);
	(void)sum;
	return (struct parts){ touched - start, now() - touched };
}

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("child");
}

static struct parts fork_exit(void)
{
	static char *memory;
	long long start;
	pid_t pid;
	int i;

	if (!memory)
		memory = map(FORK_PAGES);
	touch(memory, FORK_PAGES);
	start = now();
	for (i = 0; i < OPERATIONS; i++) {
		pid = fork();
		if (!pid)
			_exit(0);
		wait_for(pid);
	}
	return (struct parts){ now() - start, 0 };
}

static struct parts exec(void)
{
	long long start = now();
	pid_t pid;
	int i;

	for (i = 0; i < OPERATIONS; i++) {
		pid = vfork();
		if (!pid) {
			execl("/proc/self/exe", "mm_bench", "--nothing", NULL);
			_exit(1);
		}
		wait_for(pid);
	}
	return (struct parts){ now() - start, 0 };
}

/* To another user and back. */
static struct parts setuid_back(void)
{
	long long start = now();
	int i;

	for (i = 0; i < SETUIDS; i++)
		if (setresuid(SPARE_UID, -1, -1) ||
		    setresuid(BENCH_UID, -1, -1))
			fail("setresuid");
	return (struct parts){ now() - start, 0 };
}

static const struct workload {
	const char *name;
	struct parts (*run)(void);
	double per;		/* what one round is divided by */
	const char *parts[2];	/* what they are called, if they are shown */
} workloads[] = {
	{ "page", page, PAGES, { "fault", "unmap" } },
	{ "churn", churn, PAGES, { NULL, NULL } },
	{ "file", file, PAGES, { NULL, NULL } },
	{ "fork", fork_exit, OPERATIONS, { NULL, NULL } },
	{ "exec", exec, OPERATIONS, { NULL, NULL } },
	{ "setuid", setuid_back, SETUIDS, { NULL, NULL } },
};

static void measure(const struct workload *workload, long rounds)
{
	struct parts best = { LLONG_MAX / 2, 0 }, one;
	long i;

	for (i = 0; i < rounds; i++) {
		align();
		one = workload->run();
		if (one.first + one.second < best.first + best.second)
			best = one;
	}
	say("figure %s %.3f", workload->name,
	    (best.first + best.second) / workload->per);
	if (workload->parts[0]) {
		say("figure %s %.3f", workload->parts[0],
		    best.first / workload->per);
		say("figure %s %.3f", workload->parts[1],
		    best.second / workload->per);
	}
}

static void read_all_the_time(pid_t parent)
{
	char text[4096];
	int fd;

	die_with_parent(parent);
	for (;;) {
		fd = open("/proc/mm_limits", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			_exit(EXIT_FAILURE);
		while (read(fd, text, sizeof(text)) > 0)
			;
		close(fd);
	}
}

/*
 * The same pages with and without somebody on another CPU who reads the table.
 * By turns, as what else the host does is no constant.
 */
static void measure_reader(long rounds)
{
	double best[2] = { LLONG_MAX, LLONG_MAX };
	pid_t parent = getpid(), reader = fork();
	struct parts one;
	long i;

	if (reader < 0)
		fail("fork");
	if (!reader)
		read_all_the_time(parent);
	for (i = 0; i < 2 * rounds; i++) {
		kill(reader, i % 2 ? SIGCONT : SIGSTOP);
		align();
		one = page();
		if (one.first + one.second < best[i % 2])
			best[i % 2] = one.first + one.second;
	}
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	say("figure unread %.3f", best[0] / PAGES);
	say("figure read %.3f", best[1] / PAGES);
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
