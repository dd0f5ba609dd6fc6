# SPDX-License-Identifier: GPL-2.0-only
"""Says what this machine lacks, with the command that fixes it.

``run`` installs what is missing where it may; this is for machines where it may
not, and for finding out why something does not work.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rich.table import Table

from harness.debian import package_of
from harness.kernels import Kernels
from harness.layout import Layout

MINIMUM_PYTHON = (3, 11)
NEEDED_GB = 6.0


class State(Enum):
    """What a check found; ``NOTE`` is worth knowing but stops nothing."""

    OK = "ok"
    MISSING = "missing"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the table; ``fix`` is a command or a sentence, empty when fine."""

    what: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Tool:
    """A command the harness runs, its Debian package and what it is for."""

    command: str
    package: str
    purpose: str
    optional: bool = False


TOOLS = (
    Tool("make", "make", "builds the kernel"),
    Tool("gcc", "gcc", "builds the kernel's own tools"),
    Tool("bison", "bison", "builds the kernel's own tools"),
    Tool("flex", "flex", "builds the kernel's own tools"),
    Tool("bc", "bc", "kernel build"),
    Tool("perl", "perl", "kernel build, checkpatch"),
    Tool("patch", "patch", "applies the series"),
    Tool("tar", "tar", "unpacks the source"),
    Tool("xz", package_of("xz"), "unpacks the source"),
    Tool("adb", "adb", "speaks to the device"),
    Tool("ccache", "ccache", "makes the second build quick", optional=True),
    Tool("git", "git", "needed for --source with a git address", optional=True),
    Tool("shellcheck", "shellcheck", "needed by ./run test", optional=True),
)


def tools(kernels: Kernels) -> tuple[Tool, ...]:
    """Every command that the harness may run, those of all boards included."""
    boards = [board for line in kernels.lines.values() for board in line.boards.values()]
    found = [
        *TOOLS,
        *(
            Tool(board.compiler, package_of(board.compiler), f"builds {board.name}")
            for board in boards
        ),
        *(
            Tool(board.qemu, package_of(board.qemu), f"boots {board.name}")
            for board in boards
            if board.qemu
        ),
    ]
    return tuple(dict.fromkeys(found))


def examine(kernels: Kernels, *, layout: Layout) -> tuple[Check, ...]:
    """Look at everything once; nothing is changed."""
    return (
        _python(),
        *(_tool(tool) for tool in tools(kernels)),
        _disk(layout.build, what="disk space for build/"),
        _disk(layout.cache, what="disk space for the cache", needed_gb=2.0),
        _kvm(Path("/dev/kvm")),
    )


def missing(checks: Iterable[Check]) -> list[Check]:
    """What stops the harness from working."""
    return [check for check in checks if check.state is State.MISSING]


def table(checks: Sequence[Check]) -> Table:
    """For people."""
    style = {State.OK: "green", State.MISSING: "bold red", State.NOTE: "yellow"}
    view = Table(box=None, pad_edge=False)
    for heading in ("what", "state", "found", "how to fix"):
        view.add_column(heading, overflow="fold")
    for check in checks:
        state = f"[{style[check.state]}]{check.state.value}[/]"
        view.add_row(check.what, state, check.found, check.fix)
    return view


def _python() -> Check:
    version = ".".join(str(number) for number in sys.version_info[:3])
    good = sys.version_info >= MINIMUM_PYTHON
    return Check(
        what="python3",
        state=State.OK if good else State.MISSING,
        found=version,
        fix="" if good else "install Python 3.11 or newer",
    )


def _tool(tool: Tool) -> Check:
    path = shutil.which(tool.command)
    if path is not None:
        return Check(what=tool.command, state=State.OK, found=path)
    apt = f"sudo apt-get install {tool.package}"
    return Check(
        what=tool.command,
        state=State.NOTE if tool.optional else State.MISSING,
        found=tool.purpose,
        fix=apt if shutil.which("apt-get") else f"install {tool.command}",
    )


def _disk(folder: Path, *, what: str, needed_gb: float = NEEDED_GB) -> Check:
    """Free space; what the folder already holds needs not be free again."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 1e9
    enough = free >= needed_gb or (folder.exists() and any(folder.iterdir()) and free >= 1.0)
    return Check(
        what=what,
        state=State.OK if enough else State.MISSING,
        found=f"{free:.1f} GB free",
        fix="" if enough else f"free {needed_gb:.0f} GB below {existing}; `./run clean` helps",
    )


def _kvm(device: Path) -> Check:
    """Only a remark: kernels of another architecture are emulated anyway."""
    if not device.exists():
        found = "not there: kernels are emulated (TCG)"
    elif not os.access(device, os.R_OK | os.W_OK):
        found = "there, but you may not open it: kernels are emulated (TCG)"
    else:
        found = "there and may be opened; that it works is proven only by a boot"
    return Check(what=str(device), state=State.NOTE, found=found)
