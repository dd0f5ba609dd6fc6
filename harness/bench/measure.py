# SPDX-License-Identifier: GPL-2.0-only
"""Boots the kernels of the plan and runs mm_bench in them.

Instructions are counted by QEMU (-icount shift=0): guest time is one nanosecond
an instruction, on one CPU.  Nothing else may happen in the guest meanwhile, so
nobody asks whether it lives and the console is quiet.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from harness import kmsg
from harness.bench.plan import Plan, Variant
from harness.device.device import Device
from harness.errors import HarnessError
from harness.ui import Stage

GUEST_DIR = "/data/local/tmp"
PROGRAM = f"{GUEST_DIR}/mm_bench"
# mm_bench's own user, BENCH_UID.
BENCH_USER = "10150"
COMMAND_SECONDS = 900.0
BOOTS = 2
JOBS = 2
# The first run of a boot finds memory in another order than all later ones.
WARM_UP = ("-r", "3", "page")
CGROUP = "/tmp/cgroup"
# The variant of the numbers with and without a reader of /proc/mm_limits.
READER = "reader"


@dataclass(frozen=True)
class Key:
    """What a number belongs to: ``part`` is a workload or a part of one."""

    variant: str
    processes: int
    part: str


@dataclass(frozen=True)
class Breach:
    """One kill: what the page took that paid for it, and which page beyond the limit it was."""

    instructions: int
    pages: int


@dataclass
class Measurements:
    """What was measured.

    ``values`` are instructions per unit of the workload, one for each boot;
    ``breaches`` are by the owner of the crowd (``own``: the limited user itself)
    and the number of processes; ``overshoot`` is in bytes by the kernel's log,
    by number of CPUs.
    """

    values: dict[Key, list[float]] = field(default_factory=dict)
    breaches: dict[tuple[str, int], list[Breach]] = field(default_factory=dict)
    overshoot: dict[int, list[int]] = field(default_factory=dict)
    release: str = ""

    def add(self, key: Key, value: float) -> None:
        """Note one boot's number."""
        self.values.setdefault(key, []).append(value)

    def merge(self, other: Measurements) -> None:
        """Add what another boot gave."""
        for key, values in other.values.items():
            self.values.setdefault(key, []).extend(values)
        self.breaches |= other.breaches
        for cpus, sizes in other.overshoot.items():
            self.overshoot.setdefault(cpus, []).extend(sizes)
        self.release = self.release or other.release


@dataclass(frozen=True, kw_only=True)
class Boot:
    """How to boot one kernel of the plan."""

    kernel: str
    append: str
    cpus: int
    icount: bool


Booter = Callable[[Boot], Device]


def measure(plan: Plan, boot: Booter, *, stage: Stage) -> Measurements:
    """Run the whole plan; raises HarnessError if mm_bench fails or GuestCrash.

    Guests run side by side: what counts instructions does not care.
    """
    found = Measurements()
    runs = [
        partial(_run_boot, plan, kernel, append, number)
        for kernel in plan.used_kernels
        if any(variant.kernel == kernel for variant in plan.variants)
        for append in _appends(plan, kernel)
        for number in range(BOOTS)
    ]
    with _Devices(boot) as devices, ThreadPoolExecutor(JOBS) as pool:
        futures = [pool.submit(run, devices.boot, stage=stage) for run in runs]
        try:
            for future in futures:
                found.merge(future.result())
            # Alone: this one takes time, not instructions.
            found.merge(_measure_smp(plan, devices.boot, stage=stage))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            devices.close()
            raise
    return found


