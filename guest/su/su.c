// SPDX-License-Identifier: GPL-2.0-only
/*
 * su of the guest.  Any number is a user, as on Android, and u0_a70 is 10070 by
 * rule; busybox's su knows only who stands in /etc/passwd.
 *
 *	su [-] [USER]			a shell
 *	su [-] [USER] -c COMMAND [ARG]	a command of the shell
 *	su [-] [USER] COMMAND [ARG]	a program
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHELL		"/bin/sh"
#define HOME		"/data/local/tmp"
#define FIRST_APP	10000
/* Android gives each of its users this many uids. */
#define UIDS_PER_USER	100000

struct user {
	const char *name;
	const char *home;
	uid_t uid;
	gid_t gid;
};

static _Noreturn void die(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("su: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(status);
}

/* Digits and nothing else; (uid_t)-1 is nobody's. */
static bool parse_number(const char *text, unsigned long long *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !*end && !errno && *number < (uid_t)-1;
}

/* "u0_a70": what Android calls the user of an app. */
static bool parse_app(const char *text, unsigned long long *uid)
{
	unsigned long long user, app;
	char *copy = strdup(text), *middle = copy ? strstr(copy, "_a") : NULL;
	bool good = false;

	if (middle && *copy == 'u') {
		*middle = '\0';
		good = parse_number(copy + 1, &user) &&
		       parse_number(middle + 2, &app) &&
		       app < UIDS_PER_USER - FIRST_APP;
	}
	if (good)
		*uid = user * UIDS_PER_USER + FIRST_APP + app;
	free(copy);
	return good && *uid < (uid_t)-1;
}

/* The entry in /etc/passwd of a name, or of a number. */
static bool look_up(const char *name, struct user *user)
{
	FILE *file = fopen("/etc/passwd", "re");
	unsigned long long uid;
	bool is_number = parse_number(name, &uid), found = false;
	struct passwd *entry;

	if (!file)
		return false;
	while (!found && (entry = fgetpwent(file))) {
		if (strcmp(entry->pw_name, name) &&
		    !(is_number && entry->pw_uid == uid))
			continue;
		user->name = strdup(entry->pw_name);
		user->home = strdup(entry->pw_dir);
		user->uid = entry->pw_uid;
		user->gid = entry->pw_gid;
		found = user->name && user->home;
	}
	fclose(file);
	return found;
}

static struct user find_user(const char *name)
{
	struct user user = { .name = name, .home = HOME };
	unsigned long long uid;

	if (look_up(name, &user))
		return user;
	if (!parse_number(name, &uid) && !parse_app(name, &uid))
		die(1, "unknown user %s", name);
	user.uid = uid;
	user.gid = uid;
	return user;
}

static void become(const struct user *user, bool login)
{
	gid_t gid = user->gid;

	/* Groups first: afterwards they may not be changed any more. */
	if (setgroups(1, &gid) || setresgid(gid, gid, gid) ||
	    setresuid(user->uid, user->uid, user->uid))
		die(1, "cannot become %s: %s", user->name, strerror(errno));
	setenv("HOME", user->home, 1);
	setenv("SHELL", SHELL, 1);
	setenv("USER", user->name, 1);
	setenv("LOGNAME", user->name, 1);
	if (login && chdir(user->home))
		die(1, "%s: %s", user->home, strerror(errno));
}

static _Noreturn void run(char **argv, bool login)
{
	char *shell[] = { login ? "-sh" : "sh", NULL };

	if (!*argv) {
		execv(SHELL, shell);
		die(127, "%s: %s", SHELL, strerror(errno));
	}
	execvp(*argv, argv);
	die(errno == ENOENT ? 127 : 126, "%s: %s", *argv, strerror(errno));
}

int main(int argc, char **argv)
{
	const char *name = NULL;
	bool login = false;
	struct user user;

	(void)argc;
	argv++;
	if (*argv && (!strcmp(*argv, "-") || !strcmp(*argv, "-l"))) {
		login = true;
		argv++;
	}
	if (*argv && strcmp(*argv, "-c"))
		name = *argv++;
	if (*argv && !strcmp(*argv, "-c")) {
		if (!argv[1])
			die(2, "-c needs a command");
		/* busybox has "su -c COMMAND USER" too. */
		if (!name && argv[2])
			name = argv[2];
		/* "sh -c COMMAND ARG": there is a place before our arguments. */
		*--argv = "sh";
	}
	user = find_user(name ? name : "root");
	become(&user, login);
	run(argv, login);
}
