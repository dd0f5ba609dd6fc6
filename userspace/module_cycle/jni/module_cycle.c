// SPDX-License-Identifier: GPL-2.0-only
/*
 * module_cycle ROUNDS SET_MODULE KILLER_MODULE - load and unload both modules
 * under two processes that call them all the time
 *
 * Every call must either work or fail with ENOSYS.  Starts with the modules
 * unloaded, leaves them loaded.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_user.h"

#define CALLERS		2
#define UNUSED_UID	10190	/* a user that has no processes */
#define PATIENCE_MS	10000

/* What the callers count, each in its own; the parent reads it. */
struct counts {
	unsigned long calls;
	unsigned long enosys;
	unsigned long bad;
	int bad_errno;
};

struct module {
	const char *path;
	char name[64];
	void *image;
	size_t size;
};

static int usage(const char *program)
{
	complain("usage: %s ROUNDS SET_MODULE KILLER_MODULE", program);
	complain("  ROUNDS   1 to 100000");
	complain("  *_MODULE paths of set_mm_limits.ko and my_oom_killer.ko");
	return EXIT_USAGE;
}

static bool read_module(const char *path, struct module *module)
{
	const char *base = strrchr(path, '/');
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status)) {
		complain("module_cycle: %s: %s", path, strerror(errno));
		return false;
	}
	base = base ? base + 1 : path;
	snprintf(module->name, sizeof(module->name), "%.*s",
		 (int)strcspn(base, "."), base);
	module->path = path;
	module->size = status.st_size;
	module->image = mmap(NULL, module->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return module->image != MAP_FAILED;
}

static bool load(const struct module *module)
{
	if (!syscall(__NR_init_module, module->image, module->size, ""))
		return true;
	complain("module_cycle: cannot load %s: %s", module->path,
		 strerror(errno));
	return false;
}

/* A call in flight holds a reference on the module, so try again. */
static bool unload(const struct module *module)
{
	int tries;

	for (tries = 0; tries < PATIENCE_MS; tries++) {
		if (!syscall(__NR_delete_module, module->name, O_NONBLOCK))
			return true;
		if (errno != EAGAIN && errno != EBUSY)
			break;
		poll(NULL, 0, 1);
	}
	complain("module_cycle: cannot unload %s: %s", module->name,
		 strerror(errno));
	return false;
}

static long call_set(void)
{
	return set_mm_limits(UNUSED_UID, 1000000000);
}

static long call_killer(void)
{
	return my_oom_killer(MY_OOM_KILLER_HIGHEST_RSS);
}

/*
 * Bursts, so that calls are in flight when a module goes, with a pause between
 * them: each call of set_mm_limits() logs the table.
 */
static void call_for_ever(long (*call)(void), struct counts *counts)
{
	int i;

	for (;;) {
		for (i = 0; i < 5; i++) {
			counts->calls++;
			if (call() >= 0)
				continue;
			if (errno == ENOSYS) {
				counts->enosys++;
				continue;
			}
			counts->bad++;
			counts->bad_errno = errno;
		}
		poll(NULL, 0, 1);
	}
}

static pid_t start_caller(long (*call)(void), struct counts *counts)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		die_with_parent(parent);
		call_for_ever(call, counts);
	}
	return pid;
}

static bool cycle(long rounds, const struct module *modules)
{
	long i;

	for (i = 0; i < rounds; i++) {
		if (!load(&modules[0]) || !load(&modules[1]))
			return false;
		if (!unload(&modules[0]) || !unload(&modules[1]))
			return false;
	}
	return load(&modules[0]) && load(&modules[1]);
}

int main(int argc, char **argv)
{
	struct counts *counts, sum = { 0 };
	struct module modules[2];
	pid_t pids[CALLERS];
	bool done;
	long rounds;
	int i;

	if (argc != 4 || !parse_number(argv[1], 1, 100000, &rounds))
		return usage(argv[0]);
	if (!read_module(argv[2], &modules[0]) ||
	    !read_module(argv[3], &modules[1]))
		return EXIT_USAGE;
	counts = mmap(NULL, CALLERS * sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return EXIT_FAILURE;

	pids[0] = start_caller(call_set, &counts[0]);
	pids[1] = start_caller(call_killer, &counts[1]);
	done = pids[0] > 0 && pids[1] > 0 && cycle(rounds, modules);
	/* Let both see the modules that stay. */
	poll(NULL, 0, 50);
	for (i = 0; i < CALLERS; i++) {
		if (pids[i] > 0 && !kill(pids[i], SIGKILL))
			waitpid(pids[i], NULL, 0);
		sum.calls += counts[i].calls;
		sum.enosys += counts[i].enosys;
		sum.bad += counts[i].bad;
		if (counts[i].bad)
			complain("module_cycle: a call failed with %s",
				 errno_name(counts[i].bad_errno));
	}
	set_mm_limits(UNUSED_UID, MM_LIMIT_REMOVE);
	say("cycle rounds=%ld calls=%lu enosys=%lu bad=%lu", rounds, sum.calls,
	    sum.enosys, sum.bad);
	return done && !sum.bad && sum.enosys && sum.enosys < sum.calls ?
		EXIT_SUCCESS : EXIT_FAILURE;
}
