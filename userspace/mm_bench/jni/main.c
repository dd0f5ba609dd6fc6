// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_bench [OPTION]... WORKLOAD... - what do per-user limits cost?
 *
 * Runs workloads with the real uid BENCH_UID and prints the least they took, timer
 * ticks left out, in instructions if the guest's clock counts those (-icount
 * shift=0):
 *
 *   figure NAME VALUE
 *
 * Options, all off by default:
 *   -o SIZE     set the limit of the measuring user; "near": so that the
 *               workload churn ends at 99 % of it
 *   -l COUNT    so many limits on users that have no process
 *   -p COUNT    so many processes that sleep
 *   -c USER     to whom those belong (default: nobody that has a limit)
 *   -r ROUNDS   how often to repeat (default 12)
 *   -t THREADS  threads that break the limit (workload breach; default 1)
 *   -g          the workload spin sets no limit: a memory cgroup holds it
 *
 * Runs on any kernel as long as no limit is asked for.  Needs root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "mm_user.h"

struct options {
	unsigned long own;
	bool near, group;
	long others, crowd, rounds, threads;
	uid_t owner;
};

long long now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC_RAW, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

void settle(void)
{
	usleep(20000);
}

void fail(const char *what)
{
	complain("mm_bench: %s: %s", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static void limit(uid_t uid, unsigned long bytes)
{
	if (set_mm_limits(uid, bytes) < 0)
		fail("set_mm_limits");
}

unsigned long counted_bytes(void)
{
	unsigned long uid, max, usage, found = 0;
	char line[256];
	FILE *rows = fopen("/proc/mm_limits", "re");

	if (!rows)
		fail("/proc/mm_limits");
	while (fgets(line, sizeof(line), rows))
		if (sscanf(line, "%lu %lu %lu", &uid, &max, &usage) == 3 &&
		    uid == BENCH_UID)
			found = usage;
	fclose(rows);
	return found;
}

static void set_near_limit(long rounds)
{
	unsigned long pages = CHURN_PAGES + shifted_pages(rounds);

	hold_memory();
	limit(BENCH_UID, FAR_LIMIT);
	settle();
	limit(BENCH_UID, (counted_bytes() + pages * PAGE) / 99 * 100);
}

static void set_limits(const struct options *options)
{
	long i;

	for (i = 0; i < options->others; i++)
		limit(OTHER_UID + i, FAR_LIMIT);
	if (options->near)
		set_near_limit(options->rounds);
	else if (options->own)
		limit(BENCH_UID, options->own);
}

static void remove_limits(const struct options *options)
{
	long i;

	for (i = 0; i < options->others; i++)
		set_mm_limits(OTHER_UID + i, MM_LIMIT_REMOVE);
	if (options->near || options->own)
		set_mm_limits(BENCH_UID, MM_LIMIT_REMOVE);
}

static bool parse(int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt(argc, argv, "o:l:p:c:r:t:g")) != -1) {
		if (option == 'o' && !strcmp(optarg, "near"))
			options->near = true;
		else if (option == 'g')
			options->group = true;
		else if (option == 'o' && parse_size(optarg, &options->own))
			continue;
		else if (option == 'l' &&
			 parse_number(optarg, 0, 4095, &options->others))
			continue;
		else if (option == 'p' &&
			 parse_number(optarg, 0, 30000, &options->crowd))
			continue;
		else if (option == 'c' && parse_user(optarg, &options->owner))
			continue;
		else if (option == 'r' &&
			 parse_number(optarg, 1, 100000, &options->rounds))
			continue;
		else if (option == 't' &&
			 parse_number(optarg, 1, 64, &options->threads))
			continue;
		else
			return false;
	}
	return optind < argc;
}

int main(int argc, char **argv)
{
	struct options options = {
		.rounds = 12, .threads = 1, .owner = SPARE_UID,
	};
	int i, status = EXIT_SUCCESS;

	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return EXIT_SUCCESS;
	if (!parse(argc, argv, &options)) {
		complain("usage: mm_bench [-o SIZE|near] [-l COUNT] [-p COUNT] [-c USER] [-r ROUNDS] [-t THREADS] [-g] WORKLOAD...");
		return EXIT_USAGE;
	}
	/* The real uid says whose memory it is; the others keep the rights. */
	if (setresuid(BENCH_UID, 0, 0))
		fail("setresuid");
	gather_crowd(options.crowd, options.owner);
	set_limits(&options);
	for (i = optind; i < argc; i++) {
		if (!strcmp(argv[i], "breach")) {
			run_breaches(options.rounds, options.threads);
		} else if (!strcmp(argv[i], "spin")) {
			run_spinners(options.rounds, !options.group);
		} else if (!run_workload(argv[i], options.rounds)) {
			complain("mm_bench: there is no workload %s", argv[i]);
			status = EXIT_USAGE;
			break;
		}
	}
	remove_limits(&options);
	return status;
}
