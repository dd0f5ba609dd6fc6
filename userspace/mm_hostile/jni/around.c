// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is not counted: no more than a stock for each CPU, however many threads
 * and processes take memory, and however much one fault maps.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"

#define WORKERS		8
#define FAULTS		60
#define WINDOW		(16 * PAGE)	/* what a fault maps around it, aligned */
#define EACH		(FAULTS * WINDOW)
#define READY_MS	60000

/* One anonymous shared page, for threads and processes alike. */
static struct {
	volatile int ready;
	volatile bool go;
} *shared;

static char *memory;

static void map_file(void)
{
	size_t bytes = WORKERS * EACH;
	int fd = scratch_file(bytes, true);
	char *room;

	shared = (void *)map_memory(PAGE, MAP_SHARED);
	room = map_memory(bytes + 2 * MIB, MAP_PRIVATE);
	if (fd < 0 || !shared || !room)
		_exit(EXIT_FAILURE);
	room = (char *)(((unsigned long)room + 2 * MIB - 1) & ~(2 * MIB - 1));
	memory = mmap(room, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	if (memory == MAP_FAILED)
		_exit(EXIT_FAILURE);
}

/* Runs on, but does not fault any more: what it has cached stays so. */
static void spin(void)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void *read_and_spin(void *arg)
{
	char *mine = memory + (size_t)arg * EACH;
	int i;

	sleep_ms(10);
	for (i = 0; i < FAULTS; i++)
		(void)*(volatile char *)(mine + i * WINDOW);
	__sync_fetch_and_add(&shared->ready, 1);
	spin();
	return NULL;
}

static void start_thread(void *(*work)(void *), size_t number)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, work, (void *)number))
		_exit(EXIT_FAILURE);
}

static void tell_when_ready(int number)
{
	while (shared->ready < number)
		sleep_ms(5);
	tell(number);
	await_go();
}

static void read_in_threads(void)
{
	size_t i;

	map_file();
	tell(0);
	await_go();
	for (i = 0; i < WORKERS; i++)
		start_thread(read_and_spin, i);
	tell_when_ready(WORKERS);
}

static void read_in_processes(void)
{
	size_t i;

	map_file();
	tell(0);
	await_go();
	for (i = 0; i < WORKERS; i++)
		if (!fork_child())
			read_and_spin((void *)i);
	tell_when_ready(WORKERS);
}

/* One thread takes memory, another one, on whatever CPU, gives it back. */
static void *unmap_and_spin(void *arg)
{
	size_t number = (size_t)arg;

	while (!shared->go)
		;
	munmap(memory + number * EACH, EACH);
	__sync_fetch_and_add(&shared->ready, 1);
	spin();
	return NULL;
}

static void unmap_in_threads(void)
{
	size_t i;

	shared = (void *)map_memory(PAGE, MAP_SHARED);
	memory = map_memory(WORKERS * EACH, MAP_PRIVATE);
	if (!shared || !memory)
		_exit(EXIT_FAILURE);
	for (i = 0; i < WORKERS; i++)
		start_thread(unmap_and_spin, i);
	tell(0);
	await_go();
	touch_pages(memory, WORKERS * EACH);
	shared->go = true;
	tell_when_ready(WORKERS);
}

static void judge_count(uid_t uid, void (*act)(void))
{
	long value, exact, count, bound = STOCK_PAGES * nr_cpus();
	struct app app;

	limit(uid, 1UL << 30);
	app_start(&app, uid, act);
	if (!app_hear(&app, READY_MS, &value)) {
		check(false, "the app gets ready");
		return;
	}
	note("before: the kernel counts %ld pages of %ld", counted(uid),
	     pages_of(uid));
	app_go(&app);
	check(app_hear(&app, READY_MS, &value) && value == WORKERS,
	      "%ld of %d have done their work and spin", value, WORKERS);
	count = counted(uid);
	exact = pages_of(uid);
	check(labs(exact - count) <= bound,
	      "the kernel counts %ld pages of %ld: %ld are not, %ld may not be",
	      count, exact, exact - count, bound);
}

void around_threads(uid_t uid)
{
	judge_count(uid, read_in_threads);
}

void around_processes(uid_t uid)
{
	judge_count(uid, read_in_processes);
}

void around_unmap(uid_t uid)
{
	judge_count(uid, unmap_in_threads);
}
