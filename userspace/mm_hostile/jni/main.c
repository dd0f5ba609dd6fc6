// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm_hostile [-g GROUP] KIND USER - does a limit hold against an app that means harm?
 *
 * Each kind is a way to hold memory beyond a limit, or to turn limits against
 * others.  Run as root: that is the judge's side; USER's processes do what the
 * kind is about, without privilege.  Prints what was measured in the Test
 * Anything Protocol.  Needs the module set_mm_limits, unless GROUP is the folder of
 * a memory cgroup that is to hold the app instead; leaves nothing behind.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hostile.h"

#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK	0x40000000
#endif

static const struct kind {
	const char *name;
	void (*judge)(uid_t uid);
	const char *summary;
} kinds[] = {
	{ "exit-private", exit_private, "children held by their tracer at their exit" },
	{ "exit-shared", exit_shared, "the same with shared memory" },
	{ "exit-thread", exit_thread, "the first thread held, another one alive" },
	{ "exit-exec", exit_exec, "a thread held while another waits in exec" },
	{ "exit-filled", exit_filled, "a tracer that fills a child held at its exit" },
	{ "asleep-recvmsg", asleep_recvmsg, "over the limit, then asleep in the same call" },
	{ "asleep-recvmmsg", asleep_recvmmsg, "the same, message by message" },
	{ "asleep-stopped", asleep_stopped, "over the limit, then stopped" },
	{ "storm-sharers", storm_sharers, "a limit for 3000 that share an mm" },
	{ "storm-threads", storm_threads, "a limit for 1000 threads" },
	{ "storm-calls", storm_calls, "an app that lowers its limit without end" },
	{ "evict-own", evict_own, "an app's entry against an administrator's" },
	{ "evict-again", evict_again, "an entry that is set again and again" },
	{ "evict-lowered", evict_lowered, "an app lowers what an administrator set" },
	{ "around-threads", around_threads, "threads that map file pages and spin" },
	{ "around-processes", around_processes, "processes that do" },
	{ "around-unmap", around_unmap, "memory unmapped on another CPU" },
	{ "victim-read", victim_read, "a victim inside one read()" },
	{ "victim-shared", victim_shared, "the same into shared memory" },
	{ "victim-threads", victim_threads, "eight threads in as many" },
	{ "spin-processes", spin_processes, "400 processes that touch 60 pages and spin" },
	{ "spin-threads", spin_threads, "threads that do" },
	{ "spin-forks", spin_forks, "a storm of forks" },
	{ "fork-exec", fork_exec, "60 MB under 100 MB that forks to exec" },
	{ "fork-bound", fork_bound, "60 MB under 100 MB that forks" },
	{ "fork-fits", fork_fits, "forks and vforks that must work" },
	{ "fork-race", fork_race, "a fork while another thread grows" },
	{ "leader-leaves", leader_leaves, "a process becomes the user's as its leader exits" },
	{ "leader-holds", leader_holds, "one that is over at once" },
	{ "leader-execs", leader_execs, "a thread of the user's that execs" },
	{ "leader-vforks", leader_vforks, "a vfork child that outlives its parent" },
	{ "populate-map", populate_map, "MAP_POPULATE of cached pages" },
	{ "populate-advice", populate_advice, "MADV_POPULATE_READ of cached pages" },
	{ "populate-lock", populate_lock, "mlock() of cached pages" },
	{ "populate-write", populate_write, "process_vm_writev() into a sleeper" },
	{ "populate-poke", populate_poke, "PTRACE_POKEDATA into a tracee" },
	{ "private-rows", private_rows, "what an app sees of /proc/mm_limits" },
	{ "private-log", private_log, "what an app's calls log" },
	{ "private-namespace", private_namespace, "root in a user namespace" },
	{ "shmem-memfd", shmem_memfd, "a memory file that is not mapped" },
	{ "shmem-files", shmem_files, "files on tmpfs that are not open" },
	{ "shmem-segment", shmem_segment, "System V shared memory" },
	{ "shmem-anonymous", shmem_anonymous, "a shared mapping that is given back" },
	{ "shmem-sent", shmem_sent, "memory files in a socket" },
	{ "shmem-tables", shmem_tables, "page tables for nothing but zeroes" },
	{ "beside", beside, "figures: what an app holds beside RSS" },
};

static int usage(void)
{
	size_t i;

	complain("usage: mm_hostile [-g GROUP] KIND USER");
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		complain("  %-18s %s", kinds[i].name, kinds[i].summary);
	return EXIT_USAGE;
}

/* What leader-execs becomes. */
static int grow(const char *mib)
{
	long left;

	if (!parse_number(mib, 1, 1024, &left))
		return EXIT_USAGE;
	while (left-- && touch_new_pages(MIB))
		sleep_ms(5);
	sleep(5);
	return EXIT_SUCCESS;
}

/* The judge must not wait for a CPU behind what it judges. */
static void go_first(void)
{
	struct sched_param first = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first))
		setpriority(PRIO_PROCESS, 0, -20);
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc > 2 && !strcmp(argv[1], "-g")) {
		judged_group = argv[2];
		argv += 2;
		argc -= 2;
	}
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return EXIT_SUCCESS;
	if (argc == 3 && !strcmp(argv[1], "grow"))
		return grow(argv[2]);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (argc == 3 && !strcmp(argv[1], kinds[i].name))
			break;
	if (i == sizeof(kinds) / sizeof(kinds[0]) ||
	    !parse_user(argv[2], &judged_uid) || !judged_uid)
		return usage();
	if (getuid()) {
		complain("mm_hostile: must be run as root");
		return EXIT_USAGE;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	go_first();
	note("%s", kinds[i].summary);
	mark_log();
	kinds[i].judge(judged_uid);
	end_user(judged_uid);
	return end_checks();
}
