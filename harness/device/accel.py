# SPDX-License-Identifier: GPL-2.0-only
"""How QEMU runs the guest: KVM where it is proven to work, else TCG.

That /dev/kvm exists says little: below another hypervisor a stock kernel may hang
in its first instructions.  So ``auto`` takes KVM only after a boot of the very
kernel that is to be run.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.kernels import Board

CHOICES = ("auto", "kvm", "tcg")
KVM = Path("/dev/kvm")
# A kernel under KVM is up in one or two seconds; one that hangs says nothing.
PROOF_SECONDS = 15.0


@dataclass(frozen=True)
class Accel:
    """``name`` is QEMU's, ``tcg`` or ``kvm``; ``why`` says how it was chosen."""

    name: str
    why: str


def checked(asked: str) -> str:
    """The value of --accel; raises HarnessError if it is none."""
    if asked not in CHOICES:
        raise HarnessError(
            f"unknown accelerator {asked!r}", hint=f"--accel takes one of: {', '.join(CHOICES)}"
        )
    return asked


def choose(asked: str, board: Board, *, prove: Callable[[], None], device: Path = KVM) -> Accel:
    """What to run a guest of this board with.

    ``prove`` boots one under KVM and raises HarnessError if that fails.  Raises
    HarnessError if KVM was asked for and cannot be had.
    """
    if asked == "tcg":
        return Accel("tcg", "as asked")
    obstacle = _obstacle(board, device)
    if not obstacle:
        started = time.monotonic()
        try:
            prove()
        except HarnessError as error:
            obstacle = f"{device} is there, and yet this kernel does not boot: {error.what}"
        else:
            return Accel("kvm", f"proven by a boot of {time.monotonic() - started:.1f} s")
    if asked == "kvm":
        raise HarnessError(f"--accel=kvm: {obstacle}", hint="--accel=tcg works everywhere")
    return Accel("tcg", obstacle)


def _obstacle(board: Board, device: Path) -> str:
    """Why KVM is out of the question, or nothing."""
    machine = platform.machine()
    if board.machine != machine:
        return f"KVM runs kernels for this machine's {machine}, and {board.name} is {board.machine}"
    if not device.exists():
        return f"there is no {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened by you"
    return ""
