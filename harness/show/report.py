# SPDX-License-Identifier: GPL-2.0-only
"""Shows results: a table as they come, what failed and why, and result files.

Three readers: a person at a terminal, who wants to see progress and the command
that reproduces a failure; a person reading a CI log, where nothing can be drawn
over; and programs, which get JSON (harness/show/results.py) and JUnit XML.
"""

from __future__ import annotations

import os
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.case.candidates import Candidate, rankings
from harness.case.judge import Status
from harness.case.run import CaseResult
from harness.case.scenario import Case
from harness.errors import HarnessError
from harness.kmsg import KillEvent
from harness.show.ranking import tables
from harness.show.results import SCHEMA, CaseRecord, Kill, Ranked, Results, Sampled

_STYLE = {
    Status.PASSED: "green",
    Status.FAILED: "red",
    Status.ERROR: "yellow",
    Status.CRASHED: "bold red",
}

# XML 1.0 cannot hold most control characters, which a crashing guest may print.
_NOT_IN_XML = {code: None for code in range(32) if chr(code) not in "\t\n\r"}


@dataclass(frozen=True)
class RunInfo:
    """What was run, for the result files.

    ``command`` is the command line without scenario and policy, for example
    ``./run emulator-test --kernel=linux-6.1``; ``reproduce`` is the whole one.
    ``sha256`` is that of each file that was booted or pushed, by name.
    """

    kernel: str
    release: str
    arch: str
    board: str
    device: str
    accel: str
    accel_why: str
    reproduce: str
    command: str = "./run emulator-test"
    sha256: Mapping[str, str] = field(default_factory=dict)


def reproduce_command(case: Case, *, command: str = "./run emulator-test") -> str:
    """The command that runs just this case."""
    random = f" --seconds={case.lasts} --seed={case.seed}" if case.scenario.seconds else ""
    # A policy that is tried is that of the file.
    policy = "" if command.startswith("./run try ") else f" --policy={case.policy}"
    return f"{command}{policy} --scenario={case.scenario.name}{random}"


class Report:
    """Shows each result as it comes and failures at the end.

    Use as a context manager: on a terminal the table grows in place; elsewhere a
    line is printed for each result and the table at the end.  With ``explain`` the
    candidates of each kill come last.
    """

    def __init__(
        self,
        console: Console,
        *,
        command: str = "./run emulator-test",
        explain: bool = False,
    ) -> None:
        self._console = console
        self._command = command
        self._explain = explain
        self._results: list[CaseResult] = []
        self._live = (
            Live(console=console, auto_refresh=False, vertical_overflow="visible")
            if console.is_terminal
            else None
        )
        self._begin = time.monotonic()

    @property
    def results(self) -> tuple[CaseResult, ...]:
        return tuple(self._results)

    def __enter__(self) -> Report:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        elif self._results:
            self._console.print(_table(self._results))
        for result in self._results:
            if result.status is not Status.PASSED:
                self._print_failure(result)
            for table in tables(result) if self._explain else ():
                self._console.print("")
                self._console.print(table)
        if self._results:
            self._console.print(_summary(self._results, time.monotonic() - self._begin))

    def add(self, result: CaseResult) -> None:
        """Show one result."""
        self._results.append(result)
        if self._live:
            self._live.update(_table(self._results), refresh=True)
        else:
            self._console.print(_line(result), soft_wrap=True)

    def _print_failure(self, result: CaseResult) -> None:
        title, *rest = failure_lines(result, command=self._command)
        self._console.print(Text(f"\n{title}", style=_STYLE[result.status]), soft_wrap=True)
        self._console.print(Text("\n".join(rest)), soft_wrap=True)


def failure_lines(result: CaseResult, *, command: str = "./run emulator-test") -> tuple[str, ...]:
    """What a person needs to understand a failure; the first line is its title."""
    scenario = result.case.scenario
    return (
        f"{scenario.name} ({result.case.policy}): {result.status.value}",
        f"  {scenario.summary}",
        *(f"  {_printable(line)}" for line in result.detail),
        *(f"  │ {_printable(line)}" for line in result.log_lines),
        f"  reproduce: {reproduce_command(result.case, command=command)}",
    )


def _printable(text: str) -> str:
    """``text`` with tabs shown as a space and other control characters dropped."""
    return "".join(char for char in text.replace("\t", " ") if char.isprintable())


