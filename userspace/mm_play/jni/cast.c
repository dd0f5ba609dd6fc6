// SPDX-License-Identifier: GPL-2.0-only
/* All processes of the play, seen from the parent. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"
#include "play.h"

#define MAX_ACTORS	1024
#define DEATH_MS	20000	/* what the longest death may take */
#define PF_EXITING	0x4	/* the kernel's, in /proc/PID/stat */
#define POLL_MS		20
#define FORK_MS		10000	/* how long there may be no room for a process */

static struct actor actors[MAX_ACTORS];
static int nr_actors;

static struct actor *new_actor(const char *name)
{
	struct actor *actor = &actors[nr_actors];

	if (nr_actors == MAX_ACTORS)
		cast_fail("too many processes", ENOSPC);
	snprintf(actor->name, sizeof(actor->name), "%.*s", MAX_NAME - 1, name);
	nr_actors++;
	return actor;
}

static void announce(const struct actor *actor)
{
	say("spawn name=%s pid=%d uid=%u", actor->name, actor->pid, actor->uid);
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Copies of a user at its limit do not fit, until one of its processes is gone. */
static pid_t fork_patiently(void)
{
	long end = now_ms() + FORK_MS;
	pid_t pid;

	for (;;) {
		pid = fork();
		if (pid >= 0 || errno != ENOMEM || now_ms() > end)
			return pid;
		poll(NULL, 0, POLL_MS);
	}
}

void cast_start(const char *name, const struct actor_plan *plan)
{
	struct actor *actor = new_actor(name);
	int orders[2], reports[2];
	pid_t parent = getpid();

	if (pipe2(orders, O_CLOEXEC) || pipe2(reports, O_CLOEXEC))
		cast_fail("pipe", errno);
	actor->pid = fork_patiently();
	if (actor->pid < 0)
		cast_fail("fork", errno);
	if (!actor->pid) {
		/* So that the kernel's own reports say who is who. */
		prctl(PR_SET_NAME, name);
		act(plan, orders[0], reports[1], parent);
	}
	close(orders[0]);
	close(reports[1]);
	actor->uid = plan->uid;
	actor->orders = orders[1];
	actor->reports = reports[0];
	actor->state = STARTING;
	fcntl(actor->reports, F_SETFL, O_NONBLOCK);
	announce(actor);
}

struct actor *cast_find(const char *name)
{
	int i;

	for (i = 0; i < nr_actors; i++)
		if (!strcmp(actors[i].name, name))
			return &actors[i];
	return NULL;
}

static void add_sharer(const struct actor *of, pid_t pid)
{
	char name[MAX_NAME];
	struct actor *actor;

	snprintf(name, sizeof(name), "%.*s+sharer", MAX_NAME - 9, of->name);
	actor = new_actor(name);
	actor->pid = pid;
	actor->uid = of->uid;
	actor->state = READY;
	actor->sharer = true;
	actor->orders = -1;
	actor->reports = -1;
	announce(actor);
}

static void read_reports(struct actor *actor)
{
	struct report report;

	while (read(actor->reports, &report, sizeof(report)) == sizeof(report)) {
		if (report.what == HAS_FAILED)
			cast_fail(actor->name, report.error);
		if (report.what == HAS_SHARER) {
			add_sharer(actor, report.pid);
			continue;
		}
		say("%s name=%s pid=%d",
		    actor->state == GROWING ? "grown" : "ready", actor->name,
		    actor->pid);
		actor->state = READY;
	}
}

/* Take note of what has ended and of what the others report. */
static void update(void)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < nr_actors; i++)
		if (actors[i].state == STARTING || actors[i].state == GROWING)
			read_reports(&actors[i]);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (i = 0; i < nr_actors; i++) {
			if (actors[i].pid == pid && actors[i].state != ENDED) {
				actors[i].state = ENDED;
				actors[i].status = status;
			}
		}
	}
}

static bool all_ready(const struct actor *unused)
{
	int i;

	(void)unused;
	for (i = 0; i < nr_actors; i++)
		if (actors[i].state == STARTING || actors[i].state == GROWING)
			return false;
	return true;
}

