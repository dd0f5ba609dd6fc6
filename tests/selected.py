# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that the tests of a folder are run for: ``./run test`` says which."""

from __future__ import annotations

import os

from harness.commands import Selection


def selection(*, debug: bool = False) -> Selection:
    """What harness.commands.Selection.environment has put into variables."""
    return Selection(
        kernel=os.environ.get("MMLIMITS_TEST_KERNEL") or None,
        arch=os.environ.get("MMLIMITS_TEST_ARCH") or None,
        source=os.environ.get("MMLIMITS_TEST_SOURCE") or None,
        debug=debug,
    )
