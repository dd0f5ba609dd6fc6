/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <sys/types.h>

#include "mm_user.h"

#define MAX_LENGTH	4096

/* An entry as it must be.  @own: the user has set it itself, and root never. */
struct entry {
	uid_t uid;
	unsigned long max;
	bool own;
};

/* What the kernel must have, least recently set by root first. */
struct model {
	int length, used;
	struct entry entries[MAX_LENGTH];
};

/* Prints what is wrong, with the seed, and ends the program. */
void wrong(const char *format, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* --- model.c ---------------------------------------------------------------- */

/* What set_mm_limits() must return to @caller: 0, 1, or the negative errno. */
long model_set(struct model *model, uid_t caller, uid_t uid, unsigned long max);
/* After an eviction: who is missing in @rows?  Wrong if it may not be that one. */
void model_evict(struct model *model, const struct entry *rows, int nr);
/* The rows that root sees, in their order. */
void model_compare(const struct model *model, const struct entry *rows, int nr);
/* What @uid sees: its own row if it has one. */
void model_compare_own(const struct model *model, uid_t uid,
		       const struct entry *rows, int nr);

/* --- app.c: processes that call as a user without privilege ------------------- */

struct request {
	enum { SET, KILLER, ROWS } what;
	uid_t uid;
	unsigned long value;
};

struct answer {
	long ret;		/* what the kernel itself returned */
	int nr;
	struct entry rows[4];
};

void start_app(int number, uid_t uid);
struct answer ask_app(int number, struct request request);
struct answer serve(struct request request);
/* Read the table with reads of odd sizes; at most @room rows are kept. */
int read_rows(struct entry *rows, int room, size_t size);

#endif /* FUZZ_H */
