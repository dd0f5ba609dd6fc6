# SPDX-License-Identifier: GPL-2.0-only
"""Kernels of two configs share an object folder; a policy's module fits the one it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.emulator.test_guests import LAYOUT, run, typed
from tests.selected import selection

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(
        selection().config is None, reason="the kernel that is tested is the only one of its folder"
    ),
]


def test_a_policy_fits_each_of_two_kernels(tmp_path: Path) -> None:
    # Built, both: whichever was last, the folder is as the other one is not.
    assert typed("build").returncode == 0
    assert run("build").returncode == 0
    text = (LAYOUT.root / "policies" / "youngest.c").read_text(encoding="utf-8")
    own = tmp_path / "latest.c"  # not one that was built before
    own.write_text(text.replace("youngest", "latest").replace('start_time"', 'started"'))
    for task in (typed, run):
        done = task("try", str(own), "--scenario=choice")
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"^young .* killed", done.stdout, re.MULTILINE), done.stdout
