# SPDX-License-Identifier: GPL-2.0-only
"""Boots what was prepared on the device that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.build.pipeline import Prepared
from harness.device import avd, qemu
from harness.device.accel import Accel
from harness.device.avd import AvdRequest
from harness.device.emulated import EmulatedDevice
from harness.device.qemu import BootRequest
from harness.errors import HarnessError
from harness.kernels import Board, Target
from harness.layout import Layout
from harness.source import sdk

RAMDISKS = ("image", "ours")


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """The Android emulator to use, as found; ``system_image`` None means our initramfs."""

    program: Path
    system_image: Path | None


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What a board is run by, as typed; None is the default.

    ``device`` is qemu or avd.  The others are for avd: the ``emulator`` program and the
    ``ramdisk``, that of the system ``image`` or ``ours``.
    """

    device: str | None = None
    emulator: str | None = None
    ramdisk: str | None = None

    def check(self, board: Board) -> None:
        """Raise HarnessError on a value there is not, or one that means nothing here."""
        if self.ramdisk is not None and self.ramdisk not in RAMDISKS:
            raise HarnessError(
                f"unknown ramdisk {self.ramdisk!r}",
                hint=f"--ramdisk takes one of: {', '.join(RAMDISKS)}",
            )
        for option, value in (("--emulator", self.emulator), ("--ramdisk", self.ramdisk)):
            if value is not None and board.emulator is None:
                raise HarnessError(
                    f"{option} is for the Android emulator, and {board.name} is run by QEMU",
                    hint=f"add --device=avd, or leave out {option}",
                )

    def needs_initramfs(self, board: Board) -> bool:
        """Is it our initramfs that is booted?"""
        return board.emulator is None or self.ramdisk == "ours"

    def find_emulator(self, board: Board, *, layout: Layout) -> Emulator | None:
        """The emulator and the system image, None for QEMU; HarnessError if they are lacking."""
        if board.emulator is None:
            return None
        catalogue = sdk.load_catalogue(layout)
        if self.emulator is not None:
            program = Path(self.emulator)
        else:
            program = sdk.find(catalogue.package("emulator"), layout=layout) / "emulator"
        image = None
        if self.ramdisk != "ours":
            image = sdk.find(catalogue.package(board.emulator.system_image), layout=layout)
        return Emulator(program=program, system_image=image)


def start(
    prepared: Prepared,
    accel: Accel,
    *,
    run_dir: Path,
    emulator: Emulator | None = None,
    cpus: int | None = None,
    patience: float | None = None,
    gdb: bool = False,
    arguments: tuple[str, ...] = (),
) -> EmulatedDevice:
    """Boot; raises GuestCrash or HarnessError if that fails (see the boot() of each)."""
    target = prepared.kernel.target
    initramfs = prepared.initramfs.path if prepared.initramfs is not None else None
    if emulator is not None:
        _check_cpus(target, cpus)
        if gdb:
            raise HarnessError("--gdb is for boards of QEMU's", hint="choose another --board")
        return avd.boot(
            AvdRequest(
                target=target,
                image=prepared.kernel.image,
                emulator=emulator.program,
                run_dir=run_dir,
                system_image=emulator.system_image,
                initramfs=initramfs if emulator.system_image is None else None,
                patience=patience,
            )
        )
    assert initramfs is not None
    return qemu.boot(
        BootRequest(
            target=target,
            image=prepared.kernel.image,
            initramfs=initramfs,
            run_dir=run_dir,
            cpus=cpus,
            accel=accel.name,
            patience=patience,
            gdb=gdb,
            arguments=arguments,
        )
    )


def _check_cpus(target: Target, cpus: int | None) -> None:
    if cpus is not None and cpus != target.board.cpus:
        raise HarnessError(
            f"--cpus={cpus}: {target.board.name} has {target.board.cpus}",
            hint="leave out --cpus, or choose a board of QEMU's",
        )
