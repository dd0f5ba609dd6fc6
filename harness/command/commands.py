# SPDX-License-Identifier: GPL-2.0-only
"""What the tasks do, apart from reading their arguments.

tasks.py says which options there are; here the stages are called and their
results shown.  Everything raises HarnessError; exit codes other than an error's
are returned.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import stamp, ui
from harness.build import pipeline
from harness.build.pipeline import Prepared
from harness.cache import LOCK, changing
from harness.case import record
from harness.case.guest import GuestKernel
from harness.case.load import load_scenarios
from harness.case.run import exit_code, run_cases
from harness.case.select import select_cases
from harness.command import doctor as doctor_module
from harness.command.booting import (
    accelerate,
    policy_modules,
    prepare_all,
    start_guest,
)
from harness.command.selection import Selection
from harness.device import kept
from harness.device.accel import Accel
from harness.device.device import Device
from harness.errors import ExitCode, HarnessError
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.policies import load_policies
from harness.show.compare import compare as compare_files
from harness.show.page import write_page
from harness.show.report import (
    Report,
    RunInfo,
    results_data,
    write_junit,
    write_results,
)
from harness.show.results import read_results
from harness.source import sdk

# What `./run stress` runs, each for the same time.  Four CPUs even on a smaller machine.
STRESS_SCENARIOS = ("stress", "fuzz")

STRESS_POLICIES = ("rss",)

STRESS_CPUS = 4


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where results go, and the command lines that repeat the run or one case of it."""

    results: Path | None
    junit: Path | None
    reproduce: str
    command: str
    report: Path | None = None
    record: Path | None = None


def fetch(selection: Selection, *, update: bool, layout: Layout) -> None:
    """Download what the build needs: kernel source, the guest's busybox and adbd."""
    kernels = load_kernels(layout)
    line = kernels.line(selection.kernel)
    pipeline.fetch_source(line, selection.source, layout=layout, update=update)
    board = selection.target(kernels).board
    pipeline.fetch_busybox(board, selection.busybox, layout=layout, update=update)
    pipeline.fetch_adbd(board, selection.adbd, layout=layout, update=update)


def fetch_sdk(names: Sequence[str], *, accept_licence: bool, layout: Layout) -> None:
    """Show what the packages are; download them if their licence is accepted."""
    catalogue = sdk.load_catalogue(layout)
    packages = [catalogue.package(name) for name in names]
    for line in sdk.notice(packages, catalogue):
        ui.console.print(line, soft_wrap=True, highlight=False)
    if not accept_licence:
        raise HarnessError(
            "nothing was downloaded: this comes under the licence above",
            hint="read it, and add --accept-licence to the same command",
        )
    with pipeline.exclusive(layout):
        for package in packages:
            with ui.stage(package.name) as stage:
                stage.note(str(sdk.install(package, catalogue, layout=layout, stage=stage)))


def build(selection: Selection, *, policies: Sequence[str], every: bool, layout: Layout) -> None:
    """Build the kernels and say where they are and what command builds them by hand."""
    kernels = load_kernels(layout)
    chosen = tuple(kernels.policies) if every else tuple(policies) or (kernels.default_policy,)
    requests = [selection.prepare_request(kernels, policy) for policy in chosen]
    for request in requests:
        kernel = pipeline.build_kernel(request, layout=layout)
        pipeline.build_programs(kernel, ndk=request.ndk, layout=layout)
        ui.console.print(str(kernel.image), soft_wrap=True)
        ui.say(f"  by hand: {kernel.reproduce}")


def doctor(*, layout: Layout) -> int:
    """Show what is missing; HARNESS_ERROR if something is."""
    checks = doctor_module.examine(load_kernels(layout), layout=layout)
    ui.console.print(doctor_module.table(checks))
    lacking = doctor_module.missing(checks)
    if lacking:
        names = ", ".join(check.what for check in lacking)
        ui.console.print(f"[bold red]missing:[/] {names}")
        return int(ExitCode.HARNESS_ERROR)
    ui.console.print("[green]nothing is missing[/]")
    return int(ExitCode.PASSED)


def clean(*, cache: bool, layout: Layout) -> None:
    """Remove what was built, and with ``cache`` what was downloaded; say what went."""
    if kept.read(layout.build / kept.FOLDER) is not None:
        raise HarnessError(
            "a guest is kept in this checkout, and uses build/", hint="`./run boot --stop` ends it"
        )
    with pipeline.unused(layout):
        _remove(layout.build, but=(pipeline.WORK_LOCK, pipeline.USE_LOCK))
    if cache:
        with changing(layout):
            _remove(layout.cache, but=(LOCK,))
    if not cache:
        ui.say(f"kept the downloads and compiled objects in {layout.cache} (--cache removes them)")


def _remove(folder: Path, *, but: Sequence[str]) -> None:
    """Remove what is in a folder, but not the locks: somebody may wait for them."""
    there = [path for path in folder.iterdir() if path.name not in but]
    if not there:
        ui.say(f"nothing to remove in {folder}")
        return
    size = sum(map(_megabytes, there))
    for path in there:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    ui.say(f"removed {folder} ({size:.0f} MB)")


