# SPDX-License-Identifier: GPL-2.0-only
"""What the tasks do, apart from reading their arguments.

tasks.py says which options there are; here the stages are called and their
results shown.  Everything raises HarnessError; exit codes other than an error's
are returned.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs

from harness import process, stamp, ui
from harness.bench import show
from harness.bench.figures import Figure, figures, most_apart
from harness.bench.found import Measurements
from harness.bench.guest import Boot
from harness.bench.measure import measure
from harness.bench.plan import Plan, load_plan
from harness.bench.plot import plot
from harness.build import pipeline
from harness.build.build import KernelBuild
from harness.build.ndk import Ndk, abi_of
from harness.build.pipeline import Prepared, PrepareRequest
from harness.cache import LOCK, changing
from harness.case import record
from harness.case.guest import COMMAND_TIMEOUT_S, GUEST_DIR, POLICY_FILE, GuestKernel
from harness.case.load import load_scenarios
from harness.case.run import exit_code, run_cases
from harness.case.select import select_cases
from harness.command import doctor as doctor_module
from harness.command import lint
from harness.device import kept, qemu
from harness.device.accel import PROOF_SECONDS, Accel, choose
from harness.device.device import Device
from harness.device.emulated import EmulatedDevice
from harness.device.qemu import BootRequest
from harness.device.start import DeviceOptions, Emulator, start
from harness.errors import ExitCode, HarnessError
from harness.kernels import Kernels, KernelVariant, Target, TestedKernel, load_kernels
from harness.layout import Layout
from harness.policies import Policy, load_policies
from harness.show.compare import compare as compare_files
from harness.show.page import write_page
from harness.show.report import (
    Report,
    RunInfo,
    results_data,
    write_junit,
    write_results,
    write_text,
)
from harness.show.results import read_results
from harness.source import patch, sdk
from harness.ui import Stage

# What `./run stress` runs, each for the same time.  Four CPUs even on a smaller machine.
STRESS_SCENARIOS = ("stress", "fuzz")
STRESS_POLICIES = ("rss",)
STRESS_CPUS = 4

BENCH_PROGRAMS = ("mm_bench", "mm_hostile")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The options every task about a kernel has, as typed; None is the default."""

    kernel: str | None = None
    arch: str | None = None
    board: str | None = None
    source: str | None = None
    busybox: str | None = None
    adbd: str | None = None
    debug: bool = False
    accel: str = "auto"
    toolchain: str | None = None
    ndk: str | None = None
    on: DeviceOptions = field(default_factory=DeviceOptions)
    config: str | None = None
    variant: KernelVariant | None = None

    def target(self, kernels: Kernels, policy: str | None = None) -> Target:
        """The target for one policy (None: the first)."""
        target = kernels.target(
            line=self.kernel,
            arch=self.arch,
            board=self.board,
            device=self.on.device,
            policy=policy,
            debug=self.debug,
        )
        self.on.check(target.board)
        if self.config is not None:
            fragment = Path(self.config)
            variant = KernelVariant(name=fragment.stem, configs=(fragment,))
            target = replace(target, variant=variant)
        if self.variant is not None:
            target = replace(target, variant=self.variant)
        if self.toolchain is None:
            return target
        board = structs.replace(target.board, cross_compile=self.toolchain)
        return replace(target, board=board)

    def prepare_request(self, kernels: Kernels, policy: str | None) -> PrepareRequest:
        """The request for one policy; a wrong NDK is found before anything is built."""
        target = self.target(kernels, policy)
        if self.ndk is not None:
            Ndk.at(Path(self.ndk))
            abi_of(target.board)
        return PrepareRequest(
            target=target,
            source=self.source,
            busybox=self.busybox,
            adbd=self.adbd,
            initramfs=self.on.needs_initramfs(target.board),
            ndk=Path(self.ndk) if self.ndk is not None else None,
        )

    @property
    def config_name(self) -> str | None:
        """What scenarios call the fragment of ``config``."""
        return None if self.config is None else Path(self.config).stem

    def find_emulator(self, *, layout: Layout) -> Emulator | None:
        """The Android emulator, if the board is one of its; HarnessError if it is lacking."""
        return self.on.find_emulator(self.target(load_kernels(layout)).board, layout=layout)

    @classmethod
    def tested(cls, part: TestedKernel) -> Selection:
        """What a part of the tests boots; where from may be said by variables."""
        on = DeviceOptions(
            device=part.device, emulator=_path_in(part.emulator), ramdisk=part.ramdisk
        )
        return cls(
            kernel=part.kernel,
            arch=part.arch,
            board=part.board,
            source=_path_in(part.source),
            on=on,
            config=str(part.config) if part.config is not None else None,
        )

    @property
    def environment(self) -> dict[str, str]:
        """As variables, for the tests to read; see tests/selected.py."""
        values = {
            "KERNEL": self.kernel,
            "ARCH": self.arch,
            "BOARD": self.board,
            "SOURCE": self.source,
            "DEVICE": self.on.device,
            "EMULATOR": self.on.emulator,
            "RAMDISK": self.on.ramdisk,
            "CONFIG": self.config,
        }
        return {f"MMLIMITS_TEST_{name}": value or "" for name, value in values.items()}


