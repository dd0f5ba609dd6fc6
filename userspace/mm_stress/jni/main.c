// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_stress [-t SECONDS] [-s SEED] REFEREE SET_MODULE KILLER_MODULE POLICY
 *
 * Limits under everything at once: the referee has users go over their limits and
 * judges whom that kills, while a limited user drops fork bombs, a process changes
 * its user all the time, both modules come and go, and the machine's memory is
 * short.  All the time a shell must answer, and a user that stays within its limit
 * must live.
 *
 * REFEREE is the path of mm_referee.  Needs root, and both modules loaded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

#define BOMBER_LIMIT	(30 * MIB)
#define BYSTANDER_LIMIT	(40 * MIB)
#define SETUID_LIMIT	(200 * MIB)
#define ANSWER_MS	2000
#define ASK_EVERY_US	100000
#define PARTS		5

struct tally *tally;

static struct {
	const char *referee, *policy;
	char seconds[16], seed[16];
	struct module_file modules[2];
	bool wrong;
} self;

static void wrong(const char *text)
{
	say("wrong: %s", text);
	self.wrong = true;
}

static long now_ms(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000L + at.tv_nsec / 1000000;
}

static void run_modules(void)
{
	cycle_modules(self.modules);
}

static pid_t start(void (*part)(void))
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		if (!die_with_parent(parent))
			_exit(EXIT_FAILURE);
		part();
	}
	return pid;
}

static void run_referee(void)
{
	execl(self.referee, "mm_referee", "-o", "-t", self.seconds, "-s",
	      self.seed, self.policy, NULL);
	complain("mm_stress: %s: %s", self.referee, strerror(errno));
	_exit(EXIT_FAILURE);
}

/* How long a shell takes to start and answer, in ms. */
static long ask_shell(void)
{
	long begin = now_ms();
	char answer[8] = "";
	int fds[2], status;
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		execlp("sh", "sh", "-c", "echo here", NULL);
		_exit(EXIT_FAILURE);
	}
	close(fds[1]);
	if (pid < 0 || read(fds[0], answer, sizeof(answer)) != 5 ||
	    waitpid(pid, &status, 0) != pid || status ||
	    strncmp(answer, "here\n", 5))
		wrong("a shell does not answer");
	close(fds[0]);
	return now_ms() - begin;
}

static bool has_ended(pid_t *pid, int *status)
{
	if (*pid <= 0 || waitpid(*pid, status, WNOHANG) != *pid)
		return false;
	*pid = 0;
	return true;
}

static void kill_user(uid_t uid)
{
	pid_t pid = fork();

	if (!pid) {
		if (become_user(uid))
			kill(-1, SIGKILL);
		_exit(EXIT_SUCCESS);
	}
	waitpid(pid, NULL, 0);
}

static void set_limits(unsigned long bomber, unsigned long bystander,
		       unsigned long first)
{
	if (set_mm_limits(BOMBER, bomber) < 0 ||
	    set_mm_limits(BYSTANDER, bystander) < 0 ||
	    set_mm_limits(SETUID_FIRST, first) < 0)
		wrong("a limit of the parts cannot be set");
}

/* Returns the worst that a shell took. */
static long watch(pid_t referee, pid_t *parts)
{
	static const char *const names[PARTS] = {
		"the bombs have", "the user within its limit has",
		"the changes of users have", "the squeezes have",
		"the modules have",
	};
	long worst = 0, took;
	int status, i;
	char text[64];

	while (!has_ended(&referee, &status)) {
		took = ask_shell();
		if (took > worst)
			worst = took;
		for (i = 0; i < PARTS; i++) {
			int end;

			if (!has_ended(&parts[i], &end))
				continue;
			snprintf(text, sizeof(text), "%s ended", names[i]);
			wrong(text);
		}
		usleep(ASK_EVERY_US);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		wrong("the referee has failed");
	return worst;
}

static void run(void)
{
	void (*const work[PARTS])(void) = {
		drop_bombs, stand_by, change_users, squeeze_memory, run_modules
	};
	long longest;
	pid_t parts[PARTS], modules;
	int i;

	set_limits(BOMBER_LIMIT, BYSTANDER_LIMIT, SETUID_LIMIT);
	for (i = 0; i < PARTS; i++)
		parts[i] = start(work[i]);
	longest = watch(start(run_referee), parts);
	tally->stop = 1;
	modules = parts[PARTS - 1];
	if (modules > 0)
		waitpid(modules, NULL, 0);
	for (i = 0; i < PARTS - 1; i++)
		if (parts[i] > 0 && !kill(parts[i], SIGKILL))
			waitpid(parts[i], NULL, 0);
	kill_user(BOMBER);
	while (waitpid(-1, NULL, 0) > 0)
		;
	set_limits(MM_LIMIT_REMOVE, MM_LIMIT_REMOVE, MM_LIMIT_REMOVE);
	if (longest > ANSWER_MS)
		wrong("a shell took too long to answer");
	if (!tally->forks || !tally->setuids || !tally->cycles ||
	    !tally->squeezes)
		wrong("not all parts have done something");
	say("stress forks=%ld setuids=%ld modules=%ld squeezes=%ld answer_ms=%ld",
	    tally->forks, tally->setuids, tally->cycles, tally->squeezes,
	    longest);
}

static int usage(void)
{
	complain("usage: mm_stress [-t SECONDS] [-s SEED] REFEREE SET_MODULE KILLER_MODULE POLICY");
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	long seconds = 60, seed = 1;
	int option;

	while ((option = getopt(argc, argv, "t:s:")) != -1) {
		if (option == 't' && parse_number(optarg, 1, 86400, &seconds))
			continue;
		if (option != 's' || !parse_number(optarg, 0, 1L << 30, &seed))
			return usage();
	}
	if (optind != argc - 4)
		return usage();
	self.referee = argv[optind];
	self.policy = argv[optind + 3];
	if (!read_module(argv[optind + 1], &self.modules[0]) ||
	    !read_module(argv[optind + 2], &self.modules[1]))
		return EXIT_USAGE;
	snprintf(self.seconds, sizeof(self.seconds), "%ld", seconds);
	snprintf(self.seed, sizeof(self.seed), "%ld", seed);
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		return EXIT_FAILURE;
	/* What is left of a bomb comes to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	run();
	if (!self.wrong)
		say("stress wrong=0");
	return self.wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
