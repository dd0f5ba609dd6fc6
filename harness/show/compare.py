# SPDX-License-Identifier: GPL-2.0-only
"""Two results, or two benches, side by side: what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from harness.errors import HarnessError

# Times and figures that differ by less than this part are not marked.
NOTABLE = 0.05


def compare(before: Path, after: Path) -> tuple[Table, int]:
    """A table of both, and how many rows differ; HarnessError if they are not of one kind."""
    one, other = _read(before), _read(after)
    for key, rows in (("cases", _cases), ("figures", _figures)):
        if key in one and key in other:
            return _table(rows(one[key]), rows(other[key]), before, after)
    raise HarnessError(
        f"{before} and {after} cannot be compared",
        hint="give two files of --results, or two of bench (build/bench/bench.json)",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise HarnessError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path} holds neither results nor a bench")
    return data


def _cases(cases: list[Mapping[str, Any]]) -> dict[str, tuple[str, float | None]]:
    """Id of a case → what came of it; how long it took is no difference."""
    return {
        str(case.get("id") or f"{case['name']}-{case['policy']}"): (
            f"{case['status']}, {len(case['kills'])} killed",
            None,
        )
        for case in cases
    }


def _figures(figures: list[Mapping[str, Any]]) -> dict[str, tuple[str, float | None]]:
    """Name of a figure → its value, with the unit."""
    return {
        str(figure["name"]): (f"{figure['value']:g} {figure['unit']}", float(figure["value"]))
        for figure in figures
    }


def _table(
    one: Mapping[str, tuple[str, float | None]],
    other: Mapping[str, tuple[str, float | None]],
    before: Path,
    after: Path,
) -> tuple[Table, int]:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", before.name, after.name, ""):
        table.add_column(heading, overflow="fold")
    differing = 0
    for name in dict.fromkeys((*one, *other)):
        left, right = one.get(name), other.get(name)
        note = _difference(left, right)
        differing += bool(note)
        table.add_row(
            name,
            left[0] if left else "-",
            right[0] if right else "-",
            note,
            style="yellow" if note else None,
        )
    return table, differing


def _difference(
    left: tuple[str, float | None] | None, right: tuple[str, float | None] | None
) -> str:
    if left is None or right is None:
        return "only in one"
    if left[1] is None or right[1] is None:
        return "" if left[0] == right[0] else "differs"
    if left[1] == right[1]:
        return ""
    if not left[1]:
        return "differs"
    part = (right[1] - left[1]) / abs(left[1])
    return f"{part:+.0%}" if abs(part) >= NOTABLE else ""
