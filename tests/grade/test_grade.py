# SPDX-License-Identifier: GPL-2.0-only
"""Submissions graded by the command that people type: the good one, and each that is broken."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.layout import Layout
from tests.grade import submissions

LAYOUT = Layout.default()

pytestmark = pytest.mark.emulator


def graded(folder: Path, given: str | Path, contract: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the verdict, and all that was shown."""
    (folder / "contract.toml").write_text(contract)
    command = [
        str(LAYOUT.root / ".venv/bin/invoke"),
        *("grade", str(given), f"--contract={folder}/contract.toml"),
        *(f"--results={folder}/results.json", f"--report={folder}/page.html"),
    ]
    done = subprocess.run(command, cwd=LAYOUT.root, capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    assert (folder / "results.json").exists(), shown
    (one,) = json.loads((folder / "results.json").read_text())["submissions"]
    assert one["name"] in (folder / "page.html").read_text()
    return done.returncode, one, shown


def statuses(one: dict[str, Any]) -> dict[str, str]:
    return {mark["what"]: mark["status"] for mark in one["marks"]}


@pytest.mark.parametrize("form", [submissions.good, submissions.as_git])
def test_a_good_one_has_full_marks(form: Callable[[Path], str | Path], tmp_path: Path) -> None:
    status, one, shown = graded(tmp_path, form(tmp_path / "theirs"), submissions.CONTRACT)
    assert status == 0, shown
    assert one["points"] == one["of"] == 10 + 15 + 10 + 5
    assert statuses(one) == {
        "build": "passed",
        "kernel-rss-rss": "passed",
        "daemon-rss-none": "passed",
        "policies-differ-rss": "passed",
        **dict.fromkeys(("kernel-runtime", "daemon-runtime"), "not claimed"),
        **dict.fromkeys(("kernel-badness", "daemon-badness"), "not claimed"),
    }


def test_one_on_a_timer_is_given_its_period(tmp_path: Path) -> None:
    theirs = submissions.on_a_timer(tmp_path / "theirs")
    status, one, shown = graded(tmp_path, theirs, submissions.TIMER_CONTRACT)
    assert status == 0, shown
    assert statuses(one)["kernel-rss-rss"] == "passed"
    assert statuses(one)["daemon-rss"] == "not claimed"
    assert one["points"] == one["of"] == 10 + 15


def test_a_contract_is_guessed(tmp_path: Path) -> None:
    theirs = submissions.on_a_timer(tmp_path / "theirs")
    command = [str(LAYOUT.root / ".venv/bin/invoke"), "grade", str(theirs), "--guess"]
    done = subprocess.run(command, cwd=LAYOUT.root, capture_output=True, text=True, check=True)
    assert "number = 223  # found: the slot overwritten in limits/limits.c" in done.stdout
    assert 'folder = "limits"  # found' in done.stdout
    assert "timer:" in done.stdout


def test_one_that_does_not_compile_is_told_where(tmp_path: Path) -> None:
    theirs = submissions.does_not_compile(tmp_path / "theirs")
    status, one, _ = graded(tmp_path, theirs, submissions.SMALL_CONTRACT)
    assert status == 1
    assert statuses(one)["build"] == "failed"
    assert statuses(one)["kernel-rss"] == "not built"
    why = one["marks"][0]["why"]
    assert why.startswith("compiling the kernel: mm/oom_kill.c:")
    assert "missing" in why
    assert one["points"] == 0


@pytest.mark.parametrize(
    ("broken", "status", "said"),
    [
        (submissions.panics_at_load, "crashed", "at load"),
        (submissions.refuses_to_load, "failed", "not_there"),
        (submissions.hangs, "crashed", ""),
        (submissions.kills_init, "crashed", "Attempted to kill init"),
        (submissions.floods_the_log, "error", "log overflowed"),
    ],
)
def test_a_broken_one_has_its_verdict(
    broken: Callable[[Path], Path], status: str, said: str, tmp_path: Path
) -> None:
    returned, one, shown = graded(tmp_path, broken(tmp_path / "theirs"), submissions.SMALL_CONTRACT)
    assert returned == 1, shown
    assert status in statuses(one).values(), shown
    assert said in " ".join(line for lines in one["evidence"].values() for line in lines), shown
