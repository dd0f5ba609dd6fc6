# SPDX-License-Identifier: GPL-2.0-only
"""The options that tasks about a kernel share, each said once.

invoke reads a task's options from its function's signature.  ``selecting`` adds those of
some groups to it, and gives the function a Selection made of them instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.command.cli import caller_file, caller_path
from harness.command.selection import Selection
from harness.device.accel import checked
from harness.device.start import DeviceOptions
from harness.errors import HarnessError


@dataclass(frozen=True)
class Option:
    """An option: what it is for and what it is if it is not given."""

    help: str
    default: str | bool | None = None


KERNEL = {
    "kernel": Option("kernel line (default: linux-6.1; see configs/kernels.toml)"),
    "source": Option(
        "kernel tree, tarball, or URL of a tarball or git repository, with #branch"
        " (default: the line's own source)"
    ),
}
BOARD = {"board": Option("board (default: the line's default board, for linux-6.1 arm-virt)")}
TARGET = {
    **KERNEL,
    "arch": Option("architecture (default: that of the line's default board)"),
    **BOARD,
    "toolchain": Option(
        "prefix of the kernel's compiler, its CROSS_COMPILE (default: the board's)"
    ),
    "ndk": Option(
        "folder of an Android NDK whose ndk-build makes the programs (default: none, the"
        " board's compiler does)"
    ),
    "config": Option("a fragment to merge into the board's config (default: none)"),
    "debug_kernel": Option(
        "add configs/debug.config: lockdep and other checks (default: off)", False
    ),
}
WHICH_DEVICE = {"device": Option("qemu or avd, the Android emulator (default: that of the board)")}
DEVICE = {
    **WHICH_DEVICE,
    "emulator": Option("program of the Android emulator (default: that of the SDK)"),
    "ramdisk": Option("for avd: image, Android's, or ours, without Android (default: image)"),
}
ACCEL = {
    "accel": Option("auto, kvm or tcg (default: auto, which is KVM where a boot proves it)", "auto")
}
USERLAND = {
    "busybox": Option("static busybox for the guest (default: Debian's busybox-static)"),
    "adbd": Option("folder with Android's adbd and its libraries (default: Debian's adbd)"),
}


def helps(*groups: Mapping[str, Option]) -> dict[str, str]:
    """What invoke's @task takes as ``help``."""
    return {name: one.help for group in groups for name, one in group.items()}


Task = Callable[..., None]


def selecting(*groups: Mapping[str, Option]) -> Callable[[Task], Task]:
    """Give a task the options of the groups, and its function a Selection after the context."""
    options = {name: one for group in groups for name, one in group.items()}

    def decorate(function: Task) -> Task:
        context, _, *own = inspect.signature(function).parameters.values()

        @functools.wraps(function)
        def task(c: object, *args: Any, **kwargs: Any) -> None:
            given = {name: kwargs.pop(name, one.default) for name, one in options.items()}
            function(c, _selection(given), *args, **kwargs)

        # invoke knows no parameters that are keywords only.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        shared = [
            inspect.Parameter(name, kind, default=one.default) for name, one in options.items()
        ]
        signature = inspect.Signature([context, *own, *shared])
        setattr(task, "__signature__", signature)  # noqa: B010 - functions declare no such thing
        return task

    return decorate


def _selection(given: Mapping[str, Any]) -> Selection:
    """A Selection of what was typed; paths are those of where the user is."""
    toolchain = given.get("toolchain")
    return Selection(
        kernel=given.get("kernel"),
        arch=given.get("arch"),
        board=given.get("board"),
        source=caller_path(given.get("source")),
        busybox=caller_path(given.get("busybox")),
        adbd=caller_path(given.get("adbd")),
        debug=bool(given.get("debug_kernel")),
        accel=checked(given.get("accel") or "auto"),
        toolchain=caller_path(toolchain) if "/" in (toolchain or "") else toolchain,
        ndk=caller_path(given.get("ndk")),
        on=DeviceOptions(
            device=given.get("device"),
            emulator=caller_path(given.get("emulator")),
            ramdisk=given.get("ramdisk"),
        ),
        config=_config(given.get("config")),
    )


def _config(path: str | None) -> str | None:
    """A fragment that is there."""
    if path is None:
        return None
    file = caller_file(path)
    if not file.is_file():
        raise HarnessError(
            f"--config: there is no file {file}", hint="for example configs/all.config"
        )
    return str(file)
