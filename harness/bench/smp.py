# SPDX-License-Identifier: GPL-2.0-only
"""What takes several CPUs, where no instructions can be counted: time, overshoot, and
how limits and memory cgroups answer to programs that mean harm."""

from __future__ import annotations

from contextlib import closing

from harness.bench import guest
from harness.bench.found import Key, Measurements
from harness.bench.guest import Boot, Booter
from harness.bench.plan import Smp
from harness.device.device import Device
from harness.errors import HarnessError
from harness.ui import Stage

# The variant of the numbers with and without a reader of /proc/mm_limits.
READER = "reader"
# Whom mm_hostile judges.
HOSTILE_USER = "u0_a76"
# What the spinners of mm_bench have: SPIN_LIMIT.
SPIN_LIMIT = "20M"


def measure_smp(smp: Smp, boot: Booter, *, stage: Stage) -> Measurements:
    """All of it; raises HarnessError if a program fails or nothing was killed."""
    found = Measurements()
    with closing(boot(_how(smp, smp.kernel))) as device:
        guest.quieten(device)
        found.release = device.shell(["uname", "-r"], timeout=20).stdout.strip()
        _measure_reader(smp, device, found)
        _measure_overshoot(smp, device, found, stage=stage)
        _measure_hostile(smp, device, found, stage=stage, in_group=False)
    if smp.memcg is not None:
        with closing(boot(_how(smp, smp.memcg))) as device:
            guest.quieten(device)
            _measure_group_overshoot(smp, device, found, stage=stage)
            _measure_hostile(smp, device, found, stage=stage, in_group=True)
    return found


def _how(smp: Smp, kernel: str) -> Boot:
    return Boot(kernel=kernel, append="", cpus=smp.cpus, icount=False)


def _measure_reader(smp: Smp, device: Device, found: Measurements) -> None:
    output = guest.run(device, ["-o", "1G", "-r", str(smp.rounds), "reader"])
    for part, value in guest.parse_figures(output):
        found.add(Key(READER, 0, part), value)


def _measure_overshoot(smp: Smp, device: Device, found: Measurements, *, stage: Stage) -> None:
    for name, options in (
        (f"{smp.cpus}cpu", ["-r", str(smp.breaches), "-t", str(smp.threads), "breach"]),
        (f"{smp.cpus}cpu.spinners", ["-r", str(smp.spins), "spin"]),
    ):
        stage.update(f"overshoot {name}")
        guest.clear_log(device)
        guest.run(device, options)
        found.overshoot[name] = guest.logged_overshoot(device)
        if not found.overshoot[name]:
            raise HarnessError(f"no kill in the log of mm_bench {' '.join(options)}")


def _measure_group_overshoot(
    smp: Smp, device: Device, found: Measurements, *, stage: Stage
) -> None:
    stage.update("overshoot of a memory cgroup")
    guest.run(device, ["-g", "-r", str(smp.spins), "spin"], memory_max=SPIN_LIMIT)
    found.overshoot[f"{smp.cpus}cpu.spinners.memcg"] = [guest.group_overshoot(device)]


def _measure_hostile(
    smp: Smp, device: Device, found: Measurements, *, stage: Stage, in_group: bool
) -> None:
    holder = "memcg" if in_group else "limits"
    for kind in smp.hostile:
        stage.update(f"hostile {kind}, {holder}")
        failed = guest.run_hostile(device, kind, HOSTILE_USER, in_group=in_group)
        found.hostile[kind, holder] = failed
