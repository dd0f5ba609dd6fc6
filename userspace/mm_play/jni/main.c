// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "mm_user.h"
#include "play.h"

static void play(FILE *script)
{
	unsigned int number = 0;
	struct line line;
	char *text = NULL;
	size_t size = 0;

	while (getline(&text, &size, script) >= 0)
		if (read_line(text, ++number, &line) && !run_command(&line))
			bad_line(&line, "no such command");
	free(text);
}

/* Two pipes for each process of a large cast. */
static void allow_many_files(void)
{
	struct rlimit files;

	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int main(int argc, char **argv)
{
	FILE *script;

	if (argc != 2) {
		complain("usage: %s SCRIPT", argv[0]);
		return EXIT_USAGE;
	}
	script = fopen(argv[1], "re");
	if (!script) {
		complain("%s: %s", argv[1], strerror(errno));
		return EXIT_USAGE;
	}
	/* An order to a process that is dead already. */
	signal(SIGPIPE, SIG_IGN);
	allow_many_files();
	play(script);
	cast_end();
	remove_limits();
	say("done");
	fclose(script);
	return EXIT_SUCCESS;
}
