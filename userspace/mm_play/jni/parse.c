// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>

#include "mm_user.h"
#include "play.h"

/* Split a line into words.  Return false if there is none but a comment. */
bool read_line(char *text, unsigned int number, struct line *line)
{
	char *word, *rest = text;

	line->number = number;
	line->nr_words = 0;
	text[strcspn(text, "#\r\n")] = '\0';
	while ((word = strtok_r(rest, " \t", &rest))) {
		if (line->nr_words == MAX_WORDS)
			bad_line(line, "too many words");
		line->words[line->nr_words++] = word;
	}
	return line->nr_words;
}

void bad_line(const struct line *line, const char *why)
{
	complain("mm_play: line %u (%s): %s", line->number, line->words[0], why);
	complain("usage: mm_play SCRIPT; commands: spawn wait-ready grow limit killer sleep expect-dead report");
	/* No child outlives this: they die with their parent. */
	exit(EXIT_USAGE);
}

/* The @n-th word after the command that is not an option. */
const char *argument(const struct line *line, unsigned int n)
{
	unsigned int i;

	for (i = 1; i < line->nr_words; i++)
		if (!strchr(line->words[i], '=') && !n--)
			return line->words[i];
	bad_line(line, "something is missing");
}

/* The value of an option, or NULL. */
const char *option(const struct line *line, const char *key)
{
	size_t length = strlen(key);
	unsigned int i;

	for (i = 1; i < line->nr_words; i++)
		if (!strncmp(line->words[i], key, length) &&
		    line->words[i][length] == '=')
			return line->words[i] + length + 1;
	return NULL;
}

unsigned long size_option(const struct line *line, const char *key)
{
	const char *text = option(line, key);
	unsigned long bytes;

	if (!text || !parse_size(text, &bytes))
		bad_line(line, "needs a size in bytes");
	return bytes;
}

long number_option(const struct line *line, const char *key, long min, long max,
		   long otherwise)
{
	const char *text = option(line, key);
	long number = otherwise;

	if (text && !parse_number(text, min, max, &number))
		bad_line(line, "a number is out of range");
	return number;
}

uid_t user_named(const struct line *line, const char *name)
{
	uid_t uid;

	if (!name || !parse_user(name, &uid))
		bad_line(line, "no such user");
	return uid;
}

static bool is_one_of(const char *word, const char *const *keys)
{
	size_t length = strcspn(word, "=");

	for (; *keys; keys++)
		if (strlen(*keys) == length && !strncmp(word, *keys, length))
			return true;
	return false;
}

/* Nothing may stand in a line that would be passed over. */
void only_options(const struct line *line, unsigned int nr_arguments,
		  const char *const *keys)
{
	unsigned int i, arguments = 0;

	for (i = 1; i < line->nr_words; i++) {
		if (!strchr(line->words[i], '='))
			arguments++;
		else if (!is_one_of(line->words[i], keys))
			bad_line(line, "an unknown option");
	}
	if (arguments != nr_arguments)
		bad_line(line, "a word too many or too few");
}