static bool has_ended(const struct actor *actor)
{
	return actor->state == ENDED;
}

static bool has_grown(const struct actor *actor)
{
	return actor->state != GROWING;
}

static bool wait_until(bool (*happened)(const struct actor *),
		       const struct actor *actor, long timeout_ms)
{
	long end = now_ms() + timeout_ms;

	for (;;) {
		update();
		if (happened(actor))
			return true;
		if (now_ms() > end)
			return false;
		poll(NULL, 0, POLL_MS);
	}
}

bool cast_wait_ready(long timeout_ms)
{
	return wait_until(all_ready, NULL, timeout_ms);
}

bool cast_wait_dead(struct actor *actor, long timeout_ms)
{
	return wait_until(has_ended, actor, timeout_ms);
}

void cast_grow(struct actor *actor, unsigned long bytes)
{
	update();
	if (actor->state != READY)
		return;
	actor->state = GROWING;
	/* It may be killed as it grows, or before it reads how much. */
	if (write(actor->orders, &bytes, sizeof(bytes)) == sizeof(bytes))
		wait_until(has_grown, actor, 20000);
}

/* Has SIGKILL been sent to a thread, or does it exit already? */
static bool is_thread_dying(pid_t pid, const char *thread)
{
	unsigned long long pending, all = 0;
	char path[64], line[256], *state;
	unsigned long flags = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", pid, thread);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "SigPnd: %llx", &pending) == 1 ||
		    sscanf(line, "ShdPnd: %llx", &pending) == 1)
			all |= pending;
	if (file)
		fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, thread);
	file = fopen(path, "re");
	if (file) {
		/* pid (comm) state ppid pgrp session tty tpgid flags */
		state = fgets(line, sizeof(line), file) ? strrchr(line, ')') :
							  NULL;
		if (!state || sscanf(state, ") %*c %*d %*d %*d %*d %*d %lu",
				     &flags) != 1)
			flags = 0;
		fclose(file);
	}
	return all & 1ULL << (SIGKILL - 1) || flags & PF_EXITING;
}

/*
 * Is it on its way out?  Its end may take long.  A leader that has exited says
 * nothing of its process: that dies with the last of its threads.
 */
static bool is_dying(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	bool dying;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	dying = threads;
	while (dying && (entry = readdir(threads)))
		if (entry->d_name[0] != '.')
			dying = is_thread_dying(pid, entry->d_name);
	if (threads)
		closedir(threads);
	return dying;
}

static bool nobody_dies(const struct actor *unused)
{
	int i;

	(void)unused;
	for (i = 0; i < nr_actors; i++)
		if (actors[i].state != ENDED && actors[i].pid > 0 &&
		    is_dying(actors[i].pid))
			return false;
	return true;
}

/* What is killed takes a moment to die, on a debug kernel seconds. */
static void wait_for_the_dying(void)
{
	int i;

	/* Twice: one look may fall between the signal and the exit. */
	for (i = 0; i < 2; i++) {
		wait_until(nobody_dies, NULL, DEATH_MS);
		poll(NULL, 0, POLL_MS);
	}
	update();
}

void cast_report(void)
{
	const char *state;
	int i, value;

	wait_for_the_dying();
	for (i = 0; i < nr_actors; i++) {
		state = "alive";
		value = 0;
		if (actors[i].state == ENDED && WIFSIGNALED(actors[i].status)) {
			state = "signaled";
			value = WTERMSIG(actors[i].status);
		} else if (actors[i].state == ENDED) {
			state = "exited";
			value = WEXITSTATUS(actors[i].status);
		}
		say("state name=%s pid=%d state=%s value=%d", actors[i].name,
		    actors[i].pid, state, value);
	}
}

void cast_end(void)
{
	int i;

	for (i = 0; i < nr_actors; i++)
		if (actors[i].state != ENDED && actors[i].pid > 0)
			kill(actors[i].pid, SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
}

void cast_fail(const char *what, int error)
{
	say("error what=%s errno=%s", what, errno_name(error));
	cast_end();
	remove_limits();
	exit(EXIT_FAILURE);
}
