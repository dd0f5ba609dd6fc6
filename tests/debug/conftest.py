# SPDX-License-Identifier: GPL-2.0-only
"""Builds the debug kernel and boots it for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from harness.build.pipeline import Prepared
from harness.command import booting
from harness.device.accel import Accel
from harness.device.device import Device
from harness.device.start import start as start_device
from harness.errors import HarnessError
from harness.layout import Layout
from tests.selected import selection

POLICY = "rss"


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    """Everything to boot; what cannot be built ends the tests."""
    layout = Layout.default()
    try:
        return booting.prepare_all(selection(debug=True), [POLICY], layout=layout)[POLICY]
    except HarnessError as error:
        pytest.exit("\n".join((str(error), *error.details)), returncode=int(error.exit_code))


@pytest.fixture(scope="session")
def start(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Device]:
    """Boots a device; whoever calls this closes it."""
    return partial(_start, prepared, tmp_path_factory)


def _start(prepared: Prepared, folders: pytest.TempPathFactory) -> Device:
    accel = Accel("tcg", "debug kernels are for no accelerator")
    return start_device(prepared, accel, run_dir=folders.mktemp("run"))
