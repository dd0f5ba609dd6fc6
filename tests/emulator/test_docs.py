# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the docs about policies, scenarios and results, typed one after the other.

From a folder of the reader's own, as written; what differs from a clone is named here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command.selection import Selection
from harness.layout import Layout
from tests.selected import selection

ROOT = Layout.default().root
DOCS = ("write-a-policy", "scenarios", "results")

# It compares with a bench, which takes ten minutes, and one from before.
NOT_RUN = {"./run compare build/bench/bench.json older.json"}

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(
        selection() != Selection(), reason="the commands name no kernel: they are for the default"
    ),
]


def commands(document: str) -> list[str]:
    text = (ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8")
    found = re.findall(r"^    (\./run .*?)(?:  +#.*)?$", text, re.MULTILINE)
    return [command for command in found if command not in NOT_RUN]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a ./run of ours, and the checkout's policies."""
    script = tmp_path / "run"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(ROOT / "run"))} "$@"\n')
    script.chmod(0o755)
    (tmp_path / "policies").symlink_to(ROOT / "policies")
    yield tmp_path
    for name in ("mine.c", "mine.toml"):
        (ROOT / "policies" / name).unlink(missing_ok=True)


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("document", DOCS)
def test_its_commands_do_what_it_says(document: str, folder: Path) -> None:
    found = commands(document)
    assert found or document == "scenarios"
    for command in found:
        done = typed(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_first_table_of_the_guide_is_what_one_sees(folder: Path) -> None:
    assert typed("./run new-policy mine", folder).returncode == 0
    shown = typed("./run try policies/mine.c --scenario=choice", folder).stdout
    guide = (ROOT / "docs/write-a-policy.md").read_text(encoding="utf-8")
    table = guide[guide.index("    choice: whom mine chose") :].split("\n\n")[0]
    order = [line.split()[0] for line in table.splitlines()[2:]]
    seen = shown[shown.index("choice: whom mine chose") :].splitlines()[2 : 2 + len(order)]
    assert [line.split()[0] for line in seen] == order


def test_the_readmes_run_is_a_run(folder: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    written = re.findall(r"^    (kernel-rss|limit-below-usage) (\(.*)$", readme, re.MULTILINE)
    assert len(written) == 2
    names = ",".join(name for name, _ in written)
    shown = typed(f"./run emulator-test --policy=rss --scenario={names}", folder).stdout
    for name, rest in written:
        # The numbers are those of another run.
        pattern = re.sub(r"[\d.]+", r"[\\d.]+", re.escape(rest).replace(r"\.", "."))
        assert re.search(rf"^{name} {pattern}$", shown, re.MULTILINE), shown