# Side by side; by files, which share what they have compiled.
UNIT_OPTIONS = ("--numprocesses=auto", "--dist=loadfile")
UNIT = "unit"
LINT = "lint"


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


def prepare_all(
    selection: Selection, built_with: Iterable[str], *, layout: Layout
) -> dict[str, Prepared]:
    """Everything to boot, by the policy that the kernel is built with.

    Wrong names are found before anything is built.
    """
    kernels = load_kernels(layout)
    requests = {name: selection.prepare_request(kernels, name) for name in built_with}
    return {name: pipeline.prepare(request, layout=layout) for name, request in requests.items()}


def policy_modules(
    policies: Iterable[Policy], prepared: Prepared, *, layout: Layout
) -> dict[str, Path]:
    """The modules of those policies that are files, by name, for a kernel."""
    return {
        policy.name: pipeline.build_policy(prepared.kernel, policy, layout=layout)
        for policy in policies
        if policy.source is not None
    }


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


def test(*, only: Sequence[str], layout: Layout) -> int:
    """Linters and the folders of tests/; all are run, SCENARIO_FAILED if one failed.

    What needs a kernel source that is not there is left out, and said to be.
    """
    parts = load_kernels(layout).tests
    names = (LINT, UNIT, *parts)
    unknown = [name for name in only if name not in names]
    if unknown:
        raise HarnessError(
            f"unknown part {unknown[0]!r}", hint=f"--only takes one of: {', '.join(names)}"
        )
    failed = _lint(layout) if not only or LINT in only else []
    if (not only or UNIT in only) and not _pytest(UNIT, UNIT_OPTIONS, {}, layout=layout):
        failed.append(f"{UNIT} tests")
    chosen = {
        name: part for name, part in parts.items() if name in only or (not only and part.by_default)
    }
    untested = [name for name, part in chosen.items() if _lacking(part)]
    for name, part in chosen.items():
        if name not in untested and not _test_kernel(part, layout=layout):
            failed.append(f"{name} tests")
    for name in untested:
        ui.console.print(_untested(name, chosen[name]), soft_wrap=True)
    if failed:
        ui.console.print(f"[bold red]failed:[/] {', '.join(failed)}")
        return int(ExitCode.SCENARIO_FAILED)
    if only and len(untested) == len(only):
        return int(ExitCode.HARNESS_ERROR)
    return int(ExitCode.PASSED)


def _test_kernel(part: TestedKernel, *, layout: Layout) -> bool:
    env = {
        **Selection.tested(part).environment,
        "MMLIMITS_TEST_SCENARIOS": ",".join(part.scenarios),
    }
    return _pytest(part.tests, (), env, layout=layout)


def _lacking(part: TestedKernel) -> tuple[str, ...]:
    """The variables that it needs and that are not set."""
    needed = (part.source, part.emulator)
    return tuple(name for name in needed if name is not None and not os.environ.get(name))


def _untested(name: str, part: TestedKernel) -> str:
    what = {
        part.source: f"source of {part.kernel}",
        part.emulator: "Android emulator with the classic engine",
    }
    lacking = " and no ".join(what[name] for name in _lacking(part))
    needed = " ".join(f"{name}=PATH" for name in (part.source, part.emulator) if name)
    return (
        f"[bold yellow]not tested:[/] {name}: there is no {lacking} here"
        f" ({needed} ./run test --only={name})"
    )


def _lint(layout: Layout) -> list[str]:
    """The default line's checkpatch is for all lines: that of 3.4 does not run any more."""
    kernels = load_kernels(layout)
    fetched = pipeline.fetch_source(kernels.line(), None, layout=layout)
    tree = pipeline.patch_source(kernels.line(), fetched, layout=layout)
    folders = [
        folder
        for line in kernels.lines.values()
        for folder in (line.patches, *([line.compat.patches] if line.compat else []))
    ]
    patches = [one.path for folder in folders for one in patch.read_series(folder)]
    return lint.run(layout, lint.linters(layout, kernel_tree=tree.path, patches=patches))


