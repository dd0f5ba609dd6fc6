// SPDX-License-Identifier: GPL-2.0-only
/* The processes that are judged: each does what it is told, and else sleeps. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mm_user.h"
#include "referee.h"

#define REGIONS		16
#define STACK		(64 * 1024)
#define ANSWER_MS	10000

enum order { GROW, SHRINK, BURN, BECOME, SHARE, THREAD };

struct command {
	enum order order;
	long value;
};

static int last_mm;

/* --- in the process itself ------------------------------------------------ */

static void *regions[REGIONS];
static size_t sizes[REGIONS];

static long do_grow(long pages)
{
	int i;

	for (i = 0; i < REGIONS - 1 && regions[i]; i++)
		;
	if (regions[i])
		munmap(regions[i], sizes[i]);
	sizes[i] = pages * PAGE;
	regions[i] = touch_new_pages(sizes[i]);
	return regions[i] ? 0 : -1;
}

static long do_shrink(void)
{
	int i;

	for (i = 0; i < REGIONS; i++) {
		if (!regions[i])
			continue;
		munmap(regions[i], sizes[i]);
		regions[i] = NULL;
		break;
	}
	return 0;
}

static long do_burn(long ms)
{
	struct timespec used;
	long long end;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	end = used.tv_sec * 1000LL + used.tv_nsec / 1000000 + ms;
	do {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	} while (used.tv_sec * 1000LL + used.tv_nsec / 1000000 < end);
	return 0;
}

static int sharer(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return 0;
}

static long do_share(void)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -1;
	return clone(sharer, stack + STACK, CLONE_VM | SIGCHLD, NULL);
}

static void *sleeper(void *unused)
{
	sharer(unused);
	return NULL;
}

static long do_thread(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, sleeper, NULL) ? -1 : 0;
}

static long obey(const struct command *command)
{
	switch (command->order) {
	case GROW:
		return do_grow(command->value);
	case SHRINK:
		return do_shrink();
	case BURN:
		return do_burn(command->value);
	case BECOME:
		/* The real uid alone says whose memory it is. */
		return setresuid(command->value, 0, 0);
	case SHARE:
		return do_share();
	case THREAD:
		return do_thread();
	}
	return -1;
}

static void live(int commands, int answers)
{
	struct command command;
	long result;

	while (read(commands, &command, sizeof(command)) == sizeof(command)) {
		result = obey(&command);
		if (write(answers, &result, sizeof(result)) != sizeof(result))
			break;
	}
	_exit(EXIT_SUCCESS);
}

/* --- in the referee ------------------------------------------------------- */

static struct process *add_process(pid_t pid, uid_t uid, int mm)
{
	struct process *p = &processes[nr_processes++];

	*p = (struct process){ .pid = pid, .uid = uid, .mm = mm, .alive = true };
	return p;
}

static void order(struct process *p, enum order order, long value)
{
	struct command command = { order, value };

	if (write(p->command, &command, sizeof(command)) != sizeof(command))
		wrong("process %d takes no command", p->pid);
}

static bool has_answered(struct process *p, int timeout_ms, long *result)
{
	struct pollfd poll_fd = { .fd = p->answer, .events = POLLIN };

	return poll(&poll_fd, 1, timeout_ms) == 1 &&
	       read(p->answer, result, sizeof(*result)) == sizeof(*result);
}

static long tell(struct process *p, enum order what, long value)
{
	long result;

	order(p, what, value);
	if (!has_answered(p, ANSWER_MS, &result) || result < 0)
		wrong("process %d (uid %u) did not do what it was told (%d)",
		      p->pid, p->uid, what);
	return result;
}

struct process *start_actor(uid_t uid)
{
	int commands[2], answers[2];
	pid_t pid, parent = getpid();
	struct process *p;

	if (pipe2(commands, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		wrong("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		wrong("fork: %s", strerror(errno));
	if (!pid) {
		close(commands[1]);
		close(answers[0]);
		if (setresuid(uid, 0, 0) || !die_with_parent(parent))
			_exit(EXIT_FAILURE);
		live(commands[0], answers[1]);
	}
	close(commands[0]);
	close(answers[1]);
	p = add_process(pid, uid, ++last_mm);
	p->leads = true;
	p->command = commands[1];
	p->answer = answers[0];
	tell(p, GROW, 1 + below(200));
	return p;
}

void ask_grow(struct process *p, long pages)
{
	order(p, GROW, pages);
}

bool answer_grow(struct process *p)
{
	long result;

	return has_answered(p, 0, &result);
}

void shrink(struct process *p)
{
	tell(p, SHRINK, 0);
}

void burn(struct process *p, long ms)
{
	tell(p, BURN, ms);
}

void change_user(struct process *p, uid_t uid)
{
	tell(p, BECOME, uid);
	p->uid = uid;
}

void start_sharer(struct process *p)
{
	pid_t pid = tell(p, SHARE, 0);
	struct process *other = add_process(pid, p->uid, p->mm);

	other->adj = p->adj;
	other->contested = p->contested;
}

void start_thread(struct process *p)
{
	tell(p, THREAD, 0);
}

static void write_adj(const struct process *p, int adj)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", p->pid);
	file = fopen(path, "we");
	if (!file || fprintf(file, "%d", adj) < 0 || fclose(file))
		wrong("%s: %s", path, strerror(errno));
}

/* Since Linux 4.8 the kernel itself gives it to all that share the memory. */
void set_adj(struct process *p, int adj)
{
	int i;

	for (i = 0; i < nr_processes; i++) {
		if (!processes[i].alive || processes[i].mm != p->mm)
			continue;
		write_adj(&processes[i], adj);
		processes[i].adj = adj;
	}
}

/* A killed process goes by itself; its memory may take a moment. */
static void wait_for_end(struct process *p)
{
	int status, tries;

	for (tries = 0; tries < 1000; tries++) {
		if (waitpid(p->pid, &status, WNOHANG | __WALL) == p->pid) {
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
				wrong("process %d ended by itself", p->pid);
			return;
		}
		usleep(5000);
	}
	wrong("process %d should be dead", p->pid);
}

void bury(struct process *p)
{
	wait_for_end(p);
	p->alive = false;
	if (p->leads) {
		close(p->command);
		close(p->answer);
	}
}

void retire(struct process *p)
{
	int i, mm = p->mm;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].mm == mm && processes[i].alive)
			kill(processes[i].pid, SIGKILL);
	for (i = nr_processes - 1; i >= 0; i--)
		if (processes[i].mm == mm && processes[i].alive)
			bury(&processes[i]);
}

void end_all(void)
{
	int i;

	for (i = 0; i < nr_processes; i++)
		if (processes[i].alive)
			kill(processes[i].pid, SIGKILL);
}
