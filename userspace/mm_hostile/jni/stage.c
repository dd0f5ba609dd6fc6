// SPDX-License-Identifier: GPL-2.0-only
/* How the judge starts an app, hears of it and ends it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define LOOK_MS		20
#define END_MS		20000
#define FORK_TRIES	20
#define FORK_PAUSE_MS	10

uid_t judged_uid;

/* In the app: its pipes to the judge. */
static int to_judge = -1, from_judge = -1;

/* --- the judge -------------------------------------------------------------- */

void app_start(struct app *app, uid_t uid, void (*act)(void))
{
	int reports[2], orders[2];
	pid_t parent = getpid();

	memset(app, 0, sizeof(*app));
	if (pipe2(reports, O_CLOEXEC) || pipe2(orders, O_CLOEXEC))
		give_up("pipe");
	app->pid = fork();
	if (app->pid < 0)
		give_up("fork");
	if (!app->pid) {
		close(reports[0]);
		close(orders[1]);
		to_judge = reports[1];
		from_judge = orders[0];
		if ((judged_group && !group_join()) ||
		    (uid && !become_user(uid)) || !die_with_parent(parent)) {
			complain("mm_hostile: uid %u: %s", uid, strerror(errno));
			_exit(EXIT_FAILURE);
		}
		/* As after exec: what is its own it may trace. */
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		act();
		_exit(EXIT_SUCCESS);
	}
	close(reports[1]);
	close(orders[0]);
	app->reports = reports[0];
	app->orders = orders[1];
}

bool app_ended(struct app *app)
{
	struct rusage use;

	if (!app->ended &&
	    wait4(app->pid, &app->status, WNOHANG, &use) == app->pid) {
		app->ended = true;
		app->peak = use.ru_maxrss / (long)(PAGE / 1024);
	}
	return app->ended;
}

bool app_killed(struct app *app)
{
	return app_ended(app) && WIFSIGNALED(app->status) &&
	       WTERMSIG(app->status) == SIGKILL;
}

bool app_wait_end(struct app *app, int timeout_ms)
{
	long long late = now_us() + timeout_ms * 1000LL;

	while (!app_ended(app) && now_us() < late)
		sleep_ms(1);
	return app->ended;
}

/* Its children have the pipe as well, so its end is not the end of the file. */
bool app_hear(struct app *app, int timeout_ms, long *value)
{
	struct pollfd fd = { .fd = app->reports, .events = POLLIN };
	long long late = now_us() + timeout_ms * 1000LL;
	bool ended;

	do {
		ended = app_ended(app);
		if (poll(&fd, 1, ended ? 0 : LOOK_MS) == 1 &&
		    read(app->reports, value, sizeof(*value)) == sizeof(*value))
			return true;
	} while (!ended && now_us() < late);
	return false;
}

void app_go(const struct app *app)
{
	signal(SIGPIPE, SIG_IGN);
	if (write(app->orders, "", 1) != 1 && errno != EPIPE)
		give_up("write");
}

void limit(uid_t uid, unsigned long bytes)
{
	if (judged_group)
		group_limit(bytes);
	else if (set_mm_limits(uid, bytes) < 0)
		give_up("set_mm_limits");
}

long set_as(uid_t who, uid_t uid, unsigned long bytes)
{
	long ret = -EIO;
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		give_up("pipe");
	pid = fork();
	if (pid < 0)
		give_up("fork");
	if (!pid) {
		if (become_user(who)) {
			ret = set_mm_limits(uid, bytes);
			ret = ret < 0 ? -errno : ret;
		}
		_exit(write(fds[1], &ret, sizeof(ret)) != sizeof(ret));
	}
	close(fds[1]);
	if (read(fds[0], &ret, sizeof(ret)) != sizeof(ret))
		ret = -EIO;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return ret;
}

void end_user(uid_t uid)
{
	long long late = now_us() + END_MS * 1000LL;

	while (now_us() < late) {
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			;
		if (!processes_of(uid))
			break;
		signal_all(uid, SIGKILL);
		sleep_ms(LOOK_MS);
	}
	if (!judged_group)
		set_mm_limits(uid, MM_LIMIT_REMOVE);
}

void give_up(const char *what)
{
	say("Bail out! %s: %s", what, strerror(errno));
	end_user(judged_uid);
	exit(EXIT_FAILURE);
}

/* --- the app ----------------------------------------------------------------- */

void tell(long value)
{
	if (write(to_judge, &value, sizeof(value)) != sizeof(value))
		_exit(EXIT_FAILURE);
}

void await_go(void)
{
	char byte;

	if (read(from_judge, &byte, 1) != 1)
		_exit(EXIT_FAILURE);
}

void hang(void)
{
	for (;;)
		pause();
}

pid_t fork_child(void)
{
	pid_t parent = getpid(), pid;
	int tries;

	for (tries = 0; tries < FORK_TRIES; tries++) {
		pid = fork();
		if (pid >= 0 || (errno != ENOMEM && errno != EAGAIN))
			break;
		sleep_ms(FORK_PAUSE_MS);
	}
	if (!pid && !die_with_parent(parent))
		_exit(EXIT_FAILURE);
	return pid;
}

char *map_memory(size_t bytes, int flags)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    flags | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void touch_pages(char *memory, size_t bytes)
{
	volatile char *byte = memory;
	size_t at;

	for (at = 0; at < bytes; at += PAGE)
		byte[at] = 1;
}

/* memfd_create() is there since Linux 3.17. */
static int memory_file(void)
{
	static const char *const names[] = {
		"/dev/shm/mm_hostile", "/tmp/mm_hostile",
		"/data/local/tmp/mm_hostile.file",
	};
	size_t i;
	int fd;

#ifdef __NR_memfd_create
	fd = syscall(__NR_memfd_create, "mm_hostile", 0);
	if (fd >= 0)
		return fd;
#endif
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		fd = open(names[i], O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd < 0)
			continue;
		unlink(names[i]);
		return fd;
	}
	return -1;
}

int scratch_file(size_t bytes, bool written)
{
	static const char zeroes[16 * 4096];
	int fd = memory_file();
	size_t done;

	if (fd < 0 || ftruncate(fd, bytes))
		return -1;
	for (done = 0; written && done < bytes; done += sizeof(zeroes))
		if (write(fd, zeroes, sizeof(zeroes)) != sizeof(zeroes))
			return -1;
	return fd;
}
