// SPDX-License-Identifier: GPL-2.0-only
/* Lines of the Test Anything Protocol; each says what was measured. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "hostile.h"

#define TEXT	400

static int nr_checks, nr_failures;

void check(bool good, const char *format, ...)
{
	char text[TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	nr_checks++;
	if (!good)
		nr_failures++;
	say("%s %d - %s", good ? "ok" : "not ok", nr_checks, text);
}

void skip(const char *format, ...)
{
	char text[TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("ok %d - # SKIP %s", ++nr_checks, text);
}

void note(const char *format, ...)
{
	char text[TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("# %s", text);
}

int end_checks(void)
{
	say("1..%d", nr_checks);
	return nr_failures || !nr_checks ? EXIT_FAILURE : EXIT_SUCCESS;
}
