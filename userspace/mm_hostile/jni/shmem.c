// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is nobody's RSS: files in memory, shared memory and page tables.  For
 * kernels with CONFIG_USER_MM_LIMITS_ALL, where these count for who made them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ipc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	20
#define WANTED_MIB	200
#define READY_MS	60000
/* Besides what is counted: inodes, page tables, stacks and what CPUs keep. */
#define SLACK_MIB	6
#define FOLDER		"/data/local/tmp/hostile_files"
#define TABLE_SPAN	(1UL << 30)
#define TABLE_BYTES	(2 * MIB)
#define TABLE_PROCESSES	40

/* Headers before Linux 3.17 do not know it, nor does the kernel: that is ENOSYS. */
#ifndef __NR_memfd_create
#define __NR_memfd_create	(-1)
#endif

static char bytes[64 * 1024];

/* Fill a file until that fails; tells the errno. */
static long fill_file(int fd)
{
	size_t at;

	for (at = 0; at < WANTED_MIB * MIB; at += sizeof(bytes))
		if (write(fd, bytes, sizeof(bytes)) < 0)
			return errno;
	return 0;
}

static int memory_file(void)
{
	return syscall(__NR_memfd_create, "hostile", 0U);
}

static void fill_memory_file(void)
{
	int fd = memory_file();

	tell(fd < 0 ? ENOSYS : fill_file(fd));
	hang();
}

/* Many files, none of which is large, and none open in the end. */
static void fill_folder(void)
{
	char path[64];
	long error = 0;
	int i, fd;

	umask(0);
	for (i = 0; i < WANTED_MIB && !error; i++) {
		snprintf(path, sizeof(path), FOLDER "/%d", i);
		fd = open(path, O_WRONLY | O_CREAT, 0666);
		if (fd < 0 || ftruncate(fd, MIB) ||
		    fallocate(fd, 0, 0, MIB))
			error = errno;
		close(fd);
	}
	tell(error);
	hang();
}

static long segment_id = -1;

static void fill_segment(void)
{
	long id = syscall(__NR_shmget, IPC_PRIVATE, WANTED_MIB * MIB,
			  IPC_CREAT | 0600);
	char *memory = (char *)syscall(__NR_shmat, id, NULL, 0);
	size_t at;

	tell(id);
	for (at = 0; memory != (char *)-1 && at < WANTED_MIB * MIB; at += MIB) {
		touch_pages(memory + at, MIB);
		madvise(memory + at, MIB, MADV_DONTNEED);
	}
	hang();
}

static void fill_anonymous(void)
{
	char *memory = map_memory(WANTED_MIB * MIB, MAP_SHARED);
	size_t at;

	for (at = 0; memory && at < WANTED_MIB * MIB; at += MIB) {
		touch_pages(memory + at, MIB);
		madvise(memory + at, MIB, MADV_DONTNEED);
	}
	tell(0);
	hang();
}

/* Files that nobody has but who gets them sent, in a socket that keeps them. */
static void send_away(void)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec text = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &text, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fds[2], fd, i;
	long error = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		_exit(EXIT_FAILURE);
	for (i = 0; i < WANTED_MIB / 4 && !error; i++) {
		fd = memory_file();
		if (fd < 0)
			_exit(EXIT_FAILURE);
		error = ftruncate(fd, 4 * MIB) || fallocate(fd, 0, 0, 4 * MIB) ?
				errno : 0;
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
		if (sendmsg(fds[0], &message, MSG_DONTWAIT) < 0)
			error = errno;
		close(fd);
	}
	tell(error);
	hang();
}

static void read_a_page_per_table(void)
{
	char *memory = mmap(NULL, TABLE_SPAN, PROT_READ,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;
	size_t at;

	for (i = 0; i < TABLE_PROCESSES; i++)
		if (!fork_child())
			break;
	if (memory == MAP_FAILED)
		_exit(EXIT_FAILURE);
	for (at = 0; at < TABLE_SPAN; at += TABLE_BYTES)
		(void)*(volatile char *)(memory + at);
	if (i == TABLE_PROCESSES) {
		sleep_ms(2000);
		tell(0);
	}
	hang();
}

static void remove_files(void)
{
	char path[64];
	int i;

	for (i = 0; i < WANTED_MIB; i++) {
		snprintf(path, sizeof(path), FOLDER "/%d", i);
		unlink(path);
	}
	rmdir(FOLDER);
	if (segment_id >= 0)
		syscall(__NR_shmctl, segment_id, IPC_RMID, NULL);
	segment_id = -1;
}

/* The user tries for ten times its limit; nobody else has less for it. */
static void judge_held(uid_t uid, void (*act)(void))
{
	long before, fell, value = -1, most = 0;
	long long late = now_us() + READY_MS * 1000LL;
	struct app app;

	mkdir(FOLDER, 0777);
	chmod(FOLDER, 0777);
	limit(uid, LIMIT_MIB * MIB);
	sleep_ms(300);
	before = free_pages();
	app_start(&app, uid, act);
	if (act == fill_segment)
		app_hear(&app, READY_MS, &segment_id);
	while (now_us() < late && !app_ended(&app) && !app_hear(&app, 0, &value)) {
		fell = before - free_pages();
		if (fell > most)
			most = fell;
		sleep_ms(2);
		if (act == fill_segment && now_us() > late - READY_MS * 1000LL + 5000000)
			break;
	}
	sleep_ms(DECISION_MS);
	fell = before - free_pages();
	check(value == ENOSPC || app_ended(&app) || kills_of(uid) > 0,
	      "asking for %d MB under %d MB is refused, or somebody is killed: error %ld, kills %ld",
	      WANTED_MIB, LIMIT_MIB, value, kills_of(uid));
	check(counted(uid) <= PAGES(LIMIT_MIB), "%ld pages are counted of %ld",
	      counted(uid), PAGES(LIMIT_MIB));
	/* What is refused is never taken; who is killed needs a moment to go. */
	check((kills_of(uid) || most <= PAGES(LIMIT_MIB + SLACK_MIB)) &&
	      fell <= PAGES(LIMIT_MIB + SLACK_MIB),
	      "%ld pages less were free at most, %ld in the end, of %ld that the user may have",
	      most, fell, PAGES(LIMIT_MIB));
	signal_all(uid, SIGKILL);
	app_wait_end(&app, READY_MS);
	remove_files();
	sleep_ms(1000);
	check(counted(uid) <= STOCK_PAGES, "when all is gone %ld pages are counted",
	      counted(uid));
}

void shmem_memfd(uid_t uid)
{
	judge_held(uid, fill_memory_file);
}

void shmem_files(uid_t uid)
{
	judge_held(uid, fill_folder);
}

void shmem_segment(uid_t uid)
{
	judge_held(uid, fill_segment);
}

void shmem_anonymous(uid_t uid)
{
	judge_held(uid, fill_anonymous);
}

void shmem_sent(uid_t uid)
{
	judge_held(uid, send_away);
}

void shmem_tables(uid_t uid)
{
	judge_held(uid, read_a_page_per_table);
}
