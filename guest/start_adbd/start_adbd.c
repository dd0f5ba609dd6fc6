// SPDX-License-Identifier: GPL-2.0-only
/*
 * Starts Android's adbd as the guest needs it: before all usual processes and never
 * killed for memory, since without it there is no way to see what goes wrong.  Says
 * "guest: ready" when it listens.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ADBD		"/bin/adbd"
#define LOG		"/tmp/adbd.log"
#define PORT		5555
#define LOOK_EVERY_US	10000

static void go_first(void)
{
	const struct sched_param priority = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_RR, &priority))
		perror("start_adbd: SCHED_RR");
}

static void survive_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-1000", 5) < 0)
		perror("start_adbd: oom_score_adj");
	if (fd >= 0)
		close(fd);
}

/* A socket in the state LISTEN at this port, in the form of proc_net_tcp(5). */
static int listens_in(const char *path)
{
	char line[256], wanted[16];
	int found = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return 0;
	snprintf(wanted, sizeof(wanted), ":%04X", PORT);
	while (!found && fgets(line, sizeof(line), file)) {
		char address[64];
		unsigned int state;

		if (sscanf(line, "%*d: %63s %*s %x", address, &state) != 2)
			continue;
		found = state == 10 && strstr(address, wanted) != NULL;
	}
	fclose(file);
	return found;
}

static void say_when_ready(pid_t adbd)
{
	while (!listens_in("/proc/net/tcp") && !listens_in("/proc/net/tcp6")) {
		usleep(LOOK_EVERY_US);
		if (kill(adbd, 0))
			_exit(1);
	}
	puts("guest: ready");
	fflush(stdout);
	_exit(0);
}

/* What adbd says is for who looks for it, not for who works at the console. */
static void log_to_file(void)
{
	int fd = open(LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		perror("start_adbd: " LOG);
}

int main(void)
{
	pid_t self = getpid(), child;

	/* What its shells get. */
	setenv("PATH", "/data/local/tmp:/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/data/local/tmp", 1);
	setenv("TERM", "dumb", 1);
	survive_oom();
	/*
	 * The one who looks is a grandchild: adbd knows of no child that it has not
	 * started itself.
	 */
	child = fork();
	if (!child) {
		if (!fork())
			say_when_ready(self);
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
	go_first();
	log_to_file();
	execl(ADBD, "adbd", (char *)NULL);
	perror("start_adbd: " ADBD);
	return 1;
}
