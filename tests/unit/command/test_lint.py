# SPDX-License-Identifier: GPL-2.0-only
"""Lint fails on what it is there for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.command import lint
from harness.layout import Layout

ROOT = Path(__file__).parents[3]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of what the check of imports reads."""
    shutil.copytree(
        ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def failed(root: Path) -> list[str]:
    layout = Layout(root=root, build=root / "build", cache=root / "cache")
    checks = lint.linters(layout, kernel_tree=None, patches=[])
    return lint.run(layout, [check for check in checks if check.name == "imports"])


def test_the_rooms_are_in_order(package: Path) -> None:
    assert failed(package) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("device/adb.py", "from harness.case import run"),  # a later room
        ("show/report.py", "from harness.bench import plan"),  # a room beside it
        ("errors.py", "from harness import process"),  # a later floor of what is shared
        ("build/compiler.py", "from harness.build import build"),  # a circle in a room
        ("news.py", ""),  # a module whose place nobody has said
    ],
)
def test_imports_against_the_order_fail(package: Path, module: str, line: str) -> None:
    with (package / "harness" / module).open("a") as file:
        file.write(f"{line}\n")
    assert failed(package) == ["imports"]
