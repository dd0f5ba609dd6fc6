// SPDX-License-Identifier: GPL-2.0-only
/*
 * The experiment of the original work.  One program serves both of its forms:
 * whether the kernel itself kills or a daemon makes it kill does not matter to
 * the processes that go over the limit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_user.h"
#include "oom_test.h"

#define HOLD_SECONDS	60
#define MAX_CHILDREN	512

struct oom_test {
	uid_t uid;
	unsigned long limit;
	long hold;			/* seconds */
	int children;
	unsigned long bytes[MAX_CHILDREN];
	pid_t pids[MAX_CHILDREN];
};

static struct oom_test test;

static int usage(const char *program)
{
	complain("usage: %s [-t SECONDS] USER LIMIT BYTES...", program);
	complain("  USER   user name, u0_aN, or uid");
	complain("  LIMIT  the user's limit in bytes; K, M, G may follow");
	complain("  BYTES  a child is started for each; 1 to %d of them",
		 MAX_CHILDREN);
	complain("  -t     how long the children hold their memory (default %d)",
		 HOLD_SECONDS);
	return EXIT_USAGE;
}

static bool parse_arguments(int argc, char **argv)
{
	int option;

	test.hold = HOLD_SECONDS;
	while ((option = getopt(argc, argv, "t:")) != -1)
		if (option != 't' || !parse_number(optarg, 0, 86400, &test.hold))
			return false;
	argc -= optind;
	argv += optind;
	if (argc < 3 || argc - 2 > MAX_CHILDREN ||
	    !parse_user(argv[0], &test.uid) ||
	    !parse_size(argv[1], &test.limit))
		return false;
	for (test.children = 0; test.children < argc - 2; test.children++)
		if (!parse_size(argv[test.children + 2],
				&test.bytes[test.children]) ||
		    !test.bytes[test.children])
			return false;
	return true;
}

static int set_limit(void)
{
	long ret = set_mm_limits(test.uid, test.limit);
	int error = ret < 0 ? errno : 0;

	say("set_mm_limits uid=%u mm_max=%lu ret=%ld errno=%s", test.uid,
	    test.limit, ret, errno_name(error));
	if (error)
		complain("set_mm_limits failed: %s%s", strerror(error),
			 error == ENOSYS ?
				"; is the module set_mm_limits loaded?" : "");
	return error;
}

static void child(unsigned long bytes, pid_t parent)
{
	if (!become_user(test.uid) || !die_with_parent(parent)) {
		complain("child cannot become uid %u: %s", test.uid,
			 strerror(errno));
		_exit(EXIT_FAILURE);
	}
	say("child pid=%d bytes=%lu start", getpid(), bytes);
	if (!touch_new_pages(bytes)) {
		complain("child cannot map %lu bytes: %s", bytes,
			 strerror(errno));
		_exit(EXIT_FAILURE);
	}
	say("child pid=%d bytes=%lu finish", getpid(), bytes);
	sleep(test.hold);
	_exit(EXIT_SUCCESS);
}

static bool start_children(void)
{
	pid_t parent = getpid();
	int i;

	for (i = 0; i < test.children; i++) {
		test.pids[i] = fork();
		if (test.pids[i] < 0) {
			complain("fork failed: %s", strerror(errno));
			return false;
		}
		if (!test.pids[i]) {
			signal(SIGTERM, SIG_DFL);
			signal(SIGINT, SIG_DFL);
			child(test.bytes[i], parent);
		}
	}
	return true;
}

static void report_end(pid_t pid, int status)
{
	unsigned long bytes = 0;
	int i;

	for (i = 0; i < test.children; i++)
		if (test.pids[i] == pid)
			bytes = test.bytes[i];
	if (WIFSIGNALED(status))
		say("child pid=%d bytes=%lu killed by signal %d", pid, bytes,
		    WTERMSIG(status));
	else
		say("child pid=%d bytes=%lu exit %d", pid, bytes,
		    WEXITSTATUS(status));
}

static void kill_children(int signal_number)
{
	int i;

	for (i = 0; i < test.children; i++)
		if (test.pids[i] > 0)
			kill(test.pids[i], SIGKILL);
	_exit(128 + signal_number);
}

int oom_test_main(int argc, char **argv)
{
	int result = EXIT_SUCCESS, status;
	pid_t pid;

	if (!parse_arguments(argc, argv))
		return usage(argv[0]);
	if (set_limit())
		return EXIT_FAILURE;

	signal(SIGTERM, kill_children);
	signal(SIGINT, kill_children);
	if (!start_children())
		result = EXIT_FAILURE;
	while ((pid = wait(&status)) > 0 || errno == EINTR) {
		if (pid <= 0)
			continue;
		report_end(pid, status);
		if (WIFEXITED(status) && WEXITSTATUS(status))
			result = EXIT_FAILURE;
	}
	return result;
}
