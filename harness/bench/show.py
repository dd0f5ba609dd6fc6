# SPDX-License-Identifier: GPL-2.0-only
"""Shows the figures: a table for people, JSON (schema 1) for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from harness.bench.figures import Figure

SCHEMA = 1


def table(figures: Sequence[Figure]) -> Table:
    """One row a figure, with its target and whether it is met."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("figure", no_wrap=True)
    shown.add_column("value", justify="right", no_wrap=True)
    shown.add_column("target", justify="right", no_wrap=True)
    shown.add_column("unit")
    shown.add_column("")
    for figure in figures:
        shown.add_row(
            figure.name,
            number(figure.value),
            "" if figure.target is None else f"≤ {figure.target:g}",
            figure.unit,
            _verdict(figure),
        )
    return shown


def number(value: float) -> str:
    """With as many decimals as mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def _verdict(figure: Figure) -> Text:
    if figure.met is None:
        return Text("")
    if figure.excused:
        return Text("missed, as is known", style="yellow")
    return Text("met", style="green") if figure.met else Text("missed", style="bold red")


def results_json(
    figures: Sequence[Figure], *, kernel: str, release: str, board: str, reproduce: str
) -> str:
    """The results in the format of ``--results``."""
    data = {
        "schema": SCHEMA,
        "kernel": kernel,
        "release": release,
        "board": board,
        "reproduce": reproduce,
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "value": round(figure.value, 3),
                "target": figure.target,
                **({} if figure.unmet is None else {"unmet": figure.unmet.at_most}),
            }
            for figure in figures
        ],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
