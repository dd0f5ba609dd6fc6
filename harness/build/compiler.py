# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's compiler is, where that decides what is to be done."""

from __future__ import annotations

from harness import process
from harness.debian import package_of
from harness.errors import HarnessError
from harness.kernels import Board, KernelLine


def require(board: Board) -> None:
    """Raise HarnessError, saying where to get it, if the kernel's compiler is missing."""
    process.require(
        board.compiler,
        hint=f"it builds kernels for {board.name}; on Debian:"
        f" sudo apt-get install {package_of(board.compiler)}",
    )


def needs_compat(line: KernelLine, board: Board) -> bool:
    """Is the board's compiler too new for the line's source as it is?"""
    if line.compat is None:
        return False
    require(board)
    return gcc_major(board.compiler) >= line.compat.since_gcc


def gcc_major(compiler: str) -> int:
    """The major version of a gcc, for example 12."""
    result = process.run([compiler, "-dumpversion"], what=f"asking {compiler} for its version")
    version = result.output[0].strip() if result.output else ""
    major = version.split(".")[0]
    if not major.isdigit():
        raise HarnessError(f"{compiler} -dumpversion says {version!r}, which is no version of gcc")
    return int(major)
