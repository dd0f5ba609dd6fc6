// SPDX-License-Identifier: GPL-2.0-only
/*
 * A victim that is in the kernel and does not come out: one read() of a file that
 * is all holes, which needs no memory of its own, fills fresh pages.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"

#define LIMIT_MIB	20
#define READ_MIB	200
#define THREADS		8

static int file = -1;

static void read_into(int flags)
{
	char *memory = map_memory(READ_MIB * MIB, flags);

	if (!memory)
		_exit(EXIT_FAILURE);
	await_go();
	_exit(pread(file, memory, READ_MIB * MIB, 0) < 0);
}

static void read_private(void)
{
	read_into(MAP_PRIVATE);
}

static void read_shared(void)
{
	read_into(MAP_SHARED);
}

static void *read_part(void *memory)
{
	if (pread(file, memory, READ_MIB * MIB / THREADS, 0) < 0)
		_exit(EXIT_FAILURE);
	return NULL;
}

static void read_in_threads(void)
{
	char *memory = map_memory(READ_MIB * MIB, MAP_PRIVATE);
	pthread_t threads[THREADS];
	int i;

	if (!memory)
		_exit(EXIT_FAILURE);
	await_go();
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, read_part,
				   memory + i * (READ_MIB * MIB / THREADS)))
			_exit(EXIT_FAILURE);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void judge_reader(uid_t uid, void (*act)(void))
{
	struct app app;
	long peak = 0, now;

	file = scratch_file(READ_MIB * MIB, false);
	if (file < 0)
		give_up("no file in memory");
	limit(uid, LIMIT_MIB * MIB);
	app_start(&app, uid, act);
	app_go(&app);
	while (!app_wait_end(&app, 2)) {
		now = peak_of(uid);
		if (now > peak)
			peak = now;
	}
	if (app.peak > peak)
		peak = app.peak;
	check(app_killed(&app), "a process that reads %d MB under %d MB is killed",
	      READ_MIB, LIMIT_MIB);
	check(peak <= PAGES(LIMIT_MIB + 1),
	      "it had %ld pages at most, of %ld that it may have", peak,
	      PAGES(LIMIT_MIB));
}

void victim_read(uid_t uid)
{
	judge_reader(uid, read_private);
}

void victim_shared(uid_t uid)
{
	judge_reader(uid, read_shared);
}

void victim_threads(uid_t uid)
{
	judge_reader(uid, read_in_threads);
}
