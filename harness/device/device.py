# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario may ask of a device, whatever that device is.

QEMU with our initramfs and the Android emulator both implement this one protocol,
and everything above it speaks adb, so a scenario does not know where it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ShellResult:
    """What one command did on the device (adb shell protocol v2)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


class Device(Protocol):
    """A booted device that answers adb."""

    @property
    def name(self) -> str:
        """How results call it: ``qemu`` or ``avd``."""

    @property
    def serial(self) -> str:
        """The adb serial, for example ``127.0.0.1:45123``."""

    @property
    def shared(self) -> bool:
        """Do apps that are not ours come and go on it?"""

    @property
    def console(self) -> str:
        """The file with all that its console has shown; empty if there is none."""

    @property
    def fresh(self) -> bool:
        """Has nobody used it before?"""

    @property
    def accel(self) -> str:
        """``tcg``, ``kvm`` or ``none`` (real hardware)."""

    def shell(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        user: str | None = None,
        urgent: bool = False,
    ) -> ShellResult:
        """Run ``argv`` as root, or as ``user``; seconds; no shell quoting needed.

        What is ``urgent`` runs, where the device can do that, before all that want
        the CPU: for looking after a guest whose CPUs are busy.

        Raises GuestCrash when the kernel crashes meanwhile and HarnessError when
        the command does not end within ``timeout`` seconds.  A non-zero exit
        status is a result, not an error.
        """

    def push(self, local: Path, remote: str, *, mode: int = 0o755) -> None:
        """Copy a file to the device; raises HarnessError naming the file."""

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the device; raises HarnessError naming the file."""

    def check(self) -> None:
        """Raise GuestCrash if the console has shown a crash since boot."""

    def close(self) -> None:
        """Stop the device, or leave it to others, and nothing of ours running.

        May be called twice.
        """

    def abandon(self) -> None:
        """As close(), of a device that is not as it should be."""
