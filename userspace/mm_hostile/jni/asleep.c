// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tasks that take the user over its limit and then sleep, without another
 * allocation and without a return to user mode: nobody is there to be stopped.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define THREADS		200
#define STACK		(64 * 1024)
#define FRESH		65	/* pages that the call faults in */
#define CALLS		(FRESH + 2)
#define STOPPED		100
#define STOPPED_PAGES	60
#define ROOM_PAGES	40
#define READY_MS	60000

static struct sleeper {
	int sockets[2];
	struct iovec parts[CALLS];
	char last;
} sleepers[THREADS];

static int socket_type, gate[2];

/*
 * Where the bytes go: fresh pages, then one that is there but write-protected,
 * which takes a fault and no page, then one that never comes.
 */
static void lay_out(char *fresh, char *protected)
{
	int i, k;

	for (i = 0; i < THREADS; i++) {
		for (k = 0; k < FRESH; k++)
			sleepers[i].parts[k].iov_base =
				fresh + ((size_t)i * FRESH + k) * PAGE + 8;
		sleepers[i].parts[FRESH].iov_base = protected + i * PAGE;
		sleepers[i].parts[FRESH + 1].iov_base = &sleepers[i].last;
		for (k = 0; k < CALLS; k++)
			sleepers[i].parts[k].iov_len = 1;
	}
}

/*
 * Wait for one's turn.  Where each task caches what it maps, the kernel empties the
 * cache when the task gives memory back: the last fault is the one that fills it.
 */
static void await_turn(void)
{
	char *memory = map_memory(PAGE, MAP_PRIVATE), byte = 0;

	if (!memory)
		_exit(EXIT_FAILURE);
	touch_pages(memory, PAGE);
	munmap(memory, PAGE);
	if (read(gate[0], &byte, 1) != 1)
		_exit(EXIT_FAILURE);
}

static void *sleep_in_recvmsg(void *arg)
{
	struct sleeper *self = arg;
	struct msghdr message = {
		.msg_iov = self->parts,
		.msg_iovlen = CALLS,
	};

	await_turn();
	recvmsg(self->sockets[0], &message, MSG_WAITALL);
	return NULL;
}

static void *sleep_in_recvmmsg(void *arg)
{
	struct sleeper *self = arg;
	struct mmsghdr messages[CALLS];
	int i;

	memset(messages, 0, sizeof(messages));
	for (i = 0; i < CALLS; i++) {
		messages[i].msg_hdr.msg_iov = &self->parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	await_turn();
	recvmmsg(self->sockets[0], messages, CALLS, 0, NULL);
	return NULL;
}

static void protect(char *memory, size_t bytes)
{
	pid_t pid;

	touch_pages(memory, bytes);
	pid = fork();
	if (!pid)
		_exit(EXIT_SUCCESS);
	waitpid(pid, NULL, 0);
}

static void send_all(struct sleeper *sleeper)
{
	char bytes[FRESH + 1] = { 0 };
	int i;

	if (socket_type == SOCK_STREAM) {
		send(sleeper->sockets[1], bytes, sizeof(bytes), 0);
		return;
	}
	for (i = 0; i < FRESH + 1; i++)
		send(sleeper->sockets[1], bytes, 1, 0);
}

static bool start_sleeper(struct sleeper *sleeper)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (socketpair(AF_UNIX, socket_type, 0, sleeper->sockets))
		return false;
	send_all(sleeper);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	return !pthread_create(&thread, &attr,
			       socket_type == SOCK_STREAM ? sleep_in_recvmsg :
			       sleep_in_recvmmsg, sleeper);
}

static void wake_sleepers(void)
{
	size_t span = (size_t)THREADS * FRESH * PAGE, at;
	char *fresh = map_memory(span, MAP_PRIVATE);
	char *protected = map_memory(THREADS * PAGE, MAP_PRIVATE);
	int i;

	if (!fresh || !protected || pipe(gate))
		_exit(EXIT_FAILURE);
	lay_out(fresh, protected);
	protect(protected, THREADS * PAGE);
	for (i = 0; i < THREADS; i++)
		if (!start_sleeper(&sleepers[i]))
			_exit(EXIT_FAILURE);
	/* Page tables, by the zero page, which is not RSS. */
	for (at = 0; at < span; at += MIB)
		(void)*(volatile char *)(fresh + at);
	sleep_ms(500);
	tell(THREADS);
	await_go();
	for (i = 0; i < THREADS; i++) {
		if (write(gate[1], "", 1) != 1)
			_exit(EXIT_FAILURE);
		sleep_ms(3);
	}
	tell(THREADS);
	hang();
}

static void stop_children(void)
{
	char *memory = map_memory(STOPPED_PAGES * PAGE, MAP_PRIVATE), byte;
	int i, status;

	if (!memory || pipe(gate))
		_exit(EXIT_FAILURE);
	(void)*(volatile char *)memory;
	for (i = 0; i < STOPPED; i++) {
		if (fork_child())
			continue;
		if (read(gate[0], &byte, 1) == 1)
			touch_pages(memory, STOPPED_PAGES * PAGE);
		raise(SIGSTOP);
		hang();
	}
	sleep_ms(500);
	tell(STOPPED);
	await_go();
	for (i = 0; i < STOPPED; i++)
		if (write(gate[1], "", 1) != 1)
			_exit(EXIT_FAILURE);
	for (i = 0; i < STOPPED; i++)
		waitpid(-1, &status, WUNTRACED);
	tell(STOPPED);
	hang();
}

/* The limit is what the user has when all wait, and a little more. */
static void judge_sleepers(uid_t uid, void (*act)(void), long more)
{
	struct app app;
	long max, value, has;
	long long late;

	app_start(&app, uid, act);
	if (!app_hear(&app, READY_MS, &value)) {
		check(false, "the app gets ready");
		return;
	}
	limit(uid, 1UL << 30);
	sleep_ms(200);
	max = pages_of(uid) + ROOM_PAGES;
	limit(uid, max * PAGE);
	app_go(&app);
	app_hear(&app, READY_MS, &value);
	late = now_us() + DECISION_MS * 1000LL;
	do {
		sleep_ms(10);
		has = pages_of(uid);
	} while (has > max && now_us() < late);
	note("the kernel counts %ld pages, kills %ld", counted(uid),
	     kills_of(uid));
	check(app_killed(&app) || kills_of(uid) > 0,
	      "of a user that grew by %ld pages over its limit one is killed",
	      more - ROOM_PAGES);
	check(has <= max, "%d ms after the last growth it has %ld pages of %ld",
	      DECISION_MS, has, max);
}

void asleep_recvmsg(uid_t uid)
{
	socket_type = SOCK_STREAM;
	judge_sleepers(uid, wake_sleepers, THREADS * FRESH);
}

void asleep_recvmmsg(uid_t uid)
{
	socket_type = SOCK_SEQPACKET;
	judge_sleepers(uid, wake_sleepers, THREADS * FRESH);
}

void asleep_stopped(uid_t uid)
{
	judge_sleepers(uid, stop_children, STOPPED * STOPPED_PAGES);
}
