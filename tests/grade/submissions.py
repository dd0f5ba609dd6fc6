# SPDX-License-Identifier: GPL-2.0-only
"""Submissions as people hand them in, made of the project's own series.

A good one speaks otherwise than we do; the broken ones are that one with one thing wrong.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from harness.layout import Layout

ROOT = Layout.default().root

CONTRACT = r"""
name = "another one"
summary = "other numbers, kB, the limit first, another log"
scenarios = ["policies-differ"]

[set-mm-limits]
number = 510
arguments = ["mm_max", "uid"]
unit = "kB"
ok = [0, 1]

[my-oom-killer]
number = 511

[modules]
folder = "modules"
load = ["set_mm_limits.ko", "my_oom_killer.ko"]

[log]
kill = 'KILL user (?P<uid>\d+) has (?P<uRSS>\d+) of (?P<mm_max>\d+): (?P<pid>\d+) has (?P<pRSS>\d+)'

[policy.rss]
config = { CONFIG_USER_MM_LIMITS = "y", CONFIG_OOM_KILLER_HIGHEST_RSS = "y" }
type = 0

[policy.none]
config = { CONFIG_USER_MM_LIMITS = "y", CONFIG_OOM_KILLER_NONE = "y" }
kernel = false
"""

# One case is enough to see what a broken one does.
SMALL_CONTRACT = re.sub(
    r"^(?:type = 0|scenarios = .*)\n",
    "",
    CONTRACT[: CONTRACT.index("[policy.none]")],
    flags=re.MULTILINE,
)

SYSCALLS = {"500": "510", "501": "511"}
CALL = """static long set_mm_limits(uid_t uid, unsigned long mm_max)
{
"""
INIT = """static int __init set_mm_limits_init(void)
{
"""


def good(folder: Path) -> Path:
    """Our series behind other numbers, with another log line, in kB and the limit first."""
    series = ROOT / "patches" / "linux-6.1"
    folder.mkdir(parents=True)
    for name in re.findall(r"^[^#\s]\S*", (series / "series").read_text(), re.MULTILINE):
        text = (series / name).read_text()
        for old, new in SYSCALLS.items():
            pattern = rf"^\+{old}(?=\s+\w+\s+(?:set_mm_limits|my_oom_killer)\b)"
            text = re.sub(pattern, f"+{new}", text, flags=re.MULTILINE)
        text = text.replace(
            r"uid=%u,\tuRSS=%lu,\tmm_max=%lu,\tpid=%d,\tpRSS=%lu%s\n",
            r"KILL user %u has %lu of %lu: %d has %lu%s\n",
        )
        (folder / name).write_text(text)
    shutil.copy(series / "series", folder)
    shutil.copytree(ROOT / "modules", folder / "modules")
    edit(
        folder,
        CALL,
        "static long set_mm_limits(uid_t first, unsigned long second)\n{\n"
        "\tunsigned long mm_max = (unsigned long)first << 10;\n\tuid_t uid = second;\n",
    )
    return folder


def pristine(name: str) -> Path:
    """A file of the kernel that all begin with; who grades anything unpacks it."""
    path = Layout.default().build / "grade" / "base-linux-6.1" / name
    assert path.is_file(), "grade the good one first"
    return path


def as_git(folder: Path) -> str:
    """The good one as a branch of a repository."""
    good(folder)
    identity = ("-c", "user.name=Somebody", "-c", "user.email=some@example.org")
    for words in (["init", "-q", "-b", "work"], ["add", "."], ["commit", "-q", "-m", "mine"]):
        subprocess.run(["git", "-C", folder, *identity, *words], check=True)
    return f"{folder}#work"


def does_not_compile(folder: Path) -> Path:
    """A kernel file to be replaced, with a mistake in it."""
    name = "mm/oom_kill.c"
    place = folder / "kernel_change" / "oom_kill.c"
    place.parent.mkdir(parents=True)
    place.write_text(pristine(name).read_text() + "\nint mistake(void)\n{\n\treturn missing;\n}\n")
    (folder / "kernel.change").write_text(f"# where it goes\nkernel_change/oom_kill.c {name}\n")
    return folder


def panics_at_load(folder: Path) -> Path:
    """Its module panics when it is loaded."""
    edit(good(folder), INIT, INIT + '\tpanic("at load");\n')
    return folder


def refuses_to_load(folder: Path) -> Path:
    """Its module needs a symbol that no kernel has."""
    edit(good(folder), INIT, "int not_there(void);\n" + INIT + "\tnot_there();\n")
    return folder


def hangs(folder: Path) -> Path:
    """The first limit that is set leaves a CPU spinning under a lock, with interrupts off."""
    edit(
        good(folder),
        "\tuid_t uid = second;\n",
        "\tuid_t uid = second;\n\tstatic DEFINE_SPINLOCK(held);\n"
        "\tunsigned long flags;\n\n\tspin_lock_irqsave(&held, flags);\n"
        "\twhile (READ_ONCE(current->pid) >= 0)\n\t\tcpu_relax();\n",
    )
    return folder


def kills_init(folder: Path) -> Path:
    """The first limit that is set kills init."""
    edit(
        good(folder),
        "\tuid_t uid = second;\n",
        "\tuid_t uid = second;\n\tstruct pid *first_pid = find_get_pid(1);\n\n"
        "\tpid_task(first_pid, PIDTYPE_PID)->signal->flags &= ~SIGNAL_UNKILLABLE;\n"
        "\tkill_pid(first_pid, SIGKILL, 1);\n",
    )
    edit(
        folder,
        "#include <linux/module.h>\n",
        "#include <linux/module.h>\n#include <linux/sched/signal.h>\n",
    )
    return folder


def floods_the_log(folder: Path) -> Path:
    """A thread of its own prints as fast as it can."""
    edit(
        good(folder),
        INIT,
        "static int flood(void *unused)\n{\n\tfor (;;) {\n"
        '\t\tpr_err("looking at everybody once more\\n");\n\t\tcond_resched();\n\t}\n'
        "\treturn 0;\n}\n\n" + INIT + '\tkthread_run(flood, NULL, "flood");\n',
    )
    edit(
        folder,
        "#include <linux/module.h>\n",
        "#include <linux/kthread.h>\n#include <linux/module.h>\n",
    )
    return folder


def include(folder: Path, header: str) -> None:
    edit(folder, "#include <linux/module.h>\n", f"#include <{header}>\n#include <linux/module.h>\n")


def edit(folder: Path, old: str, new: str) -> None:
    """Change the module that sets limits."""
    path = folder / "modules/set_mm_limits/set_mm_limits.c"
    text = path.read_text()
    assert text.count(old) == 1, f"{text.count(old)} times: {old}"
    path.write_text(text.replace(old, new))


# A module of a student's who looks twice a second, and says so.
TIMER = r"""
#include <linux/cred.h>
#include <linux/init_task.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>

#define SLOT 223 /* unused on arm */
#define LIMITS 10
#define PERIOD (HZ / 2)

extern void *sys_call_table[];

static uid_t uids[LIMITS];
static unsigned long maxima[LIMITS];
static DEFINE_SPINLOCK(limits_lock);
static void *before;

static long sys_set_limit(uid_t uid, unsigned long mm_max)
{
	long ret = -ENOSPC;
	int i;

	if (!uid || !mm_max)
		return -EINVAL;
	spin_lock(&limits_lock);
	for (i = 0; i < LIMITS; i++) {
		if (uids[i] == uid || !uids[i]) {
			uids[i] = uid;
			maxima[i] = mm_max;
			ret = 0;
			break;
		}
	}
	spin_unlock(&limits_lock);
	return ret;
}

static unsigned long rss_of(struct task_struct *p)
{
	unsigned long rss = 0;

	task_lock(p);
	if (p->mm)
		rss = get_mm_rss(p->mm) << PAGE_SHIFT;
	task_unlock(p);
	return rss;
}

static bool kill_one(uid_t uid, unsigned long mm_max)
{
	unsigned long total = 0, most = 0, rss;
	struct task_struct *p, *victim = NULL;

	rcu_read_lock();
	for_each_process(p) {
		if (from_kuid(&init_user_ns, task_uid(p)) != uid || fatal_signal_pending(p))
			continue;
		rss = rss_of(p);
		total += rss;
		if (rss > most) {
			most = rss;
			victim = p;
		}
	}
	if (total > mm_max && victim) {
		pr_info("timer: uid=%d, uRSS=%lu, mm_max=%lu, pid=%d, pRSS=%lu\n", uid, total,
			mm_max, victim->pid, most);
		send_sig(SIGKILL, victim, 1);
	} else {
		victim = NULL;
	}
	rcu_read_unlock();
	return victim;
}

static void look(struct work_struct *work);
static DECLARE_DELAYED_WORK(looker, look);

static void look(struct work_struct *work)
{
	int i;

	for (i = 0; i < LIMITS; i++)
		while (uids[i] && kill_one(uids[i], maxima[i]))
			cond_resched();
	schedule_delayed_work(&looker, PERIOD);
}

static int __init limits_init(void)
{
	before = sys_call_table[SLOT];
	sys_call_table[SLOT] = sys_set_limit;
	schedule_delayed_work(&looker, PERIOD);
	return 0;
}
module_init(limits_init);

static void __exit limits_exit(void)
{
	sys_call_table[SLOT] = before;
	cancel_delayed_work_sync(&looker);
}
module_exit(limits_exit);

MODULE_LICENSE("GPL");
"""

EXPORT = """--- a/mm/page_alloc.c
+++ b/mm/page_alloc.c
@@ -{line},3 +{line},6 @@
{before}+
+extern void *sys_call_table[];
+EXPORT_SYMBOL_GPL(sys_call_table);
"""


def on_a_timer(folder: Path) -> Path:
    """One diff and a module that patches the call table; honest about its period."""
    (folder / "limits").mkdir(parents=True)
    (folder / "limits" / "limits.c").write_text(TIMER)
    (folder / "limits" / "Makefile").write_text("obj-m := limits.o\n")
    lines = pristine("mm/page_alloc.c").read_text().splitlines()
    last = "".join(f" {line}\n" for line in lines[-3:])
    (folder / "export.diff").write_text(EXPORT.format(line=len(lines) - 2, before=last))
    return folder


TIMER_CONTRACT = r"""
name = "on a timer"
period-ms = 500

[set-mm-limits]
number = 223

[modules]
folder = "limits"
load = ["limits.ko"]

[log]
kill = 'timer: uid=(?P<uid>\d+), uRSS=(?P<uRSS>\d+), mm_max=(?P<mm_max>\d+), pid=(?P<pid>\d+), pRSS=(?P<pRSS>\d+)'

[policy.rss]
"""  # noqa: E501
