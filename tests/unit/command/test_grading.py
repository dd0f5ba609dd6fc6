# SPDX-License-Identifier: GPL-2.0-only
"""What is shown of marks, and that one submission's grading never costs another's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.case.load import load_scenarios
from harness.command import grading
from harness.command.grading import Graded, Request, shown
from harness.command.selection import Selection
from harness.grade import exam
from harness.grade.contract import load_contract
from harness.grade.marks import Mark, load_scheme
from harness.layout import Layout


def test_what_a_build_says_is_shown_as_it_is() -> None:
    why = 'modpost: "x" [/tmp/[/red]/x.ko] undefined!'
    one = Graded(
        name="[/theirs]",
        form="patches",
        points=0,
        of=10,
        marks=(Mark("build", "failed", 0, 10, why),),
        evidence={},
    )
    console = Console(width=120)
    with console.capture() as text:
        console.print(shown(one))
    assert why in text.get()
    assert "[/theirs] (patches)" in text.get()


def test_a_grading_that_dies_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = Layout.default().root / "configs"
    contract, scheme = configs / "contracts/ours.toml", configs / "grading.toml"
    planned = exam.plan(load_contract(contract), load_scenarios(Layout.default()))
    request = Request(
        submissions=["one", "two"],
        contract=contract,
        scheme=scheme,
        results=None,
        report=None,
        command="./run grade",
        jobs=2,
    )
    monkeypatch.setattr(sys, "executable", "false")
    layout = Layout(root=tmp_path, build=tmp_path / "build", cache=tmp_path / "cache")
    verdicts = list(
        grading._side_by_side(Selection(), request, load_scheme(scheme), planned, layout=layout)
    )
    assert [one.name for one in verdicts] == ["one", "two"]
    assert all(one.points == 0 and one.of > 0 for one in verdicts)
    assert all("ended without a verdict" in one.marks[0].why for one in verdicts)
