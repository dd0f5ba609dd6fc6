/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs share: the two system calls, the names of users, sizes and
 * killers, and lines of output that do not mix.
 *
 * Built with the exported headers of the patched kernel, which alone know the
 * numbers of the system calls.  Works with glibc and with bionic of API 21.
 */
#ifndef MM_USER_H
#define MM_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/mm_limits.h>

/* Exit status of a program that was called wrongly. */
#define EXIT_USAGE	2

/* Both return what the kernel returned, or -1 and errno. */
long set_mm_limits(uid_t uid, unsigned long mm_max);
long my_oom_killer(int type);

/* A name from the user database, u0_aN (10000 + N on Android), or a number. */
bool parse_user(const char *text, uid_t *uid);

/* Bytes, with an optional suffix K, M or G (powers of 1024). */
bool parse_size(const char *text, unsigned long *bytes);

/* A decimal number from min to max. */
bool parse_number(const char *text, long min, long max, long *number);

/* rss, runtime or badness. */
bool parse_killer(const char *text, int *type);

/* "EPERM" for EPERM, "0" for 0; a number for what has no name here. */
const char *errno_name(int error);

/* Print a line with a single write(), so that lines of processes do not mix. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Map so many bytes and write to each page.  Returns NULL and sets errno. */
void *touch_new_pages(size_t bytes);

/* Become a user for good: group, supplementary groups and all uids. */
bool become_user(uid_t uid);

/* Let the calling process be killed when its parent dies. */
bool die_with_parent(pid_t parent);

#endif /* MM_USER_H */
