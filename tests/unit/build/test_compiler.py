# SPDX-License-Identifier: GPL-2.0-only
"""Compatibility patches are for the compilers that need them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.build import compiler
from harness.errors import HarnessError
from harness.kernels import Board, CompatPatches, KernelLine
from tests.unit.fake_tree import make_checkout

GCC = "#!/bin/sh\necho '{version}'\n"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelLine:
    checkout = make_checkout(tmp_path, monkeypatch)
    compat = CompatPatches(patches=checkout.layout.root, since_gcc=5)
    return replace(checkout.line, compat=compat)


@pytest.fixture
def board(line: KernelLine, tmp_path: Path) -> Board:
    board = line.boards["arm-virt"]
    return replace(board, cross_compile=f"{tmp_path}/own-")


def install(board: Board, version: str) -> None:
    path = Path(board.compiler)
    path.write_text(GCC.format(version=version))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "needed"), [("4.9", False), ("4.8.5", False), ("5", True), ("12", True)]
)
def test_by_major_version(line: KernelLine, board: Board, version: str, needed: bool) -> None:
    install(board, version)
    assert compiler.needs_compat(line, board) is needed


def test_a_line_without_such_patches_needs_none(line: KernelLine, board: Board) -> None:
    assert not compiler.needs_compat(replace(line, compat=None), board)


def test_no_gcc_is_an_error(line: KernelLine, board: Board) -> None:
    with pytest.raises(HarnessError, match="own-gcc") as caught:
        compiler.needs_compat(line, board)
    assert "apt-get install" in caught.value.hint
    install(board, "clang, sort of")
    with pytest.raises(HarnessError, match="no version of gcc"):
        compiler.needs_compat(line, board)
