// SPDX-License-Identifier: GPL-2.0-only
/* What goes on beside the referee.  Each is a process and ends by a signal. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define BOMB_PROCESSES	250
#define BOMB_PAUSE_US	300000
#define BOMB_FORKS	150	/* in a burst: each may be two lines of the log */
#define PAGE		4096UL
#define STANDING_MIB	20
#define CHANGED_MIB	3
#define SQUEEZE_MIB	8
#define SQUEEZED	1024
#define SPARED_KB	(64 * 1024)
#define CYCLE_US	50000

static void touch(char *memory, size_t bytes)
{
	size_t at;

	for (at = 0; at < bytes; at += PAGE)
		((volatile char *)memory)[at] = 1;
}

static void fork_for_ever(void)
{
	char *own = mmap(NULL, MIB / 4, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (own != MAP_FAILED)
		touch(own, MIB / 4);
	while (tally->forks < tally->fuse) {
		if (fork() < 0)
			usleep(10000);
		else
			__sync_fetch_and_add(&tally->forks, 1);
	}
	for (;;)
		pause();
}

/* The bomb itself may be killed, so that somebody must drop the next. */
void drop_bombs(void)
{
	struct rlimit processes = { BOMB_PROCESSES, BOMB_PROCESSES };
	pid_t pid;

	for (;;) {
		tally->fuse = tally->forks + BOMB_FORKS;
		pid = fork();
		if (!pid) {
			setrlimit(RLIMIT_NPROC, &processes);
			if (!become_user(BOMBER))
				_exit(EXIT_FAILURE);
			fork_for_ever();
		}
		usleep(BOMB_PAUSE_US);
		/* All that are left of the last one. */
		pid = fork();
		if (!pid) {
			if (become_user(BOMBER))
				kill(-1, SIGKILL);
			_exit(EXIT_SUCCESS);
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

/* Comes and goes, but never beyond its limit. */
void stand_by(void)
{
	char *memory = mmap(NULL, STANDING_MIB * MIB, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || !become_user(BYSTANDER))
		_exit(EXIT_FAILURE);
	for (;;) {
		touch(memory, STANDING_MIB * MIB);
		usleep(20000);
		madvise(memory, STANDING_MIB * MIB / 2, MADV_DONTNEED);
	}
}

/* With memory, so that each change moves it from one count to another. */
void change_users(void)
{
	char *memory = mmap(NULL, CHANGED_MIB * MIB, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uid_t user;

	if (memory == MAP_FAILED)
		_exit(EXIT_FAILURE);
	touch(memory, CHANGED_MIB * MIB);
	for (;;) {
		for (user = 0; user < SETUID_USERS; user++) {
			if (setresuid(SETUID_FIRST + user, 0, 0))
				_exit(EXIT_FAILURE);
			tally->setuids++;
		}
		usleep(500);
	}
}

static long free_kb(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = 0;

	while (file && !kb && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemFree: %ld", &kb) != 1)
			kb = 0;
	if (file)
		fclose(file);
	return kb;
}

/*
 * The other killer is not to be needed: what it would take is left free.  What is
 * far from that stays taken, as taking it costs more than all else here.
 */
void squeeze_memory(void)
{
	void *taken[SQUEEZED];
	int n = 0;

	for (;;) {
		while (free_kb() > SPARED_KB) {
			if (n == SQUEEZED)
				munmap(taken[--n], SQUEEZE_MIB * MIB);
			taken[n] = touch_new_pages(SQUEEZE_MIB * MIB);
			if (!taken[n])
				_exit(EXIT_FAILURE);
			n++;
		}
		tally->squeezes++;
		usleep(100000);
		if (n)
			munmap(taken[--n], SQUEEZE_MIB * MIB);
	}
}

void cycle_modules(const struct module_file *modules)
{
	while (!tally->stop) {
		if (!unload_module(&modules[0]) || !unload_module(&modules[1]) ||
		    !load_module(&modules[0]) || !load_module(&modules[1]))
			_exit(EXIT_FAILURE);
		tally->cycles++;
		usleep(CYCLE_US);
	}
	_exit(EXIT_SUCCESS);
}
