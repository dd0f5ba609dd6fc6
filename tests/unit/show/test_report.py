# SPDX-License-Identifier: GPL-2.0-only
"""What the user sees, and the result files."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from harness.case.judge import Status
from harness.case.load import load_scenarios
from harness.case.run import CaseResult
from harness.case.scenario import Case
from harness.errors import HarnessError
from harness.kmsg import KillEvent
from harness.layout import Layout
from harness.show.report import (
    Report,
    RunInfo,
    junit_xml,
    reproduce_command,
    results_json,
    victims_text,
    write_junit,
    write_results,
)

BY_NAME = {scenario.name: scenario for scenario in load_scenarios(Layout.default())}

INFO = RunInfo(
    kernel="linux-6.1",
    release="6.1.0-mmlimits",
    arch="arm",
    board="arm-virt",
    device="qemu",
    accel="tcg",
    accel_why="as asked",
    reproduce="./run emulator-test --policy=rss",
)


def kill(pid: int, *, field: str | None = None, score: int | None = None) -> KillEvent:
    return KillEvent(0, 1.0, 10070, 100003840, 100000000, pid, 97325056, field, score)


PASSED = CaseResult(
    Case(BY_NAME["kernel-runtime"], "runtime"),
    Status.PASSED,
    2.5,
    kills=(kill(94, field="total_run_time", score=412),),
)
FAILED = CaseResult(
    Case(BY_NAME["many-must-die"], "rss"),
    Status.FAILED,
    1.25,
    kills=(kill(7), kill(8)),
    detail=("expected: killed: 3 of p.*", "seen:     2 [p.0, p.1]"),
    log_lines=("[    1.0] uid=10070,\tuRSS=5\x1b[31m",),
)
CRASHED = CaseResult(
    Case(BY_NAME["threads"], "rss"),
    Status.CRASHED,
    0.5,
    detail=("kernel panic",),
    log_lines=("Kernel panic - not syncing: \x00",),
)
ERROR = CaseResult(Case(BY_NAME["isolation"], "rss"), Status.ERROR, 0.0, detail=("no answer",))


def shown(*results: CaseResult, terminal: bool = False, width: int = 120) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    with Report(console, command="./run emulator-test --arch=arm") as report:
        for result in results:
            report.add(result)
    assert report.results == results
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_table_has_every_column(terminal: bool) -> None:
    text = shown(PASSED, FAILED, terminal=terminal)
    for word in ("scenario", "policy", "trigger", "victim", "time", "verdict"):
        assert word in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "kernel-runtime runtime kernel 94 (97.3 MB) 2.5 s passed" in rows
    assert "1 passed, 1 failed" in text


def test_results_are_shown_as_they_come() -> None:
    stream = io.StringIO()
    with Report(Console(file=stream, width=100)) as report:
        report.add(PASSED)
        assert "kernel-runtime (runtime, kernel): passed in 2.5 s" in stream.getvalue()


def test_a_failure_shows_all_that_is_needed() -> None:
    text = shown(PASSED, FAILED)
    assert "expected: killed: 3 of p.*" in text
    assert "seen:     2 [p.0, p.1]" in text
    assert "uid=10070, uRSS=5" in text
    assert "\x1b" not in text
    assert "reproduce: ./run emulator-test --arch=arm --policy=rss --scenario=many-must-die" in text


def test_passes_are_not_explained() -> None:
    assert "reproduce" not in shown(PASSED)


def test_nothing_is_shown_for_no_results() -> None:
    assert shown() == ""


def test_reproduce_command() -> None:
    assert (
        reproduce_command(FAILED.case)
        == "./run emulator-test --policy=rss --scenario=many-must-die"
    )


def test_many_victims_are_counted() -> None:
    assert victims_text([]) == "none"
    assert victims_text([kill(n) for n in range(5)]).endswith("2 (97.3 MB), … 5 in all")


def test_json_is_schema_2() -> None:
    data = json.loads(results_json(INFO, [PASSED, FAILED]))
    assert list(data) == [
        "schema",
        "kernel",
        "release",
        "arch",
        "board",
        "device",
        "accel",
        "accel_why",
        "reproduce",
        "sha256",
        "cases",
    ]
    assert data["schema"] == 2
    assert data["cases"][0] == {
        "id": "kernel-runtime-runtime",
        "name": "kernel-runtime",
        "summary": BY_NAME["kernel-runtime"].summary,
        "policy": "runtime",
        "kernel": "runtime",
        "trigger": "kernel",
        "status": "passed",
        "seconds": 2.5,
        "kills": [
            {
                "uid": 10070,
                "user_rss": 100003840,
                "mm_max": 100000000,
                "pid": 94,
                "process_rss": 97325056,
                "score": 412,
            }
        ],
        "rankings": [],
        "detail": "",
        "field": "total_run_time",
        "seed": 1,
        "reproduce": "./run emulator-test --policy=runtime --scenario=kernel-runtime",
        "log": [],
        "console": "",
        "samples": None,
    }
    assert data["cases"][1]["kills"][0]["score"] is None
    assert data["cases"][1]["detail"].startswith("expected: killed")


def test_junit_counts_and_escapes() -> None:
    root = ET.fromstring(junit_xml(INFO, [PASSED, FAILED, CRASHED, ERROR]))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "2")
    passed, failed, crashed, error = suite
    assert len(passed) == 0
    assert failed.get("classname") == "linux-6.1.arm-virt.rss"
    assert [problem.tag for problem in (failed[0], crashed[0], error[0])] == [
        "failure",
        "error",
        "error",
    ]
    assert crashed[0].get("type") == "crashed"
    assert "--scenario=many-must-die" in (failed[0].text or "")


def test_files_are_written_whole(tmp_path: Path) -> None:
    results = tmp_path / "new" / "results.json"
    junit = tmp_path / "junit.xml"
    junit.write_text("old", encoding="utf-8")
    write_results(results, INFO, [PASSED])
    write_junit(junit, INFO, [PASSED])
    assert json.loads(results.read_text(encoding="utf-8"))["cases"]
    assert ET.parse(junit).getroot().tag == "testsuites"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "new"]
    assert junit.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(HarnessError, match=r"cannot write results to .*r\.json"):
        write_results(tmp_path / "file" / "r.json", INFO, [PASSED])
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(HarnessError, match="folder"):
        write_results(folder, INFO, [PASSED])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