class _Devices:
    """All guests that run, so that one that fails takes the others down with it."""

    def __init__(self, boot: Booter) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self._running: list[Device] = []
        self._closed = False

    def boot(self, how: Boot) -> Device:
        """Boot one, unless all are to end."""
        device = self._boot(how)
        with self._lock:
            self._running.append(device)
            closed = self._closed
        if closed:
            device.close()
            raise HarnessError("the other guest has failed")
        return device

    def close(self) -> None:
        """Stop all guests."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for device in running:
            device.close()

    def __enter__(self) -> _Devices:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run_boot(
    plan: Plan, kernel: str, append: str, number: int, boot: Booter, *, stage: Stage
) -> Measurements:
    """What one boot of a kernel is for."""
    found = Measurements()
    with closing(boot(Boot(kernel=kernel, append=append, cpus=1, icount=True))) as device:
        _quieten(device)
        _run(device, WARM_UP)
        measure = partial(_measure_variant, plan, device=device, found=found, stage=stage)
        # First what each boot repeats: what ran before decides how memory lies.
        for variant in _variants(plan, kernel, append):
            measure(variant, variant.repeated, variant.processes[0])
        if number > 0:
            return found
        for variant in _variants(plan, kernel, append):
            measure(variant, variant.unrepeated, variant.processes[0])
            for processes in variant.processes[1:]:
                measure(variant, variant.workloads, processes)
        if kernel == "patched":
            _measure_kills(plan, device, found, stage=stage)
    return found


def _variants(plan: Plan, kernel: str, append: str) -> list[Variant]:
    return [one for one in plan.variants if (one.kernel, one.append) == (kernel, append)]


def _appends(plan: Plan, kernel: str) -> Sequence[str]:
    return list(dict.fromkeys(one.append for one in plan.variants if one.kernel == kernel))


def _quieten(device: Device) -> None:
    """A line on the serial console costs more than what is measured."""
    device.shell(["dmesg", "-n", "1"], timeout=20)


def _measure_variant(
    plan: Plan,
    variant: Variant,
    workloads: Sequence[str],
    processes: int,
    device: Device,
    found: Measurements,
    *,
    stage: Stage,
) -> None:
    if not workloads:
        return
    stage.update(f"{variant.name}, {processes} processes")
    rounds = variant.rounds or plan.rounds
    options = [*variant.options, "-r", str(rounds), "-p", str(processes)]
    output = _run(device, [*options, *workloads], memory_max=variant.memory_max)
    for part, value in parse_figures(output):
        found.add(Key(variant.name, processes, part), value)


def _measure_kills(plan: Plan, device: Device, found: Measurements, *, stage: Stage) -> None:
    for owner in ("own", "other"):
        for processes in plan.processes:
            stage.update(f"kills among {processes} processes ({owner})")
            crowd = ["-c", BENCH_USER] if owner == "own" else []
            options = ["-r", str(plan.breaches), "-p", str(processes), *crowd]
            clear_log(device)
            output = _run(device, [*options, "breach"])
            found.breaches[owner, processes] = list(parse_breaches(output))
            found.overshoot.setdefault(1, []).extend(logged_overshoot(device))


def _measure_smp(plan: Plan, boot: Booter, *, stage: Stage) -> Measurements:
    """What takes several CPUs, where no instructions can be counted: time, overshoot."""
    smp, found = plan.smp, Measurements()
    stage.update(f"kills on {smp.cpus} CPUs")
    how = Boot(kernel=smp.kernel, append="", cpus=smp.cpus, icount=False)
    with closing(boot(how)) as device:
        _quieten(device)
        found.release = device.shell(["uname", "-r"], timeout=20).stdout.strip()
        output = _run(device, ["-o", "1G", "-r", str(smp.rounds), "reader"])
        for part, value in parse_figures(output):
            found.add(Key(READER, 0, part), value)
        clear_log(device)
        _run(device, ["-r", str(smp.breaches), "-t", str(smp.threads), "breach"])
        found.overshoot[smp.cpus] = logged_overshoot(device)
    if not found.overshoot[smp.cpus]:
        raise HarnessError(f"no kill in the log of {smp.breaches} breaches on {smp.cpus} CPUs")
    return found


def _run(device: Device, options: Sequence[str], *, memory_max: str | None = None) -> str:
    command = shlex.join([PROGRAM, *options])
    if memory_max is not None:
        group = f"{CGROUP}/bench"
        command = (
            f"mkdir -p {CGROUP}; grep -q {CGROUP} /proc/mounts || mount -t cgroup2 none {CGROUP};"
            f" echo +memory >{CGROUP}/cgroup.subtree_control && mkdir -p {group} &&"
            f" echo {memory_max} >{group}/memory.max && echo $$ >{group}/cgroup.procs &&"
            f" exec {command}"
        )
    result = device.shell(["sh", "-c", command], timeout=COMMAND_SECONDS)
    if result.returncode != 0:
        raise HarnessError(
            f"{shlex.join(['mm_bench', *options])} ended with {result.returncode}",
            details=(result.stdout + result.stderr).splitlines()[-10:],
            hint="a figure that cannot be measured is not shown",
        )
    return result.stdout


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
