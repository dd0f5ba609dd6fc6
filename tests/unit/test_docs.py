# SPDX-License-Identifier: GPL-2.0-only
"""Every command that README and docs/ name is one that there is, with options that it has."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.case.load import load_scenarios
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.policies import known

ROOT = Path(__file__).parents[2]
TEXTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

# What stands for something of the reader's own.
PLACEHOLDER = re.compile(r"[A-Z]{3,}|…|\.\.\.|mine|SUBMISSION")


def commands() -> Iterator[tuple[str, str]]:
    """Each command line and the file that has it."""
    for path in TEXTS:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        found = re.findall(r"^    (?:[A-Z_]+=\S+ )*(\./run .*?)(?:  +#.*)?$", text, re.MULTILINE)
        found += re.findall(r"`(?:[A-Z_]+=\S+ )*(\./run [^`]*)`", text)
        for command in found:
            yield " ".join(command.split()), str(path.relative_to(ROOT))


COMMANDS = sorted(set(commands()))


@cache
def options(task: str) -> frozenset[str]:
    """The long options of a task, as its help lists them."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("invoke")), "--help", task],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"there is no task {task}: {done.stderr}"
    return frozenset(re.findall(r"--(?:\[no-\])?([a-z][\w-]*)", done.stdout.split("Options:")[1]))


def test_the_documents_have_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("command", "where"), COMMANDS)
def test_a_documented_command_exists(command: str, where: str) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "--list":
        return
    task, *rest = words
    if "--" in rest:
        rest = rest[: rest.index("--")]
    for number, word in enumerate(rest):
        if not word.startswith("--"):
            continue
        name, _, value = word.removeprefix("--").partition("=")
        assert name in options(task), f"{where}: {task} has no --{name}"
        if not value and number + 1 < len(rest):
            value = rest[number + 1]
        check_value(name, value, where)


def check_value(name: str, value: str, where: str) -> None:
    """Names of policies, scenarios and kernels are names of some that there are."""
    if PLACEHOLDER.search(value):
        return
    valid = {
        "policy": list(known()),
        "scenario": [scenario.name for scenario in load_scenarios(Layout.default())],
        "kernel": list(load_kernels(Layout.default()).lines),
    }
    for one in value.split(",") if name in valid else ():
        assert fnmatch.filter(valid[name], one), f"{where}: there is no {name} {one!r}"


def test_links_lead_to_files() -> None:
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
