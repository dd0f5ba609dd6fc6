// SPDX-License-Identifier: GPL-2.0-only
/* mmlimit - set, list, clear and watch the memory limits of users */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mm_user.h"

#define TABLE		"/proc/mm_limits"
#define POLICIES	"/proc/user_oom_policies"
#define SELECTED	"/proc/sys/vm/user_oom_policy"

static int usage(const char *program)
{
	complain("usage: %s set USER SIZE       limit USER; K, M, G may follow SIZE",
		 program);
	complain("       %s clear USER          remove the limit of USER", program);
	complain("       %s list                show all limits", program);
	complain("       %s watch [COUNT]       show them at each kill or change",
		 program);
	complain("       %s run-killer POLICY   rss, runtime, badness or a loaded one",
		 program);
	complain("       %s policy [NAME]       show or select what the kernel kills by",
		 program);
	return EXIT_USAGE;
}

static int failed(const char *what)
{
	const char *hint = "";

	if (errno == ENOSYS)
		hint = "; are set_mm_limits.ko and my_oom_killer.ko loaded?";
	else if (errno == EPERM)
		hint = "; this needs CAP_SYS_RESOURCE";
	else if (errno == ENOENT)
		hint = "; is this a kernel with USER_MM_LIMITS?";
	complain("mmlimit: %s: %s%s", what, strerror(errno), hint);
	return EXIT_FAILURE;
}

static int set(const char *user, const char *size)
{
	unsigned long bytes;
	uid_t uid;
	long ret;

	if (!parse_user(user, &uid) || !parse_size(size, &bytes)) {
		complain("mmlimit: cannot read '%s %s'", user, size);
		return EXIT_USAGE;
	}
	ret = set_mm_limits(uid, bytes);
	if (ret < 0)
		return failed("set");
	if (ret == 1)
		complain("mmlimit: the table was full; the least recently set limit is gone");
	return EXIT_SUCCESS;
}

static int clear(const char *user)
{
	uid_t uid;

	if (!parse_user(user, &uid)) {
		complain("mmlimit: no user '%s'", user);
		return EXIT_USAGE;
	}
	return set_mm_limits(uid, MM_LIMIT_REMOVE) ? failed("clear") :
						     EXIT_SUCCESS;
}

static int show(int fd)
{
	char buffer[4096];
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET))
		return failed(TABLE);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		if (write(STDOUT_FILENO, buffer, n) != n)
			return failed("writing the list");
	return n ? failed(TABLE) : EXIT_SUCCESS;
}

/* The type of a policy that a module has brought, by the kernel's own list. */
static bool find_loaded(const char *policy, int *type)
{
	FILE *list = fopen(POLICIES, "re");
	char name[64];
	bool found = false;
	int c;

	if (!list)
		return false;
	while ((c = getc(list)) != EOF && c != '\n')
		;
	while (!found && fscanf(list, "%d %63s%*[^\n]", type, name) == 2)
		found = !strcmp(name, policy);
	fclose(list);
	return found;
}

/* All policies there are, and which one the kernel kills by. */
static int show_policies(void)
{
	int fd = open(POLICIES, O_RDONLY);
	int ret;

	if (fd < 0)
		return failed(POLICIES);
	ret = show(fd);
	close(fd);
	return ret;
}

static int select_policy(const char *policy)
{
	int fd = open(SELECTED, O_WRONLY);

	if (fd < 0)
		return failed(SELECTED);
	if (write(fd, policy, strlen(policy)) < 0) {
		if (errno == ENOENT)
			complain("mmlimit: no policy '%s'; %s lists them",
				 policy, POLICIES);
		else
			failed("policy");
		close(fd);
		return EXIT_FAILURE;
	}
	close(fd);
	return EXIT_SUCCESS;
}

static int run_killer(const char *policy)
{
	int type;

	if (!parse_killer(policy, &type) && !find_loaded(policy, &type)) {
		complain("mmlimit: no policy '%s': rss, runtime, badness or one in %s",
			 policy, POLICIES);
		return EXIT_USAGE;
	}
	return my_oom_killer(type) ? failed("run-killer") : EXIT_SUCCESS;
}

static int list(void)
{
	int fd = open(TABLE, O_RDONLY);

	return fd < 0 ? failed(TABLE) : show(fd);
}

/* The table now, and again each time that it changes or somebody is killed. */
static int watch(long count)
{
	struct pollfd table = { .fd = open(TABLE, O_RDONLY), .events = POLLPRI };
	int ret;

	if (table.fd < 0)
		return failed(TABLE);
	ret = show(table.fd);
	while (!ret && count--) {
		if (poll(&table, 1, -1) < 0)
			return failed("poll");
		ret = show(table.fd);
	}
	return ret;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	long count = -1;

	if (argc == 4 && !strcmp(command, "set"))
		return set(argv[2], argv[3]);
	if (argc == 3 && !strcmp(command, "clear"))
		return clear(argv[2]);
	if (argc == 3 && !strcmp(command, "run-killer"))
		return run_killer(argv[2]);
	if (argc == 2 && !strcmp(command, "policy"))
		return show_policies();
	if (argc == 3 && !strcmp(command, "policy"))
		return select_policy(argv[2]);
	if (argc == 2 && !strcmp(command, "list"))
		return list();
	if (!strcmp(command, "watch") &&
	    (argc == 2 ||
	     (argc == 3 && parse_number(argv[2], 1, 1000000, &count))))
		return watch(count);
	return usage(argv[0]);
}
