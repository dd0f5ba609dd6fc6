/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two sides: the judge, which is root, sets the limit and measures; and the app,
 * a process that has become the user for good and does what a limit must hold.
 * The app may be killed at any time, the judge may not.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "mm_user.h"

#define PAGE		4096UL
#define MIB		(1UL << 20)
#define PAGES(mib)	((long)((mib) * MIB / PAGE))

/* What the kernel may leave uncounted on each CPU, in pages. */
#define STOCK_PAGES	64
/* A decision must come in 100 ms; an emulator on a busy machine may take more. */
#define DECISION_MS	300

/* --- tap.c ---------------------------------------------------------------- */

void check(bool good, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Print the plan; returns the exit status. */
int end_checks(void);

/* --- measure.c: what the judge sees; sizes in pages ------------------------ */

long long now_us(void);
void sleep_ms(long ms);
/* The user's row of /proc/mm_limits; -1 if there is none. */
long counted(uid_t uid);
long kills_of(uid_t uid);
/* What is resident by the page tables of the user's processes. */
long pages_of(uid_t uid);
long resident_of(uid_t uid);
/* The sum of their high-water marks. */
long peak_of(uid_t uid);
long processes_of(uid_t uid);
void signal_all(uid_t uid, int signal);
long free_pages(void);
long nr_cpus(void);
/* CPU time that the kernel's workers have used, in ms. */
long kernel_threads_ms(void);
/* The kernel's log since the mark; to be freed. */
void mark_log(void);
char *read_log(void);
/* How far the user was over at a kill, at most. */
long worst_kill(uid_t uid);
/* How long, at most and without a break, the count was over @max, in ms. */
struct watch {
	long max;		/* pages */
	long long over_since;	/* us; 0 if it is not over */
	long longest_ms;
	long worst;		/* pages over */
};
void watch_look(struct watch *watch, uid_t uid);

/* --- group.c: limits by a memory cgroup ------------------------------------- */

struct row {
	unsigned long max, usage, kills;	/* the first two in bytes */
};

/* The folder of the group; NULL if the limits are those of users. */
extern const char *judged_group;
void group_limit(unsigned long bytes);
void group_read_row(struct row *row);
long group_worst_kill(void);
/* Called by the app. */
bool group_join(void);

/* --- stage.c: the judge's side --------------------------------------------- */

struct app {
	pid_t pid;
	int reports, orders;
	bool ended;
	int status;
	long peak;		/* pages, from wait4() */
};

/* Start a process that becomes @uid (0: stays root) and then does @act. */
void app_start(struct app *app, uid_t uid, void (*act)(void));
/* What it tells; false if it is dead or has not told in time. */
bool app_hear(struct app *app, int timeout_ms, long *value);
void app_go(const struct app *app);
bool app_ended(struct app *app);
bool app_killed(struct app *app);
bool app_wait_end(struct app *app, int timeout_ms);
/* Set a limit in bytes; must succeed. */
void limit(uid_t uid, unsigned long bytes);
/* What set_mm_limits() returns to @who: 0, 1, or the negative errno. */
long set_as(uid_t who, uid_t uid, unsigned long bytes);
/* Kill all that the user has, and remove its limit. */
void end_user(uid_t uid);
/* For what the judge itself cannot do: end all, and exit. */
void give_up(const char *what) __attribute__((noreturn));
extern uid_t judged_uid;

/* --- stage.c: the app's side ------------------------------------------------ */

void tell(long value);
void await_go(void);
void hang(void) __attribute__((noreturn));
/* fork() whose child dies with its parent; tries again for a while on ENOMEM. */
pid_t fork_child(void);
/* @flags: MAP_PRIVATE or MAP_SHARED.  Returns NULL if it cannot be mapped. */
char *map_memory(size_t bytes, int flags);
void touch_pages(char *memory, size_t bytes);
/* A file without a name on a memory file system, -1 and errno if there is none. */
int scratch_file(size_t bytes, bool written);

/* --- the kinds --------------------------------------------------------------- */

void exit_private(uid_t uid);
void exit_shared(uid_t uid);
void exit_thread(uid_t uid);
void exit_exec(uid_t uid);
void exit_filled(uid_t uid);
void asleep_recvmsg(uid_t uid);
void asleep_recvmmsg(uid_t uid);
void asleep_stopped(uid_t uid);
void storm_sharers(uid_t uid);
void storm_threads(uid_t uid);
void storm_calls(uid_t uid);
void evict_own(uid_t uid);
void evict_again(uid_t uid);
void evict_lowered(uid_t uid);
void around_threads(uid_t uid);
void around_processes(uid_t uid);
void around_unmap(uid_t uid);
void victim_read(uid_t uid);
void victim_shared(uid_t uid);
void victim_threads(uid_t uid);
void spin_processes(uid_t uid);
void spin_threads(uid_t uid);
void spin_forks(uid_t uid);
void fork_exec(uid_t uid);
void fork_bound(uid_t uid);
void fork_fits(uid_t uid);
void fork_race(uid_t uid);
void leader_leaves(uid_t uid);
void leader_holds(uid_t uid);
void leader_execs(uid_t uid);
void leader_vforks(uid_t uid);
void populate_map(uid_t uid);
void populate_advice(uid_t uid);
void populate_lock(uid_t uid);
void populate_write(uid_t uid);
void populate_poke(uid_t uid);
void private_rows(uid_t uid);
void private_log(uid_t uid);
void private_namespace(uid_t uid);
void shmem_memfd(uid_t uid);
void shmem_files(uid_t uid);
void shmem_segment(uid_t uid);
void shmem_anonymous(uid_t uid);
void shmem_sent(uid_t uid);
void shmem_tables(uid_t uid);
void beside(uid_t uid);

#endif /* HOSTILE_H */
