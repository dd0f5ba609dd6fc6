# SPDX-License-Identifier: GPL-2.0-only
"""Which Debian package a command comes in, for those whose name is another."""

from __future__ import annotations

import platform

# Debian has one package for all emulators of a family.
_EMULATORS = {"aarch64": "qemu-system-arm", "x86_64": "qemu-system-x86", "i386": "qemu-system-x86"}


def package_of(command: str) -> str:
    """The name for apt-get of what brings a compiler, an emulator or another command."""
    if command.endswith("-gcc"):
        return _compiler(command.removesuffix("-gcc"))
    if command.startswith("qemu-system-"):
        return _EMULATORS.get(command.removeprefix("qemu-system-"), command)
    return {"xz": "xz-utils"}.get(command, command)


def _compiler(triplet: str) -> str:
    processor = triplet.split("-", 1)[0]
    if processor == platform.machine():
        return "gcc"  # the cross compiler's package is there on other machines only
    return f"gcc-{triplet.replace('_', '-')}"
