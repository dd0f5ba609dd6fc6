# SPDX-License-Identifier: GPL-2.0-only
"""`grade`: other people's implementations, one after the other; one never costs another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs
from rich.table import Table
from rich.text import Text

from harness import process, stamp, ui
from harness.build import compiler, pipeline
from harness.build.pipeline import Prepared
from harness.case.judge import Status
from harness.case.load import load_scenarios
from harness.case.run import CaseResult
from harness.command.booting import run_dir_of
from harness.command.selection import Selection
from harness.device import qemu
from harness.device.emulated import EmulatedDevice
from harness.device.qemu import BootRequest
from harness.errors import ExitCode, HarnessError
from harness.grade import exam, guess, sandbox, submission
from harness.grade.contract import Contract, load_contract
from harness.grade.kernel import BuildError, Built, Workplace, build, copy_file
from harness.grade.marks import Mark, Scheme, load_scheme, marks
from harness.grade.submission import Submission
from harness.kernels import KernelVariant, Target, load_kernels
from harness.layout import Layout
from harness.show.report import failure_lines, write_text
from harness.source import patch
from harness.source.fetch import Source

# A stranger's kernel needs as long as ours to boot, or it hangs.
BOOT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to grade and by what; ``jobs`` submissions at a time, 0 for what the CPUs bear.

    With ``resume``, what was graded before and is the same has its verdict already.
    """

    submissions: Sequence[str]
    contract: Path
    scheme: Path
    results: Path | None
    report: Path | None
    command: str
    resume: bool = False
    jobs: int = 0


