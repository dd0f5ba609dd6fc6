// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_set_mm_limitsARM [LENGTH] - test the contract of set_mm_limits()
 *
 * Needs root, both modules, and a table that nobody else uses meanwhile.
 * LENGTH is that of the table, 10 by default.  Prints a line for each check in
 * the Test Anything Protocol and fails if one of them does.
 *
 * The table cannot be read through the system call.  But removing a limit tells
 * whether it was there, and eviction tells the order.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_user.h"

#define FIRST_UID	10900	/* these users have no processes */
#define MIB		(1UL << 20)

static long table_length = 10;
static int nr_checks, nr_failures;

static uid_t user(long n)
{
	return FIRST_UID + n;
}

static void check(bool good, const char *text)
{
	nr_checks++;
	if (!good)
		nr_failures++;
	say("%s %d - %s", good ? "ok" : "not ok", nr_checks, text);
}

/* 0, 1, or the negative errno: what the kernel itself returned. */
static long set(uid_t uid, unsigned long mm_max)
{
	long ret = set_mm_limits(uid, mm_max);

	return ret < 0 ? -errno : ret;
}

static long killer(int type)
{
	return my_oom_killer(type) < 0 ? -errno : 0;
}

static long take_away(uid_t uid)
{
	return set(uid, MM_LIMIT_REMOVE);
}

static void clear_table(void)
{
	long i;

	for (i = -2; i <= 2 * table_length; i++)
		take_away(user(i));
}

static void fill_table(void)
{
	long i;

	for (i = 0; i < table_length; i++)
		set(user(i), (i + 1) * MIB);
}

struct request {
	long (*function)(uid_t uid, unsigned long value);
	uid_t uid;
	unsigned long value;
};

static long killer_call(uid_t unused, unsigned long type)
{
	(void)unused;
	return killer(type);
}

/* What a call returns to a user without privilege. */
static long as_user(uid_t who, struct request request)
{
	long ret = -EIO;
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		return -errno;
	pid = fork();
	if (!pid) {
		if (become_user(who))
			ret = request.function(request.uid, request.value);
		_exit(write(fds[1], &ret, sizeof(ret)) != sizeof(ret));
	}
	close(fds[1]);
	if (read(fds[0], &ret, sizeof(ret)) != sizeof(ret))
		ret = -EIO;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return ret;
}

static long set_as(uid_t who, uid_t uid, unsigned long mm_max)
{
	return as_user(who, (struct request){ set, uid, mm_max });
}

static void test_errors(void)
{
	check(set(-1, MIB) == -EINVAL, "uid -1 is EINVAL");
	check(set(0, MIB) == -EINVAL, "root is EINVAL");
	check(set(user(0), 0) == -EINVAL, "no bytes is EINVAL");
	check(take_away(user(0)) == -ESRCH,
	      "none of these has set a limit; removing it is ESRCH");
}

static void test_set_and_remove(void)
{
	check(set(user(0), MIB) == 0, "a limit is set");
	check(set(user(0), 3UL << 30) == 0, "a limit of 3 GiB is set");
	check(set(user(0), 1) == 0, "a limit of one byte is set");
	check(set(user(0), ULONG_MAX - 1) == 0, "the largest limit is set");
	check(take_away(user(0)) == 0, "a limit is removed");
	check(take_away(user(0)) == -ESRCH, "it is gone then");
}

static void test_eviction(void)
{
	fill_table();
	check(set(user(table_length), MIB) == 1, "a full table evicts: 1");
	check(take_away(user(0)) == -ESRCH, "the oldest entry was evicted");
	check(table_length == 1 || take_away(user(1)) == 0,
	      "the second oldest was not");
	check(take_away(user(table_length)) == 0, "the new one is there");
	clear_table();
}

