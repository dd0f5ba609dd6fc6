# SPDX-License-Identifier: GPL-2.0-only
"""Two results, or two benches, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.show.compare import compare


def write(folder: Path, name: str, data: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def case(status: str, kills: int = 1, name: str = "a") -> dict[str, Any]:
    return {"name": name, "policy": "rss", "status": status, "kills": [{}] * kills}


def test_cases_differ_by_verdict_and_kills(tmp_path: Path) -> None:
    before = write(tmp_path, "a.json", {"cases": [case("passed"), case("passed", name="b")]})
    after = write(tmp_path, "b.json", {"cases": [case("passed", 2), case("passed", name="c")]})
    table, differing = compare(before, after)
    assert (table.row_count, differing) == (3, 3)
    assert compare(before, before)[1] == 0


def test_figures_differ_by_more_than_a_little(tmp_path: Path) -> None:
    def bench(value: float) -> dict[str, Any]:
        return {"figures": [{"name": "empty", "unit": "instructions", "value": value}]}

    files = [write(tmp_path, f"{value}.json", bench(value)) for value in (10.0, 10.2, 12.0, 0.0)]
    assert [compare(files[0], file)[1] for file in files] == [0, 0, 1, 1]
    assert compare(files[3], files[0])[1] == 1


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    results = write(tmp_path, "a.json", {"cases": []})
    bench = write(tmp_path, "b.json", {"figures": []})
    with pytest.raises(HarnessError, match=r"a\.json and .*b\.json cannot be compared"):
        compare(results, bench)
    with pytest.raises(HarnessError, match=r"holds neither"):
        compare(results, write(tmp_path, "c.json", []))
    with pytest.raises(HarnessError, match=r"cannot read"):
        compare(results, tmp_path / "d.json")
