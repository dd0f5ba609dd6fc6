// SPDX-License-Identifier: GPL-2.0-only
/*
 * Growth in one call that needs no page, as it maps what is in the cache already,
 * or that another process causes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	20
#define GROWN_MIB	100
#define OVER_PAGES	512
#define READY_MS	20000
#define GROW_MS		30000
#define TABLE_BYTES	(2 * MIB)	/* that a table maps, or less */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif

/* The judge writes it, so that the pages are nobody's that is limited. */
static int file = -1;

static char *map_file(int flags)
{
	char *memory = mmap(NULL, GROWN_MIB * MIB, PROT_READ,
			    MAP_SHARED | flags, file, 0);

	if (memory == MAP_FAILED)
		_exit(errno);
	return memory;
}

static void map_at_once(void)
{
	await_go();
	map_file(MAP_POPULATE);
	tell(0);
	hang();
}

/* A page of each table is there, so that no table is to be allocated. */
static char *map_tables(void)
{
	char *memory = map_file(0);
	size_t at;

	for (at = 0; at < GROWN_MIB * MIB; at += TABLE_BYTES)
		(void)*(volatile char *)(memory + at);
	return memory;
}

static void advise(void)
{
	char *memory = map_tables();

	await_go();
	if (madvise(memory, GROWN_MIB * MIB, MADV_POPULATE_READ))
		tell(errno);
	tell(0);
	hang();
}

static void lock(void)
{
	char *memory = map_tables();

	await_go();
	if (mlock(memory, GROWN_MIB * MIB))
		tell(errno);
	tell(0);
	hang();
}

static char *sleeper_memory;

/* A child that has room for it all and has touched none; it only sleeps. */
static pid_t start_sleeper(bool is_traced)
{
	pid_t pid;

	sleeper_memory = map_memory(GROWN_MIB * MIB, MAP_PRIVATE);
	if (!sleeper_memory)
		_exit(EXIT_FAILURE);
	pid = fork_child();
	if (pid)
		return pid;
	if (is_traced) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
	}
	hang();
}

static void write_into_sleeper(void)
{
	static char bytes[MIB];
	struct iovec from = { bytes, sizeof(bytes) };
	struct iovec to = { NULL, sizeof(bytes) };
	pid_t pid = start_sleeper(false);
	int i;

	await_go();
	for (i = 0; i < GROWN_MIB; i++) {
		to.iov_base = sleeper_memory + i * MIB;
		if (syscall(__NR_process_vm_writev, pid, &from, 1UL, &to, 1UL,
			    0UL) != (long)MIB) {
			if (errno == ENOSYS)
				tell(ENOSYS);
			break;
		}
	}
	tell(0);
	hang();
}

static void poke_into_sleeper(void)
{
	pid_t pid = start_sleeper(true);
	size_t at;
	int status;

	waitpid(pid, &status, 0);
	await_go();
	for (at = 0; at < GROWN_MIB * MIB; at += PAGE)
		if (ptrace(PTRACE_POKEDATA, pid, sleeper_memory + at, (void *)1L))
			break;
	tell(0);
	hang();
}

static void judge_growth(uid_t uid, void (*act)(void), bool on_file)
{
	long long late = now_us() + GROW_MS * 1000LL;
	long error = -1, peak = 0, now;
	struct app app;

	if (on_file) {
		file = scratch_file(GROWN_MIB * MIB, true);
		if (file < 0)
			give_up("no file in memory");
	}
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, act);
	sleep_ms(200);
	app_go(&app);
	while (now_us() < late && !app_ended(&app) &&
	       !app_hear(&app, 0, &error)) {
		now = pages_of(uid);
		if (now > peak)
			peak = now;
		sleep_ms(1);
	}
	if (error == ENOSYS || error == EINVAL) {
		skip("this kernel does not have it");
		return;
	}
	sleep_ms(DECISION_MS);
	now = peak_of(uid);
	if (now > peak)
		peak = now;
	if (app_ended(&app) && app.peak > peak)
		peak = app.peak;
	check(kills_of(uid) > 0,
	      "growing to %d MB under %d MB has somebody killed: kills %ld",
	      GROWN_MIB, LIMIT_MIB, kills_of(uid));
	now = pages_of(uid);
	check(now <= PAGES(LIMIT_MIB), "afterwards the user has %ld pages of %ld",
	      now, PAGES(LIMIT_MIB));
	check(peak <= PAGES(LIMIT_MIB) + OVER_PAGES,
	      "it was seen with %ld pages at most, %ld over; %d may be", peak,
	      peak - PAGES(LIMIT_MIB), OVER_PAGES);
	now = worst_kill(uid);
	check(now > 0 && now <= OVER_PAGES,
	      "at a kill it was %ld pages over at most; %d may be", now,
	      OVER_PAGES);
}

void populate_map(uid_t uid)
{
	judge_growth(uid, map_at_once, true);
}

void populate_advice(uid_t uid)
{
	judge_growth(uid, advise, true);
}

void populate_lock(uid_t uid)
{
	struct rlimit locked = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_MEMLOCK, &locked);
	judge_growth(uid, lock, true);
}

void populate_write(uid_t uid)
{
	judge_growth(uid, write_into_sleeper, false);
}

void populate_poke(uid_t uid)
{
	judge_growth(uid, poke_into_sleeper, false);
}