def _pytest(
    folder_name: str, options: Sequence[str], env: Mapping[str, str], *, layout: Layout
) -> bool:
    """Run one folder of tests; its output, with the closing line, goes straight through."""
    folder = layout.root / "tests" / folder_name
    if not any(folder.rglob("test_*.py")):
        ui.say(f"no tests in {folder}")
        return False
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    return process.passthrough(command, cwd=layout.root, env={**_asked_for(layout), **env}) == 0


def _asked_for(layout: Layout) -> dict[str, str]:
    """The variables that are said, somewhere, to be for us."""
    parts = load_kernels(layout).tests.values()
    names = {*sdk.SDK_VARIABLES, *(name for part in parts for name in (part.source, part.emulator))}
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("MMLIMITS_")
    }


def _path_in(variable: str | None) -> str | None:
    """The path that a variable holds, from where ./run was called."""
    value = os.environ.get(variable) if variable is not None else None
    return str(Path(os.environ.get("MMLIMITS_CWD") or ".") / value) if value else None


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
        _push(device, [guest.programs.files[name] for name in BENCH_PROGRAMS], kernel.modules)
    except BaseException:
        device.close()
        raise
    return device


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


def prepare_one(
    selection: Selection, policy: str | None, *, layout: Layout
) -> tuple[Prepared, Path | None]:
    """Everything to boot with one policy, and that one's module if it is a file."""
    default = load_kernels(layout).default_policy
    chosen = load_policies(layout).named(policy or default)
    # A policy that is a module comes on the kernel of the default policy.
    name = default if chosen.source is not None else chosen.name
    prepared = prepare_all(selection, [name], layout=layout)[name]
    return prepared, policy_modules([chosen], prepared, layout=layout).get(chosen.name)


def accelerate(selection: Selection, prepared: Prepared, *, layout: Layout) -> Accel:
    """KVM or TCG for this kernel, shown with the reason."""

    def prove() -> None:
        stage.update("a boot under KVM")
        kvm = Accel("kvm", "to be proven")
        start_guest(prepared, kvm, None, patience=PROOF_SECONDS, layout=layout).close()

    with ui.stage("accel") as stage:
        accel = choose(selection.accel, prepared.kernel.target.board, prove=prove)
        stage.note(f"{accel.name}: {accel.why}")
    return accel


def start_guest(
    prepared: Prepared,
    accel: Accel,
    emulator: Emulator | None,
    *,
    cpus: int | None = None,
    patience: float | None = None,
    gdb: bool = False,
    arguments: tuple[str, ...] = (),
    layout: Layout,
) -> EmulatedDevice:
    """Boot one guest in a run folder of its own below build/runs."""
    return start(
        prepared,
        accel,
        emulator=emulator,
        run_dir=run_dir_of(prepared.kernel.target.policy, layout),
        cpus=cpus,
        patience=patience,
        gdb=gdb,
        arguments=arguments,
    )


def run_dir_of(name: str, layout: Layout) -> Path:
    """A new folder for the files of one guest."""
    runs = layout.build / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))


def equip(
    device: Device, prepared: Prepared, *, extra: Sequence[Path] = (), policy: Path | None = None
) -> None:
    """Push the programs, load the modules and select the policy: limits can be set at once."""
    with ui.stage("push") as stage:
        modules = [*prepared.kernel.modules, *([policy] if policy else [])]
        _push(device, [*prepared.programs.files.values(), *extra], modules, stage=stage)
        if policy is not None:
            select = ["sh", "-c", f"echo {policy.stem} > {POLICY_FILE}"]
            if device.shell(select, timeout=COMMAND_TIMEOUT_S).returncode != 0:
                raise HarnessError(f"cannot select the policy {policy.stem}")
        stage.note(f"{len(prepared.programs.files)} programs, {len(modules)} modules loaded")


def _push(
    device: Device, files: Sequence[Path], modules: Sequence[Path], *, stage: Stage | None = None
) -> None:
    for path in (*files, *modules):
        if stage is not None:
            stage.update(path.name)
        device.push(path, f"{GUEST_DIR}/{path.name}")
    for module in modules:
        loaded = device.shell(["insmod", f"{GUEST_DIR}/{module.name}"], timeout=20)
        if loaded.returncode != 0:
            raise HarnessError(f"cannot load {module.name}: {loaded.stderr.strip()}")


def _megabytes(top: Path) -> float:
    return sum(path.lstat().st_size for path in (top, *top.rglob("*")) if not path.is_dir()) / 1e6