def _table(results: Sequence[CaseResult]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("scenario", "policy", "trigger", "victim"):
        table.add_column(heading)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for result in results:
        scenario = result.case.scenario
        table.add_row(
            scenario.name,
            result.case.policy,
            scenario.trigger.value,
            victims_text(result.kills),
            f"{result.seconds:.1f} s",
            Text(result.status.value, style=_STYLE[result.status]),
        )
    return table


def _line(result: CaseResult) -> Text:
    scenario = result.case.scenario
    return Text.assemble(
        f"{scenario.name} ({result.case.policy}, {scenario.trigger.value}): ",
        (result.status.value, _STYLE[result.status]),
        f" in {result.seconds:.1f} s, victim {victims_text(result.kills)}",
    )


def _summary(results: Sequence[CaseResult], seconds: float) -> Text:
    counts = {status: sum(1 for one in results if one.status is status) for status in Status}
    parts = [
        Text(f"{count} {status.value}", style=_STYLE[status])
        for status, count in counts.items()
        if count
    ]
    return Text("\n") + Text(", ").join(parts) + Text(f" in {seconds:.1f} s")


def victims_text(kills: Sequence[KillEvent]) -> str:
    """Who was killed, with sizes; at most three by name."""
    if not kills:
        return "none"
    shown = ", ".join(f"{kill.pid} ({_size(kill.process_rss)})" for kill in kills[:3])
    return f"{shown}, … {len(kills)} in all" if len(kills) > 3 else shown


def _size(size: int) -> str:
    """Bytes as a person reads them, in powers of 1000 as the scenarios use."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"


def results_json(info: RunInfo, results: Sequence[CaseResult]) -> str:
    """The results in the format of ``--results``."""
    encoded = msgspec.json.encode(_results(info, results))
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def results_data(info: RunInfo, results: Sequence[CaseResult]) -> dict[str, Any]:
    """The same as a page is made of it."""
    data: dict[str, Any] = msgspec.json.decode(results_json(info, results))
    return data


def _results(info: RunInfo, results: Sequence[CaseResult]) -> Results:
    return Results(
        schema=SCHEMA,
        kernel=info.kernel,
        release=info.release,
        arch=info.arch,
        board=info.board,
        device=info.device,
        accel=info.accel,
        accel_why=info.accel_why,
        reproduce=info.reproduce,
        sha256=info.sha256,
        cases=tuple(_record(result, info.command) for result in results),
    )


def _record(result: CaseResult, command: str) -> CaseRecord:
    """A case; with evidence also who had how much when."""
    case = result.case
    samples = None
    if result.samples.processes:
        samples = Sampled(
            limits=tuple(astuple(one) for one in result.samples.limits),
            processes=tuple(astuple(one) for one in result.samples.processes),
        )
    return CaseRecord(
        id=case.id,
        name=case.scenario.name,
        summary=case.scenario.summary,
        policy=case.policy,
        kernel=case.kernel,
        trigger=case.scenario.trigger.value,
        seed=case.seed,
        status=result.status.value,
        seconds=round(result.seconds, 3),
        kills=tuple(_kill(kill) for kill in result.kills),
        field=case.policies[case.policy].field,
        rankings=tuple(
            tuple(_ranked(one) for one in walk.rows) for walk in rankings(result.candidates)
        ),
        detail="\n".join(result.detail),
        log=tuple(_printable(line) for line in result.log or result.log_lines),
        console=result.console,
        reproduce=reproduce_command(case, command=command),
        samples=samples,
    )


def _ranked(one: Candidate) -> Ranked:
    return Ranked(
        pid=one.pid, comm=one.comm, uid=one.uid, rss=one.rss, score=one.score, fate=one.fate
    )


def _kill(kill: KillEvent) -> Kill:
    return Kill(
        uid=kill.uid,
        user_rss=kill.user_rss,
        mm_max=kill.mm_max,
        pid=kill.pid,
        process_rss=kill.process_rss,
        score=kill.score if kill.field is not None else None,
    )


def junit_xml(info: RunInfo, results: Sequence[CaseResult]) -> str:
    """The results as JUnit XML: one suite, a case's class is its policy."""
    suite = ET.Element(
        "testsuite",
        name=f"{info.kernel}.{info.board}",
        tests=str(len(results)),
        failures=str(sum(1 for one in results if one.status is Status.FAILED)),
        errors=str(sum(1 for one in results if one.status in (Status.ERROR, Status.CRASHED))),
        time=f"{sum(one.seconds for one in results):.3f}",
    )
    for result in results:
        suite.append(_case_xml(info, result))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case_xml(info: RunInfo, result: CaseResult) -> ET.Element:
    element = ET.Element(
        "testcase",
        classname=f"{info.kernel}.{info.board}.{result.case.policy}",
        name=result.case.scenario.name,
        time=f"{result.seconds:.3f}",
    )
    if result.status is Status.PASSED:
        return element
    tag = "failure" if result.status is Status.FAILED else "error"
    message = result.detail[0] if result.detail else result.status.value
    problem = ET.SubElement(element, tag, type=result.status.value, message=_xml_text(message))
    reproduce = reproduce_command(result.case, command=info.command)
    text = "\n".join((*result.detail, *result.log_lines, f"reproduce: {reproduce}"))
    problem.text = _xml_text(text)
    return element


def _xml_text(text: str) -> str:
    return text.translate(_NOT_IN_XML)


def write_results(path: Path, info: RunInfo, results: Sequence[CaseResult]) -> None:
    """Write the JSON results; raises HarnessError naming the file."""
    write_text(path, results_json(info, results))


def write_junit(path: Path, info: RunInfo, results: Sequence[CaseResult]) -> None:
    """Write the JUnit results; raises HarnessError naming the file."""
    write_text(path, junit_xml(info, results))


def write_text(path: Path, text: str) -> None:
    """A reader sees the old file or all of the new one, never a part."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise HarnessError(
            f"cannot write results to {path}: {error.strerror or error}",
            hint="name a file in a folder that can be written to",
        ) from error
