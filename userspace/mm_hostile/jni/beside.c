// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a user can hold that is no RSS.  Figures only: the limits are on resident
 * memory, and the documentation says what that leaves.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/ipc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	10
#define WANTED_MIB	100
#define DESCRIPTORS	250
#define READY_MS	60000
#define PIPE_BYTES	(1 << 20)

static char bytes[64 * 1024];

static void fill(int fd)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
}

static void hold_file(void)
{
	tell(scratch_file(WANTED_MIB * MIB, true) >= 0);
	hang();
}

static void hold_sockets(void)
{
	int i, fds[2];

	for (i = 0; i < DESCRIPTORS; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
			break;
		fill(fds[1]);
		close(fds[1]);	/* what was sent stays to be read */
	}
	tell(i);
	hang();
}

static void hold_pipes(void)
{
	int i, fds[2];

	for (i = 0; i < DESCRIPTORS; i++) {
		if (pipe(fds))
			break;
		fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
		fill(fds[1]);
	}
	tell(i);
	hang();
}

/*
 * A segment stays when nobody has it mapped; the judge removes it.  By system
 * call, as bionic has had the functions only since API 26.
 */
static void hold_segment(void)
{
	long segment = syscall(__NR_shmget, IPC_PRIVATE, WANTED_MIB * MIB,
			       IPC_CREAT | 0600);
	char *memory = (char *)syscall(__NR_shmat, segment, NULL, 0);
	size_t at;

	for (at = 0; memory != (char *)-1 && at < WANTED_MIB * MIB; at += MIB) {
		touch_pages(memory + at, MIB);
		madvise(memory + at, MIB, MADV_DONTNEED);
	}
	tell(segment);
	hang();
}

/* One page of tables for each 2 MB that is looked at; the zero page is no RSS. */
static void hold_tables(void)
{
	size_t span = 1UL << 30, at;
	char *memory = mmap(NULL, span, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	int i;

	for (i = 0; i < 10; i++)
		if (!fork_child())
			break;
	if (memory == MAP_FAILED)
		_exit(EXIT_FAILURE);
	for (at = 0; at < span; at += 2 * MIB)
		(void)*(volatile char *)(memory + at);
	if (i == 10) {
		sleep_ms(2000);
		tell(i);
	}
	hang();
}

static void show(uid_t uid, const char *what, void (*act)(void))
{
	long before = free_pages(), value = -1, fell;
	struct app app;

	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, act);
	app_hear(&app, READY_MS, &value);
	fell = before - free_pages();
	check(true, "%s: %ld pages less are free, of which %ld are counted; limit %ld%s",
	      what, fell, counted(uid), PAGES(LIMIT_MIB),
	      app_killed(&app) ? "; killed" : "");
	if (act == hold_segment && value >= 0)
		syscall(__NR_shmctl, value, IPC_RMID, NULL);
	end_user(uid);
	sleep_ms(200);
}

void beside(uid_t uid)
{
	show(uid, "a memory file of 100 MB", hold_file);
	show(uid, "250 full sockets", hold_sockets);
	show(uid, "250 full pipes", hold_pipes);
	show(uid, "a segment of 100 MB", hold_segment);
	show(uid, "page tables of 11 processes", hold_tables);
}