static void test_order_of_updates(void)
{
	if (table_length < 2)
		return;
	fill_table();
	check(set(user(0), 2 * MIB) == 0, "the oldest entry is updated: 0");
	check(set(user(table_length), MIB) == 1, "then one is evicted");
	check(take_away(user(1)) == -ESRCH, "which is the second oldest");
	check(take_away(user(0)) == 0, "as the update moved the oldest to the end");
	clear_table();

	fill_table();
	take_away(user(0));
	check(set(user(table_length), MIB) == 0,
	      "after a removal there is room: 0");
	check(set(user(table_length + 1), MIB) == 1, "but for one only: 1");
	clear_table();
}

static void test_own_limit(void)
{
	check(set_as(user(0), user(0), 50 * MIB) == 0,
	      "a user may set its own limit");
	check(set_as(user(0), user(0), 40 * MIB) == 0, "and lower it");
	check(set_as(user(0), user(0), 40 * MIB) == 0, "and set it again");
	check(set_as(user(0), user(0), 60 * MIB) == -EPERM,
	      "but raising it is EPERM");
	check(set_as(user(0), user(0), 41 * MIB) == -EPERM,
	      "by little, too, as the first attempt changed nothing");
	check(set_as(user(0), user(0), MM_LIMIT_REMOVE) == -EPERM,
	      "removing it is EPERM");
	check(take_away(user(0)) == 0, "it is still there");
}

static void test_others_limits(void)
{
	set(user(1), 30 * MIB);
	check(set_as(user(0), user(1), 20 * MIB) == -EPERM,
	      "lowering another's limit is EPERM");
	check(set_as(user(0), user(1), MM_LIMIT_REMOVE) == -EPERM,
	      "so is removing it");
	check(set_as(user(0), user(2), MIB) == -EPERM,
	      "so is setting one for a user that has none");
	check(take_away(user(2)) == -ESRCH, "which still has none");
	check(set_as(user(0), -1, MIB) == -EINVAL, "uid -1 is EINVAL for all");
	clear_table();
}

static void test_full_table(void)
{
	long i, left = 0;

	fill_table();
	check(set_as(user(table_length), user(table_length), MIB) == -ENOSPC,
	      "a user that would push another out gets ENOSPC");
	check(set_as(user(0), user(0), MIB / 2) == 0,
	      "but one that is in a full table may lower its limit");
	for (i = 0; i < table_length; i++)
		left += take_away(user(i)) == 0;
	check(left == table_length, "all entries were left as they were");
	clear_table();
}

static void test_killer(void)
{
	struct request request = { .function = killer_call };

	check(killer(MY_OOM_KILLER_HIGHEST_RSS) == 0, "killer by RSS runs");
	check(killer(MY_OOM_KILLER_LONGEST_RUN_TIME) == 0,
	      "killer by run time runs");
	check(killer(MY_OOM_KILLER_WORST) == 0, "killer by badness runs");
	check(killer(3) == -EINVAL, "type 3 is EINVAL");
	check(killer(-1) == -EINVAL, "type -1 is EINVAL");
	check(killer(INT_MAX) == -EINVAL, "type INT_MAX is EINVAL");
	check(as_user(user(0), request) == -EPERM,
	      "a user may not run a killer: EPERM");
}

static bool ready(void)
{
	if (getuid()) {
		complain("test_set_mm_limitsARM: must be run as root");
		return false;
	}
	if (take_away(user(0)) == -ENOSYS || killer(0) == -ENOSYS) {
		complain("test_set_mm_limitsARM: the system calls are not there: insmod set_mm_limits.ko my_oom_killer.ko");
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	if (argc > 2 ||
	    (argc == 2 && !parse_number(argv[1], 1, 4096, &table_length))) {
		complain("usage: %s [LENGTH]   length of the table, 1 to 4096",
			 argv[0]);
		return EXIT_USAGE;
	}
	if (!ready())
		return EXIT_USAGE;

	clear_table();
	test_errors();
	test_set_and_remove();
	test_eviction();
	test_order_of_updates();
	test_own_limit();
	test_others_limits();
	test_full_table();
	test_killer();
	clear_table();
	say("1..%d", nr_checks);
	return nr_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
