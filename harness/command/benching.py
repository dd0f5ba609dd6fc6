# SPDX-License-Identifier: GPL-2.0-only
"""`./run bench`: build the kernels of a plan, boot, measure, and tell what is missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness import ui
from harness.bench import show
from harness.bench.figures import Figure, figures, most_apart
from harness.bench.found import Measurements
from harness.bench.guest import Boot
from harness.bench.measure import measure
from harness.bench.plan import Plan, load_plan
from harness.bench.plot import plot
from harness.build import pipeline
from harness.build.build import KernelBuild
from harness.build.pipeline import Prepared, PrepareRequest
from harness.command.booting import push, run_dir_of
from harness.command.selection import Selection
from harness.device import qemu
from harness.device.device import Device
from harness.device.qemu import BootRequest
from harness.errors import ExitCode
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.show.report import (
    write_text,
)

BENCH_PROGRAMS = ("mm_bench", "mm_hostile")


def bench(
    selection: Selection,
    *,
    quick: bool,
    report_only: bool,
    results: Path | None,
    reproduce: str,
    layout: Layout,
) -> int:
    """Build the kernels of the plan, measure, and show.

    SCENARIO_FAILED if a target is missed, unless ``report_only``, or if it does not repeat.
    """
    kernels = load_kernels(layout)
    plan = load_plan(kernels.line(selection.kernel).bench, quick=quick, layout=layout)
    requests = {
        name: PrepareRequest(
            target=replace(selection.target(kernels), variant=plan.kernels[name]),
            source=selection.source,
            busybox=selection.busybox,
            adbd=selection.adbd,
        )
        for name in plan.used_kernels
    }
    # The program is compiled against the headers of the patched kernel, for all.
    guest = pipeline.prepare(requests["patched"], layout=layout)
    builds = {
        name: pipeline.build_kernel(request, layout=layout) for name, request in requests.items()
    }
    with ui.stage("bench") as stage:
        found = measure(plan, partial(_boot_bench, builds, guest, plan, layout), stage=stage)
        stage.note(f"{len(found.values)} numbers, {sum(map(len, found.breaches.values()))} kills")
    counted = figures(plan, found)
    patched = builds["patched"]
    text = show.results_json(
        counted,
        kernel=patched.target.line.name,
        release=found.release,
        board=patched.target.board.name,
        reproduce=reproduce,
    )
    folder = layout.build / "bench"
    plot(plan, found, counted, folder / "bench.png")
    for path in (folder / "bench.json", *([results] if results is not None else [])):
        write_text(path, text)
    ui.console.print(show.table(counted))
    ui.say(f"plots: {folder / 'bench.png'}")
    return bench_verdict(counted, found, report_only=report_only)


def bench_verdict(counted: Sequence[Figure], found: Measurements, *, report_only: bool) -> int:
    """A missed target fails the bench; numbers that do not repeat are worth nothing at all."""
    missed = [figure.name for figure in counted if figure.met is False and not figure.excused]
    for figure in counted:
        if figure.excused and figure.unmet is not None:
            ui.say(f"{figure.name}: {figure.unmet.why}")
    if "repeat" in missed:
        ui.say(
            "failed: two boots of one kernel differ by more than half an instruction per page"
            f" ({most_apart(found)})"
        )
        return int(ExitCode.SCENARIO_FAILED)
    if not missed:
        return int(ExitCode.PASSED)
    ui.say(f"missed: {', '.join(missed)}")
    return int(ExitCode.PASSED if report_only else ExitCode.SCENARIO_FAILED)


def _boot_bench(
    builds: Mapping[str, KernelBuild], guest: Prepared, plan: Plan, layout: Layout, how: Boot
) -> Device:
    """Boot one kernel of the plan with what mm_bench needs; no other program runs."""
    kernel, initramfs = builds[how.kernel], guest.initramfs
    assert initramfs is not None  # those of QEMU's boards always have one
    device = qemu.boot(
        BootRequest(
            target=kernel.target,
            image=kernel.image,
            initramfs=initramfs.path,
            run_dir=run_dir_of(f"bench-{how.kernel}", layout),
            cpus=how.cpus,
            extra_append=f"{plan.append} {how.append}",
            memory=plan.memory,
            heartbeat=False,
            icount=how.icount,
        )
    )
    try:
        push(device, [guest.programs.files[name] for name in BENCH_PROGRAMS], kernel.modules)
    except BaseException:
        device.close()
        raise
    return device
