# SPDX-License-Identifier: GPL-2.0-only
"""A guest that measures: how it is booted, what runs in it, what that prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness import kmsg
from harness.bench.found import Breach
from harness.device.device import Device, ShellResult
from harness.errors import HarnessError

GUEST_DIR = "/data/local/tmp"
# mm_bench's own user, BENCH_UID.
BENCH_USER = "10150"
COMMAND_SECONDS = 900.0
CGROUPS = "/tmp/cgroup"
CGROUP = f"{CGROUPS}/bench"


@dataclass(frozen=True, kw_only=True)
class Boot:
    """How to boot one kernel of the plan."""

    kernel: str
    append: str
    cpus: int
    icount: bool


Booter = Callable[[Boot], Device]


def quieten(device: Device) -> None:
    """A line on the serial console costs more than what is measured."""
    device.shell(["dmesg", "-n", "1"], timeout=20)


def run(device: Device, options: Sequence[str], *, memory_max: str | None = None) -> str:
    """What mm_bench prints, in a memory cgroup with that limit if there is one.

    Raises HarnessError if it fails.
    """
    command = shlex.join([f"{GUEST_DIR}/mm_bench", *options])
    if memory_max is not None:
        limit = f"echo {memory_max} >{CGROUP}/memory.max && echo $$ >{CGROUP}/cgroup.procs"
        command = f"{_make_group()} && {limit} && exec {command}"
    result = device.shell(["sh", "-c", command], timeout=COMMAND_SECONDS)
    if result.returncode != 0:
        raise _failed(shlex.join(["mm_bench", *options]), result)
    return result.stdout


def run_hostile(device: Device, kind: str, user: str, *, in_group: bool) -> int:
    """How many checks of one of mm_hostile's programs fail; 0 if it is held.

    With ``in_group`` a memory cgroup is to hold it, else the user's limit.  Raises
    HarnessError if the program does not come to its end.
    """
    program = [f"{GUEST_DIR}/mm_hostile", *(["-g", CGROUP] if in_group else []), kind, user]
    command = f"exec {shlex.join(program)}"
    if in_group:
        # One of its own for each: the peak is of all that was ever in it.
        command = f"{_make_group()} && {command}"
    result = device.shell(["sh", "-c", command], timeout=COMMAND_SECONDS)
    passed, failed = (
        len(re.findall(rf"^{verdict} \d+ - ", result.stdout, re.MULTILINE))
        for verdict in ("ok", "not ok")
    )
    plan = re.search(r"^1\.\.(\d+)$", result.stdout, re.MULTILINE)
    if plan is None or int(plan.group(1)) != passed + failed or passed + failed == 0:
        raise _failed(shlex.join(["mm_hostile", *program[1:]]), result)
    return failed


def group_overshoot(device: Device) -> int:
    """How far the cgroup was over its limit at most, in bytes."""
    files = [f"{CGROUP}/memory.peak", f"{CGROUP}/memory.max"]
    result = device.shell(["cat", *files], timeout=20)
    words = result.stdout.split()
    if len(words) != len(files) or not all(word.isdigit() for word in words):
        raise _failed("reading the memory cgroup's peak", result)
    peak, limit = map(int, words)
    return max(0, peak - limit)


def parse_figures(output: str) -> Iterator[tuple[str, float]]:
    """(part, instructions per unit) from mm_bench's lines ``figure PART VALUE``."""
    for match in re.finditer(r"^figure (\S+) (\S+)$", output, re.MULTILINE):
        yield match.group(1), float(match.group(2))


def parse_breaches(output: str) -> Iterator[Breach]:
    """From mm_bench's lines ``breach NUMBER INSTRUCTIONS PAGES``."""
    for match in re.finditer(r"^breach \d+ (\d+) (-?\d+)$", output, re.MULTILINE):
        yield Breach(int(match.group(1)), int(match.group(2)))


def clear_log(device: Device) -> None:
    """Forget the kernel log up to now."""
    device.shell(["dmesg", "-c"], timeout=60)


def logged_overshoot(device: Device) -> list[int]:
    """Bytes over the limit at each kill in the log."""
    log = device.shell(["dmesg"], timeout=60).stdout
    kills = kmsg.of_kind(kmsg.parse(log.splitlines()), kmsg.KillEvent)
    return [kill.user_rss - kill.mm_max for kill in kills]


def _make_group() -> str:
    """A shell command: a fresh memory cgroup, which nobody is in yet."""
    return (
        f"mkdir -p {CGROUPS}; grep -q {CGROUPS} /proc/mounts ||"
        f" mount -t cgroup2 none {CGROUPS}; rmdir {CGROUP} 2>/dev/null;"
        f" echo +memory >{CGROUPS}/cgroup.subtree_control && mkdir -p {CGROUP}"
    )


def _failed(what: str, result: ShellResult) -> HarnessError:
    return HarnessError(
        f"{what} ended with {result.returncode}",
        details=(result.stdout + result.stderr).splitlines()[-10:],
        hint="a figure that cannot be measured is not shown",
    )
