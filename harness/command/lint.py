# SPDX-License-Identifier: GPL-2.0-only
"""The checks of ./run test that run no code of ours: style, types, shell, workflows, patches."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process, ui
from harness.layout import Layout

PYTHON = ("tasks.py", "harness", "tests")
SHELL = ("run", ".ci/run", "guest/init")
# The names uRSS and pRSS of the trace event are those of the log line, which are fixed;
# and ENOSYS is for system calls, which is what the series adds.  What is deprecated since,
# call_rcu_sched(), is on Linux 3.4 another thing than call_rcu().
CHECKPATCH = ("--strict", "--ignore=CAMELCASE,ENOSYS,DEPRECATED_API", "--color=never", "-q")


@dataclass(frozen=True, kw_only=True)
class Linter:
    """One tool, and the command that runs it in a folder (None: the checkout's root)."""

    name: str
    argv: tuple[str, ...]
    cwd: Path | None = None


def linters(layout: Layout, *, kernel_tree: Path | None, patches: Sequence[Path]) -> list[Linter]:
    """All checks; checkpatch is the one of the kernel that the patches are for."""
    return [
        Linter(name="ruff", argv=(_script("ruff"), "check", *PYTHON)),
        Linter(name="format", argv=(_script("ruff"), "format", "--check", *PYTHON)),
        Linter(name="mypy", argv=(_script("mypy"), "--strict", *PYTHON)),
        # Its cache would be a folder of the checkout's; the whole check takes a second.
        Linter(name="imports", argv=(_script("lint-imports"), "--no-cache")),
        Linter(name="shellcheck", argv=("shellcheck", *_existing(layout.root, SHELL))),
        *_actionlint(layout),
        *_checkpatch(layout, kernel_tree, patches),
    ]


def run(layout: Layout, checks: Sequence[Linter]) -> list[str]:
    """Run all, showing all each complains about; returns the names of those that failed."""
    failed = []
    for check in checks:
        with ui.stage(check.name) as stage:
            process.require(check.argv[0])
            result = process.run(
                check.argv, what=check.name, cwd=check.cwd or layout.root, check=False
            )
            if result.returncode != 0:
                failed.append(check.name)
                stage.fail(f"exit status {result.returncode}: {shlex.join(check.argv)}")
        if result.returncode != 0:
            for line in result.output:
                ui.say(line)
    return failed


def _actionlint(layout: Layout) -> Iterator[Linter]:
    workflows = sorted((layout.root / ".github" / "workflows").glob("*.yml"))
    if workflows:
        argv = (_script("actionlint"), *(str(path) for path in workflows))
        yield Linter(name="actionlint", argv=argv)


def _checkpatch(
    layout: Layout, kernel_tree: Path | None, patches: Sequence[Path]
) -> Iterator[Linter]:
    if kernel_tree is None:
        return
    yield checkpatch(kernel_tree, patches)
    sources = sorted(layout.root.glob("modules/*/*.c"))
    if sources:
        argv = (*_checkpatch_of(kernel_tree), "--file", *(str(path) for path in sources))
        yield Linter(name="modules", argv=argv, cwd=kernel_tree)


def checkpatch(kernel_tree: Path, patches: Sequence[Path]) -> Linter:
    """The kernel's own check of patches; it leaves a cache file where it runs."""
    argv = (*_checkpatch_of(kernel_tree), *(str(path) for path in patches))
    return Linter(name="checkpatch", argv=argv, cwd=kernel_tree)


def _checkpatch_of(kernel_tree: Path) -> tuple[str, ...]:
    script = kernel_tree / "scripts" / "checkpatch.pl"
    return ("perl", str(script), f"--root={kernel_tree}", *CHECKPATCH)


def _existing(root: Path, names: Sequence[str]) -> Iterator[str]:
    return (name for name in names if (root / name).exists())


def _script(name: str) -> str:
    """A tool of our own environment, whatever PATH says."""
    return str(Path(sys.executable).with_name(name))
