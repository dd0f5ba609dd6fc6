// SPDX-License-Identifier: GPL-2.0-only
/*
 * The commands of a script:
 *
 *   spawn NAME user=USER bytes=N [count=K] [child=N] [burn_ms=N] [adj=N] [kind=KIND]
 *	start K processes (NAME.0 to NAME.K-1; just NAME without count) that use
 *	burn_ms of CPU time, touch N bytes and wait.  KIND: plain, leader-exit
 *	(the leader thread exits), shared-vm (a second process NAME+sharer).  Each
 *	has a child that touches so much, and goes with it, if child is given.
 *   wait-ready [timeout_ms=N]
 *   grow NAME bytes=N			touch N bytes more
 *   limit USER bytes=N|remove [as=USER]	call set_mm_limits()
 *   killer TYPE [as=USER]		call my_oom_killer()
 *   sleep ms=N
 *   expect-dead NAME [timeout_ms=N]	wait for it to end
 *   report				the state of each process
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_user.h"
#include "play.h"

#define MAX_LIMITS	4096

/* The users whose limits are to be removed in the end. */
static uid_t limited[MAX_LIMITS];
static int nr_limited;

static void do_spawn(const struct line *line)
{
	static const char *const keys[] = {
		"user", "bytes", "count", "child", "burn_ms", "adj", "kind", NULL
	};
	const char *name = argument(line, 0), *kind = option(line, "kind");
	long count = number_option(line, "count", 1, 1000, 0), i;
	struct actor_plan plan = {
		.uid = user_named(line, option(line, "user")),
		.bytes = size_option(line, "bytes"),
		.child = option(line, "child") ? size_option(line, "child") : 0,
		.burn_ms = number_option(line, "burn_ms", 0, 60000, 0),
		.adj = number_option(line, "adj", -1000, 1000, 0),
		.set_adj = option(line, "adj"),
	};
	char numbered[MAX_NAME + 16];

	only_options(line, 1, keys);
	if (strlen(name) > MAX_NAME - 16 || cast_find(name))
		bad_line(line, "the name is too long, or taken");
	if (kind && !strcmp(kind, "leader-exit"))
		plan.kind = LEADER_EXIT;
	else if (kind && !strcmp(kind, "shared-vm"))
		plan.kind = SHARED_VM;
	else if (kind && strcmp(kind, "plain"))
		bad_line(line, "no such kind");

	if (!count)
		cast_start(name, &plan);
	for (i = 0; i < count; i++) {
		snprintf(numbered, sizeof(numbered), "%.31s.%d", name, (int)i);
		cast_start(numbered, &plan);
	}
}

static struct actor *actor_named(const struct line *line)
{
	struct actor *actor = cast_find(argument(line, 0));

	if (!actor || actor->sharer)
		bad_line(line, "no such process");
	return actor;
}

static void do_wait_ready(const struct line *line)
{
	static const char *const keys[] = { "timeout_ms", NULL };

	only_options(line, 0, keys);
	if (!cast_wait_ready(number_option(line, "timeout_ms", 1, 600000, 20000)))
		cast_fail("wait-ready", EAGAIN);
}

static void do_grow(const struct line *line)
{
	static const char *const keys[] = { "bytes", NULL };

	only_options(line, 1, keys);
	cast_grow(actor_named(line), size_option(line, "bytes"));
}

struct call {
	long (*function)(const struct call *call);
	uid_t uid;
	unsigned long bytes;
	int type;
};

struct result {
	long ret;
	int error;
};

static long call_limit(const struct call *call)
{
	return set_mm_limits(call->uid, call->bytes);
}

static long call_killer(const struct call *call)
{
	return my_oom_killer(call->type);
}

static struct result make_call(const struct call *call)
{
	struct result result = { .ret = call->function(call) };

	result.error = result.ret < 0 ? errno : 0;
	return result;
}