class Graded(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a submission."""

    name: str
    form: str
    points: float
    of: float
    marks: tuple[Mark, ...]
    evidence: dict[str, tuple[str, ...]]


def grade(selection: Selection, request: Request, *, layout: Layout) -> int:
    """Grade all; SCENARIO_FAILED if one has not all points that there are for its claims."""
    sandbox.require()
    contract, scheme = load_contract(request.contract), load_scheme(request.scheme)
    scenarios = load_scenarios(layout)
    planned = exam.plan(contract, scenarios)
    kernels = load_kernels(layout)
    line = kernels.line(selection.kernel)
    target = replace(
        selection.target(kernels),
        variant=KernelVariant(name="graded", until=""),
    )
    source = pipeline.fetch_source(line, selection.source, layout=layout)
    guest = pipeline.prepare(selection.prepare_request(kernels, "none"), layout=layout)
    base = _base(target, source, layout=layout)
    graded = []
    if min(_jobs(request), len(request.submissions)) > 1:
        verdicts = _side_by_side(selection, request, scheme, planned, layout=layout)
    else:
        verdicts = (
            _Grading(given, contract, planned, target, guest, base, request, layout).result(scheme)
            for given in request.submissions
        )
    for one in verdicts:
        graded.append(one)
        _show(one)
    if len(graded) > 1:
        ui.console.print(_class_table(graded))
    _write(request, graded)
    full = all(mark.status in ("passed", "not claimed") for one in graded for mark in one.marks)
    return int(ExitCode.PASSED if full else ExitCode.SCENARIO_FAILED)


CPUS_FOR_EACH = 2


def _verdict(
    name: str,
    form: str,
    scheme: Scheme,
    planned: exam.Plan,
    error: str,
    *,
    warnings: int = 0,
    results: Sequence[CaseResult] = (),
    evidence: dict[str, tuple[str, ...]],
) -> Graded:
    """The marks and what they stand on; with an error nothing was built."""
    given = marks(
        scheme,
        build_error=error,
        warnings=warnings,
        results=results,
        not_claimed=planned.not_claimed,
        unreached=[case.scenario.name for case in planned.cases] if error else [],
    )
    claimed = [mark for mark in given if mark.status != "not claimed"]
    return Graded(
        name=name,
        form=form,
        points=sum(mark.points for mark in given),
        of=sum(mark.of for mark in claimed),
        marks=given,
        evidence=evidence,
    )


def _jobs(request: Request) -> int:
    if request.jobs < 0:
        raise HarnessError(f"--jobs is {request.jobs}, and must be at least 1")
    return request.jobs or max(1, len(os.sched_getaffinity(0)) // CPUS_FOR_EACH)


def _side_by_side(
    selection: Selection, request: Request, scheme: Scheme, planned: exam.Plan, *, layout: Layout
) -> Iterator[Graded]:
    """The verdicts in the order of the submissions, by a process of our own for each."""
    children: list[subprocess.Popen[str]] = []
    options = {
        name: getattr(selection, name)
        for name in ("kernel", "arch", "board", "source", "busybox", "adbd")
    }
    options |= {"contract": request.contract, "scheme": request.scheme}
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    words += ["--resume"] if request.resume else []

    def grade_one(given: str) -> Graded:
        folder = _work_folder(given, layout)
        folder.mkdir(parents=True, exist_ok=True)
        results, log = folder / "results.json", folder / "grade.log"
        results.unlink(missing_ok=True)
        command = [sys.executable, "-m", "invoke", "grade", given, "--jobs=1", *words]
        command.append(f"--results={results}")
        with log.open("w") as stream, process.child(command, cwd=layout.root) as child:
            children.append(child)
            assert child.stdout is not None
            stream.writelines(child.stdout)
        if not results.exists():
            error = f"grading it ended without a verdict: see {log}"
            return _verdict(given, "?", scheme, planned, error, evidence={"build": (error,)})
        (one,) = msgspec.json.decode(results.read_bytes(), type=_Results).submissions
        return one

    with ThreadPoolExecutor(max_workers=_jobs(request)) as pool:
        waiting = [pool.submit(grade_one, given) for given in request.submissions]
        try:
            for given, verdict in zip(request.submissions, waiting, strict=True):
                with ui.stage("grade") as stage:
                    stage.update(given)
                    one = verdict.result()
                    stage.note(f"{one.name}: {one.points:g} of {one.of:g}")
                yield one
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                with suppress(OSError):  # its thread was quicker
                    process.kill_group(child)


class _Results(msgspec.Struct, frozen=True):
    """What --results writes."""

    submissions: tuple[Graded, ...]


def _work_folder(given: str, layout: Layout) -> Path:
    name = re.sub(r"[^\w.-]+", "-", given.rstrip("/").rsplit("/", 1)[-1]) or "submission"
    return layout.build / "grade" / f"{name}-{stamp.digest(given)[:8]}"


def _show(one: Graded) -> None:
    ui.console.print(shown(one))
    for name, lines in one.evidence.items():
        ui.console.print(f"\n{name}", style="bold", markup=False, highlight=False)
        for text in lines:
            ui.console.print(f"  {text}", soft_wrap=True, markup=False, highlight=False)


def propose(given: str, *, layout: Layout) -> None:
    """Print a contract for a submission, and tell how sure it is."""
    work = layout.build / "grade" / "guess"
    work.mkdir(parents=True, exist_ok=True)
    made = guess.guess(submission.find(given, work=work))
    sys.stdout.write(made.text)
    sys.stdout.flush()
    for what, finding in made.findings.items():
        if finding.how != guess.FOUND:
            ui.say(f"{finding.how}: {what}: {finding.why}")


def _base(target: Target, source: Source, *, layout: Layout) -> Path:
    """The kernel that all submissions begin with, unpacked once."""
    folder = layout.build / "grade" / f"base-{source.key}"
    record = stamp.Stamp(folder.with_suffix(".json"))
    if record.matches(source.identity, [folder / "Makefile"]):
        return folder
    with ui.stage("base") as stage:
        record.clear()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        patch.unpack(source, folder, stage=stage)
        line = target.line
        if line.compat is not None and compiler.needs_compat(line, target.board):
            for one in patch.read_series(line.compat.patches):
                process.run(
                    ["patch", "-p1", "--batch", "-d", folder, "-i", one.path.resolve()],
                    what=f"applying {one.path.name}",
                )
        record.write(identity=source.identity)
        stage.note(f"{line.name} {source.version}")
    return folder


class _Grading:
    """One submission."""

    def __init__(
        self,
        given: str,
        contract: Contract,
        planned: exam.Plan,
        target: Target,
        guest: Prepared,
        base: Path,
        request: Request,
        layout: Layout,
    ) -> None:
        self._given = given
        self._contract = contract
        self._plan = planned
        self._target = target
        self._guest = guest
        self._base = base
        self._request = request
        self._layout = layout
        self._work = _work_folder(given, layout)

    def result(self, scheme: Scheme) -> Graded:
        """Build, boot and judge; whatever happens is a verdict."""
        self._work.mkdir(parents=True, exist_ok=True)
        record = stamp.Stamp(self._work / "verdict.json")
        name, form = self._given, "?"
        error, built, results = "", {}, []
        evidence: dict[str, tuple[str, ...]] = {}
        identity = ""
        try:
            one = submission.find(self._given, work=self._work)
            name, form = one.name, one.form
            identity = self._identity(one)
            if self._request.resume and record.matches(identity):
                return msgspec.convert(record.read()["verdict"], Graded)
            record.clear()
            built = self._build_all(one)
        except HarnessError as wrong:
            error = wrong.what
            evidence["build"] = (wrong.what, *wrong.details, *([wrong.hint] if wrong.hint else []))
        except (
            OSError,
            RuntimeError,
            shutil.Error,
        ) as wrong:  # what it has made: links in a circle
            error = f"what it holds cannot be read: {wrong}"
            evidence["build"] = (error,)
        else:
            results = [self._run(case, built) for case in self._plan.cases]
        for result in results:
            if result.status is not Status.PASSED:
                command = f"{self._request.command} {self._given}"
                evidence[result.case.id] = failure_lines(result, command=command)
        verdict = _verdict(
            name,
            form,
            scheme,
            self._plan,
            error,
            warnings=max((len(one.warnings) for one in built.values()), default=0),
            results=results,
            evidence=evidence,
        )
        record.write(identity=identity, verdict=msgspec.to_builtins(verdict))
        return verdict

    def _identity(self, one: Submission) -> str:
        """What a verdict depends on: the submission, the contract, the scheme, the kernel."""
        return stamp.digest(
            submission.identity(one),
            self._request.contract.read_bytes(),
            self._request.scheme.read_bytes(),
            stamp.Stamp(self._base.with_suffix(".json")).read()["identity"],
            self._target.name,
            self._guest.programs.identity,
        )

    def _build_all(self, one: Submission) -> dict[str, Built]:
        """The kernel for each policy that a case needs; what it made is kept apart."""
        tree = self._work / "tree"
        with ui.stage("submission") as stage:
            stage.update(one.name)
            submission.make_tree(one, self._base, tree)
            stage.note(f"{one.name}: {one.form}")
        out = tree / "out"
        out.mkdir(exist_ok=True)
        place = Workplace(target=self._target, tree=tree, out=out, layout=self._layout)
        names = dict.fromkeys(exam.kernel_policy(case, self._contract) for case in self._plan.cases)
        folder = one.path if one.path.is_dir() else one.path.parent
        built = {}
        for name in names:
            with ui.stage("build") as stage:
                made = build(
                    place,
                    self._contract,
                    self._contract.policies[name],
                    submission=folder,
                    logs=self._work / "logs",
                    stage=stage,
                )
                keep = self._work / name
                built[name] = replace(
                    made,
                    image=copy_file(made.image, keep / made.image.name),
                    modules=tuple(copy_file(path, keep / path.name) for path in made.modules),
                )
                stage.note(f"{name}, {len(made.warnings)} warning(s)")
        return built

    def _run(self, case: object, built: dict[str, Built]) -> CaseResult:
        from harness.case.scenario import Case

        assert isinstance(case, Case)
        kernel = built[exam.kernel_policy(case, self._contract)]
        with ui.stage("case") as stage:
            stage.update(case.id)
            result = exam.run_case(
                case,
                self._contract,
                kernel,
                boot=partial(self._boot, kernel),
                programs=self._guest.programs.files,
            )
            text = f"{case.id}: {result.status.value}"
            stage.note(text) if result.status is Status.PASSED else stage.fail(text)
        return result

    def _boot(self, kernel: Built) -> EmulatedDevice:
        assert self._guest.initramfs is not None
        return qemu.boot(
            BootRequest(
                target=self._target,
                image=kernel.image,
                initramfs=self._guest.initramfs.path,
                run_dir=run_dir_of("grade", self._layout),
                patience=BOOT_SECONDS,
            )
        )


def shown(one: Graded) -> Table:
    """The marks as a person reads them."""
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=Text(f"{one.name} ({one.form})")
    )
    for heading in ("what", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("why")
    for mark in one.marks:
        table.add_row(mark.what, mark.status, f"{mark.points:g} of {mark.of:g}", Text(mark.why))
    table.add_row("all that is claimed", "", f"{one.points:g} of {one.of:g}", "", style="bold")
    return table


def _class_table(graded: Sequence[Graded]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="all")
    table.add_column("submission")
    table.add_column("points", justify="right")
    for one in graded:
        table.add_row(Text(one.name), f"{one.points:g} of {one.of:g}")
    return table


def _write(request: Request, graded: Sequence[Graded]) -> None:
    if request.results is not None:
        encoded = msgspec.json.encode({"schema": 1, "submissions": graded})
        write_text(request.results, msgspec.json.format(encoded, indent=2).decode() + "\n")
    if request.report is not None:
        from harness.show.grades import write_grades

        write_grades(request.report, [structs.asdict(one) for one in graded])
        ui.say(f"report: {request.report}")


__all__ = ["BuildError", "Request", "grade"]
