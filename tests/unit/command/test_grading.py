# SPDX-License-Identifier: GPL-2.0-only
"""Marks on the terminal: what a compiler says is no markup."""

from __future__ import annotations

from rich.console import Console

from harness.command.grading import Graded, shown
from harness.grade.marks import Mark


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
