// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the kernel complain: insmod provoke.ko kind=NAME.
 *
 * A scanner that finds nothing in a log must be known to find what is there.  So
 * each kind of report that it is to recognise is provoked for real, on a kernel
 * that has the check switched on.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/version.h>

/* What older kernels do not have. */
#ifndef OPTIMIZER_HIDE_VAR
#define OPTIMIZER_HIDE_VAR(var)	asm("" : "=r" (var) : "0" (var))
#endif
#ifndef __no_sanitize_address
#define __no_sanitize_address
#endif

static char *kind = "";
module_param(kind, charp, 0);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static int __rcu *shared;
static volatile int amount = 40;

static void provoke_warning(void)
{
	WARN_ON(1);
}

static void provoke_might_sleep(void)
{
	preempt_disable();
	might_sleep();
	preempt_enable();
}

static void provoke_atomic(void)
{
	preempt_disable();
	msleep(20);
	preempt_enable();
}

static void provoke_lockdep(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void provoke_rcu(void)
{
	if (rcu_dereference(shared))
		pr_info("nobody has set this\n");
}

static void provoke_list(void)
{
	struct list_head entry, other;
	LIST_HEAD(head);

	list_add(&entry, &head);
	head.next = &other;
	other.prev = &other;
	list_add(&entry, &head);
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(4, 15, 0)
static void nothing(unsigned long unused)
{
}
#define timer_setup	setup_timer
#else
static void nothing(struct timer_list *unused)
{
}
#endif

/* What is freed still has an active timer. */
static void provoke_objects(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return;
	timer_setup(timer, nothing, 0);
	mod_timer(timer, jiffies + 1000 * HZ);
	kfree(timer);
}

static void provoke_kasan(void)
{
	char *memory = kmalloc(20, GFP_KERNEL);

	if (!memory)
		return;
	OPTIMIZER_HIDE_VAR(memory);
	pr_info("behind the end: %d\n", memory[24]);
	kfree(memory);
}

static void provoke_ubsan(void)
{
	pr_info("shifted too far: %d\n", 1 << amount);
}

/* Nobody knows where this is any more. */
static void provoke_leak(void)
{
	int i;

	for (i = 0; i < 32; i++)
		if (!kmalloc(100, GFP_KERNEL))
			pr_info("no memory to leak\n");
}

static int sleep_for_long(void *unused)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule_timeout(600 * HZ);
	return 0;
}

static void provoke_hung(void)
{
	kthread_run(sleep_for_long, NULL, "provoke");
}

static void provoke_lockup(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

/* KASAN would see it coming, and stop the test of what sees an oops. */
static __no_sanitize_address void provoke_oops(void)
{
	volatile int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	*nowhere = 1;
}

static const struct {
	const char *name;
	void (*provoke)(void);
} kinds[] = {
	{ "warning", provoke_warning },
	{ "might-sleep", provoke_might_sleep },
	{ "atomic", provoke_atomic },
	{ "lockdep", provoke_lockdep },
	{ "rcu", provoke_rcu },
	{ "list", provoke_list },
	{ "objects", provoke_objects },
	{ "kasan", provoke_kasan },
	{ "ubsan", provoke_ubsan },
	{ "leak", provoke_leak },
	{ "hung", provoke_hung },
	{ "lockup", provoke_lockup },
	{ "oops", provoke_oops },
};

static int __init provoke_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kind, kinds[i].name))
			continue;
		kinds[i].provoke();
		return 0;
	}
	return -EINVAL;
}

static void __exit provoke_exit(void)
{
}

module_init(provoke_init);
module_exit(provoke_exit);
MODULE_DESCRIPTION("Makes the kernel complain about itself");
MODULE_LICENSE("GPL");
