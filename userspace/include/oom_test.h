/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OOM_TEST_H
#define OOM_TEST_H

/*
 * PROGRAM [-t SECONDS] USER LIMIT BYTES...
 *
 * Sets the limit of USER, then starts a child for each BYTES that allocates as
 * much and holds it.  The children tell when they start and finish, the parent
 * how they end.  Returns the exit status of the program.
 */
int oom_test_main(int argc, char **argv);

#endif /* OOM_TEST_H */
