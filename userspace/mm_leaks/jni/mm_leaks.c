// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_leaks - has the kernel leaked memory?
 *
 * Lets kmemleak scan and prints what it suspects.  Only what is older than five
 * seconds is reported, and only what a second scan finds again is believed: the
 * only pointer to an object may be in a register during the first.
 *
 * Needs root and a kernel with DEBUG_KMEMLEAK.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mm_user.h"

#define FILE_NAME	"/sys/kernel/debug/kmemleak"
#define MIN_AGE		6	/* seconds */

static bool scan(void)
{
	FILE *file = fopen(FILE_NAME, "we");

	return file && fputs("scan", file) >= 0 && !fclose(file);
}

int main(void)
{
	char line[256];
	long objects = 0;
	FILE *file;

	sleep(MIN_AGE);
	if (!scan() || !scan() || !(file = fopen(FILE_NAME, "re"))) {
		complain("mm_leaks: " FILE_NAME ": %s; is this a kernel with DEBUG_KMEMLEAK?",
			 strerror(errno));
		return EXIT_USAGE;
	}
	while (fgets(line, sizeof(line), file)) {
		objects += !strncmp(line, "unreferenced object", 19);
		fputs(line, stdout);
	}
	fclose(file);
	say("leaks objects=%ld", objects);
	return objects ? EXIT_FAILURE : EXIT_SUCCESS;
}
