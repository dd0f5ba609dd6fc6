# SPDX-License-Identifier: GPL-2.0-only
"""`./run test`: the linters, the unit tests, and the parts that boot kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from harness import process, ui
from harness.build import pipeline
from harness.command import lint
from harness.command.selection import Selection
from harness.errors import ExitCode, HarnessError
from harness.kernels import TestedKernel, load_kernels
from harness.layout import Layout
from harness.source import patch, sdk

# Side by side; by files, which share what they have compiled.
UNIT_OPTIONS = ("--numprocesses=auto", "--dist=loadfile")

UNIT = "unit"

LINT = "lint"


def test(*, only: Sequence[str], layout: Layout) -> int:
    """Linters and the folders of tests/; all are run, SCENARIO_FAILED if one failed.

    What needs a kernel source that is not there is left out, and said to be.
    """
    parts = load_kernels(layout).tests
    names = (LINT, UNIT, *parts)
    unknown = [name for name in only if name not in names]
    if unknown:
        raise HarnessError(
            f"unknown part {unknown[0]!r}", hint=f"--only takes one of: {', '.join(names)}"
        )
    failed = _lint(layout) if not only or LINT in only else []
    if (not only or UNIT in only) and not _pytest(UNIT, UNIT_OPTIONS, {}, layout=layout):
        failed.append(f"{UNIT} tests")
    chosen = {
        name: part for name, part in parts.items() if name in only or (not only and part.by_default)
    }
    untested = [name for name, part in chosen.items() if _lacking(part)]
    for name, part in chosen.items():
        if name not in untested and not _test_kernel(part, layout=layout):
            failed.append(f"{name} tests")
    for name in untested:
        ui.console.print(_untested(name, chosen[name]), soft_wrap=True)
    if failed:
        ui.console.print(f"[bold red]failed:[/] {', '.join(failed)}")
        return int(ExitCode.SCENARIO_FAILED)
    if only and len(untested) == len(only):
        return int(ExitCode.HARNESS_ERROR)
    return int(ExitCode.PASSED)


def _test_kernel(part: TestedKernel, *, layout: Layout) -> bool:
    env = {
        **Selection.tested(part).environment,
        "MMLIMITS_TEST_SCENARIOS": ",".join(part.scenarios),
    }
    return _pytest(part.tests, (), env, files=part.files, layout=layout)


def _lacking(part: TestedKernel) -> tuple[str, ...]:
    """The variables that it needs and that are not set."""
    needed = (part.source, part.emulator)
    return tuple(name for name in needed if name is not None and not os.environ.get(name))


def _untested(name: str, part: TestedKernel) -> str:
    what = {
        part.source: f"source of {part.kernel}",
        part.emulator: "Android emulator with the classic engine",
    }
    lacking = " and no ".join(what[name] for name in _lacking(part))
    needed = " ".join(f"{name}=PATH" for name in (part.source, part.emulator) if name)
    return (
        f"[bold yellow]not tested:[/] {name}: there is no {lacking} here"
        f" ({needed} ./run test --only={name})"
    )


def _lint(layout: Layout) -> list[str]:
    """The default line's checkpatch is for all lines: that of 3.4 does not run any more."""
    kernels = load_kernels(layout)
    fetched = pipeline.fetch_source(kernels.line(), None, layout=layout)
    tree = pipeline.patch_source(kernels.line(), fetched, layout=layout)
    folders = [
        folder
        for line in kernels.lines.values()
        for folder in (line.patches, *([line.compat.patches] if line.compat else []))
    ]
    patches = [one.path for folder in folders for one in patch.read_series(folder)]
    return lint.run(layout, lint.linters(layout, kernel_tree=tree.path, patches=patches))


def _pytest(
    folder_name: str,
    options: Sequence[str],
    env: Mapping[str, str],
    *,
    files: Sequence[str] = (),
    layout: Layout,
) -> bool:
    """Run one folder of tests, or some files of it; its output goes straight through."""
    folder = layout.root / "tests" / folder_name
    if not any(folder.rglob("test_*.py")):
        ui.say(f"no tests in {folder}")
        return False
    chosen = [str(folder / name) for name in files] or [str(folder)]
    command = [sys.executable, "-m", "pytest", *options, *chosen]
    return process.passthrough(command, cwd=layout.root, env={**_asked_for(layout), **env}) == 0


def _asked_for(layout: Layout) -> dict[str, str]:
    """The variables that are said, somewhere, to be for us."""
    parts = load_kernels(layout).tests.values()
    names = {*sdk.SDK_VARIABLES, *(name for part in parts for name in (part.source, part.emulator))}
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("MMLIMITS_")
    }
