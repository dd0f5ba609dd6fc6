# SPDX-License-Identifier: GPL-2.0-only
"""Boots the kernels of the plan and runs mm_bench in them.

Instructions are counted by QEMU (-icount shift=0): guest time is one nanosecond
an instruction, on one CPU.  Nothing else may happen in the guest meanwhile, so
nobody asks whether it lives and the console is quiet.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from harness.bench import guest
from harness.bench.found import Key, Measurements
from harness.bench.guest import Boot, Booter
from harness.bench.plan import Plan, Variant
from harness.bench.smp import measure_smp
from harness.device.device import Device
from harness.errors import HarnessError
from harness.ui import Stage

BOOTS = 2
JOBS = 2
# The first run of a boot finds memory in another order than all later ones.
WARM_UP = ("-r", "3", "page")


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
            found.merge(measure_smp(plan.smp, devices.boot, stage=stage))
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
        guest.quieten(device)
        guest.run(device, WARM_UP)
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
    output = guest.run(device, [*options, *workloads], memory_max=variant.memory_max)
    for part, value in guest.parse_figures(output):
        found.add(Key(variant.name, processes, part), value)


def _measure_kills(plan: Plan, device: Device, found: Measurements, *, stage: Stage) -> None:
    for owner in ("own", "other"):
        for processes in plan.processes:
            stage.update(f"kills among {processes} processes ({owner})")
            crowd = ["-c", guest.BENCH_USER] if owner == "own" else []
            options = ["-r", str(plan.breaches), "-p", str(processes), *crowd]
            guest.clear_log(device)
            output = guest.run(device, [*options, "breach"])
            found.breaches[owner, processes] = list(guest.parse_breaches(output))
            found.overshoot.setdefault("1cpu", []).extend(guest.logged_overshoot(device))
