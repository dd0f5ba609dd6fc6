# SPDX-License-Identifier: GPL-2.0-only
"""A page of marks: for each submission the points, and what was expected and seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.show.report import write_text

TEMPLATE = Path(__file__).with_name("grades.html.j2")


def write_grades(path: Path, graded: Sequence[Mapping[str, Any]]) -> None:
    """Write the page; raises HarnessError naming the file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(path, template.render(graded=graded))
