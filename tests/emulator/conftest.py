# SPDX-License-Identifier: GPL-2.0-only
"""Builds the kernels and boots them for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial

import pytest

from harness.build.pipeline import Prepared
from harness.case.guest import GuestKernel
from harness.case.run import Runner
from harness.command import booting
from harness.device.accel import Accel
from harness.device.device import Device
from harness.device.start import start as start_device
from harness.errors import HarnessError
from harness.layout import Layout
from harness.policies import known
from tests.selected import policies, selection


@pytest.fixture(scope="session")
def prepared() -> Mapping[str, Prepared]:
    """Everything to boot, by the policy of the kernel; what cannot be built ends the tests."""
    try:
        return booting.prepare_all(selection(), known().built_in, layout=Layout.default())
    except HarnessError as error:
        pytest.exit("\n".join((str(error), *error.details)), returncode=int(error.exit_code))


@pytest.fixture(scope="session")
def accel(prepared: Mapping[str, Prepared]) -> Accel:
    """KVM where that works."""
    return booting.accelerate(selection(), prepared["rss"], layout=Layout.default())


def start(prepared: Prepared, accel: Accel, folders: pytest.TempPathFactory) -> Device:
    """Boot; the console log stays in a folder that pytest keeps for a while."""
    emulator = selection().find_emulator(layout=Layout.default())
    return start_device(prepared, accel, emulator=emulator, run_dir=folders.mktemp("run"))


@pytest.fixture(scope="session")
def runner(
    prepared: Mapping[str, Prepared], accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """Runs cases; those of one kernel share a boot."""
    kernels = {
        name: GuestKernel(
            boot=partial(start, one, accel, tmp_path_factory),
            modules=one.kernel.modules,
            table_length=one.kernel.table_length,
            policies=booting.policy_modules(policies(), one, layout=Layout.default()),
        )
        for name, one in prepared.items()
    }
    programs = next(iter(prepared.values())).programs.files
    with Runner(kernels, programs=programs) as cases:
        yield cases


@pytest.fixture(scope="session")
def boot(
    prepared: Mapping[str, Prepared], accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Device]]:
    """Boots a fresh device, which is stopped when the tests end."""
    with ExitStack() as devices:

        def boot_one() -> Device:
            return devices.enter_context(closing(start(prepared["none"], accel, tmp_path_factory)))

        yield boot_one


@pytest.fixture(scope="session")
def device(boot: Callable[[], Device]) -> Device:
    """One device for all tests that leave it as it was."""
    return boot()
