/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mm_play SCRIPT - start processes that use memory, and limit their users
 *
 * A script has a command a line; what happens is printed an event a line, as
 * key=value fields.  See commands.c for the commands.
 */
#ifndef PLAY_H
#define PLAY_H

#include <stdbool.h>
#include <sys/types.h>

#define MAX_WORDS	16
#define MAX_NAME	48

/* A line of the script: the command, then arguments and key=value options. */
struct line {
	unsigned int number;
	unsigned int nr_words;
	const char *words[MAX_WORDS];
};

/* parse.c: how to take a line apart.  What is wrong ends the program. */
bool read_line(char *text, unsigned int number, struct line *line);
void bad_line(const struct line *line, const char *why)
	__attribute__((noreturn));
const char *argument(const struct line *line, unsigned int n);
const char *option(const struct line *line, const char *key);
unsigned long size_option(const struct line *line, const char *key);
long number_option(const struct line *line, const char *key, long min, long max,
		   long otherwise);
uid_t user_named(const struct line *line, const char *name);
void only_options(const struct line *line, unsigned int nr_arguments,
		  const char *const *keys);

enum actor_kind {
	PLAIN,
	LEADER_EXIT,	/* the leader thread exits, another holds the memory */
	SHARED_VM,	/* a second process shares the memory */
};

/* What a process is to do; all but @count for each of them. */
struct actor_plan {
	uid_t uid;
	unsigned long bytes;
	unsigned long child;	/* what a child of its own touches, 0 for none */
	long burn_ms;		/* CPU time to use up before */
	long adj;		/* oom_score_adj */
	bool set_adj;
	enum actor_kind kind;
};

enum actor_state { STARTING, READY, GROWING, ENDED };

struct actor {
	char name[MAX_NAME];
	pid_t pid;
	uid_t uid;
	enum actor_state state;
	bool sharer;		/* the second process of a SHARED_VM one */
	int status;		/* of waitpid(), once it has ended */
	int orders;		/* bytes to grow by go to the process here */
	int reports;		/* and its reports come back here */
};

/* actor.c: the life of a process, in the process itself */
void act(const struct actor_plan *plan, int orders, int reports, pid_t parent)
	__attribute__((noreturn));

/* A report of a process: its memory is there, or it has a sharer. */
struct report {
	enum { IS_READY, HAS_SHARER, HAS_FAILED } what;
	pid_t pid;		/* the sharer's */
	int error;
};

/* cast.c: all processes of the play, seen from the parent */
void cast_start(const char *name, const struct actor_plan *plan);
struct actor *cast_find(const char *name);
bool cast_wait_ready(long timeout_ms);
bool cast_wait_dead(struct actor *actor, long timeout_ms);
void cast_grow(struct actor *actor, unsigned long bytes);
void cast_report(void);
void cast_end(void);
void cast_fail(const char *what, int error) __attribute__((noreturn));

/* commands.c: a command of the script; false if there is no such command */
bool run_command(const struct line *line);
void remove_limits(void);

#endif /* PLAY_H */