/* Make a call as another user: in a process, as there is no way back. */
static struct result make_call_as(const struct call *call, uid_t uid)
{
	struct result result;
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		cast_fail("pipe", errno);
	pid = fork();
	if (pid < 0)
		cast_fail("fork", errno);
	if (!pid) {
		if (!become_user(uid))
			_exit(EXIT_FAILURE);
		result = make_call(call);
		if (write(fds[1], &result, sizeof(result)) != sizeof(result))
			_exit(EXIT_FAILURE);
		_exit(EXIT_SUCCESS);
	}
	close(fds[1]);
	if (read(fds[0], &result, sizeof(result)) != sizeof(result))
		cast_fail("the caller has died", ESRCH);
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return result;
}

static struct result call_for(const struct line *line, const struct call *call)
{
	const char *as = option(line, "as");

	return as ? make_call_as(call, user_named(line, as)) : make_call(call);
}

static void do_limit(const struct line *line)
{
	static const char *const keys[] = { "bytes", "as", NULL };
	const char *user = argument(line, 0), *as = option(line, "as");
	bool remove = !option(line, "bytes");
	struct call call = {
		.function = call_limit,
		.uid = user_named(line, user),
		.bytes = remove ? MM_LIMIT_REMOVE : size_option(line, "bytes"),
	};
	struct result result;

	only_options(line, remove ? 2 : 1, keys);
	if (remove && strcmp(argument(line, 1), "remove"))
		bad_line(line, "needs bytes=N or remove");
	if (!remove && nr_limited < MAX_LIMITS)
		limited[nr_limited++] = call.uid;
	result = call_for(line, &call);
	if (remove)
		say("limit user=%s uid=%u bytes=remove as=%s ret=%ld errno=%s",
		    user, call.uid, as ? as : "root", result.ret,
		    errno_name(result.error));
	else
		say("limit user=%s uid=%u bytes=%lu as=%s ret=%ld errno=%s",
		    user, call.uid, call.bytes, as ? as : "root", result.ret,
		    errno_name(result.error));
}

static void do_killer(const struct line *line)
{
	static const char *const keys[] = { "as", NULL };
	const char *type = argument(line, 0), *as = option(line, "as");
	struct call call = { .function = call_killer };
	struct result result;
	long number;

	only_options(line, 1, keys);
	if (!parse_killer(type, &call.type)) {
		if (!parse_number(type, -1000000, 1000000, &number))
			bad_line(line, "no such killer");
		call.type = number;
	}
	result = call_for(line, &call);
	say("killer type=%s as=%s ret=%ld errno=%s", type, as ? as : "root",
	    result.ret, errno_name(result.error));
}

static void do_sleep(const struct line *line)
{
	static const char *const keys[] = { "ms", NULL };

	only_options(line, 0, keys);
	poll(NULL, 0, number_option(line, "ms", 0, 600000, 0));
}

static void do_expect_dead(const struct line *line)
{
	static const char *const keys[] = { "timeout_ms", NULL };

	only_options(line, 1, keys);
	/* A process that lives is for the reader of the report to judge. */
	cast_wait_dead(actor_named(line),
		       number_option(line, "timeout_ms", 0, 600000, 5000));
}

static void do_report(const struct line *line)
{
	static const char *const keys[] = { NULL };

	only_options(line, 0, keys);
	cast_report();
}

bool run_command(const struct line *line)
{
	static const struct {
		const char *name;
		void (*run)(const struct line *line);
	} commands[] = {
		{ "spawn", do_spawn },
		{ "wait-ready", do_wait_ready },
		{ "grow", do_grow },
		{ "limit", do_limit },
		{ "killer", do_killer },
		{ "sleep", do_sleep },
		{ "expect-dead", do_expect_dead },
		{ "report", do_report },
	};
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(line->words[0], commands[i].name)) {
			commands[i].run(line);
			return true;
		}
	}
	return false;
}

/* Leave the table as it was; what is not there any more is no matter. */
void remove_limits(void)
{
	while (nr_limited)
		set_mm_limits(limited[--nr_limited], MM_LIMIT_REMOVE);
}
