# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that the tests of a folder are run for: ``./run test`` says which."""

from __future__ import annotations

import os

from harness.command.selection import Selection
from harness.device.start import DeviceOptions
from harness.policies import Policy, known


def selection(*, debug: bool = False) -> Selection:
    """What harness.command.selection.Selection.environment has put into variables."""
    return Selection(
        kernel=_value("KERNEL"),
        arch=_value("ARCH"),
        board=_value("BOARD"),
        source=_value("SOURCE"),
        debug=debug,
        config=_value("CONFIG"),
        on=DeviceOptions(
            device=_value("DEVICE"), emulator=_value("EMULATOR"), ramdisk=_value("RAMDISK")
        ),
    )


def policies() -> tuple[Policy, ...]:
    """The kernel's own, and those in policies/."""
    return tuple(known()[name] for name in known())


def scenarios() -> tuple[str, ...]:
    """The scenarios to run, shell patterns allowed; none means all."""
    return tuple(filter(None, (_value("SCENARIOS") or "").split(",")))


def _value(name: str) -> str | None:
    return os.environ.get(f"MMLIMITS_TEST_{name}") or None
