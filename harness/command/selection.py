# SPDX-License-Identifier: GPL-2.0-only
"""What the options of a task about a kernel choose."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import structs

from harness.build.ndk import Ndk, abi_of
from harness.build.pipeline import PrepareRequest
from harness.device.start import DeviceOptions, Emulator
from harness.kernels import Kernels, KernelVariant, Target, TestedKernel, load_kernels
from harness.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The options every task about a kernel has, as typed; None is the default."""

    kernel: str | None = None
    arch: str | None = None
    board: str | None = None
    source: str | None = None
    busybox: str | None = None
    adbd: str | None = None
    debug: bool = False
    accel: str = "auto"
    toolchain: str | None = None
    ndk: str | None = None
    on: DeviceOptions = field(default_factory=DeviceOptions)
    config: str | None = None
    variant: KernelVariant | None = None

    def target(self, kernels: Kernels, policy: str | None = None) -> Target:
        """The target for one policy (None: the first)."""
        target = kernels.target(
            line=self.kernel,
            arch=self.arch,
            board=self.board,
            device=self.on.device,
            policy=policy,
            debug=self.debug,
        )
        self.on.check(target.board)
        if self.config is not None:
            fragment = Path(self.config)
            variant = KernelVariant(name=fragment.stem, configs=(fragment,))
            target = replace(target, variant=variant)
        if self.variant is not None:
            target = replace(target, variant=self.variant)
        if self.toolchain is None:
            return target
        board = structs.replace(target.board, cross_compile=self.toolchain)
        return replace(target, board=board)

    def prepare_request(self, kernels: Kernels, policy: str | None) -> PrepareRequest:
        """The request for one policy; a wrong NDK is found before anything is built."""
        target = self.target(kernels, policy)
        if self.ndk is not None:
            Ndk.at(Path(self.ndk))
            abi_of(target.board)
        return PrepareRequest(
            target=target,
            source=self.source,
            busybox=self.busybox,
            adbd=self.adbd,
            initramfs=self.on.needs_initramfs(target.board),
            ndk=Path(self.ndk) if self.ndk is not None else None,
        )

    @property
    def config_name(self) -> str | None:
        """What scenarios call the fragment of ``config``."""
        return None if self.config is None else Path(self.config).stem

    def find_emulator(self, *, layout: Layout) -> Emulator | None:
        """The Android emulator, if the board is one of its; HarnessError if it is lacking."""
        return self.on.find_emulator(self.target(load_kernels(layout)).board, layout=layout)

    @classmethod
    def tested(cls, part: TestedKernel) -> Selection:
        """What a part of the tests boots; where from may be said by variables."""
        on = DeviceOptions(
            device=part.device, emulator=path_in(part.emulator), ramdisk=part.ramdisk
        )
        return cls(
            kernel=part.kernel,
            arch=part.arch,
            board=part.board,
            source=path_in(part.source),
            on=on,
            config=str(part.config) if part.config is not None else None,
        )

    @property
    def environment(self) -> dict[str, str]:
        """As variables, for the tests to read; see tests/selected.py."""
        values = {
            "KERNEL": self.kernel,
            "ARCH": self.arch,
            "BOARD": self.board,
            "SOURCE": self.source,
            "DEVICE": self.on.device,
            "EMULATOR": self.on.emulator,
            "RAMDISK": self.on.ramdisk,
            "CONFIG": self.config,
        }
        return {f"MMLIMITS_TEST_{name}": value or "" for name, value in values.items()}


def path_in(variable: str | None) -> str | None:
    """The path that a variable holds, from where ./run was called."""
    value = os.environ.get(variable) if variable is not None else None
    return str(Path(os.environ.get("MMLIMITS_CWD") or ".") / value) if value else None
