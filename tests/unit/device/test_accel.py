# SPDX-License-Identifier: GPL-2.0-only
"""KVM is taken where a boot has proven it, and the reason is told."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.device.accel import Accel, checked, choose
from harness.errors import GuestCrash, HarnessError
from harness.kernels import Board, load_kernels
from harness.layout import Layout

ROOT = Path(__file__).parents[3]


@pytest.fixture
def board() -> Board:
    """One of this machine's own architecture."""
    board = load_kernels(Layout(root=ROOT, build=ROOT, cache=ROOT)).target().board
    return replace(board, machine=platform.machine())


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "kvm"
    path.touch()
    return path


def works() -> None:
    pass


def hangs() -> None:
    raise GuestCrash("the guest said nothing for 20 s")


def must_not_run() -> None:
    raise AssertionError("a boot that nobody needs")


def test_auto_takes_what_a_boot_has_proven(board: Board, device: Path) -> None:
    accel = choose("auto", board, prove=works, device=device)
    assert accel.name == "kvm"
    assert "proven by a boot" in accel.why


def test_auto_says_why_not(board: Board, device: Path) -> None:
    accel = choose("auto", board, prove=hangs, device=device)
    assert accel.name == "tcg"
    assert "does not boot: the guest said nothing for 20 s" in accel.why


def test_kvm_that_was_asked_for_is_no_wish(board: Board, device: Path) -> None:
    with pytest.raises(HarnessError, match="does not boot"):
        choose("kvm", board, prove=hangs, device=device)
    with pytest.raises(HarnessError, match="there is no"):
        choose("kvm", board, prove=must_not_run, device=device.with_name("nowhere"))


def test_what_cannot_be_is_not_tried(board: Board, device: Path) -> None:
    assert choose("tcg", board, prove=must_not_run, device=device) == Accel("tcg", "as asked")
    other = replace(board, machine="other")
    accel = choose("auto", other, prove=must_not_run, device=device)
    assert accel.name == "tcg"
    assert f"this machine's {platform.machine()}" in accel.why
    absent = choose("auto", board, prove=must_not_run, device=device.with_name("nowhere"))
    assert "there is no" in absent.why


def test_other_words_are_refused() -> None:
    with pytest.raises(HarnessError, match="unknown accelerator 'xen'") as caught:
        checked("xen")
    assert "auto, kvm, tcg" in caught.value.hint
