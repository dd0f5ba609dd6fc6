// SPDX-License-Identifier: GPL-2.0-only
/* Services: a process each, and the end of all that it has started. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adbd.h"

#define MAX_PIDS	4096

/* Keep the socket and standard error; other streams' sockets are not ours. */
static int keep_only(int fd)
{
	int null = open("/dev/null", O_RDWR), i;

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(fd, 3);
	for (i = 4; i < 1024; i++)
		close(i);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	return 3;
}

/* "shell:", "shell,OPTIONS:COMMAND" or "sync:" */
static bool is_service(const char *name)
{
	return !strcmp(name, "sync:") || !strncmp(name, "shell:", 6) ||
	       (!strncmp(name, "shell,", 6) && strchr(name, ':'));
}

static int run_service(int fd, const char *name)
{
	char *options, *command;

	signal(SIGCHLD, SIG_DFL);
	/* What a command leaves behind becomes ours, so it can be found. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!strcmp(name, "sync:"))
		return serve_sync(fd);

	options = strdup(name + strlen("shell"));
	if (!options)
		return 1;
	command = strchr(options, ':');
	*command++ = '\0';
	return serve_shell(fd, options, command);
}

int start_service(const char *name)
{
	int fds[2];
	pid_t pid;

	if (!is_service(name) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -1;
	pid = fork();
	if (!pid)
		_exit(run_service(keep_only(fds[1]), name));
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return -1;
	}
	return fds[0];
}

/* The parent of a process, which stands after its name in parentheses. */
static pid_t parent_of(pid_t pid)
{
	char path[64], text[512], *at;
	ssize_t length;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return -1;
	text[length] = '\0';
	at = strrchr(text, ')');
	if (!at || sscanf(at, ") %*c %d", &parent) != 1)
		return -1;
	return parent;
}

static bool contains(const pid_t *pids, int count, pid_t pid)
{
	while (count--)
		if (pids[count] == pid)
			return true;
	return false;
}

/*
 * Signal all processes below this one; returns how many there are.  /proc lists
 * parents mostly before children, so few passes find them all.
 */
static int signal_descendants(int signal_number)
{
	pid_t found[MAX_PIDS], pid;
	int count = 0, before;
	struct dirent *entry;
	DIR *proc;

	found[count++] = getpid();
	do {
		before = count;
		proc = opendir("/proc");
		while (proc && (entry = readdir(proc))) {
			pid = atoi(entry->d_name);
			if (pid > 0 && count < MAX_PIDS &&
			    !contains(found, count, pid) &&
			    contains(found, count, parent_of(pid)))
				found[count++] = pid;
		}
		if (proc)
			closedir(proc);
	} while (count > before);

	for (before = 1; before < count; before++)
		kill(found[before], signal_number);
	return count - 1;
}

void kill_descendants(void)
{
	static const struct timespec moment = { .tv_nsec = 20000000 };
	int tries;

	/* A hang-up first: a program may have something to put away. */
	if (signal_descendants(SIGHUP))
		nanosleep(&moment, NULL);
	for (tries = 0; tries < 50; tries++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!signal_descendants(SIGKILL))
			return;
		nanosleep(&moment, NULL);
	}
}
