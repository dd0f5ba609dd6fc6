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
    pristine = next((Layout.default().build / "grade").glob("base-*/" + name))
    place.write_text(pristine.read_text() + "\nint mistake(void)\n{\n\treturn missing;\n}\n")
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
