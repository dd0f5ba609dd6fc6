// SPDX-License-Identifier: GPL-2.0-only
/*
 * oom_daemonARM SECONDS TYPE - hold all users to their limits every SECONDS
 *
 * TYPE is what my_oom_killer() takes: 0 highest RSS, 1 longest run time, 2
 * worst badness.  The daemon logs to the kernel log, beside the kills.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"

static volatile sig_atomic_t stopping;
static int kmsg = -1;

static int usage(const char *program)
{
	complain("usage: %s SECONDS TYPE", program);
	complain("  SECONDS  interval, 1 to 86400");
	complain("  TYPE     %d highest RSS, %d longest run time, %d worst badness",
		 MY_OOM_KILLER_HIGHEST_RSS, MY_OOM_KILLER_LONGEST_RUN_TIME,
		 MY_OOM_KILLER_WORST);
	return EXIT_USAGE;
}

static void stop(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

/* A record of /dev/kmsg is one write(). */
__attribute__((format(printf, 1, 2)))
static void log_line(const char *format, ...)
{
	char line[256] = "oom_daemonARM: ";
	size_t used = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	/* Without a kernel log there is nobody left to tell. */
	if (kmsg >= 0 && write(kmsg, line, strlen(line)) < 0)
		return;
}

/* Go on in a child without a terminal; the parent tells who that is. */
static void become_daemon(long interval, long type)
{
	int null = open("/dev/null", O_RDWR);
	pid_t pid = fork();

	if (pid < 0) {
		complain("oom_daemonARM: fork: %s", strerror(errno));
		exit(EXIT_FAILURE);
	}
	if (pid) {
		/* Not the child: nobody may read any more when it gets to it. */
		say("oom_daemon: pid=%d interval=%ld type=%ld", pid, interval,
		    type);
		_exit(EXIT_SUCCESS);
	}
	setsid();
	if (chdir("/"))
		log_line("cannot change to /: %s", strerror(errno));
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
}

/*
 * The signals that stop the daemon are blocked everywhere but in sleep_until().
 * So none is lost that is sent as soon as the pid is known, and none can come
 * between a look at the flag and the sleep.  Returns the mask to sleep with.
 */
static sigset_t catch_signals(void)
{
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked, before;

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	return before;
}

static void run_killer(int type)
{
	static int last_error;
	int error = my_oom_killer(type) ? errno : 0;

	/* Say what is wrong once, not at each interval. */
	if (error && error != last_error)
		log_line("my_oom_killer(%d) failed: %s (%s)", type,
			 errno_name(error), strerror(error));
	else if (!error && last_error)
		log_line("my_oom_killer(%d) works again", type);
	last_error = error;
}

static void sleep_until(const struct timespec *then, const sigset_t *mask)
{
	struct timespec now, left;

	while (!stopping) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		left.tv_sec = then->tv_sec - now.tv_sec;
		left.tv_nsec = then->tv_nsec - now.tv_nsec;
		if (left.tv_nsec < 0) {
			left.tv_sec--;
			left.tv_nsec += 1000000000;
		}
		if (left.tv_sec < 0 || !ppoll(NULL, 0, &left, mask))
			return;
	}
}

int main(int argc, char **argv)
{
	struct timespec next;
	sigset_t mask;
	long interval, type;

	if (argc != 3 || !parse_number(argv[1], 1, 86400, &interval) ||
	    !parse_number(argv[2], MY_OOM_KILLER_HIGHEST_RSS,
			  MY_OOM_KILLER_WORST, &type))
		return usage(argv[0]);

	mask = catch_signals();
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	become_daemon(interval, type);
	log_line("started, pid=%d interval=%ld s type=%ld", getpid(), interval,
		 type);

	/* Absolute times: the killer's own time does not add to the interval. */
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!stopping) {
		next.tv_sec += interval;
		sleep_until(&next, &mask);
		if (!stopping)
			run_killer(type);
	}
	log_line("stopped");
	return EXIT_SUCCESS;
}
