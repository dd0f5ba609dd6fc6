// SPDX-License-Identifier: GPL-2.0-only
/*
 * /bin/sh of the guest, and `urgent`: the shell of busybox, with the priority that
 * is due to it.
 *
 * adbd goes before all usual processes, or users who burn CPU could keep everybody
 * out (start_adbd.c), and whatever it starts inherits that.  It starts everything
 * with this shell, which therefore becomes usual, unless what it is to run is
 * `urgent COMMAND`, or has been started by that.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A link to busybox: the process then has this name. */
#define SHELL	"/lib/busybox/sh"
#define URGENT	"urgent"
/* In the environment of what is. */
#define MARK	"MM_URGENT"

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

/* Is it "sh -c 'urgent ...'"? */
static bool runs_urgent(int argc, char **argv)
{
	size_t length = strlen(URGENT);

	return argc > 2 && !strcmp(argv[1], "-c") &&
	       !strncmp(argv[2], URGENT, length) && argv[2][length] == ' ';
}

static void become_usual(void)
{
	const struct sched_param usual = { 0 };

	if (sched_setscheduler(0, SCHED_OTHER, &usual))
		perror("sh: SCHED_OTHER");
	write_file("/proc/self/oom_score_adj", "0");
}

static int urgent(char **argv)
{
	const struct sched_param first = { .sched_priority = 1 };

	if (!argv[1]) {
		fputs("usage: urgent COMMAND [ARG]...\n", stderr);
		return 2;
	}
	if (sched_setscheduler(0, SCHED_RR, &first))
		perror("urgent: SCHED_RR");
	setenv(MARK, "1", 1);
	execvp(argv[1], argv + 1);
	fprintf(stderr, "urgent: %s: %s\n", argv[1], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc ? argv[0] : "";

	if (!strcmp(name, URGENT))
		return urgent(argv);
	if (sched_getscheduler(0) != SCHED_OTHER && !getenv(MARK) &&
	    !runs_urgent(argc, argv))
		become_usual();
	execv(SHELL, argv);
	perror(SHELL);
	return 127;
}
