/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef STRESS_H
#define STRESS_H

#include <sys/types.h>

#include "mm_user.h"
#include "module_file.h"

#define MIB		(1UL << 20)

/* The users: none of the referee's. */
#define BOMBER		10060
#define BYSTANDER	10061
#define SETUID_FIRST	10062
#define SETUID_USERS	4

/* What the parts have done; shared by all of them. */
struct tally {
	volatile long forks;	/* of the bombs */
	volatile long fuse;	/* forks at which this bomb is spent */
	volatile long setuids;
	volatile long cycles;	/* of the modules */
	volatile long squeezes;	/* of the machine's memory */
	volatile int stop;	/* the modules are to stay */
};

extern struct tally *tally;

void drop_bombs(void) __attribute__((noreturn));
void stand_by(void) __attribute__((noreturn));
void change_users(void) __attribute__((noreturn));
void squeeze_memory(void) __attribute__((noreturn));
void cycle_modules(const struct module_file *modules)
	__attribute__((noreturn));

#endif /* STRESS_H */