def emulator_test(
    selection: Selection,
    *,
    policies: Sequence[str],
    scenarios: Sequence[str],
    outputs: Outputs,
    jobs: int,
    layout: Layout,
    cpus: int | None = None,
    seconds: int | None = None,
    seed: int = 1,
    extra_policy: Path | None = None,
    explain: bool = False,
    take_kept: Callable[[Callable[[], Device], Prepared, Accel], Callable[[], Device]]
    | None = None,
) -> int:
    """Build what the chosen cases need, run them, show and write the results.

    ``extra_policy`` is the file of a policy that is not in policies/; with ``explain``
    the candidates of each kill are shown.  ``take_kept`` makes of what boots a guest what
    looks for one that is there already.
    """
    table = load_policies(layout, extra=extra_policy)
    cases = select_cases(
        load_scenarios(layout),
        names=scenarios,
        policies=policies,
        seconds=seconds,
        seed=seed,
        debug=selection.debug,
        config=selection.config_name,
        table=table,
    )
    emulator = selection.find_emulator(layout=layout)
    prepared = prepare_all(selection, dict.fromkeys(case.kernel for case in cases), layout=layout)
    first = next(iter(prepared.values()))
    on = {name: [case.policy for case in cases if case.kernel == name] for name in prepared}
    modules = {
        name: policy_modules(map(table.named, dict.fromkeys(on[name])), ready, layout=layout)
        for name, ready in prepared.items()
    }
    accel = accelerate(selection, first, layout=layout)
    boots: dict[str, Callable[[], Device]] = {
        name: partial(start_guest, ready, accel, emulator, cpus=cpus, layout=layout)
        for name, ready in prepared.items()
    }
    if take_kept is not None:
        boots = {name: take_kept(one, prepared[name], accel) for name, one in boots.items()}
    guests = {
        name: GuestKernel(
            boot=boots[name],
            modules=ready.kernel.modules,
            table_length=ready.kernel.table_length,
            policies=modules[name],
            evidence=outputs.report is not None,
        )
        for name, ready in prepared.items()
    }
    results = run_cases(cases, guests, programs=first.programs.files, jobs=jobs)
    with Report(ui.console, command=outputs.command, explain=explain) as report, closing(results):
        for result in results:
            report.add(result)
            if outputs.record is not None:
                record.write(outputs.record, result)
    info = _run_info(first, accel, outputs)
    if outputs.results is not None:
        write_results(outputs.results, info, report.results)
    if outputs.junit is not None:
        write_junit(outputs.junit, info, report.results)
    if outputs.report is not None:
        write_page(outputs.report, results_data(info, report.results))
        ui.say(f"report: {outputs.report}")
    return int(exit_code(report.results))


def make_page(results: Path, output: Path | None) -> None:
    """The page of results that were written before."""
    page = output or results.with_suffix(".html")
    write_page(page, read_results(results))
    ui.console.print(str(page), soft_wrap=True)


def judge(folder: Path, *, command: str, layout: Layout) -> int:
    """Judge again what `emulator-test --record` has written, by the scenarios as they are."""
    results = record.judge_again(folder, load_scenarios(layout), load_policies(layout))
    with Report(ui.console, command=command) as report:
        for result in results:
            report.add(result)
    return int(exit_code(results))


def compare(before: Path, after: Path) -> int:
    """Two results or two benches side by side; SCENARIO_FAILED if they differ."""
    table, differing = compare_files(before, after)
    ui.console.print(table)
    ui.say(f"{differing} differ" if differing else "no difference")
    return int(ExitCode.SCENARIO_FAILED if differing else ExitCode.PASSED)


def stress(
    selection: Selection, *, minutes: int, seed: int, outputs: Outputs, layout: Layout
) -> int:
    """Half the time everything at once, half the calls beside their model, on 4 CPUs."""
    return emulator_test(
        selection,
        policies=STRESS_POLICIES,
        scenarios=STRESS_SCENARIOS,
        outputs=outputs,
        jobs=1,
        layout=layout,
        cpus=STRESS_CPUS,
        seconds=minutes * 60 // len(STRESS_SCENARIOS),
        seed=seed,
    )


def _run_info(prepared: Prepared, accel: Accel, outputs: Outputs) -> RunInfo:
    target = prepared.kernel.target
    return RunInfo(
        kernel=target.line.name,
        release=prepared.kernel.release,
        arch=target.board.arch,
        board=target.board.name,
        device=target.board.device,
        accel=accel.name,
        accel_why=accel.why,
        reproduce=outputs.reproduce,
        command=outputs.command,
        sha256={path.name: stamp.hash_file(path) for path in _files_of(prepared)},
    )


def _files_of(prepared: Prepared) -> Iterator[Path]:
    """What is booted, loaded and pushed."""
    yield prepared.kernel.image
    yield from prepared.kernel.modules
    yield from prepared.programs.files.values()
    if prepared.initramfs is not None:
        yield prepared.initramfs.path


def _megabytes(top: Path) -> float:
    return sum(path.lstat().st_size for path in (top, *top.rglob("*")) if not path.is_dir()) / 1e6
